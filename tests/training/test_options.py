"""Every option of `transformers.TrainingArguments` does what it says, or is refused before anything is loaded."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_scripts import run_script
from small_data import data_directory
from tiny_trainers import assert_equal_weights, make_trainer, trained_weights
from transformers import TrainingArguments, get_scheduler

from llmrec.commands.main import run
from llmrec.commands.pretrain import pretrain_parser
from llmrec.commands.train import train_parser
from llmrec.data.directory import PreparedData
from llmrec.training import options
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.options import HONOURED, NEEDS, REFUSED

FIELDS = {field.name: field for field in fields(TrainingArguments)}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data"))


def arguments(**given: Any) -> RecTrainingArguments:
    return RecTrainingArguments(output_dir="nowhere", **given)


def another_value(name: str) -> Any:
    """A value of an option that is not its default."""
    field = next(field for field in fields(RecTrainingArguments) if field.name == name)
    default = field.default if field.default is not MISSING else field.default_factory()
    if isinstance(default, bool):
        return not default
    return ["other"] if isinstance(default, list) else (default or 0) + 1 if isinstance(default, float) else "other"


def test_every_option_of_transformers_is_honoured_or_refused():
    honoured = [name for names in HONOURED.values() for name in names.split()]
    assert len(honoured) == len(set(honoured)) and not set(honoured) & set(REFUSED)
    assert {*honoured, *REFUSED} == set(FIELDS)  # a newer transformers fails here: decide about what it added
    assert {name for names, _, _ in NEEDS for name in names.split()} <= set(honoured)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_option_says_what_to_do(name):
    with pytest.raises(ValueError, match=f"^{name}=.* is not supported") as error:
        arguments(**{name: another_value(name)})
    assert REFUSED[name] in str(error.value) and str(error.value).endswith(f"Leave {name} out.")


def test_an_option_that_nobody_decided_about_is_refused(monkeypatch):
    monkeypatch.setattr(options, "HONOURED", {kind: names for kind, names in HONOURED.items() if kind != "optimizer"})
    with pytest.raises(ValueError, match=r"max_grad_norm=0.5 is not supported. llmrec does not know this option"):
        arguments(max_grad_norm=0.5)


@pytest.mark.parametrize("parser", [train_parser(), pretrain_parser()])
def test_a_command_without_options_gives_none(parser):
    """The defaults of the parser count as defaults, in its own spelling."""
    *_, training = parser.parse_args_into_dataclasses(["--data_dir", "nowhere"])
    assert set(training.given) <= {"learning_rate", "per_device_eval_batch_size", "bf16"}  # of pretrain; by the machine


def test_a_token_is_not_printed():
    with pytest.raises(ValueError, match="hub_token") as error:
        arguments(hub_token="hf_secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fp16": True, "bf16": False}, "fp16 has no effect on CPUs"),
        ({"eval_steps": 3}, "eval_steps=3 has an effect only with eval_strategy steps"),
        ({"save_steps": 3}, "save_steps=3 has an effect only with save_strategy steps"),
        ({"logging_steps": 3, "logging_strategy": "epoch"}, "logging_steps=3 has an effect only"),
        ({"eval_strategy": "no", "eval_delay": 1}, "eval_delay=1 has an effect only"),
        ({"eval_strategy": "no", "save_strategy": "best"}, "save_strategy='best' has an effect only"),
        ({"eval_strategy": "no", "metric_for_best_model": "mrr"}, "metric_for_best_model='mrr' has an effect only"),
        ({"eval_strategy": "no", "load_best_model_at_end": True}, "load_best_model_at_end=True has an effect only"),
        ({"load_best_model_at_end": False, "early_stopping_patience": 3}, "early_stopping_patience=3 has an effect"),
        ({"do_eval": False}, "do_eval=False, but eval_strategy='epoch'"),
        ({"do_eval": True, "eval_strategy": "no"}, "do_eval=True, but eval_strategy='no'"),
        ({"lr_scheduler_type": "constant", "warmup_steps": 5}, "warmup_steps=5 has an effect only"),
        ({"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"a": 1}}, "lr_scheduler_kwargs="),
        ({"lr_scheduler_kwargs": '{"typo": 1}'}, "lr_scheduler_kwargs={'typo': 1} cannot be made"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "'cosine_with_min_lr' with lr_scheduler_kwargs=None"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers=True has an effect only"),
        ({"dataloader_in_order": False}, "dataloader_in_order=False has an effect only"),
        ({"dataloader_pin_memory": True, "use_cpu": True}, "dataloader_pin_memory=True has an effect only"),
        ({"ddp_bucket_cap_mb": 5}, "ddp_bucket_cap_mb=5 has an effect only with several processes"),
        ({"activation_checkpointing_kwargs": {"a": 1}}, "activation_checkpointing_kwargs="),
        ({"run_name": "mine"}, "run_name='mine' has an effect only with report_to"),
        ({"project": "mine"}, "project='mine' has an effect only with report_to trackio"),
        ({"report_to": "wandb"}, "report_to='wandb' is not installed"),
        ({"report_to": ["typo"]}, "report_to='typo' is not installed, or no logger"),
        ({"optim": "galore_adamw"}, "optim='galore_adamw' cannot be used"),
        ({"optim": "sgd", "adam_beta1": 0.5}, "adam_beta1=0.5 has no effect with optim='sgd'"),
        ({"optim_args": "momentum=0.9"}, "optim_args='momentum=0.9' has no effect with optim='adamw_torch_fused'"),
        ({"optim": "sgd", "optim_args": "momentum=0.9,typo=1"}, "optim_args='momentum=0.9,typo=1' has no effect"),
        ({"learning_rate": -1.0}, "Invalid learning rate: -1.0"),
        ({"item_learning_rate": -1.0}, "item_learning_rate=-1.0: give 0 or more"),
        ({"max_steps": 0}, "max_steps=0: give 1 or more"),
        ({"num_train_epochs": 0}, "num_train_epochs=0: give more than 0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0: give at least 1"),
        ({"train_sampling_strategy": "batch_rebalance"}, "'batch_rebalance' is not supported: give one of"),
        ({"data_seed": -1}, "data_seed=-1 is not in"),
    ],
)
def test_an_option_without_effect_is_refused(given, message, monkeypatch):
    monkeypatch.setattr(options, "get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(ValueError) as error:
        arguments(**given)
    assert message in str(error.value)


def test_a_launcher_of_sharded_training_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="ACCELERATE_USE_FSDP='true' of the launcher is not supported"):
        arguments()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 4, "do_eval": True},
        {"eval_strategy": "no", "load_best_model_at_end": False, "lr_scheduler_type": "constant", "warmup_steps": 0},
        {"report_to": "none", "do_train": True, "metric_for_best_model": "eval_mrr"},
    ],
)
def test_resolved_options_are_accepted_again(given):
    first = arguments(**given)
    again = replace(first, seed=3)
    assert again.seed == 3 and again.given.keys() >= first.given.keys()


@pytest.mark.parametrize("metric", ["loss", "eval_loss", "ndcg@5", "runtime"])
def test_the_metric_that_decides_is_one_that_is_reported(metric):
    with pytest.raises(ValueError, match=r"metric_for_best_model='.*' is not reported: give one of ndcg@10, mrr"):
        arguments(metric_for_best_model=metric).judge_by({"ndcg@10": True, "mrr": True})


@pytest.mark.parametrize("asked", ["log_loss", "eval_log_loss"])
def test_what_is_better_follows_the_metric(asked):
    metrics = {"auc": True, "log_loss": False}
    chosen = arguments(metric_for_best_model=asked)
    chosen.judge_by(metrics)
    assert (chosen.metric_for_best_model, chosen.greater_is_better) == ("log_loss", False)
    default = arguments()
    default.judge_by(metrics)
    assert (default.metric_for_best_model, default.greater_is_better) == ("auc", True)
    with pytest.raises(ValueError, match="of which smaller is better: leave greater_is_better out"):
        arguments(metric_for_best_model=asked, greater_is_better=True).judge_by(metrics)


@pytest.mark.parametrize("kind", ["reduce_lr_on_plateau", "greedy"])
def test_a_schedule_that_waits_for_a_better_metric_knows_what_is_better(kind):
    for greater, mode in ((True, "max"), (False, "min")):
        waiting = arguments(lr_scheduler_type=kind, lr_scheduler_kwargs={"factor": 0.5})
        waiting.judge_by({"any": greater})
        assert waiting.lr_scheduler_kwargs == {"factor": 0.5, "mode": mode}
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        assert get_scheduler(kind, optimizer, scheduler_specific_kwargs=waiting.lr_scheduler_kwargs).mode == mode
        waiting.judge_by({"any": greater})  # the command asks, then the trainer
    with pytest.raises(ValueError, match="its mode is 'max': leave mode out"):
        arguments(lr_scheduler_type=kind, lr_scheduler_kwargs={"mode": "min"}).judge_by({"ndcg@10": True})


POINTWISE = ["--task", "pointwise", "--head", "cross"]


@pytest.mark.parametrize(
    ("verb", "given", "message"),
    [
        ("train", ["--metric_for_best_model", "loss"], "'loss' is not reported: give one of ndcg@10, hit@10, mrr."),
        ("train", ["--metric_for_best_model", "dual_mrr"], "'dual_mrr' is not reported"),
        ("train", [*POINTWISE, "--metric_for_best_model", "ndcg@10"], "give one of auc, accuracy, precision"),
        ("pretrain", ["--metric_for_best_model", "ndcg@10"], "give one of loss, base_loss."),
        ("pretrain", ["--greater_is_better", "true"], "greater_is_better=True"),
        ("few_shot", ["--resume_from_checkpoint", "true"], "nothing is saved or resumed"),
        ("train", ["--push_to_hub"], "Push the finished adapter with `llmrec push`"),
        ("pretrain", ["--push_to_hub", "true"], "Push the finished adapter with `llmrec push`"),
        ("train", ["--do_train", "false"], "do_train=False"),
        ("train", ["--report_to", "clearml"], "report_to='clearml' is not installed"),
    ],
)
def test_commands_refuse_before_anything_is_loaded(tmp_path, capsys, verb, given, message):
    output = tmp_path / "out"
    call = run_script if verb == "few_shot" else run
    assert call(verb, ["--data_dir", "nowhere", "--base_model", "nowhere", "--output_dir", str(output), *given]) == 2
    errors = capsys.readouterr().err
    assert message in errors and "nowhere" not in errors and not output.exists()


def batches(trainer: Any) -> list[list[int]]:
    """The windows of an epoch, by number."""
    sampler = trainer.get_train_dataloader().batch_sampler
    while hasattr(sampler, "batch_sampler"):
        sampler = sampler.batch_sampler
    return list(sampler)


def test_the_order_of_windows(checkpoints, data, tmp_path):
    def drawn(**given: Any) -> list[list[int]]:
        return batches(make_trainer(checkpoints["bert"], data, tmp_path, num_windows=11, **given))

    plain = drawn()
    assert drawn() == plain == drawn(data_seed=42)  # the default seed
    assert drawn(data_seed=7) != plain
    assert drawn(train_sampling_strategy="sequential") == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
    shuffled = [window for batch in drawn(train_sampling_strategy="random") for window in batch]
    assert sorted(shuffled) == list(range(11)) != shuffled
    assert [len(batch) for batch in plain] == [3, 3, 3, 2]
    assert drawn(dataloader_drop_last=True) == plain[:3]
    with pytest.raises(ValueError, match="leaves out all 11 windows, fewer than a batch of 12"):
        drawn(dataloader_drop_last=True, per_device_train_batch_size=12)


def test_workers_load_the_same_batches(checkpoints, data, tmp_path):
    settings = {
        "dataloader_num_workers": 1,
        "dataloader_prefetch_factor": 3,
        "dataloader_persistent_workers": True,
        "dataloader_multiprocessing_context": "fork",
        "dataloader_in_order": False,
    }
    plain, helped = (
        make_trainer(checkpoints["bert"], data, tmp_path, num_windows=5, **given).get_train_dataloader()
        for given in ({}, settings)
    )
    assert (helped.num_workers, helped.prefetch_factor, helped.persistent_workers) == (1, 3, True)
    assert helped.multiprocessing_context.get_start_method() == "fork" and not helped.in_order
    for one, other in zip(plain, helped, strict=True):
        assert torch.equal(one["input_ids"], other["input_ids"]) and torch.equal(one["labels"], other["labels"])


def test_optimizer_and_schedule(checkpoints, data, tmp_path):
    settings = {"adam_beta1": 0.5, "adam_beta2": 0.6, "adam_epsilon": 0.1, "weight_decay": 0.3, "warmup_steps": 0}
    kwargs = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": '{"min_lr_rate": 0.25}'}
    trainer = make_trainer(checkpoints["bert"], data, tmp_path, learning_rate=0.02, **settings, **kwargs)
    trainer.create_optimizer_and_scheduler(10)
    group = trainer.optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"], group["lr"]) == ((0.5, 0.6), 0.1, 0.3, 0.02)
    for _ in range(10):
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert group["lr"] == pytest.approx(0.25 * 0.02)
    settings = {"optim": "sgd", "optim_args": "momentum=0.9", "lr_scheduler_type": "constant", "warmup_steps": 0}
    trainer = make_trainer(checkpoints["bert"], data, tmp_path, **settings)
    trainer.create_optimizer()
    assert isinstance(trainer.optimizer, torch.optim.SGD) and trainer.optimizer.param_groups[0]["momentum"] == 0.9


def test_options_of_a_run(checkpoints, data, tmp_path):
    """One run with many options, set beside a plain one."""

    def trained(name: str, **given: Any) -> Any:
        trainer = make_trainer(checkpoints["bert"], data, tmp_path / name, max_steps=2, **given)
        trainer.train()
        return trainer

    plain = trained("plain", logging_steps=2)
    assert [entry["step"] for entry in plain.state.log_history if "loss" in entry] == [2]
    same = trained(
        "same",
        logging_steps=2,
        logging_first_step=True,
        activation_checkpointing=True,
        torch_empty_cache_steps=1,
        full_determinism=True,
        eval_strategy="steps",
        eval_steps=1,
        eval_delay=2,
        eval_on_start=True,
        load_best_model_at_end=False,
    )
    try:
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert [entry["step"] for entry in same.state.log_history if "loss" in entry] == [1, 2]
    assert [entry["step"] for entry in same.state.log_history if "eval_mrr" in entry] == [0, 2]
    assert any(getattr(module, "gradient_checkpointing", False) for module in same.model.modules())
    assert_equal_weights(trained_weights(same), trained_weights(plain))
    clipped = trained("clipped", max_grad_norm=1e-6, optim="sgd", weight_decay=0.0)
    free = make_trainer(checkpoints["bert"], data, tmp_path / "free")
    moved = [(trained_weights(clipped)[name] - weight).norm() for name, weight in trained_weights(free).items()]
    assert 0 < max(moved) < 1e-8  # two steps, one of them at learning rate 0


def test_a_trainer_pushes_and_predicts_nothing(checkpoints, data, tmp_path):
    trainer = make_trainer(checkpoints["bert"], data, tmp_path)
    with pytest.raises(NotImplementedError, match=r"use `trainer.recommender.push_to_hub`"):
        trainer.push_to_hub()
    with pytest.raises(NotImplementedError, match="has no predict"):
        trainer.predict(data)


def test_what_was_given_is_recorded_with_the_adapter(checkpoints, data, tmp_path):
    files = ["--data_dir", str(data.path), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    small = ["--max_tokens", "64", "--max_vector_events", "4", "--lora_r", "2", "--item_epochs", "0"]
    given = ["--max_steps", "1", "--max_grad_norm", "0.5", "--data_seed", "7", "--optim", "sgd"]
    quick = ["--eval_strategy", "no", "--save_strategy", "no", "--log_level", "error", "--bf16", "false"]
    assert run("train", [*files, *small, *given, *quick]) == 0
    record = (Path(tmp_path) / "training_settings.json").read_text()
    for part in ('"max_steps": 1', '"max_grad_norm": 0.5', '"data_seed": 7', '"optim": "sgd"'):
        assert part in record
    assert "log_level" not in record and str(tmp_path) not in record
