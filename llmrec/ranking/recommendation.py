"""`Recommendation`: one recommended item as it is handed to the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrec.data.catalog import Catalog


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item_id: the item.
        score: the logit c(u) . c(i) / tau + bias, popularity in the bias (`ItemTable`); of a candidate head where there
            is one. Higher is better.
        rank: 1 for the best.
        text: the item's text attributes.
    """

    item_id: str
    score: float
    rank: int
    text: dict[str, str] = field(default_factory=dict)


def recommendations(catalog: Catalog, ranked: Sequence[tuple[int, float]]) -> list[Recommendation]:
    """Return items as recommendations, from their (item row, score), best first."""
    return [
        Recommendation(catalog.ids[item], score, rank, catalog.attributes(item))
        for rank, (item, score) in enumerate(ranked, start=1)
    ]


def whole_number(name: str, value: Any) -> int:
    """Return a number of items as int; raise ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r}: give a whole number of items, at least 1.")
    return int(value)
