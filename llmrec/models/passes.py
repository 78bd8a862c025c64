"""One pass of a checkpoint over embeddings: positions, attention windows and cache as the architecture has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

SLIDING = "sliding_attention"
"""Kind of a layer, as `config.layer_types` names it, that sees a window of the row."""


@dataclass(frozen=True)
class Capabilities:
    """What a checkpoint was found to do when it was asked (`models.capabilities`).

    Attributes:
        causal: its own plain pass reads from left to right.
        reach: a token sees keys less than so many positions away, in layers that have a window; None without a window.
        kinds: kinds of layers, where each takes a mask of its own; nothing where one mask is for all.
        relative_bias: its attention adds a bias by tokens of the row, not by positions, which the mask corrects.
        branches: branches, moved positions and packed histories are read as if each stood alone.
        cache: tokens read behind a key/value cache have the states of one pass.
        lacks: what failed where there are no branches.
    """

    causal: bool
    reach: int | None = None
    kinds: tuple[str, ...] = ()
    relative_bias: bool = False
    branches: bool = False
    cache: bool = False
    lacks: str = ""

    @property
    def level(self) -> str:
        """`full`, `no cache` (packed passes everywhere), or `no branches` (the dual head alone)."""
        return ("full" if self.cache else "no cache") if self.branches else "no branches"


def position_offset(backbone: nn.Module) -> int:
    """Return the number of the first position: RoBERTa-style models count from behind their padding index."""
    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def max_positions(backbone: PreTrainedModel) -> int:
    """Return how many tokens a row may have.

    LongRoPE turns all tokens of a row by other angles once it is longer than the original length, cached ones
    excepted, so rows end there.
    """
    config = backbone.config
    size = getattr(config, "max_position_embeddings", 1 << 30)
    rotation = getattr(config, "rope_parameters", None) or {}
    if rotation.get("rope_type") == "longrope":
        size = min(size, rotation.get("original_max_position_embeddings") or size)
    return int(size) - position_offset(backbone)


@functools.cache
def cache_argument(forward: Callable[..., Any]) -> str:
    """Return what the `forward` of an architecture calls its cache: transformers 5.24 renamed the argument."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def forward_pass(
    backbone: PreTrainedModel,
    can: Capabilities,
    embeddings: Tensor,
    position_ids: Tensor,
    mask: Tensor,
    cache: Cache | None = None,
) -> Tensor:
    """Return the last hidden states (B, T, D) of embeddings (B, T, D).

    Args:
        backbone: encoder or decoder.
        can: what it was found to do.
        embeddings: of the tokens to read.
        position_ids: (B, T), the first position being `position_offset`.
        mask: (B, 1, T, S + T) additive float32, S tokens being in the cache already; without the attention window.
        cache: keys and values of those, which stand at the first S positions, to which these tokens' are added.
    """
    caching = {} if cache is None else {cache_argument(type(backbone).forward): cache}
    return backbone(
        inputs_embeds=embeddings,
        position_ids=position_ids,
        attention_mask=_own_mask(backbone, can, position_ids, mask),
        use_cache=cache is not None,
        **caching,
    ).last_hidden_state


def _own_mask(backbone: PreTrainedModel, can: Capabilities, position_ids: Tensor, mask: Tensor) -> Any:
    """Return the mask as the architecture takes it: a 4D mask replaces its own, window and all."""
    if can.relative_bias:
        mask = mask + _bias_correction(backbone, position_ids)
    seen = mask.shape[-1]
    if can.reach is None or seen <= can.reach:  # positions are no further apart than there are tokens
        return mask
    cached = torch.arange(seen - position_ids.shape[1], device=mask.device) + position_offset(backbone)
    keys = torch.cat([cached.expand(len(position_ids), -1), position_ids], dim=1)
    outside = (position_ids[:, :, None] - keys[:, None, :]).abs() >= can.reach
    windowed = mask.masked_fill(outside[:, None], torch.finfo(mask.dtype).min)
    return {kind: windowed if kind == SLIDING else mask for kind in can.kinds} if can.kinds else windowed


def _bias_correction(backbone: Any, position_ids: Tensor) -> Tensor:
    """Return the relative position bias of positions (B, heads, T, T), minus the one of the row that MPNet adds."""
    encoder = backbone.encoder
    rows = torch.arange(position_ids.shape[1], device=position_ids.device)[None]
    biases = [
        encoder.relative_attention_bias(encoder.relative_position_bucket(place[:, None, :] - place[:, :, None]))
        for place in (position_ids, rows)
    ]
    return (biases[0] - biases[1]).permute(0, 3, 1, 2).float()


def may_correct_bias(backbone: Any) -> bool:
    """Tell whether the architecture has the relative position bias that `Capabilities.relative_bias` is about."""
    encoder = getattr(backbone, "encoder", None)
    return hasattr(encoder, "relative_attention_bias") and hasattr(encoder, "relative_position_bucket")
