"""How much of what is to be read goes into one pass, by the memory that a pass takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from transformers import PreTrainedModel

MIB = 2**20
ACTIVATIONS = 20
"""Float32 numbers per token and hidden unit that are alive at once, about, without gradients."""

CACHED_TOKENS = 512
"""Tokens of candidates in a pass behind a cache, on a CPU. It computes what the mask hides, which is all that
candidates could see of each other: with more of them, one more pass is cheaper."""


def pass_mebibytes(backbone: PreTrainedModel, num_read: int, num_seen: int | None = None) -> float:
    """Estimate what one row of a pass takes: its mask (under eager attention its weights too) and its activations.

    Args:
        backbone: the checkpoint's model.
        num_read: tokens that the pass computes.
        num_seen: tokens that they may see, cached ones included; None for those computed alone.
    """
    config = backbone.config
    weights = 8 * config.num_attention_heads if config._attn_implementation == "eager" else 0
    seen = num_read if num_seen is None else num_seen
    return num_read * (seen * (8 + weights) + config.hidden_size * 4 * ACTIVATIONS) / MIB


def chunk_candidates(
    backbone: PreTrainedModel,
    num_history: int,
    sizes: Sequence[int],
    max_mebibytes: float,
    max_tokens: float = math.inf,
) -> list[slice]:
    """Cut candidates into runs that fit a pass, each as long as it can be and of at least one candidate.

    Args:
        backbone: the checkpoint's model.
        num_history: tokens of the history, which stands in the same pass.
        sizes: (C,) tokens of each candidate.
        max_mebibytes: what a pass may take, about.
        max_tokens: tokens that the candidates of a pass may have.
    """
    bounds, used = [0], 0
    for candidate, size in enumerate(sizes):
        too_long = used + size > max_tokens or pass_mebibytes(backbone, num_history + used + size) > max_mebibytes
        if used and too_long:
            bounds.append(candidate)
            used = 0
        used += size
    return [slice(begin, end) for begin, end in itertools.pairwise([*bounds, len(sizes)])]


def cached_tokens(backbone: PreTrainedModel) -> float:
    """Return how many tokens of candidates a pass behind a cache is best given (`chunk_candidates`)."""
    return CACHED_TOKENS if backbone.device.type == "cpu" else math.inf
