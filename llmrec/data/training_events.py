"""What a baseline may learn from: the events of the `train` split, user by user, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.histories import indexed_histories

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrec.data.catalog import Catalog


@dataclass(frozen=True, eq=False)
class TrainingEvents:
    """Training events of the users that have any, oldest first."""

    items: list[np.ndarray]
    """`item_index` of each user's training events, each (L,) int64."""
    timestamps: list[np.ndarray]
    """Their times, each (L,) int64: seconds, or ordinals where the data have no clock."""
    num_items: int
    """Catalogue items, N, cold ones included."""

    @classmethod
    def from_histories(
        cls, histories: Dataset, catalog: Catalog, max_train_events: int | None = None
    ) -> TrainingEvents:
        """Take the events whose split is `train`.

        Args:
            histories: One row per user with `user_id` and the lists `item_id`, `timestamp`, `split`, in order of time.
            catalog: The items, in whose order they are numbered.
            max_train_events: Newest training events kept of each user; `None` for all.

        Raises:
            ValueError: If there is no training event, an item is not in the catalogue or `max_train_events` is below 1.
        """
        if max_train_events is not None and max_train_events < 1:
            raise ValueError(f"max_train_events is {max_train_events!r}: give at least 1, or None for all events")
        kept = []
        for _, items, timestamps, splits in indexed_histories(histories, catalog):
            positions = np.flatnonzero(splits == "train")[-max_train_events if max_train_events else None :]
            if len(positions):
                kept.append((items[positions], timestamps[positions]))
        if not kept:
            raise ValueError("the histories hold no event of the split 'train': prepare the data with more events")
        return cls([items for items, _ in kept], [timestamps for _, timestamps in kept], len(catalog))

    @cached_property
    def counts(self) -> np.ndarray:
        """Training events of each item, (N,) int64; zero for cold items."""
        return np.bincount(np.concatenate(self.items), minlength=self.num_items)

    @cached_property
    def user_counts(self) -> np.ndarray:
        """Users with a training event of each item, (N,) int64: repeats count once."""
        return np.bincount(np.concatenate([np.unique(items) for items in self.items]), minlength=self.num_items)

    @property
    def known(self) -> np.ndarray:
        """Which items have a training event, (N,) bool."""
        return self.counts > 0
