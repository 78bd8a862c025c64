"""Training from Python alone, with `transformers.Trainer`'s meanings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_data import data_directory, items_frame
from tiny_recommenders import rec_model
from transformers import TrainerCallback

from llmrec import Cases, PreparedData, Recommender, RecTrainer, RecTrainingArguments, losses
from llmrec.commands.main import run
from llmrec.evaluation.evaluator import evaluate_system, user_metrics

SETTINGS = {"max_tokens": 64, "max_vector_events": 4, "max_item_tokens": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16))


@pytest.fixture
def model(checkpoints, data) -> Recommender:
    return Recommender.from_backbone(checkpoints["bert"], data.items, device="cpu", **SETTINGS)


def arguments(folder, **changes) -> RecTrainingArguments:
    usual = {
        "max_steps": 2,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "bf16": False,
        "disable_tqdm": True,
    }
    settings = {**usual, "per_device_train_batch_size": 4, "use_cpu": True, "logging_steps": 1, "seed": 3, **changes}
    return RecTrainingArguments(str(folder), **settings)


def test_ten_lines_of_python_train_what_the_command_trains(checkpoints, data, tmp_path):
    where = [
        "--data_dir",
        str(data.path),
        "--base_model",
        str(checkpoints["bert"]),
        "--output_dir",
        str(tmp_path / "c"),
    ]
    lengths = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    options = "--max_steps 2 --eval_strategy no --save_strategy no --bf16 false --disable_tqdm true --seed 3"
    more = "--per_device_train_batch_size 4 --use_cpu true --load_best_model_at_end false"
    assert run("train", [*where, *lengths, *options.split(), *more.split()]) == 0
    command = Recommender.from_pretrained(tmp_path / "c", device="cpu")
    args = arguments(tmp_path / "p")
    args.set_seed()
    model = Recommender.from_backbone(checkpoints["bert"], data.items, device="cpu", **SETTINGS)
    RecTrainer(model, args, data.train).train()
    history = [{"item_id": item, "timestamp": 1_600_000_000 + n} for n, item in enumerate(data.items.ids[:4])]
    assert model.score(history, data.items.ids) == pytest.approx(command.score(history, data.items.ids), abs=1e-5)


def test_from_backbone_recommends_before_any_training(checkpoints):
    rows = items_frame().select("item_id", "title").rename({"item_id": "sku", "title": "name"})
    model = Recommender.from_backbone(checkpoints["bert"], rows.to_dicts(), device="cpu", **SETTINGS)
    listed = model.recommend([{"item_id": "i00", "timestamp": 1_600_000_000}], k=5)
    vectors = rec_model(model).rec_head.item_embeddings(rec_model(model).rec_items.text, None).detach()
    cosine = (vectors @ vectors[0]).numpy()
    cosine[0] = -2
    assert listed[0].item_id == model.items.ids[int(np.argmax(cosine))]
    assert [one.score for one in listed] == pytest.approx(sorted(20 * cosine, reverse=True)[:5], rel=1e-4)


def test_rows_of_users_are_trained_and_evaluated_by_their_last_events(model, data, tmp_path):
    trainer = RecTrainer(model, arguments(tmp_path, eval_strategy="epoch"), data.train, data.train)
    assert isinstance(trainer.cases, Cases) and len(trainer.cases) == len(data.train)
    last = {row["user_id"]: row["item_id"][-1] for row in data.train}
    targets = [data.items.ids[item] for item in trainer.cases.targets]
    assert targets == [last[user] for user in trainer.cases.users]


def test_what_is_given_to_evaluate_is_evaluated(model, data, tmp_path):
    trainer = RecTrainer(model, arguments(tmp_path, eval_strategy="epoch"), data.train, data.validation)
    trainer.train()
    found = trainer.evaluate(data.test)["eval_ndcg@10"]
    expected = user_metrics(evaluate_system(model.scorer(), data.test, True), data.test)["ndcg@10"].mean()
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_loss_of_ones_own_is_what_is_trained(model, data, tmp_path):
    calls = []

    def nothing(states, items, bias, labels, seen=None, weights=None):
        calls.append((states.shape[1], items.shape, labels.shape, seen is None))
        return (states * 0).sum() + labels.numel() * 7.0

    args = arguments(tmp_path, weight_decay=0.0)
    trainer = RecTrainer(model, args, data.train, loss=nothing)
    before = {name: weight.clone() for name, weight in model.model.named_parameters()}
    trainer.train()
    assert [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] == pytest.approx([7, 7])
    assert all(torch.equal(before[name], weight) for name, weight in model.model.named_parameters())
    assert calls[0][0] == rec_model(model).rec_items.text.shape[1] and calls[0][3] is False


@pytest.mark.parametrize("loss", [losses.SampledSoftmax(8), losses.GBCE(8), losses.BinaryCrossEntropy(8)])
def test_the_losses_train(model, data, tmp_path, loss):
    before = rec_model(model).rec_head.state_projection.clone()
    trainer = RecTrainer(model, arguments(tmp_path), data.train, loss=loss)
    trainer.train()
    assert all(np.isfinite(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)
    assert not torch.equal(before, rec_model(model).rec_head.content_gate) and model.memory is None


def test_callbacks_optimizers_and_metrics_are_honoured(model, data, tmp_path):
    ended, seen = [], []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **rest):
            ended.append(state.global_step)

    def metrics(prediction):
        seen.append(prediction)
        return {"mean_rank": float(np.mean(prediction.predictions))}

    optimizer = torch.optim.SGD([weight for weight in model.model.parameters() if weight.requires_grad], lr=0.5)
    args = arguments(tmp_path, eval_strategy="epoch")
    trainer = RecTrainer(
        model,
        args,
        data.train,
        data.validation,
        callbacks=[Count()],
        optimizers=(optimizer, None),
        compute_metrics=metrics,
    )
    trainer.train()
    assert ended == [1, 2] and trainer.optimizer.optimizer is optimizer
    logged = [entry["eval_mean_rank"] for entry in trainer.state.log_history if "eval_mean_rank" in entry]
    assert len(logged) == len(seen) >= 1 and (seen[0].label_ids == data.validation.targets).all()


def test_rows_that_cannot_be_trained_are_refused(model, data, tmp_path):
    with pytest.raises(ValueError, match="lack timestamp"):
        RecTrainer(model, arguments(tmp_path), data.train.remove_columns("timestamp"))
    reversed_rows = data.train.map(lambda row: {"timestamp": row["timestamp"][::-1]})
    with pytest.raises(ValueError, match="not in order of time"):
        RecTrainer(model, arguments(tmp_path), reversed_rows)
    unknown = data.train.map(lambda row: {"item_id": ["nowhere"] * len(row["item_id"])})
    with pytest.raises(ValueError, match="'nowhere'"):
        RecTrainer(model, arguments(tmp_path), unknown)


def test_whether_seen_items_are_masked_follows_from_the_rows(model, data, tmp_path):
    args = arguments(tmp_path)
    RecTrainer(model, args, data.train)
    assert args.mask_seen is True and model.config.mask_seen is True
    again = data.train.map(lambda row: {"item_id": row["item_id"][:1] * len(row["item_id"])})
    args = arguments(tmp_path)
    RecTrainer(model, args, again)
    assert args.mask_seen is False and model.config.mask_seen is False
