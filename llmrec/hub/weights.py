"""Weights of a saved folder: safetensors of the tensors that llmrec writes, of sane shapes, whole and finite.

Shapes are read of the header and checked before a number is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from llmrec.configuration import RecommenderConfig
from llmrec.formatting import printable
from llmrec.hub.names import ADAPTER_WEIGHTS
from llmrec.models.adapter import HEADS
from llmrec.models.candidate_heads import CrossHead
from llmrec.models.heads import DualHead
from llmrec.models.time import TimeEmbedding
from llmrec.untrusted import LIMITS, check_count

PICKLES = (b"\x80", b"PK\x03\x04")
"""How pickles begin, bare and as torch writes them."""
REFUSED_PICKLE = "llmrec reads safetensors alone, for a pickle can run code.\nAsk its author to save it again."
LORA = re.compile(r"\.lora_[AB]\.")
HEAD = re.compile(rf"\.({'|'.join(HEADS)})\.")


def check_heads(path: Path, config: RecommenderConfig) -> None:
    """Refuse adapter weights that lack a number of a head: it would start anew, and nobody would see it.

    Raises:
        ValueError: naming what is missing.
    """
    heads = {
        "rec_head": DualHead(1),
        "candidate_head": CrossHead(1) if config.head == "cross" else None,  # a verbalizer's are seen on loading
        "rec_time": TimeEmbedding(1, config.time_embedding) if config.time_embedding else None,
    }
    wanted = {f"{name}.{key}" for name, head in heads.items() if head is not None for key in head.state_dict()}
    with opened(path) as file:
        found = {name.removeprefix("base_model.model.") for name in file.keys()}  # noqa: SIM118 (it is no dict)
    if missing := sorted(wanted - found):
        raise ValueError(f"{path.name} is incomplete: it lacks {', '.join(missing)}; save or download it again.")


def check_weights(path: Path, rank: int | None = None, rows: int | None = None) -> None:
    """Refuse weights that are no safetensors, were cut short, are not numbers, or are not an adapter's.

    Args:
        path: The file.
        rank: Of an adapter, which every tensor of LoRA has on one side.
        rows: Of tables of items, which every tensor has.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    with opened(path) as file:
        names = list(file.keys())
        for name in names:
            _check_shape(path.name, name, file.get_slice(name).get_shape(), rank, rows)
        if "tensors" in counts_of(path.name):
            check_count(path.name, "tensors", len(names))
        for name in names:
            tensor = file.get_tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(
                    f"{path.name}: {name!r} has values that are no numbers (NaN or infinite).\n"
                    "No score would be a number: download it again, or train again with a lower learning rate."
                )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; safetensors alone says whether it is one.

    Raises:
        ValueError: if it is none, whose first bytes then tell whether it is a pickle. Those of a sound file may be the
            same: it begins with the length of its header.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        with path.open("rb") as file:
            if file.read(4).startswith(PICKLES):
                raise ValueError(f"{path.name} in {str(path.parent)!r} is a pickle: {REFUSED_PICKLE}") from None
        raise ValueError(
            f"{path.name} in {str(path.parent)!r} is damaged or was cut short ({printable(str(error))}); download it "
            "again."
        ) from None


def counts_of(name: str) -> dict[str, int]:
    """Return what is counted in a file."""
    return dict(LIMITS[name].counts) if name in LIMITS else {}


def _check_shape(file: str, name: str, shape: list[int], rank: int | None, rows: int | None) -> None:
    if (side := "numbers along one side of a tensor") in counts_of(file):
        check_count(file, side, max(shape, default=0))
    if file == ADAPTER_WEIGHTS:
        lora = bool(LORA.search(name))
        if not lora and not HEAD.search(name):
            raise ValueError(
                f"{file} holds {name!r}, which is neither LoRA nor a head.\n"
                "llmrec writes no such adapter; get one that it saved."
            )
        if lora and rank is not None and (len(shape) != 2 or rank not in shape):
            raise ValueError(f"{file}: {name!r} of shape {tuple(shape)} is no LoRA of r={rank}; get it again.")
    if rows is not None and (not shape or shape[0] != rows):
        raise ValueError(
            f"{file}: {name!r} of shape {tuple(shape)} was made of another items.parquet, which has {rows:,} items.\n"
            "Save or download both again."
        )
