"""Item-based collaborative filtering: items that the same people met as those of the history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from llmrec.data.cases import Cases, case_batches
from llmrec.data.item_neighbours import Neighbours, item_neighbours
from llmrec.data.training_events import TrainingEvents

NUM_NEIGHBOURS = (10, 30, 100, 500)
DECAYS = (1.0, 0.9, 0.7, 0.5, 0.3)
"""What a search chooses among, each with each."""

LARGEST_WEIGHT = 2.0**500
"""Where running weights are scaled down again; they may grow by any factor that a float64 has room for above it."""


class ItemKNN:
    """Score an item by its similarity to what the user met, the latest events weighing most.

    The score of item i after h_1 … h_n is Σ decay^(n-j) · cos(h_j, i), over the h_j that have i among their nearest
    neighbours. Every event of the history counts, repeated ones each time; an item adds nothing to its own score.
    Known items that no neighbour leads to score zero, items without a training event minus infinity.

    References:
        Sarwar, Karypis, Konstan and Riedl, "Item-based collaborative filtering recommendation algorithms", WWW 2001;
        Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22(1), 2004, section 4. They
        have no decay: their scores are those of decay 1.
    """

    def __init__(self, neighbours: Neighbours, known: np.ndarray, decay: float):
        """Take the similarities and how fast the past fades.

        Args:
            neighbours: Nearest items of each item.
            known: Which items have a training event, (N,) bool.
            decay: Weight of an event relative to the one after it, in (0, 1].

        Raises:
            ValueError: If `decay` is out of range or the arrays do not fit each other.
        """
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay!r}: an event's weight relative to the next lies in (0, 1]; try 0.9")
        if len(neighbours.ends) != len(known) + 1:
            raise ValueError(f"neighbours of {len(neighbours.ends) - 1} items, but {len(known)} are known or not")
        self.neighbours = neighbours
        self.known = known
        self.decay = decay

    @classmethod
    def from_events(cls, events: TrainingEvents, num_neighbours: int, decay: float) -> ItemKNN:
        """Compute the similarities; see `item_neighbours`."""
        return cls(item_neighbours(events, num_neighbours), events.known, decay)

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once.

        Cases of one user in rising positions share one pass over the history.
        """
        cold = torch.from_numpy(~self.known)
        user, history = -1, RunningScores(self)
        for numbers in case_batches(len(cases.position), len(self.known)):
            scores = torch.empty(len(numbers), len(self.known))
            for row, case in enumerate(numbers):
                if cases.user[case] != user or cases.position[case] < history.num_events:
                    user, history = cases.user[case], RunningScores(self)
                history.read(cases.items[user][history.num_events : cases.position[case]])
                scores[row] = torch.from_numpy(history.scores())
            yield numbers, scores.masked_fill_(cold, -torch.inf)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return settings and arrays from which `from_state` builds an equal baseline."""
        return {"decay": self.decay}, {**self.neighbours._asdict(), "known": self.known}

    @classmethod
    def from_state(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> ItemKNN:
        """Build what `state` came from."""
        neighbours = Neighbours(arrays["ends"], arrays["items"], arrays["similarities"])
        ends, items, num_items = neighbours.ends, neighbours.items, len(arrays["known"])
        fit = len(ends) == num_items + 1 and len(items) == len(neighbours.similarities) == ends[-1]
        if not fit or (np.diff(ends, prepend=0) < 0).any() or ((items < 0) | (items >= num_items)).any():
            raise ValueError("the neighbours of items do not fit each other")
        return cls(neighbours, arrays["known"], settings["decay"])


class RunningScores:
    """The sums over one history, event by event from its first, so that they are the same however they are asked for.

    Instead of fading all items at every event, the events grow: event j adds decay^(-j) times its similarities.
    """

    def __init__(self, baseline: ItemKNN):
        self.baseline = baseline
        self.num_events = 0
        self.weight = 1.0
        self.sums = np.zeros(len(baseline.known))

    def read(self, items: np.ndarray) -> None:
        """Take the next events of the history, item indices (L,)."""
        ends, neighbours, similarities = self.baseline.neighbours
        for item in items:
            self.weight /= self.baseline.decay
            if self.weight > LARGEST_WEIGHT:
                self.sums /= self.weight
                self.weight = 1.0
            row = slice(ends[item], ends[item + 1])
            gained = self.weight * similarities[row].astype(np.float64)  # in float32 the weight would not fit
            self.sums[neighbours[row]] += gained  # an item stands at most once in a row
        self.num_events += len(items)

    def scores(self) -> np.ndarray:
        """Return the scores after the events read so far, the latest weighing one, (N,) float64."""
        return self.sums / self.weight
