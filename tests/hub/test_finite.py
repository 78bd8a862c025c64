"""What loading refuses is not saved: weights and item tables that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.recommender import Recommender


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def poison(name: str, value: float) -> Callable[[Recommender], None]:
    def change(one: Recommender) -> None:
        tensors = dict(rec_model(one).named_parameters()) | dict(rec_model(one).named_buffers())
        found = next(tensor for key, tensor in sorted(tensors.items()) if name in key)
        with torch.no_grad():
            found.view(-1)[0] = value

    return change


@pytest.mark.parametrize(
    ("merged", "name", "value", "said"),
    [
        (False, "lora_A", float("nan"), r"adapter_model.safetensors: '.*lora_A"),
        (False, "rec_head", float("inf"), r"adapter_model.safetensors: '.*rec_head"),
        (False, "rec_items.bias", float("nan"), r"item_tables.safetensors: 'bias'"),
        (False, "rec_items.text", float("-inf"), r"item_embeddings.safetensors: 'text'"),
        (True, "value.weight", float("nan"), r"model.safetensors: '.*value.weight'"),
        (True, "rec_head", float("nan"), r"head.safetensors: 'rec_head"),
    ],
)
def test_weights_that_are_not_finite_are_not_saved(checkpoints, tmp_path, merged, name, value, said):
    one = randomise(tiny_recommender(checkpoints["bert"]))
    one = one.merge() if merged else one
    one.save_pretrained(tmp_path)
    before = files(tmp_path)
    poison(name, value)(one)
    with pytest.raises(ValueError, match=rf"{said}(.|\n)*NaN or infinite(.|\n)*lower learning rate"):
        one.save_pretrained(tmp_path)
    assert files(tmp_path) == before
