from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader
from safetensors.torch import load_file
from small_data import data_directory
from tiny_recommenders import randomise, rec_model, tiny_recommender
from tiny_trainers import assert_equal_weights, make_trainer, trained_weights
from torch.utils.data import DataLoader

from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system, user_metrics
from llmrec.losses.candidates import candidate_softmax
from llmrec.losses.catalogue import IGNORED
from llmrec.recommender import Recommender
from llmrec.text.batch import Branch
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.collators import WindowBatchSampler
from llmrec.training.dataset import WindowDataset
from llmrec.training.score_weights import POPULARITY_WEIGHTS
from llmrec.training.trainer import RecTrainer


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    """Twelve users, most with one window."""
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data"))


NOTHING_DROPPED = {"residual_dropout": 0.0, "vector_dropout": 0.0}


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("hybrid", [True, False])
def test_what_should_learn_changes_and_the_base_does_not(checkpoints, data, tmp_path, family, hybrid):
    trainer = make_trainer(checkpoints[family], data, tmp_path, model={"hybrid": hybrid}, max_steps=4)
    before = {name: weight.detach().clone() for name, weight in trainer.recommender.model.named_parameters()}
    text = rec_model(trainer.recommender).rec_items.text.clone()
    trainer.train()
    kinds = set()
    for name, weight in trainer.recommender.model.named_parameters():
        assert torch.equal(weight, before[name]) != weight.requires_grad, name
        if weight.requires_grad:
            kinds.add(next(kind for kind in ("lora_A", "lora_B", "rec_head", "rec_items") if kind in name))
    assert kinds == {"lora_A", "lora_B", "rec_head"} | ({"rec_items"} if hybrid else set())
    assert torch.equal(rec_model(trainer.recommender).rec_items.text, text)


def test_training_learns_what_there_is_to_learn(checkpoints, data, tmp_path):
    trainer = make_trainer(
        checkpoints["bert"],
        data,
        tmp_path,
        num_train_epochs=30,
        learning_rate=1e-2,
        item_learning_rate=1e-2,
        **NOTHING_DROPPED,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["events_per_second"] > 0 and entry["tokens_per_second"] > 0 for entry in logged)


def test_item_tables_have_a_learning_rate_of_their_own_and_biases_do_not_decay(checkpoints, data, tmp_path):
    trainer = make_trainer(
        checkpoints["bert"], data, tmp_path, learning_rate=0.25, item_learning_rate=0.5, weight_decay=0.125
    )
    groups = {}
    for group in trainer.create_optimizer().param_groups:
        for weight in group["params"]:
            assert id(weight) not in groups
            groups[id(weight)] = group["lr"], group["weight_decay"]
    for name, weight in trainer.recommender.model.named_parameters():
        if weight.requires_grad:
            expected = 0.5 if "rec_items" in name else 0.25, 0.125 if weight.ndim > 1 else 0.0
            assert groups.pop(id(weight)) == expected, name
    assert not groups


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2), (1, 4), (3, 2)])
def test_a_step_does_not_depend_on_how_it_was_cut(checkpoints, data, tmp_path, batch_size, accumulation):
    """One step of plain gradient descent over the same four windows, of unequal length; nothing dropped at random."""

    def step(size: int, parts: int) -> tuple[dict[str, torch.Tensor], float]:
        trainer = make_trainer(
            checkpoints["llama"],
            data,
            tmp_path,
            model={"lora_dropout": 0.0},
            num_windows=4,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
            max_steps=1,
            **NOTHING_DROPPED,
            optim="sgd",
            learning_rate=0.3,
            item_learning_rate=0.3,
            lr_scheduler_type="constant",
            warmup_steps=0,
            max_grad_norm=0,
        )
        assert len({len(items) for items in trainer.train_dataset.items[:4]}) > 1
        trainer.train()
        return trained_weights(trainer), trainer.state.log_history[0]["loss"]

    whole, loss = step(4, 1)
    parts, loss_of_parts = step(batch_size, accumulation)
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=1e-6, msg=name)
    assert loss_of_parts == pytest.approx(loss, abs=1e-4)
    start = trained_weights(make_trainer(checkpoints["llama"], data, tmp_path, model={"lora_dropout": 0.0}))
    assert max((whole[name] - start[name]).abs().max() for name in whole) > 1e-3


