"""Baselines that count training events and read neither words nor order: of all time, or of the last while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import torch

from llmrec.data.cases import Cases, case_batches
from llmrec.data.times import clock_of
from llmrec.data.training_events import TrainingEvents

DAY = 86_400
WINDOWS: tuple[int | None, ...] = (DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY, None)
"""Seconds among which a search chooses how far `RecentPopularity` looks back; `None` is all time."""


class Popularity:
    """Score an item by the number of its training events, the same for everyone.

    Equal counts are equal scores; no order is made up between them, since ranks treat ties fairly. Items without a
    training event score zero, below every other. Repeated events of one user count each time.
    """

    def __init__(self, counts: np.ndarray):
        """Take the training events of each item, (N,), whole numbers."""
        counts = np.asarray(counts)
        if counts.ndim != 1 or (counts < 0).any():
            raise ValueError(f"counts {counts!r}: give one number of events per item, (N,), none below zero")
        self.counts = counts.astype(np.int64)

    @classmethod
    def from_events(cls, events: TrainingEvents) -> Popularity:
        """Count the training events."""
        return cls(events.counts)

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once."""
        scores = torch.from_numpy(self.counts).float()
        for numbers in case_batches(len(cases.position), len(scores)):
            yield numbers, scores.expand(len(numbers), -1)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return settings and arrays from which `from_state` builds an equal baseline."""
        return {}, {"counts": self.counts}

    @classmethod
    def from_state(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Popularity:
        """Build what `state` came from."""
        return cls(arrays["counts"])


class RecentPopularity:
    """Score an item by its training events of the last `window` seconds, as seen from the moment of each case.

    That moment is the target's time or the end of training, whichever is earlier: events at it or after it are not
    counted, nor are those `window` seconds before it or older. A user's own events count like everyone's. Known items
    without an event in the window score zero, items without any training event minus infinity.

    Data without a clock have no moment that users share: there the only window is `None`, all events count for every
    case, and ranks are those of `Popularity`.

    References:
        Ji, Sun, Zhang and Li, "A re-visit of the popularity baseline in recommender systems", SIGIR 2020,
        arXiv:2005.13829: popularity as of the moment of the recommendation is the stronger and the honest one.
    """

    def __init__(self, items: np.ndarray, timestamps: np.ndarray, num_items: int, window: int | None):
        """Take the training events, in any order.

        Args:
            items: Item index of each event, (E,).
            timestamps: Their times, (E,), seconds, or ordinals where the data have no clock.
            num_items: Catalogue items, N.
            window: Seconds counted before a case's moment; `None` for all.

        Raises:
            ValueError: If `window` is not positive, or is given for data without a clock.
        """
        if window is not None and window < 1:
            raise ValueError(f"window is {window!r}: give at least 1 second, or None for all time")
        self.has_clock = clock_of(pl.Series(timestamps)) != "ordinal"
        if window is not None and not self.has_clock:
            raise ValueError(f"window is {window!r}, but the data have no clock: only None, all time, is possible")
        order = np.argsort(timestamps, kind="stable")
        self.items = np.asarray(items, dtype=np.int64)[order]
        self.timestamps = np.asarray(timestamps, dtype=np.int64)[order]
        self.num_items = num_items
        self.window = window

    @classmethod
    def from_events(cls, events: TrainingEvents, window: int | None) -> RecentPopularity:
        """Take the training events of all users."""
        return cls(np.concatenate(events.items), np.concatenate(events.timestamps), events.num_items, window)

    def _ranges(self, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return first and behind-last of the events counted at each moment, both (number of moments,)."""
        if not self.has_clock:
            return np.zeros_like(moments), np.full_like(moments, len(self.items))
        moments = np.minimum(moments, self.timestamps[-1] + 1)
        ends = np.searchsorted(self.timestamps, moments, side="left")
        if self.window is None:
            return np.zeros_like(ends), ends
        return np.searchsorted(self.timestamps, moments - self.window, side="right"), ends

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once, in order of time."""
        pairs = zip(cases.user, cases.position, strict=True)
        moments = np.array([cases.timestamps[user][position] for user, position in pairs], dtype=np.int64)
        order = np.argsort(moments, kind="stable")
        starts, ends = self._ranges(moments[order])
        counts = np.where(np.bincount(self.items, minlength=self.num_items) > 0, 0, -np.inf).astype(np.float32)
        start = end = 0  # of the events in `counts`; both only ever move on
        for batch in case_batches(len(order), self.num_items):
            # Cases that see the same events share one row: after the end of training, all of them.
            distinct = np.flatnonzero(np.diff(starts[batch], prepend=-1) | np.diff(ends[batch], prepend=-1))
            rows = np.empty((len(distinct), self.num_items), dtype=np.float32)
            for row, place in enumerate(batch[distinct]):
                np.add.at(counts, self.items[end : ends[place]], 1)
                np.subtract.at(counts, self.items[start : starts[place]], 1)
                start, end = starts[place], ends[place]
                rows[row] = counts
            scores = torch.from_numpy(rows)
            if len(distinct) == 1:
                yield order[batch], scores.expand(len(batch), -1)
            else:
                repeats = np.diff(distinct, append=len(batch))
                yield order[batch], scores.repeat_interleave(torch.from_numpy(repeats), dim=0)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return settings and arrays from which `from_state` builds an equal baseline."""
        settings = {"window": self.window, "num_items": self.num_items}
        return settings, {"items": self.items, "timestamps": self.timestamps}

    @classmethod
    def from_state(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> RecentPopularity:
        """Build what `state` came from."""
        return cls(arrays["items"], arrays["timestamps"], settings["num_items"], settings["window"])
