"""The held-out loss of `pretrain` beside stock transformers: each history alone, its mean over users by hand."""

from __future__ import annotations

import copy
import json
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import data_directory
from tiny_checkpoints import random_model, save_checkpoint
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, LlamaForCausalLM

from llmrec.commands.main import run
from llmrec.commands.pretrain import assemble, pretrain_parser
from llmrec.losses.catalogue import IGNORED

SMALL = shlex.split(
    "--max_tokens 32 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true --row_tokens 96 --mask_rate 0.4 --held_out 0.4 --per_device_eval_batch_size 2"
)
STILL = ["--learning_rate", "0", "--weight_decay", "0", "--eval_strategy", "no", "--save_strategy", "no"]
WHOLE = {"bert": BertForMaskedLM, "llama": LlamaForCausalLM}
STOCK = {"bert": AutoModelForMaskedLM, "llama": AutoModelForCausalLM}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=10, irregular=True)


@pytest.fixture(scope="module", params=["bert", "llama"])
def with_head(request, tmp_path_factory) -> tuple[str, Path]:
    """A checkpoint that was saved with what predicts its tokens."""
    folder = save_checkpoint(request.param, tmp_path_factory.mktemp("with-head") / request.param)
    vocab_size = len(AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(5)
    WHOLE[request.param](random_model(request.param, vocab_size).config).save_pretrained(folder)
    return request.param, folder


def stock_losses(family: str, checkpoint: Path, trainer) -> dict[int, list[float]]:
    """Return the losses of every held-out user's tokens, each history read alone by stock transformers."""
    stock = STOCK[family].from_pretrained(checkpoint).eval()
    found: dict[int, list[float]] = {}
    size = trainer.args.per_device_eval_batch_size
    for begin in range(0, len(trainer.cases), size):
        rows = trainer.cases.rows[begin : begin + size]
        batch = trainer.collator(rows)  # what is masked
        for row, passes in enumerate(rows):
            for number, one in enumerate(passes):
                own = batch["sequence"][row] == number
                ids, block, asked = (batch[name][row, own] for name in ("input_ids", "block", "labels"))
                if family == "llama":  # plain left-to-right reading; all but the header is asked
                    header = trainer.recommender.processor.header
                    ids = torch.tensor([*header, *(token for block in one.row.blocks for token in block)])
                    with torch.no_grad():
                        logits = stock(input_ids=ids[None]).logits[0, :-1]
                    asked = ids[1:].clone()
                    asked[: len(header) - 1] = IGNORED
                else:
                    sees = [[bool(key <= query) for key in block] for query in block]
                    mask = torch.where(torch.tensor(sees), 0.0, torch.finfo(torch.float32).min)[None, None]
                    with torch.no_grad():
                        logits = stock(input_ids=ids[None], attention_mask=mask).logits[0]
                kept = asked != IGNORED
                losses = F.cross_entropy(logits[kept], asked[kept], reduction="none").tolist()
                found.setdefault(one.user, []).extend(losses)
    return found


def test_loss_and_perplexity_are_those_of_stock_transformers(with_head, data, tmp_path) -> None:
    """The checkpoint's own head is used, and where nothing is learned the adapted model is the base."""
    family, checkpoint = with_head
    options = ["--data_dir", str(data), "--base_model", str(checkpoint), *SMALL, *STILL, "--max_steps", "1"]
    settings = pretrain_parser().parse_args_into_dataclasses([*options, "--output_dir", str(tmp_path / "asked")])
    trainer, _ = assemble(*settings)
    assert not trainer.language.learned
    by_user = stock_losses(family, checkpoint, trainer)
    assert any(sum(one.user == user for row in trainer.cases.rows for one in row) > 1 for user in by_user)
    expected = np.mean([np.mean(losses) for losses in by_user.values() if losses])
    own = trainer.evaluate()
    assert own["eval_loss"] == pytest.approx(expected, abs=1e-5) and own["eval_base_loss"] == own["eval_loss"]
    others = copy.copy(trainer.cases)
    others.rows = others.rows[:1]
    losses = trainer.held_out_losses(others)
    assert trainer.evaluate(others, metric_key_prefix="test")["test_loss"] == losses[:, 0].mean() != own["eval_loss"]
    assert run("pretrain", [*options, "--output_dir", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run" / "pretrain_results.json").read_text())
    assert results["base_head"] == "the checkpoint's own"
    held_out = results["held_out"]
    assert held_out["users"] == sum(bool(losses) for losses in by_user.values()) > 1
    for name in ("adapted", "base"):
        assert held_out[name]["loss"]["value"] == pytest.approx(expected, abs=1e-5)
        assert held_out[name]["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert held_out["margin"]["value"] == pytest.approx(0, abs=1e-6)


def test_a_head_of_its_own_stays_as_it_is_and_the_base_too(with_head, data, tmp_path) -> None:
    _, checkpoint = with_head
    files = ["--data_dir", str(data), "--base_model", str(checkpoint), "--output_dir", str(tmp_path)]
    options = [*SMALL, *STILL, "--learning_rate", "2e-2", "--max_steps", "4"]
    trainer, _ = assemble(*pretrain_parser().parse_args_into_dataclasses([*files, *options]))
    heads = {name: weight.clone() for name, weight in trainer.language.heads.state_dict().items()}
    before = trainer.held_out_losses()
    trainer.train()
    assert all(torch.equal(weight, heads[name]) for name, weight in trainer.language.heads.state_dict().items())
    after = trainer.held_out_losses()
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert np.abs(after[:, 0] - before[:, 0]).max() > 1e-3