@pytest.mark.parametrize("mask_seen", [False, True])
def test_the_logged_loss_is_the_mean_over_labels(checkpoints, data, tmp_path, mask_seen):
    """By hand: minus the log-probability of the next item among those with a training event, over all positions."""
    settings = {"num_windows": 6, "per_device_train_batch_size": 6, "max_steps": 1, **NOTHING_DROPPED}
    trainer = make_trainer(
        checkpoints["llama"], data, tmp_path, model={"lora_dropout": 0.0}, mask_seen=mask_seen, **settings
    )
    model = rec_model(trainer.recommender).eval()
    cold = torch.ones(len(model.rec_items), dtype=torch.bool)
    cold[np.concatenate(trainer.train_dataset.items)] = False
    cold[[21, 23]] = True  # that are read but, by the counts, were never a target
    wanted = np.concatenate([trainer.train_dataset[index]["labels"] for index in range(6)])
    cold[wanted[wanted >= 0]] = False
    model.rec_items.counts[cold] = 0
    read = torch.from_numpy(np.concatenate([trainer.train_dataset[index]["row"].items for index in range(6)]))
    assert cold[read].any() and not cold.all()
    losses = []
    for example in (trainer.train_dataset[index] for index in range(6)):
        with torch.no_grad():
            output = model(**trainer.recommender.processor.batch([example["row"]]))
        logits = output.states[0] @ output.embeddings.T * output.scale + output.bias
        logits[:, cold] = -torch.inf
        for place, label in enumerate(example["labels"].tolist() if mask_seen else ()):
            seen = set(example["row"].items[: place + 1].tolist()) - {label}
            logits[place, list(seen)] = -torch.inf
        chosen = torch.from_numpy(example["labels"])
        real = chosen >= 0
        losses += (-logits.log_softmax(-1)[real].gather(1, chosen[real, None])[:, 0]).tolist()
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(sum(losses) / len(losses), abs=2e-4)


class ShardTrainer(RecTrainer):
    """Sees the batches of the first of two processes, wrapped as accelerate wraps them there."""

    def get_train_dataloader(self) -> DataLoader:
        sampler = WindowBatchSampler(self.train_dataset.lengths, self._train_batch_size, self.args.seed)
        loader = DataLoader(
            self.train_dataset, batch_sampler=BatchSamplerShard(sampler, 2, 0), collate_fn=self.data_collator
        )
        return prepare_data_loader(loader, put_on_device=False)


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_ends_as_the_uninterrupted_one_bit_for_bit(checkpoints, data, tmp_path, family, accumulation):
    settings = {"save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": accumulation}
    whole = make_trainer(checkpoints[family], data, tmp_path / "whole", **settings)
    whole.train()
    expected = trained_weights(whole)
    steps = whole.state.max_steps
    per_epoch = steps // 3
    assert per_epoch * 3 == steps and per_epoch >= 2
    # in the middle of the first and of a later epoch, at the end of one, and just before the end
    for step in sorted({1, per_epoch, per_epoch + 1, steps - 1}):
        resumed = make_trainer(checkpoints[family], data, tmp_path / f"from-{step}", seed=99, **settings)
        before = trained_weights(resumed)
        assert any(not torch.equal(before[name], expected[name]) for name in expected)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert resumed.state.global_step == steps
        assert_equal_weights(trained_weights(resumed), expected)
        losses = [[entry.get("loss") for entry in run.state.log_history] for run in (whole, resumed)]
        assert losses[0] == losses[1]


