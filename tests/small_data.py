"""Histories, catalogues and cases small enough to check by eye."""

from __future__ import annotations

import numpy as np
import polars as pl
from datasets import Dataset

from llmrec.data.catalog import Catalog
from llmrec.evaluation.cases import Cases


def catalog_of(item_ids: str) -> Catalog:
    """A catalogue of one-letter items, such as "abc"."""
    return Catalog(pl.DataFrame({"item_id": list(item_ids), "title": [f"title {item}" for item in item_ids]}))


def histories_of(**users: tuple[str, str]) -> Dataset:
    """One row per user, from items and splits spelled out: `ann=("abc", "tvx")`, where x is test; a second apart."""
    names = {"t": "train", "v": "validation", "x": "test"}
    return Dataset.from_dict(
        {
            "user_id": list(users),
            "item_id": [list(items) for items, _ in users.values()],
            "timestamp": [list(range(len(items))) for items, _ in users.values()],
            "split": [[names[letter] for letter in splits] for _, splits in users.values()],
        }
    )


def cases_of(rows: list[list[int]], targets: list[tuple[int, int]], num_items: int) -> Cases:
    """Cases from item indices per user and (user, position) of each target."""
    return Cases(
        users=[f"user {row}" for row in range(len(rows))],
        items=[np.array(row, dtype=np.int64) for row in rows],
        timestamps=[np.arange(len(row)) for row in rows],
        user=np.array([user for user, _ in targets], dtype=np.int64),
        position=np.array([position for _, position in targets], dtype=np.int64),
        num_items=num_items,
        split="test",
    )
