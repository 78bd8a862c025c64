"""A merged recommender on disk: a checkpoint that stock transformers loads, and what llmrec needs beside it.

| file | content |
|---|---|
| `config.json`, `model.safetensors` | the backbone, the adapter in its weights: `AutoModel.from_pretrained` loads it |
| `head.safetensors` | the heads |
| `adaptation.safetensors` | what was added to the base model's weights, in low rank: new items' texts need those |

The other files are those of an adapter's folder (`llmrec.hub.folder`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from llmrec.hub.weights import opened
from llmrec.models.adapter import HEADS
from llmrec.models.backbone import read_config
from llmrec.models.costs import check_architecture
from llmrec.models.merging import Adaptation
from llmrec.models.modeling import RecModel
from llmrec.untrusted import MIB

BACKBONE_CONFIG = "config.json"
BACKBONE_WEIGHTS = "model.safetensors"
HEAD_WEIGHTS = "head.safetensors"
ADAPTATION = "adaptation.safetensors"
SIDES = ("left", "right")
ONE_FILE = "1TB"
"""Weights are not cut into several files, whose names would depend on their size."""


def save_merged(folder: Path, model: RecModel) -> None:
    """Write the backbone, the heads and what was added to the base model."""
    model.backbone.save_pretrained(folder, max_shard_size=ONE_FILE)
    _save(heads_of(model).state_dict(), folder / HEAD_WEIGHTS)
    factors = {
        f"{name}.{side}": factor
        for name, pair in model.adaptation.items()
        for side, factor in zip(SIDES, pair, strict=True)
    }
    _save(factors, folder / ADAPTATION)


def check_backbone_files(folder: Path) -> None:
    """Refuse a backbone whose settings and weights do not go together, before anything of their size is made.

    Raises:
        ValueError: naming what is wrong.
    """
    config = read_config(folder, str(folder))
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(f"{BACKBONE_CONFIG}: quantization_config is refused: a merged model is saved in float32.")
    with opened(folder / BACKBONE_WEIGHTS) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no dict)
    model = check_architecture(config, folder)
    needed, size = 4 * sum(map(torch.Tensor.numel, model.parameters())), (folder / BACKBONE_WEIGHTS).stat().st_size
    if size > 2 * needed + MIB:
        raise ValueError(
            f"{BACKBONE_WEIGHTS} has {size:,} bytes, and the model of {BACKBONE_CONFIG} {needed:,}: it holds what is "
            "never read.\nExport the model again."
        )
    try:
        tied = set(getattr(model, "all_tied_weights_keys", None) or ())
        for name, weight in model.state_dict().items():
            if name not in tied and not name.startswith("pooler.") and shapes.get(name) != tuple(weight.shape):
                raise ValueError(f"{name} should be {tuple(weight.shape)}, found {shapes.get(name, 'nothing')}")
    except Exception as error:  # whatever the settings of a stranger make of the library that reads them
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{BACKBONE_CONFIG} and {BACKBONE_WEIGHTS} of {str(folder)!r} do not go together: {reason}.\n"
            "Export the model again."
        ) from None


def heads_of(model: RecModel) -> nn.ModuleDict:
    """Return the heads that the model has, by name."""
    return nn.ModuleDict({name: getattr(model, name) for name in HEADS if hasattr(model, name)})


def load_heads(folder: Path, model: RecModel) -> None:
    """Load the saved heads into a model.

    Raises:
        ValueError: if they are not those that the model needs.
    """
    try:
        heads_of(model).load_state_dict(_load(folder / HEAD_WEIGHTS))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{HEAD_WEIGHTS} does not fit {str(folder)!r}: {reason}. Export it again.") from None


def load_adaptation(folder: Path, backbone: nn.Module) -> Adaptation:
    """Return what was added to the base model's weights.

    Raises:
        ValueError: if it does not fit the backbone.
    """
    factors = _load(folder / ADAPTATION)
    layers = {name.rpartition(".")[0] for name in factors}
    modules = dict(backbone.named_modules())
    found = {}
    for layer in sorted(layers):
        weight = getattr(modules.get(layer), "weight", torch.empty(0))
        left, right = (factors.get(f"{layer}.{side}", torch.empty(0)) for side in SIDES)
        if (
            left.ndim != 2
            or right.ndim != 2
            or left.shape[1] != right.shape[0]
            or ((left.shape[0], right.shape[1]) != tuple(weight.shape))
        ):
            raise ValueError(f"{ADAPTATION} does not fit layer {layer!r} of {str(folder)!r}. Export it again.")
        found[layer] = (left, right)
    return found


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _load(path: Path) -> dict[str, torch.Tensor]:
    with opened(path):
        return load_file(path)