def test_one_of_several_processes_resumes_in_the_right_epoch(checkpoints, data, tmp_path):
    """There the sampler is wrapped twice, and nobody but us tells it the epoch."""
    settings = {"save_strategy": "steps", "save_steps": 1, "kind": ShardTrainer, "per_device_train_batch_size": 2}
    whole = make_trainer(checkpoints["bert"], data, tmp_path / "whole", **settings)
    whole.train()
    per_epoch = whole.state.max_steps // 3
    assert per_epoch >= 2
    resumed = make_trainer(checkpoints["bert"], data, tmp_path / "resumed", seed=99, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{per_epoch + 1}"))
    assert_equal_weights(trained_weights(resumed), trained_weights(whole))


def test_epochs_draw_other_batches(checkpoints, data, tmp_path):
    seen: list[list[list[int]]] = [[]]

    class Spy(RecTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            seen[-1].append(inputs["items"].flatten().tolist())
            if len(seen[-1]) == 4:
                seen.append([])
            return super().compute_loss(model, inputs, *args, **kwargs)

    make_trainer(checkpoints["bert"], data, tmp_path, kind=Spy).train()
    assert len(seen) == 4 and seen[0] != seen[1] != seen[2]


class Scripted(RecTrainer):
    """Reports validation metrics that are set beforehand."""

    script = (0.2, 0.4, 0.3, 0.1, 0.1, 0.1)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.calls = getattr(self, "calls", 0) + 1
        score = self.script[self.calls - 1]
        metrics = {"eval_ndcg@10": score, "eval_loss": 1.0}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("hybrid", [True, False])
def test_the_best_checkpoint_is_what_ends_in_the_folder(checkpoints, data, tmp_path, hybrid):
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "early_stopping_patience": 0}
    trainer = make_trainer(checkpoints["bert"], data, tmp_path, kind=Scripted, model={"hybrid": hybrid}, **settings)
    trainer.train()
    trainer.save_model()
    assert (trainer.calls, trainer.state.best_metric) == (3, 0.4)
    checkpoints_by_epoch = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    best, last = checkpoints_by_epoch[1:]
    assert Path(trainer.state.best_model_checkpoint).name == best.name
    weights = ["adapter_model.safetensors", *(["item_tables.safetensors"] if hybrid else [])]
    for name in weights:
        assert (tmp_path / name).read_bytes() == (best / name).read_bytes()
        assert (tmp_path / name).read_bytes() != (last / name).read_bytes()
    loaded = Recommender.from_pretrained(tmp_path)
    in_memory = trained_weights(trainer)
    for name, weight in loaded.model.named_parameters():
        if name in in_memory:
            assert torch.equal(weight, in_memory[name]), name


LOOKS = {"eval_strategy": "epoch", "save_strategy": "epoch"}


def with_counts(trainer: RecTrainer) -> RecTrainer:
    """Let items differ in popularity, by far."""
    table = rec_model(randomise(trainer.recommender)).rec_items
    table.counts = torch.randint(0, 500, (len(table),), generator=torch.Generator().manual_seed(3))
    return trainer


def test_the_popularity_weight_best_on_validation_is_kept(checkpoints, data, tmp_path):
    trainer = with_counts(make_trainer(checkpoints["bert"], data, tmp_path, **LOOKS))
    metrics = trainer.evaluate()
    chosen, values = trainer.recommender.popularity_weight, {}
    for weight in POPULARITY_WEIGHTS:
        trainer.recommender.popularity_weight = weight
        ranks = evaluate_system(trainer.recommender.scorer(), trainer.cases, True)
        values[weight] = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()
    assert len(set(values.values())) > 2  # the weight matters here
    assert chosen == max(values, key=values.get) == metrics["eval_popularity_weight"]
    assert metrics["eval_ndcg@10"] == pytest.approx(values[chosen])


def test_the_cases_that_are_given_are_ranked_and_nothing_is_chosen_on_them(checkpoints, data, tmp_path):
    trainer = with_counts(make_trainer(checkpoints["bert"], data, tmp_path, **LOOKS))
    own = trainer.evaluate()
    chosen = trainer.recommender.popularity_weight
    trainer.recommender.popularity_weight = served = 0.5 if chosen != 0.5 else 0.75
    test = Cases.from_histories(data.histories(), data.catalog, "test")
    metrics = trainer.evaluate(test, metric_key_prefix="of_test")
    ranks = evaluate_system(trainer.recommender.scorer(), test, True)
    assert metrics["of_test_ndcg@10"] == pytest.approx(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())
    assert metrics["of_test_mrr"] == pytest.approx((1 / ranks).mean()) != pytest.approx(own["eval_mrr"])
    assert metrics["of_test_popularity_weight"] == trainer.recommender.popularity_weight == served
    assert all(name.startswith("of_test_") or name in ("epoch", "step") for name in metrics)
    trainer.cases = None
    assert trainer.evaluate(test)["eval_mrr"] == metrics["of_test_mrr"]
    with pytest.raises(TypeError, match="eval_dataset is 'PreparedData': RecTrainer evaluates Cases, or its own"):
        trainer.evaluate(data)


def test_a_given_popularity_weight_stays(checkpoints, data, tmp_path):
    trainer = with_counts(make_trainer(checkpoints["bert"], data, tmp_path, weight=0.3, **LOOKS))
    assert trainer.evaluate()["eval_popularity_weight"] == 0.3
    trainer.save_model()
    trainer._load_weights(tmp_path)  # as at the end of a run or when it goes on
    assert trainer.recommender.popularity_weight == 0.3
    loaded = Recommender.from_pretrained(tmp_path)
    assert loaded.popularity_weight == rec_model(loaded).rec_items.popularity_weight == 0.3
    assert torch.equal(rec_model(loaded).rec_items.counts, rec_model(trainer.recommender).rec_items.counts)


def test_training_stops_early(checkpoints, data, tmp_path):
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 6}
    trainer = make_trainer(
        checkpoints["bert"], data, tmp_path, kind=Scripted, early_stopping_patience=1, save_total_limit=1, **settings
    )
    trainer.train()
    assert trainer.calls == 3  # .2, .4, and .3 is no improvement
    kept = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert Path(trainer.state.best_model_checkpoint).name in kept and len(kept) <= 2


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("mask_seen", [False, True])
def test_evaluation_during_training_is_that_of_the_saved_folder(checkpoints, data, tmp_path, bf16, mask_seen):
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "bf16": bf16, "mask_seen": mask_seen}
    trainer = make_trainer(
        checkpoints["bert"], data, tmp_path, num_train_epochs=2, learning_rate=5e-3, item_learning_rate=0.02, **settings
    )
    trainer.train()
    trainer.save_model()
    logged = [entry for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert len(logged) == 2
    cases = Cases.from_histories(data.histories(), data.catalog, "validation")
    assert Recommender.from_pretrained(tmp_path).config.mask_seen is mask_seen
    for entry in logged:
        folder = tmp_path / f"checkpoint-{entry['step']}"
        saved = Recommender.from_pretrained(folder)
        ranks = evaluate_system(saved.scorer(5), cases, saved.config.mask_seen)
        metrics = user_metrics(ranks, cases, [10])
        for name in ("ndcg@10", "hit@10", "mrr"):
            assert entry[f"eval_{name}"] == pytest.approx(metrics[name].mean(), abs=1e-12), name
    assert trainer.state.best_metric == max(entry["eval_ndcg@10"] for entry in logged)


def test_evaluating_does_not_disturb_training(checkpoints, data, tmp_path):
    plain = make_trainer(checkpoints["bert"], data, tmp_path / "plain")
    plain.train()
    settings = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": False}
    watched = make_trainer(checkpoints["bert"], data, tmp_path / "watched", **settings)
    watched.train()
    assert len([entry for entry in watched.state.log_history if "eval_mrr" in entry]) == watched.state.max_steps
    assert_equal_weights(trained_weights(watched), trained_weights(plain))


def test_without_cases_there_is_nothing_to_evaluate(checkpoints, data, tmp_path):
    with pytest.raises(ValueError, match="no validation cases"):
        make_trainer(checkpoints["bert"], data, tmp_path).evaluate()


def test_no_pickle_is_saved_with_the_recommender(checkpoints, data, tmp_path):
    trainer = make_trainer(checkpoints["bert"], data, tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer.save_model()
    saved = files(tmp_path)
    assert {"adapter_model.safetensors", "item_tables.safetensors", "llmrec_config.json"} < set(saved)
    for name, content in saved.items():
        assert Path(name).suffix in {".json", ".safetensors", ".parquet", ".txt", ".md"}, name
        assert not content.startswith((b"\x80", b"PK\x03\x04")), name
    assert (tmp_path / "checkpoint-1" / "optimizer.pt").is_file()  # local, for resuming
    assert not list(tmp_path.rglob("training_args.bin"))
    assert set(load_file(tmp_path / "checkpoint-2" / "adapter_model.safetensors")) == set(
        load_file(tmp_path / "adapter_model.safetensors")
    )
    base = json.loads((tmp_path / "checkpoint-2" / "llmrec_config.json").read_text())["base_model"]
    assert (tmp_path / "checkpoint-2" / base).resolve() == checkpoints["bert"].resolve()


def test_mixed_precision_trains_and_keeps_weights_in_float32(checkpoints, data, tmp_path):
    trainer = make_trainer(checkpoints["llama"], data, tmp_path, bf16=True, max_steps=3)
    trainer.train()
    assert {weight.dtype for weight in trainer.recommender.model.parameters()} == {torch.float32}
    assert all(torch.isfinite(weight).all() for weight in trainer.recommender.model.parameters())
    assert all(entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize("name", ["residual_dropout", "vector_dropout"])
@pytest.mark.parametrize("dropout", [1.0, -0.1, float("nan")])
def test_dropout_is_a_share(tmp_path, name, dropout):
    with pytest.raises(ValueError, match=name):
        RecTrainingArguments(output_dir=str(tmp_path), **{name: dropout})


@pytest.mark.parametrize(
    ("change", "named"),
    [({"max_tokens": 48}, "max_tokens"), ({"pooling": "last"}, "pooling"), ({"lora_r": 3}, "lora_r")],
)
def test_a_checkpoint_of_other_settings_is_refused(checkpoints, data, tmp_path, change, named):
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    make_trainer(checkpoints["bert"], data, tmp_path, **settings).train()
    other = make_trainer(checkpoints["bert"], data, tmp_path, model=change, **settings)
    with pytest.raises(ValueError, match=f"trained with other .*{named}"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_checkpoint_of_other_items_is_refused(checkpoints, data, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    make_trainer(checkpoints["bert"], data, tmp_path, **settings).train()
    other = make_trainer(checkpoints["bert"], data, tmp_path, **settings)
    frame = data.catalog.frame
    renamed = frame.with_columns(frame["title"].reverse())  # as many items, other texts
    other.recommender.items = type(data.catalog)(renamed)
    with pytest.raises(ValueError, match="trained with other items"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_checkpoint_of_other_training_events_is_refused(checkpoints, data, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    make_trainer(checkpoints["bert"], data, tmp_path, **settings).train()
    other = make_trainer(checkpoints["bert"], data, tmp_path, **settings)
    rec_model(other.recommender).rec_items.counts[3] += 1
    with pytest.raises(ValueError, match="trained with other training events"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_target_that_counts_as_never_seen_is_refused(checkpoints, data, tmp_path):
    trainer = make_trainer(checkpoints["bert"], data, tmp_path)
    wanted = trainer.train_dataset.labels[0][1]
    rec_model(trainer.recommender).rec_items.counts[wanted] = 0
    with pytest.raises(ValueError, match=f"item '{data.catalog.ids[wanted]}' is a target but counts as never seen"):
        RecTrainer(trainer.recommender, trainer.args, trainer.train_dataset, None)


def test_positions_without_a_target_belong_to_no_item(checkpoints, data, tmp_path):
    trainer = make_trainer(checkpoints["bert"], data, tmp_path)
    assert len(data.catalog) < -IGNORED  # as an index of items it would be out of bounds
    trainer.train_dataset.labels[0][1] = IGNORED
    RecTrainer(trainer.recommender, trainer.args, trainer.train_dataset, None)


def test_vectors_are_dropped_in_training_alone(checkpoints, data, tmp_path):
    """With nothing else random, a model in training differs from itself only where vectors are dropped."""
    for dropout in (0.0, 0.4):
        recommender = randomise(tiny_recommender(checkpoints["llama"], data.catalog, lora_dropout=0.0))
        dataset = WindowDataset(data.histories(), data.catalog, recommender.processor)
        rates = {"residual_dropout": 0.0, "vector_dropout": dropout}
        args = RecTrainingArguments(output_dir=str(tmp_path), eval_strategy="no", save_strategy="no", **rates)
        model = rec_model(RecTrainer(recommender, args, dataset, None).recommender)
        batch = recommender.processor.batch([dataset[0]["row"]])
        with torch.no_grad():
            still, again = model.eval()(**batch).states, model(**batch).states
            one, other = model.train()(**batch).states, model(**batch).states
        assert torch.equal(still, again)
        assert torch.equal(one, other) == torch.equal(one, still) == (dropout == 0)


def test_throughput_counts_every_target_once_and_no_time_of_evaluations(checkpoints, data, tmp_path, monkeypatch):
    clock = {"now": 0.0}
    for module in ("trainer", "adapter_trainer"):
        timer = SimpleNamespace(perf_counter=lambda: clock["now"])
        monkeypatch.setattr(f"llmrec.training.{module}.time", timer)

    class Clocked(RecTrainer):
        seen = 0

        def compute_loss(self, model: Any, inputs: dict[str, Any], **more: Any) -> Any:
            clock["now"] += 1.0  # a step lasts a second
            Clocked.seen += int((inputs["labels"] >= 0).sum())
            return super().compute_loss(model, inputs, **more)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "eval_mrr" in logs:
                clock["now"] += 1_000.0
            super().log(logs, start_time)
            if "loss" in logs:
                rates.append((self.state.global_step, self.state.log_history[-1]["events_per_second"], Clocked.seen))

    rates: list[tuple[int, float, int]] = []
    settings = {"eval_strategy": "epoch", "load_best_model_at_end": False, "logging_steps": 3}
    make_trainer(checkpoints["bert"], data, tmp_path, kind=Clocked, **settings).train()
    last_step = last_seen = 0
    assert len(rates) >= 2
    for step, rate, seen in rates:
        assert rate == pytest.approx((seen - last_seen) / (step - last_step), abs=0.06)
        last_step, last_seen = step, seen


CANDIDATE_HEADS = [("bert", "cross"), ("gpt2", "verbalizer")]
EVERY_POSITION = {"branch_positions": 99, "negatives": ["uniform"], "num_negatives": 99}
"""Nothing is drawn: every position has all the items that it may have."""


@pytest.fixture(scope="module")
def head_settings(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Model settings by head; a verbalizer's answers are words of the tiny vocabularies."""
    path = tmp_path_factory.mktemp("template") / "answers.json"
    path.write_text(json.dumps({"event": "{title}[, {gap}]", "item": "{title}", "answers": ["red", "blue"]}))
    return {"cross": {"head": "cross"}, "verbalizer": {"head": "verbalizer", "template": str(path)}}


def without_dropout(trainer: RecTrainer) -> RecTrainer:
    """Switch off what the backbone itself drops."""
    for module in trainer.recommender.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return trainer


def candidate_head(recommender: Recommender) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the head that is used, copied."""
    module = rec_model(recommender).candidate_head.modules_to_save["default"]
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
def test_a_candidate_head_learns_with_the_adapter(checkpoints, data, tmp_path, head_settings, family, head):
    trainer = make_trainer(checkpoints[family], data, tmp_path, model=head_settings[head], max_steps=4)
    before = {name: weight.detach().clone() for name, weight in trainer.recommender.model.named_parameters()}
    own = candidate_head(trainer.recommender)
    trainer.train()
    kinds = set()
    for name, weight in trainer.recommender.model.named_parameters():
        if not name.endswith("candidate_head.modules_to_save.default.bias"):  # no softmax can tell what it is
            assert torch.equal(weight, before[name]) != weight.requires_grad, name
        if weight.requires_grad:
            parts = ("lora_A", "lora_B", "rec_head", "rec_items", "candidate_head")
            kinds.add(next(kind for kind in parts if kind in name))
    learned = {"candidate_head"} if head == "cross" else set()
    assert kinds == {"lora_A", "lora_B", "rec_head", "rec_items"} | learned
    changed = {
        name for name, tensor in candidate_head(trainer.recommender).items() if not torch.equal(tensor, own[name])
    }
    assert changed - {"bias"} == ({"weight", "dual_gate"} if head == "cross" else set())


def candidate_loss(trainer: RecTrainer) -> float:
    """Mean loss of the candidate head over all windows, as it serves."""
    inputs = trainer.data_collator([trainer.train_dataset[index] for index in range(len(trainer.train_dataset))])
    labels, passes = inputs.pop("labels"), inputs.pop("passes")
    model = trainer.recommender.model.eval()
    with torch.no_grad():
        batch, places = trainer._with_candidates(inputs, labels, passes)
        return candidate_softmax(model(**batch).candidate_scores, places).item()


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
def test_a_candidate_head_learns_what_there_is_to_learn(checkpoints, data, tmp_path, head_settings, family, head):
    """The cross head starts without the dual one here, so what it gains is its own."""
    trainer = make_trainer(
        checkpoints[family],
        data,
        tmp_path,
        model={**head_settings[head], "dual_gate": 0.0, "lora_dropout": 0.0},
        num_windows=3,
        max_steps=25,
        learning_rate=3e-2,
        item_learning_rate=3e-2,
        **EVERY_POSITION,
        **NOTHING_DROPPED,
    )
    before = candidate_loss(without_dropout(trainer))
    trainer.train()
    assert candidate_loss(trainer) < 0.5 * before
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
@pytest.mark.parametrize("mask_seen", [False, True])
def test_the_logged_loss_is_that_of_both_heads(checkpoints, data, tmp_path, head_settings, family, head, mask_seen):
    """By hand, over all positions: what the dual head makes of all items, and the candidate head of each on its own."""
    trainer = make_trainer(
        checkpoints[family],
        data,
        tmp_path,
        model={**head_settings[head], "lora_dropout": 0.0},
        num_windows=3,
        per_device_train_batch_size=3,
        max_steps=1,
        mask_seen=mask_seen,
        **EVERY_POSITION,
        **NOTHING_DROPPED,
    )
    recommender = randomise(without_dropout(trainer).recommender)
    model, processor = rec_model(recommender).eval(), recommender.processor
    losses = []
    for example in (trainer.train_dataset[index] for index in range(3)):
        row = example["row"]
        for event in (example["labels"] >= 0).nonzero()[0].tolist():
            label = int(example["labels"][event])
            seen = set(row.items[: event + 1].tolist()) - {label} if mask_seen else set()
            shown = [label, *sorted(set(range(len(data.catalog))) - seen - {label})]
            cut = replace(row, items=row.items[: event + 1], blocks=row.blocks[: event + 1])
            passes = [
                replace(cut, branches=[Branch(item, processor.candidate_block(data.catalog.attributes(item)), event)])
                for item in shown
            ]
            with torch.no_grad():
                output = model(**processor.batch(passes))
            dual = output.states[0, event] @ output.embeddings.T * output.scale + output.bias
            losses.append([-scores.log_softmax(0)[0].item() for scores in (dual[shown], output.candidate_scores[:, 0])])
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(np.sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 2), (3, 2)])
def test_a_step_of_both_heads_does_not_depend_on_how_it_was_cut(
    checkpoints, data, tmp_path, head_settings, family, head, batch_size, accumulation
):
    """Where every position is trained; where some are drawn, other ones are in other parts."""

    def step(size: int, parts: int) -> tuple[dict[str, torch.Tensor], float]:
        trainer = make_trainer(
            checkpoints[family],
            data,
            tmp_path,
            model={**head_settings[head], "lora_dropout": 0.0},
            num_windows=4,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=parts,
            max_steps=1,
            **EVERY_POSITION,
            **NOTHING_DROPPED,
            optim="sgd",
            learning_rate=0.1,
            item_learning_rate=0.1,
            lr_scheduler_type="constant",
            warmup_steps=0,
            max_grad_norm=0,
        )
        without_dropout(trainer).train()
        return trained_weights(trainer), trainer.state.log_history[0]["loss"]

    (whole, loss), (parts, loss_of_parts) = step(4, 1), step(batch_size, accumulation)
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=0, atol=1e-5, msg=name)
    assert loss_of_parts == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
def test_a_saved_candidate_head_scores_as_before(checkpoints, data, tmp_path, head_settings, family, head):
    trainer = make_trainer(checkpoints[family], data, tmp_path, model=head_settings[head], max_steps=4)
    trainer.train()
    trainer.save_model()
    saved = load_file(tmp_path / "adapter_model.safetensors")
    own = candidate_head(trainer.recommender)
    assert set(own) == ({"weight", "bias", "dual_gate"} if head == "cross" else {"lm_head_weight"})
    for name, tensor in own.items():
        assert torch.equal(saved[f"base_model.model.candidate_head.{name}"], tensor)
        assert tensor.any() or name == "bias"
    loaded = Recommender.from_pretrained(tmp_path)
    assert loaded.config.head == head
    ids = list(data.catalog.ids)
    history = [{"item_id": item_id, "timestamp": 86_400 * day} for day, item_id in enumerate(ids[4:10])]
    expected = trainer.recommender.score(history, ids)
    assert np.std(expected) > 1e-2
    assert loaded.score(history, ids) == pytest.approx(expected, rel=0, abs=1e-6)
    before, after = (one.recommend(history, k=5, num_candidates=9) for one in (trainer.recommender, loaded))
    assert [one.item_id for one in before] == [one.item_id for one in after]


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_resumed_run_draws_the_same_candidates(
    checkpoints, data, tmp_path, head_settings, family, head, accumulation
):
    """It ends as the uninterrupted one, bit for bit."""
    settings = {
        "model": head_settings[head],
        "save_strategy": "steps",
        "save_steps": 1,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 2,
    }
    whole = make_trainer(checkpoints[family], data, tmp_path / "whole", **settings)
    whole.train()
    steps = whole.state.max_steps
    for step in (1, steps // 2 + 1):  # in the middle of either epoch
        resumed = make_trainer(checkpoints[family], data, tmp_path / f"from-{step}", **settings)
        recommender = randomise(resumed.recommender)  # all that is learned comes from the checkpoint
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert_equal_weights(trained_weights(resumed), trained_weights(whole))
        expected, found = candidate_head(whole.recommender), candidate_head(recommender)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        losses = [[entry.get("loss") for entry in run.state.log_history] for run in (whole, resumed)]
        assert losses[0] == losses[1]


def test_every_step_draws_other_candidates_and_another_seed_others_again(checkpoints, data, tmp_path):
    def drawn(seed: int) -> list[list[int]]:
        found = []

        class Spy(RecTrainer):
            def _with_candidates(self, inputs: Any, labels: Any, passes: Any) -> Any:
                batch, places = super()._with_candidates(inputs, labels, passes)
                found.append(batch["candidates"].flatten().tolist())
                return batch, places

        settings = {"model": {"head": "cross"}, "num_windows": 2, "max_steps": 4, "negatives": ["uniform"]}
        trainer = make_trainer(checkpoints["bert"], data, tmp_path, kind=Spy, **settings)
        trainer.args.seed = seed  # the sampler's order does not matter: both windows are in every batch
        trainer.train()
        return found

    first = drawn(1)
    assert len(first) == 4 and len(set(map(tuple, first))) == 4
    assert first == drawn(1)
    assert not {tuple(sorted(row)) for row in first} & {tuple(sorted(row)) for row in drawn(2)}


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
def test_validation_is_of_the_cascade_and_beside_it_of_the_dual_head(
    checkpoints, data, tmp_path, head_settings, family, head
):
    settings = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 2, "num_proposed": 6}
    model = {**head_settings[head], "dual_gate": 0.0}  # so that it ranks in an order of its own
    trainer = make_trainer(checkpoints[family], data, tmp_path, model=model, learning_rate=1e-2, **settings)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "eval_mrr" in entry]
    assert len(logged) == 2
    cases = Cases.from_histories(data.histories(), data.catalog, "validation")
    for entry in logged:
        loaded = Recommender.from_pretrained(tmp_path / f"checkpoint-{entry['step']}")
        for prefix, num_candidates in {"eval_": 6, "eval_dual_": 0}.items():
            ranks = evaluate_system(loaded.scorer(5, num_candidates=num_candidates), cases, True)
            metrics = user_metrics(ranks, cases, [10])
            for name in ("ndcg@10", "hit@10", "mrr"):
                assert entry[f"{prefix}{name}"] == pytest.approx(metrics[name].mean(), abs=1e-9), name
    assert any(entry["eval_ndcg@10"] != entry["eval_dual_ndcg@10"] for entry in logged)
    assert trainer.state.best_metric == max(entry["eval_ndcg@10"] for entry in logged)


def test_the_dual_head_alone_is_validated_once(checkpoints, data, tmp_path):
    metrics = make_trainer(checkpoints["bert"], data, tmp_path, eval_strategy="epoch", save_strategy="epoch").evaluate()
    assert "eval_ndcg@10" in metrics and not [name for name in metrics if "dual" in name]


def test_validating_candidates_does_not_disturb_training(checkpoints, data, tmp_path):
    plain = make_trainer(checkpoints["bert"], data, tmp_path / "plain", model={"head": "cross"}, num_train_epochs=1)
    plain.train()
    settings = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": False, "num_train_epochs": 1}
    watched = make_trainer(checkpoints["bert"], data, tmp_path / "watched", model={"head": "cross"}, **settings)
    watched.train()
    assert_equal_weights(trained_weights(watched), trained_weights(plain))


@pytest.mark.parametrize(("family", "head"), CANDIDATE_HEADS)
def test_candidates_in_mixed_precision(checkpoints, data, tmp_path, head_settings, family, head):
    trainer = make_trainer(checkpoints[family], data, tmp_path, model=head_settings[head], bf16=True, max_steps=3)
    trainer.train()
    assert {weight.dtype for weight in trainer.recommender.model.parameters()} == {torch.float32}
    assert all(tensor.dtype == torch.float32 for tensor in candidate_head(trainer.recommender).values())
    assert all(torch.isfinite(weight).all() for weight in trainer.recommender.model.parameters())
    assert all(0 < entry["loss"] < 100 for entry in trainer.state.log_history if "loss" in entry)


def test_recent_positions_weigh_more_in_the_step(checkpoints, data, tmp_path):
    """The loss is the weighted mean of the losses of the single positions; a longer half-life comes nearer to none."""

    def loss(half_life: float | None, only: int | None = None) -> float:
        trainer = make_trainer(checkpoints["bert"], data, tmp_path, model={"lora_dropout": 0.0}, **NOTHING_DROPPED)
        processor = trainer.recommender.processor
        dataset = WindowDataset(data.histories(), data.catalog, processor, recency_half_life=half_life)
        example = dataset[0]
        if only is not None:
            example["labels"] = np.where(np.arange(len(example["labels"])) == only, example["labels"], -100)
            example["weights"] = None
        batch = trainer.data_collator([example])
        with torch.no_grad():
            return trainer.compute_loss(trainer.recommender.model.eval(), batch).item()

    trainer = make_trainer(checkpoints["bert"], data, tmp_path)
    dataset = WindowDataset(data.histories(), data.catalog, trainer.recommender.processor, recency_half_life=2)
    example = dataset[0]
    places = np.flatnonzero(example["labels"] >= 0)
    singles = np.array([loss(2, only=int(place)) for place in places])
    assert loss(2) == pytest.approx(float((singles * example["weights"][places]).mean()), rel=1e-4)
    assert loss(None) == pytest.approx(float(singles.mean()), rel=1e-4)
    assert loss(1e9) == pytest.approx(loss(None), rel=1e-4) != loss(2)
