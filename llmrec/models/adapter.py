"""LoRA on the backbone, through peft: which modules, what else is trained, and what is saved with it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
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
PLAIN_NAME = re.compile(r"\w+(\.\w+)*")
"""Name of a module, or an ending of one."""


def linear_names(backbone: nn.Module) -> list[str]:
    """Return the shortest endings of names that name linear layers of the backbone and nothing else, sorted.

    peft adapts every module whose name ends in a target, and a linear layer in a list ends in its number, as decoder
    layers do: it goes by more of its name.
    """
    linear, others = _modules(backbone)
    taken = {ending for name in others for ending in _endings(name)}
    free = ([ending for ending in _endings(name) if ending not in taken and not ending[0].isdigit()] for name in linear)
    return sorted({endings[0] for endings in free if endings})


def target_modules(backbone: PreTrainedModel, asked: str | Sequence[str] | None) -> list[str]:
    """Choose the layers LoRA adapts: those asked for, else peft's default for the architecture, else all linear ones.

    Args:
        backbone: The checkpoint's model.
        asked: Endings of names of linear layers, regular expressions that match whole names of them, or `all-linear`;
            None chooses by architecture.

    Returns:
        Plain endings of names, which say the same to peft and run no expression.

    Raises:
        ValueError: if something asked for names no linear layer, or others too.
    """
    available = linear_names(backbone)
    if asked in ("all-linear", ["all-linear"]):
        return available
    if not asked:
        usual: Any = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(backbone.config.model_type)
        known = [name for name in usual if _names_linear(backbone, name)] if isinstance(usual, list) else []
        return sorted(known or available)
    entries = [asked] if isinstance(asked, str) else list(asked)
    patterns = [each for each in entries if not PLAIN_NAME.fullmatch(each)]
    names = {each for each in entries if each not in patterns}
    unknown = sorted(name for name in names if not _names_linear(backbone, name))
    for pattern in patterns:
        found = _linear_matching(backbone, pattern)
        names |= found
        unknown += [] if found else [pattern]
    if unknown:
        raise ValueError(f"lora_target_modules {unknown!r}: the backbone's linear layers are {', '.join(available)}.")
    return sorted(names)


def _modules(backbone: nn.Module) -> tuple[list[str], list[str]]:
    """Return the names of the linear layers, and of all other modules but the backbone itself."""
    linear: list[str] = []
    others: list[str] = []
    for name, module in backbone.named_modules():
        if name:
            (linear if isinstance(module, (nn.Linear, Conv1D)) else others).append(name)
    return linear, others


def _endings(name: str) -> list[str]:
    """Return the endings of a dotted name, the shortest first.

    >>> _endings("layers.0.query")
    ['query', '0.query', 'layers.0.query']
    """
    parts = name.split(".")
    return [".".join(parts[begin:]) for begin in reversed(range(len(parts)))]


def _names_linear(backbone: nn.Module, ending: str) -> bool:
    linear, others = _modules(backbone)
    return any(ending in _endings(name) for name in linear) and not any(ending in _endings(name) for name in others)


def _linear_matching(backbone: nn.Module, pattern: str) -> set[str]:
    """Return the linear layers whose whole name matches, by the short ending where it names no other layer."""
    linear, _ = _modules(backbone)
    try:
        matched = {name for name in linear if re.fullmatch(pattern, name)}
    except re.error as error:
        raise ValueError(
            f"lora_target_modules {pattern!r} is neither the name of a layer nor a regular expression: {error}.\n"
            "Give names of linear layers, an expression for their whole names, or all-linear."
        ) from None
    short = {ending: {name for name in linear if ending in _endings(name)} for ending in linear_names(backbone)}
    whole = {ending for ending, layers in short.items() if layers <= matched}
    return whole | {name for name in matched if not any(name in short[ending] for ending in whole)}


def add_adapter(
    model: RecModel, rank: int, alpha: int, dropout: float, targets: str | Sequence[str] | None = None
) -> PeftModel:
    """Wrap the model with a fresh LoRA adapter; head and item tables are trained whole.

    Args:
        model: the assembled model; changed in place.
        rank: width of the update, r.
        alpha: scale of the update, times 1 / r.
        dropout: on the adapter's input, in training.
        targets: as `target_modules` takes them.
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
