"""Copies of a model that share its tensors: each has its own mode, adapters and item table, and takes no memory.

A request computes with such a copy, so that neither training mode nor the switches of peft, which are attributes of
modules, reach it from another thread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def shared_copy(model: AnyModule, stand_in: Callable[[nn.Module], nn.Module] | None = None) -> AnyModule:
    """Return a copy of a tree of modules with the very parameters and buffers of the original.

    Args:
        model: the root; a module that stands in two places is one module in the copy, too.
        stand_in: returns what is copied in place of a module, such as the layer inside an adapter's.
    """
    copies: dict[int, nn.Module] = {}

    def copied(original: nn.Module) -> nn.Module:
        if id(original) in copies:
            return copies[id(original)]
        chosen = original if stand_in is None else stand_in(original)
        copy = copies[id(original)] = chosen.__class__.__new__(chosen.__class__)
        for name, value in vars(chosen).items():
            if isinstance(value, MethodType) and value.__self__ is chosen:
                value = MethodType(value.__func__, copy)  # libraries wrap `forward` of one module
            elif name == "_active_adapter" and isinstance(value, list):
                value = list(value)  # peft changes it in place
            vars(copy)[name] = value
        vars(copy)["_parameters"], vars(copy)["_buffers"] = dict(chosen._parameters), dict(chosen._buffers)
        children = chosen._modules.items()
        vars(copy)["_modules"] = {name: None if child is None else copied(child) for name, child in children}
        return copy

    copy: Any = copied(model)
    return copy


def with_items(model: AnyModule, table: nn.Module) -> AnyModule:
    """Return the model with another item table; everything else is the very same modules."""
    copy = model.__class__.__new__(model.__class__)
    vars(copy).update(vars(model))
    vars(copy)["_modules"] = {**model._modules, "rec_items": table}
    return copy


def state_of(model: nn.Module) -> Hashable:
    """Return what differs once a tensor of the model changes or is exchanged, or another adapter becomes active.

    Worth comparing only while the tensors exist: it names them by their address.
    """
    found: list[Hashable] = []
    pending = [model]
    while pending:
        own = vars(pending.pop())
        for tensors in (own["_parameters"], own["_buffers"]):
            for tensor in tensors.values():
                if tensor is not None:
                    found += id(tensor), tensor.data_ptr(), _version(tensor)
        if (active := own.get("_active_adapter")) is not None:
            scaling = own.get("scaling")
            found += (
                active if isinstance(active, str) else tuple(active),
                own.get("_disable_adapters"),
                tuple(own.get("merged_adapters", ())),
                tuple(scaling.items()) if isinstance(scaling, dict) else None,
            )
        pending += [child for child in own["_modules"].values() if child is not None]
    return tuple(found)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version  # tensors of inference mode count no changes


def outside_inference() -> torch.inference_mode:
    """Return a context whose tensors are usual ones, also where the caller is in inference mode."""
    return torch.inference_mode(mode=False)
