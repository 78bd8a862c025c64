"""What is remembered beside what is read: who had what before, and which items the same people had.

Reading generalises, memory recalls: two independent models whose scores add up, so that every part of a score can be
named. Nothing here is learned by gradient: the table is counted on training events, its weights are chosen on
validation (`llmrec.training.memory`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmrec.configuration import MemoryWeights
from llmrec.data.item_neighbours import Neighbours, item_neighbours
from llmrec.data.training_events import TrainingEvents

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NUM_NEIGHBOURS = 100
"""Neighbours kept of each item, at most: 6 MB for 10,000 items."""


@dataclass(frozen=True, eq=False)
class Memory:
    """The memory path of a dual score: m(u, i) = a · own(u, i) + b · neighbours(u, i).

    own(u, i) = log(1 + Σ d^age over the events of u that are i); neighbours(u, i) = Σ_j e^age_j · cos(h_j, i) / Σ_j
    e^age_j, the cosine counted only where i is among the nearest items of the event h_j. The age of an event is the
    number of events after it. An item without a training event has no neighbours. What an item gains does not depend on
    which others are in the catalogue.

    Args:
        neighbours: nearest items of each item, N rows.
        weights: a, b and the two decays d and e.

    References:
        Item-based collaborative filtering: Deshpande and Karypis 2004, ACM TOIS 22(1); personal frequency: Hu et al.
        2020, arXiv:2006.00556; sums of independent recommenders: arXiv:2512.17820.
    """

    neighbours: Neighbours
    weights: MemoryWeights

    @classmethod
    def counted(cls, events: TrainingEvents, weights: MemoryWeights | None = None) -> Memory:
        """Count the table on training events."""
        ends, items, similarities = item_neighbours(events, NUM_NEIGHBOURS)
        table = Neighbours(ends, items, similarities.astype(np.float16))
        return cls(table, weights or MemoryWeights())

    def __len__(self) -> int:
        return len(self.neighbours.ends) - 1

    def scores(self, histories: Sequence[np.ndarray]) -> Tensor:
        """Return what memory adds to the scores of all items, (B, N) float32.

        Args:
            histories: item indices of each of B histories, oldest first, each (L,); items outside the table (new ones)
                count as events that nothing is remembered of.
        """
        weights = self.weights
        total = np.zeros((len(histories), len(self)), dtype=np.float32)
        if weights.neighbours:
            total += weights.neighbours * self.neighbour_scores(histories, weights.neighbours_decay)
        if weights.own:
            total += weights.own * self.own_scores(histories, weights.own_decay)
        return torch.from_numpy(total)

    def neighbour_scores(self, histories: Sequence[np.ndarray], decay: float) -> np.ndarray:
        """Return neighbours(u, i), (B, N) float32 in [0, 1].

        >>> table = Neighbours(np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1]), np.array([0.5, 0.5, 1.0, 1.0]))
        >>> memory = Memory(table, MemoryWeights())
        >>> memory.neighbour_scores([np.array([0, 1, 1])], decay=0.0001).round(2).tolist()  # those of item 1
        [[0.5, 0.0, 1.0]]
        """
        sums = (self._fading(histories, decay) @ self._table).toarray()
        weights = [(decay ** np.arange(len(history), dtype=np.float64)).sum() for history in histories]
        return (sums / np.maximum(weights, 1e-300).reshape(-1, 1)).astype(np.float32)

    def own_scores(self, histories: Sequence[np.ndarray], decay: float) -> np.ndarray:
        """Return own(u, i), (B, N) float32.

        >>> memory = Memory(Neighbours(np.zeros(4, dtype=int), np.zeros(0, dtype=int), np.zeros(0)), MemoryWeights())
        >>> memory.own_scores([np.array([2, 0, 2])], decay=1.0)[0]  # log 2, 0, log 3
        array([0.6931472, 0.       , 1.0986123], dtype=float32)
        """
        return np.log1p(self._fading(histories, decay).toarray()).astype(np.float32)

    def select(self, rows: Sequence[int | None]) -> Memory:
        """Return the memory of a changed catalogue.

        Args:
            rows: for each item of the new catalogue its row in this one, None for an item that is new.
        """
        places = np.full(len(self), -1, dtype=np.int64)
        for new, old in enumerate(rows):
            if old is not None:
                places[old] = new
        ends, items, similarities = self.neighbours
        lengths = np.diff(ends)
        chosen = np.array([-1 if old is None else old for old in rows], dtype=np.int64)
        known = chosen >= 0
        starts, sizes = np.where(known, ends[chosen], 0), np.where(known, lengths[chosen], 0)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        flat = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        kept = places[items[flat]] >= 0
        owner = np.repeat(np.arange(len(rows)), sizes)[kept]
        new_ends = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(rows)))])
        table = Neighbours(new_ends, places[items[flat][kept]].astype(np.int32), similarities[flat][kept])
        return Memory(table, self.weights)

    def tensors(self) -> dict[str, Tensor]:
        """Return the table as it is saved; `from_tensors` reads it."""
        ends, items, similarities = (torch.from_numpy(np.ascontiguousarray(part)) for part in self.neighbours)
        return {"ends": ends.long(), "items": items.int(), "similarities": similarities.half()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], weights: MemoryWeights, num_items: int) -> Memory:
        """Build the memory of `num_items` items that `tensors` came from.

        Raises:
            ValueError: if the parts do not fit each other or the items.
        """
        if set(tensors) != {"ends", "items", "similarities"} or any(part.ndim != 1 for part in tensors.values()):
            raise ValueError(f"the memory holds {sorted(tensors)}; it has ends, items and similarities.")
        ends, items, similarities = (tensors[name].numpy() for name in ("ends", "items", "similarities"))
        fit = len(ends) == num_items + 1 and ends[0] == 0 and len(items) == len(similarities) == ends[-1]
        if not fit or (np.diff(ends) < 0).any() or ((items < 0) | (items >= num_items)).any():
            raise ValueError(f"the memory does not fit the {num_items} items: it is damaged, or that of others.")
        if not np.isfinite(similarities).all():
            raise ValueError("the memory holds a similarity that is no number.")
        return cls(Neighbours(ends, items, similarities), weights)

    @cached_property
    def _table(self) -> csr_matrix:
        from scipy.sparse import csr_matrix

        ends, items, similarities = self.neighbours
        return csr_matrix((similarities.astype(np.float64), items, ends), shape=(len(self), len(self)))

    def _fading(self, histories: Sequence[np.ndarray], decay: float) -> csr_matrix:
        """Return Σ decay^age of each history's events by item, (B, N) float64 and sparse."""
        from scipy.sparse import csr_matrix

        columns, values, ends = [], [], [0]
        for history in histories:
            ages = np.arange(len(history) - 1, -1, -1, dtype=np.float64)
            known = history < len(self)
            items, event = np.unique(history[known], return_inverse=True)
            columns.append(items)
            values.append(np.bincount(event, decay ** ages[known], minlength=len(items)))
            ends.append(ends[-1] + len(items))
        parts = (np.concatenate(values), np.concatenate(columns), ends) if histories else ([], [], [0])
        return csr_matrix(parts, shape=(len(histories), len(self)))
