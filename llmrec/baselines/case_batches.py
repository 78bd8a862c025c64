"""The cases that a baseline scores, as it sees them, and their cutting into batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

MAX_BATCH_SCORES = 2**23
"""Scores that one batch may hold: 32 MiB of float32."""


class HistoryCases(Protocol):
    """Targets with their histories: case `c` is `items[user[c]][position[c]]`, after `items[user[c]][:position[c]]`."""

    @property
    def items(self) -> Sequence[np.ndarray]:
        """Item indices of each user in order, each (L,)."""

    @property
    def timestamps(self) -> Sequence[np.ndarray]:
        """Times of those events, each (L,): seconds, or ordinals where the data have no clock."""

    @property
    def user(self) -> np.ndarray:
        """Row of `items` of each case, (number of cases,)."""

    @property
    def position(self) -> np.ndarray:
        """Position of each case's target in its user's row, (number of cases,)."""


def case_batches(num_cases: int, num_items: int, max_scores: int = MAX_BATCH_SCORES) -> Iterator[np.ndarray]:
    """Cut the case numbers into runs whose score matrix (B, N) stays below `max_scores` entries.

    A single case is never cut, however large the catalogue.

    >>> [batch.tolist() for batch in case_batches(num_cases=5, num_items=100, max_scores=250)]
    [[0, 1], [2, 3], [4]]
    """
    size = max(1, max_scores // max(1, num_items))
    for start in range(0, num_cases, size):
        yield np.arange(start, min(start + size, num_cases))
