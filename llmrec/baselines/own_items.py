"""What a person had before, counted, with a little of what everybody has: the trivial answer where people repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from llmrec.data.cases import Cases, case_batches
from llmrec.data.training_events import TrainingEvents

DECAYS = (1.0, 0.995, 0.97, 0.8)
POPULARITY_WEIGHTS = (0.1, 1.0, 3.0)
"""What a search chooses among, each with each."""


class OwnItems:
    """Score an item by how often and how lately the user had it, plus a share of its popularity.

    The score of item i after h_1 … h_n is Σ decay^(n-j) over the h_j that are i, plus the popularity weight times
    log(1 + count(i)) / log(1 + max count), the counts being those of training events. An event fades with the events
    after it, not with time. With decay 1 the sum is the number of times that the user had the item. Where items of the
    history leave the ranking, nothing but the popularity is left.

    References:
        Hu, He, Gao and Zhang, "Modeling personalized item frequency information for next-basket recommendation",
        SIGIR 2020, arXiv:2006.00556; Li, Jullien, Ariannezhad and de Rijke, "A next basket recommendation reality
        check", ACM TOIS 41(4), 2023, whose P-TopFreq and GP-TopFreq are the same idea over baskets.
    """

    def __init__(self, counts: np.ndarray, decay: float, popularity_weight: float):
        """Take the popularity and how fast the past fades.

        Args:
            counts: Training events of each item, (N,).
            decay: Weight of an event relative to the one after it, in (0, 1].
            popularity_weight: Score of the most popular item for somebody who never had it, at least 0; an event that
                is the user's latest weighs 1.

        Raises:
            ValueError: If a setting is out of range, or the counts are no counts.
        """
        counts = np.asarray(counts)
        if counts.ndim != 1 or (counts < 0).any():
            raise ValueError(f"counts {counts!r}: give one number of events per item, (N,), none below zero")
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay!r}: an event's weight relative to the next lies in (0, 1]; try 0.99")
        if not 0 <= popularity_weight < float("inf"):
            raise ValueError(f"popularity_weight is {popularity_weight!r}: give 0 or more; try 0.1")
        self.counts = counts.astype(np.int64)
        self.decay = decay
        self.popularity_weight = popularity_weight

    @classmethod
    def from_events(cls, events: TrainingEvents, decay: float, popularity_weight: float) -> OwnItems:
        """Count the training events."""
        return cls(events.counts, decay, popularity_weight)

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once."""
        most = np.log1p(max(1, self.counts.max(initial=0)))
        popularity = self.popularity_weight * np.log1p(self.counts) / most  # (N,) float64
        for numbers in case_batches(len(cases.position), len(popularity)):
            scores = np.tile(popularity.astype(np.float32), (len(numbers), 1))
            for row, case in zip(scores, numbers, strict=True):
                history = cases.items[cases.user[case]][: cases.position[case]]
                own, event = np.unique(history, return_inverse=True)
                fading = self.decay ** np.arange(len(history) - 1, -1, -1, dtype=np.float64)
                row[own] = popularity[own] + np.bincount(event, fading)
            yield numbers, torch.from_numpy(scores)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return settings and arrays from which `from_state` builds an equal baseline."""
        return {"decay": self.decay, "popularity_weight": self.popularity_weight}, {"counts": self.counts}

    @classmethod
    def from_state(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> OwnItems:
        """Build what `state` came from."""
        return cls(arrays["counts"], settings["decay"], settings["popularity_weight"])
