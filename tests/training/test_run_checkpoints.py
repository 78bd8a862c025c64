"""Checkpoints are whole or not there, whenever the process that writes or deletes one is killed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_data import data_directory
from tiny_recommenders import randomise
from tiny_trainers import assert_equal_weights, make_trainer, trained_weights

from llmrec.data.directory import PreparedData
from llmrec.recommender import Recommender
from llmrec.training import adapter_trainer, run_checkpoints
from llmrec.training.run_checkpoints import FILES, checkpoint_to_resume, discard, publish, rotate, staged_for


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data"))


EVERY_STEP: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps"}
EVERY_STEP |= {"eval_steps": 1, "early_stopping_patience": 0}


@pytest.fixture(scope="module")
def whole(checkpoints, data, tmp_path_factory) -> Any:
    """An uninterrupted run of four steps that kept the newest checkpoint and the best."""
    trainer = make_trainer(
        checkpoints["bert"], data, tmp_path_factory.mktemp("whole"), save_total_limit=2, **EVERY_STEP
    )
    trainer.train()
    return trainer


class Killed(BaseException):
    """Stands for a signal: nothing is tidied up but memory."""


STAGES = {
    "weights": (Recommender, "save_pretrained"),
    "optimizer": (adapter_trainer.AdapterTrainer, "_save_optimizer_and_scheduler"),
    "random states": (adapter_trainer.AdapterTrainer, "_save_rng_state"),
    "name": (adapter_trainer, "publish"),
    "rotation": (adapter_trainer, "rotate"),
    "deletion": (shutil, "rmtree"),
}
"""What is done at a checkpoint, in this order; a checkpoint counts from when it has its name."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_at_a_checkpoint_resumes_from_the_newest_whole_one(
    checkpoints, data, tmp_path, whole, stage, monkeypatch
):
    """Killed before and in the middle of each stage of the third checkpoint, which is to replace an older one."""
    owner, name = STAGES[stage]
    trainer = make_trainer(checkpoints["bert"], data, tmp_path, save_total_limit=2, **EVERY_STEP)
    original = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step < 3 or (stage == "deletion" and not is_deleted(args[0])):
            return original(*args, **kwargs)
        if stage in ("weights", "optimizer", "random states", "name"):
            for path in [path for path in trainer_files(tmp_path) if path.stat().st_size > 1]:
                os.truncate(path, path.stat().st_size // 2)  # what was written last may be cut, or all of it
        raise Killed

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(Killed):
        trainer.train()
    monkeypatch.undo()
    newest = 3 if stage in ("rotation", "deletion") else 2
    left = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert f"checkpoint-{newest}" in left and len(left) <= 3
    assert trainer_files(tmp_path) or stage in ("weights", "rotation")  # there is something to be passed over
    for folder in tmp_path.glob("checkpoint-*"):
        assert run_checkpoints.why_unfinished(folder) is None
    assert checkpoint_to_resume("true", tmp_path) == str(tmp_path / f"checkpoint-{newest}")
    if stage not in ("optimizer", "deletion"):
        return
    resumed = make_trainer(
        checkpoints["bert"], data, tmp_path, save_total_limit=2, resume_from_checkpoint="true", **EVERY_STEP
    )
    randomise(resumed.recommender)  # all that is learned comes from the checkpoint
    resumed.train()
    assert_equal_weights(trained_weights(resumed), trained_weights(whole))
    assert resumed.state.best_metric == whole.state.best_metric
    assert not list(tmp_path.glob(".*"))
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == sorted(
        path.name for path in Path(whole.args.output_dir).glob("checkpoint-*")
    )


def is_deleted(folder: Any) -> bool:
    """Whether this is a checkpoint that lost its name."""
    return Path(folder).name.endswith(".deleted") and Path(folder).exists()


def trainer_files(run: Path) -> list[Path]:
    """The files of a checkpoint that is being written."""
    return [path for path in run.rglob(".unfinished-*/**/*") if path.is_file()]


def test_the_best_checkpoint_is_recorded_where_it_lies(whole):
    run = Path(whole.args.output_dir)
    best = run / f"checkpoint-{whole.state.best_global_step}"
    assert best.is_dir() and whole.state.best_model_checkpoint == str(best)
    state = json.loads((run / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(best)


def test_every_missing_or_cut_file_is_found(whole, tmp_path, capsys):
    run = Path(whole.args.output_dir)
    older, newest = (shutil.copytree(run / "checkpoint-4", tmp_path / f"checkpoint-{step}") for step in (9, 10))
    names = json.loads((newest / FILES).read_text())
    expected = {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert expected < set(names) and set(names) | {FILES, "README.md"} >= {path.name for path in newest.iterdir()}
    assert checkpoint_to_resume(True, tmp_path) == str(newest)
    for name in [*names, FILES]:
        kept = (newest / name).read_bytes()
        for damaged in (None, kept[:-1]):
            (newest / name).unlink() if damaged is None else (newest / name).write_bytes(damaged[: len(kept) // 2])
            capsys.readouterr()
            assert checkpoint_to_resume("true", tmp_path) == str(older), name
            assert f"passed over checkpoint-10: its {name}" in capsys.readouterr().out.replace("it has no", "its")
            with pytest.raises(FileNotFoundError, match=r"is no checkpoint that was finished: it.*\nGive"):
                checkpoint_to_resume(str(newest), tmp_path)
        (newest / name).write_bytes(kept)
    (newest / "README.md").write_text("edited")
    assert checkpoint_to_resume("true", tmp_path) == str(newest)


def fake_checkpoint(run: Path, step: int, *, optimizer: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    staged = staged_for(folder)
    staged.mkdir()
    (staged / "optimizer.pt" if optimizer else staged / "weights").write_text(f"step {step}")
    publish(folder)
    return folder


def test_what_is_asked_for_is_resumed_from(tmp_path):
    assert checkpoint_to_resume(None, tmp_path) is None is checkpoint_to_resume("false", tmp_path)
    assert checkpoint_to_resume("true", tmp_path) is None  # nothing there yet
    for step in (9, 10):
        fake_checkpoint(tmp_path, step)
    assert checkpoint_to_resume("true", tmp_path) == str(tmp_path / "checkpoint-10")  # not by name
    (tmp_path / "checkpoint-11").mkdir()
    assert checkpoint_to_resume("true", tmp_path) == str(tmp_path / "checkpoint-10")
    for step in (9, 10):
        discard(tmp_path / f"checkpoint-{step}")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint that was finished .checkpoint-11: it has no"):
        checkpoint_to_resume("true", tmp_path)
    fake_checkpoint(tmp_path, 12, optimizer=False)
    with pytest.raises(FileNotFoundError, match="it was saved with save_only_model, without the optimizer"):
        checkpoint_to_resume(str(tmp_path / "checkpoint-12"), tmp_path)


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "left").write_text("of a run that was killed")
    folder = fake_checkpoint(tmp_path, 3)
    assert sorted(path.name for path in folder.iterdir()) == [FILES, "optimizer.pt"]


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [1, 2, 3, 4]),
        (0, None, [1, 2, 3, 4]),
        (2, None, [3, 4]),
        (2, 1, [1, 4]),
        (1, 1, [1, 4]),
        (3, 4, [2, 3, 4]),
    ],
)
def test_the_newest_and_the_best_checkpoint_stay(tmp_path, limit, best, left):
    for step in (1, 2, 3, 4):
        fake_checkpoint(tmp_path, step)
    rotate(tmp_path, limit, None if best is None else str(tmp_path / f"checkpoint-{best}"))
    assert sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*")) == left


def test_a_folder_is_deleted_after_it_lost_its_name(tmp_path, monkeypatch):
    folder = fake_checkpoint(tmp_path, 1)
    seen = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: seen.append((Path(path).exists(), folder.exists())))
    discard(folder)
    assert seen == [(False, True), (True, False)]


def test_one_checkpoint_is_kept_where_one_is_asked_for(checkpoints, data, tmp_path):
    settings = {**EVERY_STEP, "save_total_limit": 1, "save_only_model": True}
    trainer = make_trainer(checkpoints["bert"], data, tmp_path, **settings)
    trainer.train()
    (left,) = tmp_path.glob("checkpoint-*")
    assert str(left) == trainer.state.best_model_checkpoint and not (left / "optimizer.pt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {left.name}


def test_a_resumed_run_counts_on_to_its_early_stop(checkpoints, data, tmp_path):
    """Without improvement for two evaluations a run stops, wherever it was interrupted."""
    settings = {**EVERY_STEP, "early_stopping_patience": 2, "learning_rate": 0.0, "item_learning_rate": 0.0}
    settings |= {"weight_decay": 0.0, "save_total_limit": None}
    whole = make_trainer(checkpoints["bert"], data, tmp_path / "whole", **settings)
    whole.train()
    assert whole.state.global_step == 3
    resumed = make_trainer(checkpoints["bert"], data, tmp_path / "resumed", **settings)
    resumed.train(str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.global_step == 3


def test_data_are_not_skipped_where_that_is_asked(checkpoints, data, tmp_path, whole):
    """The epoch begins anew, with the batch that an uninterrupted run had first."""
    settings = {
        "max_steps": 5,
        "ignore_data_skip": True,
        "resume_from_checkpoint": f"{whole.args.output_dir}/checkpoint-4",
    }
    resumed = make_trainer(checkpoints["bert"], data, tmp_path, **settings)
    expected = [batch["input_ids"] for batch in resumed.get_train_dataloader()]
    compute, read = resumed.compute_loss, []

    def spy(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(inputs["input_ids"].tolist())
        return compute(model, inputs, *args, **kwargs)

    resumed.compute_loss = spy
    resumed.train()
    assert read == [expected[0].tolist()] != [expected[4].tolist()]
