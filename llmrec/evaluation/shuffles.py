"""Histories with their order, or their times, destroyed: what a score loses then came from there.

Only the first target of each user is asked for, so that one history belongs to one case and is shuffled as a whole.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmrec.evaluation.cases import Cases


def first_targets(cases: Cases) -> Cases:
    """Return the earliest case of each user, each with a history of its own that ends with its target."""
    chosen = cases.first_of_each_user
    users, positions = cases.user[chosen], cases.position[chosen]
    rows = list(zip(users, positions + 1, strict=True))
    return replace(
        cases,
        users=[cases.users[user] for user in users],
        items=[cases.items[user][:end] for user, end in rows],
        timestamps=[cases.timestamps[user][:end] for user, end in rows],
        user=np.arange(len(chosen)),
        position=positions,
        asked_at=None if cases.asked_at is None else cases.asked_at[chosen],
        num_train_events=None if cases.num_train_events is None else cases.num_train_events[users],
    )


def shuffle_order(cases: Cases, seed: int) -> Cases:
    """Put the items of each history in a random order; the times and the target stay where they are.

    Args:
        cases: From `first_targets`: one case per user, at the end of its history.
        seed: Seed of the order.

    Raises:
        ValueError: If a user has another number of cases than one.
    """
    generator = _generator(cases, seed)
    items = [np.append(generator.permutation(row[:-1]), row[-1:]) for row in cases.items]
    return replace(cases, items=items)


def shuffle_times(cases: Cases, seed: int) -> Cases:
    """Put the gaps between the events of each history in a random order; items, span and last gap stay.

    Args:
        cases: From `first_targets`: one case per user, at the end of its history.
        seed: Seed of the order.

    Raises:
        ValueError: If a user has another number of cases than one.
    """
    generator = _generator(cases, seed)
    timestamps = []
    for row in cases.timestamps:
        gaps = generator.permutation(np.diff(row[:-1]))
        timestamps.append(np.concatenate([row[:1], row[0] + np.cumsum(gaps), row[-1:]]))
    return replace(cases, timestamps=timestamps)


def _generator(cases: Cases, seed: int) -> np.random.Generator:
    if len(cases) != len(cases.users) or any(cases.user != np.arange(len(cases))):
        raise ValueError(
            f"{len(cases)} cases of {len(cases.users)} users: a history is shuffled for one target; take first_targets"
        )
    return np.random.default_rng(seed)
