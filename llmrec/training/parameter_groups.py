"""What the optimizer treats alike: item tables apart from LoRA and head, biases apart from matrices."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, learning_rate: float, item_learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the trainable weights in groups, as an optimizer takes them.

    Args:
        model: A `RecModel`, adapted or not.
        learning_rate: Of LoRA and head.
        item_learning_rate: Of the item tables.
        weight_decay: Of weights with more than one dimension; others, biases and gates, do not decay.
    """
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    decayed = {name for name, weight in trained if weight.ndim > 1}
    groups = []
    for tables in (False, True):
        for decay in (True, False):
            weights = [w for n, w in trained if ("rec_items" in n) == tables and (n in decayed) == decay]
            if weights:
                rate = item_learning_rate if tables else learning_rate
                groups.append({"params": weights, "lr": rate, "weight_decay": weight_decay if decay else 0.0})
    return groups
