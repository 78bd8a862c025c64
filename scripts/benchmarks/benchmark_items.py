"""The items that benchmarks read: titles of common words, the same on every machine."""

from __future__ import annotations

import numpy as np
import polars as pl

from llmrec.data.catalog import Catalog

NUM_ITEMS = 1_000
WORDS = (
    "red",
    "blue",
    "green",
    "small",
    "large",
    "steel",
    "hammer",
    "drill",
    "paint",
    "brush",
    "ladder",
    "crime",
    "comedy",
)
"""Each is one token to BERT, and one or two to byte-level vocabularies."""


def synthetic_catalog(shortest: int, longest: int) -> Catalog:
    """Return items with titles of `shortest` to `longest` words.

    >>> synthetic_catalog(3, 5).frame["title"].str.split(" ").list.len().unique().sort().to_list()
    [3, 4, 5]
    """
    random = np.random.default_rng(0)
    titles = [" ".join(random.choice(WORDS, size=random.integers(shortest, longest + 1))) for _ in range(NUM_ITEMS)]
    return Catalog(pl.DataFrame({"item_id": [f"{index:04}" for index in range(NUM_ITEMS)], "title": titles}))
