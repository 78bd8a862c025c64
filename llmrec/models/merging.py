"""LoRA merged into the backbone: a plain model, which can still be asked what its base model says.

Item texts are embedded by the base model, before and after training. Its weights are gone from a merged backbone, so
what was added to them is kept, in the low rank it has, and taken away again in a copy that embeds texts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmrec.models.adapter import inner
from llmrec.models.modeling import RecModel
from llmrec.models.sharing import shared_copy

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


def base_backbone(model: RecModel) -> PreTrainedModel:
    """Return the backbone as its base model computes: a copy that shares all weights which no adapter was merged into.

    The model itself, and whoever computes with it, is left alone.
    """
    return subtracted(shared_copy(model.backbone, _without_adapter), model.adaptation)


@torch.no_grad()
def subtracted(backbone: PreTrainedModel, adaptation: Adaptation) -> PreTrainedModel:
    """Return a copy that shares all weights but those of the adapted layers, from which the adaptation is taken."""
    backbone = shared_copy(backbone)
    for name, (left, right) in adaptation.items():
        layer: Any = backbone.get_submodule(name)
        layer.weight = _frozen(layer.weight - left.to(layer.weight) @ right.to(layer.weight))
    return backbone


@torch.no_grad()
def _without_adapter(module: nn.Module) -> nn.Module:
    """Return what peft put an adapter around, or the module itself."""
    if isinstance(module, AuxiliaryTrainingWrapper):
        return module.original_module
    if not isinstance(module, BaseTunerLayer):
        return module
    layer: Any = module
    base = layer.get_base_layer()
    if layer.merged:  # by peft, in place
        base = shared_copy(base)
        base.weight = _frozen(base.weight - sum(layer.get_delta_weight(name) for name in layer.merged_adapters))
    return base


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)
