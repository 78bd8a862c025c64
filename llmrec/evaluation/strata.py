"""Cases by kind: how often the target was trained on, how long the history is, how long ago it ended, who it is of.

A mean hides for whom a system works. Where ids are known well, an id model may win; a language model reads items
nobody has bought yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec.data.cases import Cases

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds


@dataclass(frozen=True, eq=False)
class Stratum:
    """One way to part the cases.

    Attributes:
        name: For machines.
        title: For readers.
        labels: Names of the groups, in order.
        group: (number of cases,) int64: the group of each case.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    group: np.ndarray


def strata_of(cases: Cases, training_counts: np.ndarray, has_clock: bool) -> list[Stratum]:
    """Part the cases in every way that the data allow.

    Args:
        cases: What is ranked.
        training_counts: (N,) training events of each item.
        has_clock: Whether times are seconds; gaps between ordinals mean nothing and are left out.

    Returns:
        By training events of the target (0, 1–5, 6–20, >20), length of the history, time since the last event, and
        whether the user has training events.
    """
    strata = [
        _binned(
            "target_training_count",
            "Training events of the target",
            training_counts[cases.targets],
            (0, 5, 20),
            ("0", "1–5", "6–20", ">20"),
        ),
        _binned(
            "history_length",
            "Events before the target",
            cases.position,
            (5, 20, 50, 200),
            ("1–5", "6–20", "21–50", "51–200", ">200"),
        ),
    ]
    if has_clock:
        pairs = zip(cases.user, cases.position, strict=True)
        gaps = np.array([cases.timestamps[user][place] - cases.timestamps[user][place - 1] for user, place in pairs])
        bounds = (10 * MINUTE - 1, HOUR - 1, DAY - 1, 7 * DAY - 1, 30 * DAY - 1)
        labels = ("under 10 minutes", "under 1 hour", "under 1 day", "under 7 days", "under 30 days", "30 days or more")
        strata.append(_binned("time_since_last_event", "Time since the last event", gaps, bounds, labels))
    if cases.num_train_events is not None:
        known = (cases.num_train_events > 0).astype(np.int64)[cases.user]
        strata.append(Stratum("user", "User in training", ("new", "known"), known))
    return strata


def _binned(name: str, title: str, values: np.ndarray, bounds: tuple[int, ...], labels: tuple[str, ...]) -> Stratum:
    """Group whole numbers by the first bound that they do not exceed."""
    return Stratum(name, title, labels, np.searchsorted(np.array(bounds), values, side="left"))
