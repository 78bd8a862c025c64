"""LoRA on the backbone, through peft: which modules, what else is trained, and what is saved with it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmrec.models.modeling import RecModel

HEADS = ("rec_head", "candidate_head", "rec_time")
"""Names of heads and embedding of time in `modules_to_save`: peft matches by suffix, so none may end another's name."""


def linear_names(backbone: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of the backbone's linear layers, sorted."""
    layers = [name for name, layer in backbone.named_modules() if isinstance(layer, (nn.Linear, Conv1D))]
    return sorted({name.rsplit(".", 1)[-1] for name in layers})


def target_modules(backbone: PreTrainedModel, asked: list[str] | None) -> list[str]:
    """Choose the layers LoRA adapts: those asked for, else peft's default for the architecture, else all linear ones.

    Raises:
        ValueError: if a name is none of the backbone's linear layers.
    """
    available = linear_names(backbone)
    if asked == ["all-linear"]:
        return available
    usual = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(backbone.config.model_type)
    chosen = asked or (usual if isinstance(usual, list) else available)
    if asked and (unknown := sorted(set(asked) - set(available))):
        raise ValueError(f"lora_target_modules {unknown!r}: the backbone's linear layers are {', '.join(available)}.")
    return sorted(chosen)


def add_adapter(model: RecModel, rank: int, alpha: int, dropout: float, targets: list[str] | None = None) -> PeftModel:
    """Wrap the model with a fresh LoRA adapter; head and item tables are trained whole.

    Args:
        model: the assembled model; changed in place.
        rank: width of the update, r.
        alpha: scale of the update, times 1 / r.
        dropout: on the adapter's input, in training.
        targets: names of linear layers; None chooses by architecture.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules(model.backbone, targets),
        modules_to_save=[name for name in HEADS if hasattr(model, name)],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        adapted = get_peft_model(model, config)
    model.rec_items.requires_grad_(True)  # peft froze them; they are saved apart from it
    return adapted


def load_adapter(model: RecModel, folder: Path) -> PeftModel:
    """Wrap the model with a saved adapter.

    Raises:
        ValueError: if the adapter lacks weights of its own, which peft alone would only warn about, or does not fit.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            adapted = PeftModel.from_pretrained(model, str(folder))
        except KeyError as error:
            raise ValueError(f"the adapter in {str(folder)!r} is incomplete: it lacks {error}.") from None
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the adapter in {str(folder)!r} does not fit its base: {reason}.\n"
                "Give the base it was trained on with base_model=, or download the adapter again."
            ) from None
    for warning in caught:
        if "missing adapter keys" in str(warning.message):
            raise ValueError(f"the adapter in {str(folder)!r} is incomplete: {str(warning.message)[:200]}")
    model.rec_items.requires_grad_(False)
    return adapted


def continue_adapter(adapted: PeftModel, folder: Path) -> None:
    """Start LoRA where a saved adapter left off; heads are left as they are.

    Raises:
        ValueError: if rank, scale or layers are others.
    """
    lora: Any = adapted.peft_config[adapted.active_adapter]
    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    own = {"r": lora.r, "lora_alpha": lora.lora_alpha, "target_modules": sorted(lora.target_modules)}
    for name, value in own.items():
        theirs = sorted(saved[name]) if name == "target_modules" else saved[name]
        if theirs != value:
            raise ValueError(
                f"init_adapter {str(folder)!r} has {name} {theirs!r}, this run {value!r}: give "
                "--lora_r, --lora_alpha and --lora_target_modules as it was made with."
            )
    weights = {name: w for name, w in load_file(folder / "adapter_model.safetensors").items() if "lora_" in name}
    own_weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    wanted = {name for name in own_weights if "lora_" in name}
    if wanted != set(weights):
        some = sorted(wanted ^ set(weights))[0]
        raise ValueError(f"init_adapter {str(folder)!r} does not fit the base model: {some} is in one alone.")
    set_peft_model_state_dict(adapted, own_weights | weights)


def inner(model: nn.Module) -> RecModel:
    """Return the `RecModel` inside a peft model, or the model itself."""
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(found, RecModel)
    return found
