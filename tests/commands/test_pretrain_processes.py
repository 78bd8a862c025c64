"""Two processes adapt as one does."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_data import data_directory
from two_processes import ROOT, finish, launch, stop

from llmrec.commands.main import run

SAME_STEPS = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --bf16 false --disable_tqdm true --row_tokens 96 "
    "--mask_rate 0.4 --held_out 0.3 --max_steps 2 --optim sgd --learning_rate 0.1 --lr_scheduler_type constant "
    "--warmup_steps 0 --save_strategy no --eval_strategy no --load_best_model_at_end false --logging_steps 1 "
    "--mixing_temperature 2 --contrast_weight 1"
)


@pytest.mark.parametrize("family", ["llama"])
def test_two_processes_adapt_as_one_that_accumulates(checkpoints, tmp_path: Path, family: str) -> None:
    """Two rows in each of two processes are one step of two accumulated batches of two, contrasts included."""
    sources = [data_directory(tmp_path / "large", num_users=16, irregular=True)]
    sources.append(data_directory(tmp_path / "small", num_users=6, length=7))
    files = ["--data_dir", *map(str, sources), "--base_model", str(checkpoints[family]), *SAME_STEPS]
    rows = ["--per_device_train_batch_size", "2"]
    process = launch(tmp_path, ROOT / "scripts" / "pretrain.py", *files, *rows, "--output_dir", str(tmp_path / "two"))
    try:
        alone = [*rows, "--gradient_accumulation_steps", "2", "--output_dir", str(tmp_path / "one")]
        assert run("pretrain", [*files, *alone]) == 0
        printed = finish(process, tmp_path)
    finally:
        stop(process)
    assert printed.count(" are held out; drawn ") == len(sources)  # said once, not by each process
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-5, msg=name)
    assert any(weight.abs().max() > 1e-3 for name, weight in one.items() if "lora_B" in name)
    results = [json.loads((tmp_path / name / "pretrain_results.json").read_text()) for name in ("one", "two")]
    for kind in ("adapted", "base"):
        losses = [found["held_out"][kind]["loss"]["value"] for found in results]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for kind in ("loss", "base_loss", "contrast_loss"):
        logged = [[entry[kind] for entry in found["log"] if kind in entry] for found in results]
        assert len(logged[0]) == 2 and logged[0] == pytest.approx(logged[1], abs=1e-3)
