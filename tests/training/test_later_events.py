"""What lies after the cut reaches no loss of `pretrain`: as event, text, half, share or user held out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from small_data import DAY, data_directory, prepared

from llmrec.commands.main import run
from llmrec.commands.pretrain import assemble, pretrain_parser
from llmrec.data.directory import PreparedData

PLANTED = "zzz"
SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true --row_tokens 96 --mask_rate 0.4 --held_out 0.3 --contrast_weight 1 --mixing_temperature 2 "
    "--learning_rate 1e-2"
)


def planted(source: Path, folder: Path, splits: frozenset[str]) -> Path:
    """Copy a data directory; events of some splits become one item that nothing else holds, a thousand days later."""
    directory = PreparedData.open(source)
    events = [
        (row["user_id"], PLANTED, time + 1_000 * DAY) if split in splits else (row["user_id"], item, time)
        for row in directory.histories()
        for item, time, split in zip(row["item_id"], row["timestamp"], row["split"], strict=True)
    ]
    secret = pl.DataFrame({"item_id": [PLANTED], "title": ["a brazil fargo anvil of gravity"]})
    return prepared(folder, events, pl.concat([directory.catalog.frame, secret], how="diagonal"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, list[Path]]:
    """Two data directories as they are, with later events planted, and with one more of the training."""
    root = tmp_path_factory.mktemp("data")
    sources = [
        data_directory(root / "large", num_users=14, irregular=True),
        data_directory(root / "small", num_users=6, length=7),
    ]
    kinds = {"plain": frozenset(), "later": frozenset({"validation", "test"}), "all": frozenset({"train"})}
    return {
        name: [planted(one, root / f"{name}-{number}", splits) for number, one in enumerate(sources)]
        for name, splits in kinds.items()
    }


def adapted(folders: list[Path], checkpoint: Path, output: Path) -> tuple[dict[str, torch.Tensor], dict]:
    files = ["--data_dir", *map(str, folders), "--base_model", str(checkpoint), "--output_dir", str(output)]
    assert run("pretrain", [*files, *SMALL, "--max_steps", "3", "--logging_steps", "1"]) == 0
    return load_file(output / "adapter_model.safetensors"), json.loads((output / "pretrain_results.json").read_text())


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_planted_later_events_change_no_bit_of_what_is_learned_or_measured(checkpoints, data, tmp_path, family) -> None:
    (one, before), (other, after) = (
        adapted(data[name], checkpoints[family], tmp_path / name) for name in ("plain", "later")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(one[name].abs().sum() > 0 for name in one if "lora_B" in name)
    assert before["held_out"] == after["held_out"]
    told = ("loss", "base_loss", "contrast_loss")
    losses = [[entry.get(name) for entry in found["log"] for name in told] for found in (before, after)]
    assert losses[0] == losses[1]
    for name in ("events_read", "tokens", "tokens_there", "share", "users", "held_out_users"):
        assert [each[name] for each in before["drawn"]] == [each[name] for each in after["drawn"]]


def test_the_text_of_an_item_that_only_later_events_have_is_not_read(checkpoints, data, tmp_path) -> None:
    """It is where training has it, so the test would see it."""
    found = {}
    for name in ("later", "all"):
        files = ["--data_dir", *map(str, data[name]), "--base_model", str(checkpoints["bert"])]
        settings = pretrain_parser().parse_args_into_dataclasses([*files, *SMALL, "--output_dir", str(tmp_path / name)])
        trainer, _ = assemble(*settings)
        tokenizer = trainer.recommender.processor.tokenizer
        rows = [*trainer.train_dataset.rows, *trainer.cases.rows]
        blocks = [block for row in rows for one in row for block in one.row.blocks]
        found[name] = any("anvil" in tokenizer.decode(block) for block in blocks)
    assert found == {"later": False, "all": True}
