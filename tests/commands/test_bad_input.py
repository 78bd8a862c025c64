"""Every mistake of a user: exit code 2, a message on stderr that names the value, and nothing written."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_data import START, data_directory
from tiny_recommenders import tiny_recommender

from llmrec.commands.main import run
from llmrec.data.directory import PreparedData

GOOD_LINE = {"user_id": "ann", "history": [{"item_id": "i00", "timestamp": START}]}


@pytest.fixture(scope="module")
def place(tmp_path_factory, checkpoints) -> Path:
    """A folder with all that is good: data, an adapter, histories; and some things that are not."""
    folder = tmp_path_factory.mktemp("place")
    data = data_directory(folder / "data")
    tiny_recommender(checkpoints["bert"], PreparedData.open(data).catalog).save_pretrained(folder / "adapter")
    (folder / "in.jsonl").write_text(json.dumps(GOOD_LINE) + "\n")
    (folder / "file").write_text("a file")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "out.jsonl").mkdir()
    shutil.copytree(checkpoints["bert"], folder / "base")
    (folder / "no-weights").mkdir()
    shutil.copy(checkpoints["bert"] / "config.json", folder / "no-weights")
    for name, template in {
        "plain": {"event": "bought something", "item": "{title}"},
        "unknown": {"event": "{colour}", "item": "{title}"},
        "attribute": {"event": "{title.__class__}", "item": "{title}"},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(template))
    for name, text in {
        "unknown-item": json.dumps({"history": [{"item_id": "no-such"}]}),
        "no-history": json.dumps({"user_id": "ann"}),
        "bad-event": json.dumps({"history": ["i00"]}),
        "empty-history": json.dumps({"history": []}),
        "not-json": "{",
        "nothing": "\n\n",
        "backwards": json.dumps(
            {"history": [{"item_id": "i00", "timestamp": START}, {"item_id": "i01", "timestamp": 5}]}
        ),
        "milliseconds": json.dumps({"history": [{"item_id": "i00", "timestamp": START * 1000}]}),
    }.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(GOOD_LINE) + "\n" * (text.strip() != "") + text + "\n")
    (folder / "nothing.jsonl").write_text("\n\n")
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(place: Path, capsys, monkeypatch, verb: str, options: dict[str, str], message: str) -> None:
    monkeypatch.chdir(place)
    before = tree(place)
    argv = [part for name, value in options.items() for part in (f"--{name}", *value.split(" "))]
    capsys.readouterr()
    assert run(verb, argv) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "it/s" not in line and "batch/s" not in line]
    start = next(number for number, line in enumerate(errors) if line.startswith(f"llmrec {verb}: error: "))
    said = "\n".join(errors[start:])
    assert message in said
    assert len(errors) - start <= 3 and "Traceback" not in "\n".join(errors)
    assert tree(place) == before


TRAIN = {"data_dir": "data", "base_model": "base", "output_dir": "run", "max_tokens": "64", "bf16": "false"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_dir": "no-such"}, "data directory 'no-such' does not exist"),
        ({"data_dir": "adapter"}, "'adapter' holds no manifest.json"),
        ({"base_model": "no-such"}, "no checkpoint 'no-such'"),
        ({"base_model": "somebody/no-such"}, "no checkpoint 'somebody/no-such'"),
        ({"base_model": "empty"}, "'empty'"),
        ({"base_model": "no-weights"}, "safetensors"),
        ({"output_dir": "file"}, "'file' is a file"),
        ({"output_dir": "file/run"}, "'file/run'"),
        ({"output_dir": "adapter"}, "'adapter' holds"),
        ({"template": "plain.json"}, "event pattern 'bought something' has no item field"),
        ({"template": "unknown.json"}, "needs ['colour'], which the items do not have"),
        ({"template": "attribute.json"}, "is not a bare name"),
        ({"template": "no-such"}, "no template 'no-such'"),
        ({"template": "in.jsonl"}, "in.jsonl"),
        ({"lora_target_modules": "query typo"}, "lora_target_modules ['typo']"),
        ({"lora_r": "0"}, "r"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"max_tokens": "4"}, "max_tokens=4"),
        ({"max_tokens": "4000"}, "max_tokens=4000"),
        ({"window_overlap": "1"}, "window_overlap=1.0"),
        ({"attn_implementation": "flash"}, "attn_implementation='flash'"),
        ({"residual_dropout": "1"}, "residual_dropout=1.0"),
        ({"vector_dropout": "-1"}, "vector_dropout=-1.0"),
        ({"popularity_weight": "-1"}, "popularity_weight=-1.0 is not in [0, 2]"),
        ({"popularity_weight": "1", "hybrid": "false"}, "popularity_weight=1.0 goes with a hybrid"),
        ({"train_overlap": "1"}, "overlap"),
        ({"train_overlap": "-0.5"}, "overlap"),
        ({"max_train_events": "1"}, "max_train_events"),
        ({"max_train_events": "0"}, "max_train_events"),
        ({"max_eval_users": "0"}, "max_users is 0"),
        ({"per_device_eval_batch_size": "0"}, "per_device_eval_batch_size=0"),
        ({"per_device_train_batch_size": "0"}, "per_device_train_batch_size=0"),
        ({"resume_from_checkpoint": "no-such"}, "resume_from_checkpoint 'no-such' is no checkpoint"),
        ({"resume_from_checkpoint": "adapter"}, "resume_from_checkpoint 'adapter' is no checkpoint"),
        ({"output_dir": "adapter", "resume_from_checkpoint": "false"}, "'adapter' holds"),
        ({"output_dir": "adapter", "resume_from_checkpoint": "true"}, "no checkpoint to resume from"),
        ({"typo": "1"}, "--typo"),
    ],
)
def test_training_refuses(place, capsys, monkeypatch, changes, message):
    assert_refused(place, capsys, monkeypatch, "train", {**TRAIN, **changes}, message)


EVALUATE = {"data_dir": "data", "model": "adapter", "output_dir": "results"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_dir": "no-such"}, "data directory 'no-such' does not exist"),
        ({"model": "no-such"}, "no adapter 'no-such'"),
        ({"model": "base"}, "'base' is no llmrec adapter"),
        ({"model": "empty"}, "'empty' is no llmrec adapter"),
        ({"model": "file"}, "'file' is no llmrec adapter"),
        ({"base_model": "no-weights"}, "safetensors"),
        ({"split": "train"}, "split 'train'"),
        ({"split": "tset"}, "split 'tset': targets are taken from one of validation, test"),
        ({"output_dir": "file"}, "file"),
        ({"output_dir": "file/results"}, "file"),
        ({"max_users": "0"}, "max_users is 0"),
        ({"batch_size": "0"}, "batch_size"),
        ({"popularity_weight": "3"}, "popularity_weight=3.0 is not in [0, 2]"),
        ({"typo": "1"}, "--typo"),
    ],
)
def test_evaluation_refuses(place, capsys, monkeypatch, changes, message):
    assert_refused(place, capsys, monkeypatch, "evaluate", {**EVALUATE, **changes}, message)


RECOMMEND = {"model": "adapter", "input": "in.jsonl", "output": "out.jsonl"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "base"}, "'base' is no llmrec adapter"),
        ({"model": "no-such"}, "no adapter 'no-such'"),
        ({"input": "no-such.jsonl"}, "no input file 'no-such.jsonl'"),
        ({"input": "empty"}, "no input file 'empty'"),
        (
            {"input": "unknown-item.jsonl"},
            "unknown-item.jsonl, line 2: event 0: item 'no-such' is not in the catalogue",
        ),
        ({"input": "no-history.jsonl"}, 'no-history.jsonl, line 2: give an object with "history"'),
        ({"input": "bad-event.jsonl"}, "bad-event.jsonl, line 2"),
        ({"input": "empty-history.jsonl"}, "empty-history.jsonl, line 2: the history is empty"),
        ({"input": "not-json.jsonl"}, "not-json.jsonl, line 2 is not JSON"),
        ({"input": "nothing.jsonl"}, "'nothing.jsonl' has no line"),
        ({"input": "backwards.jsonl"}, "line 2: event 1 is earlier"),
        ({"input": "milliseconds.jsonl"}, "line 2: event 0: timestamp"),
        ({"input": "data/items.parquet"}, "items.parquet"),
        ({"output": "no-such/out.jsonl"}, "'no-such/out.jsonl'"),
        ({"output": "file/out.jsonl"}, "'file/out.jsonl'"),
        ({"output": "full/out.jsonl"}, "'full/out.jsonl'"),
        ({"output": "in.jsonl"}, "'in.jsonl'"),
        ({"k": "0"}, "k=0"),
        ({"typo": "1"}, "--typo"),
    ],
)
def test_recommending_refuses(place, capsys, monkeypatch, changes, message):
    assert_refused(place, capsys, monkeypatch, "recommend", {**RECOMMEND, **changes}, message)


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [("train", "max_tokens", "many"), ("evaluate", "mask_seen", "perhaps"), ("recommend", "k", "2.5")],
)
def test_options_of_another_kind_are_refused_by_the_parser(place, capsys, monkeypatch, verb, option, value):
    monkeypatch.chdir(place)
    good = {"train": TRAIN, "evaluate": EVALUATE, "recommend": RECOMMEND}[verb]
    before = tree(place)
    with pytest.raises(SystemExit) as stopped:
        run(verb, [part for name, text in {**good, option: value}.items() for part in (f"--{name}", text)])
    assert stopped.value.code == 2
    assert f"--{option}" in capsys.readouterr().err
    assert tree(place) == before


def test_what_may_not_be_written_is_refused(place, capsys, monkeypatch):
    """Permissions mean nothing to the superuser, so the system's answer is played."""

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("llmrec.storage.tempfile", SimpleNamespace(TemporaryFile=refuse))
    for verb, options in (("train", TRAIN), ("recommend", RECOMMEND)):
        assert_refused(place, capsys, monkeypatch, verb, options, "writ")
