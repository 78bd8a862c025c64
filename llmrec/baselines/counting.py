"""Baselines that count training events and read neither words nor order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from llmrec.baselines.case_batches import HistoryCases, case_batches

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrec.data.catalog import Catalog


class Popularity:
    """Score an item by the number of its training events, the same for everyone.

    Equal counts are equal scores; no order is made up between them, since ranks treat ties fairly. Items without a
    training event score zero. Repeated events of one user count each time.
    """

    def __init__(self, counts: np.ndarray):
        """Take the training events of each item, (N,), whole numbers."""
        counts = np.asarray(counts)
        if counts.ndim != 1 or (counts < 0).any():
            raise ValueError(f"counts {counts!r}: give one number of events per item, (N,), none below zero")
        self.counts = counts.astype(np.int64)

    @classmethod
    def from_histories(cls, histories: Dataset, catalog: Catalog) -> Popularity:
        """Count the events whose split is `train`, and only those.

        Args:
            histories: One row per user with `item_id` and `split` lists.
            catalog: The items to count, in its order.

        Raises:
            ValueError: If a training event names an item that is not in the catalogue.
        """
        counts = np.zeros(len(catalog), dtype=np.int64)
        for table in histories.select_columns(["item_id", "split"]).with_format("arrow").iter(batch_size=1000):
            events = pl.DataFrame(pl.from_arrow(table)).explode("item_id", "split")
            per_item = events.filter(pl.col("split") == "train").group_by("item_id").len()
            for item_id, count in per_item.iter_rows():
                counts[catalog.index(item_id)] += count
        return cls(counts)

    def catalogue_scores(self, cases: HistoryCases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once."""
        scores = torch.from_numpy(self.counts).float()
        for numbers in case_batches(len(cases.position), len(scores)):
            yield numbers, scores.expand(len(numbers), -1)
