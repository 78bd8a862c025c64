"""LoRA merged into the backbone: a plain model, which can still be asked what its base model says.

Item texts are embedded by the base model, before and after training. Its weights are gone from a merged backbone, so
what was added to them is kept, in the low rank it has, and taken away again while a text is embedded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from llmrec.models.adapter import inner
from llmrec.models.modeling import RecModel

Adaptation = Mapping[str, tuple[Tensor, Tensor]]
"""Layer of the backbone -> (left, right): left @ right, of the weight's shape, is what was added to it."""


@torch.no_grad()
def merge_adapter(model: PeftModel) -> RecModel:
    """Return a copy of the model whose backbone's weights hold the adapter; no layer of peft is left in it.

    Raises:
        ValueError: if a weight is not in float32, where merging would move scores by a hundredth.
    """
    if other := {str(weight.dtype) for weight in model.parameters()} - {"torch.float32"}:
        raise ValueError(f"weights are in {', '.join(sorted(other))}: load the adapter again and merge it in float32.")
    model = copy.deepcopy(model)
    added = adaptation_of(model)
    merged = model.merge_and_unload()
    assert isinstance(merged, RecModel)
    merged.adaptation = added
    return merged.requires_grad_(False).eval()


@torch.no_grad()
def adaptation_of(model: PeftModel) -> Adaptation:
    """Return what the adapter adds to each layer of the backbone that it adapts."""
    added = {}
    layers: Any = inner(model).backbone.named_modules()
    for name, layer in layers:
        if not isinstance(layer, LoraLayer):
            continue
        lora: Any = layer
        [adapter] = lora.active_adapters
        left, right = lora.lora_B[adapter].weight * lora.scaling[adapter], lora.lora_A[adapter].weight.clone()
        added[name] = (right.T, left.T) if lora.fan_in_fan_out else (left, right)  # GPT-2's weights are transposed
    return added


@contextmanager
def base_weights(model: PeftModel | RecModel) -> Iterator[None]:
    """Let the backbone compute what its base model computes, wherever the adapter stands."""
    if isinstance(model, PeftModel):
        with model.disable_adapter():
            yield
    else:
        with subtracted(model.backbone, model.adaptation):
            yield


@contextmanager
def subtracted(backbone: nn.Module, adaptation: Adaptation) -> Iterator[None]:
    """Take an adaptation away from the backbone's weights; afterwards they are what they were, to the last bit."""
    layers: dict[str, Any] = {name: backbone.get_submodule(name) for name in adaptation}
    weights: dict[str, Tensor] = {name: layer.weight for name, layer in layers.items()}
    merged = {name: weight.data for name, weight in weights.items()}
    try:
        for name, (left, right) in adaptation.items():
            weights[name].data = merged[name] - left.to(merged[name]) @ right.to(merged[name])
        yield
    finally:
        for name, weight in weights.items():
            weight.data = merged[name]
