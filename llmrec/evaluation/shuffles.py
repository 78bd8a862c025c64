"""Histories with their order, or their times, destroyed: what a score loses then came from there.

Only the first target of each user is asked for, so that one history belongs to one case.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmrec.data.cases import Cases


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
    """Put all gaps of all histories, the wait until now among them, in a random order across users.

    Items, the number of events and each user's first time stay; the moment of every later event changes, and now with
    it. Gaps shuffled within a history would leave now where it is, and with it the weekday and the month that are asked
    about; with the wait they would leave a history of one event as it is.

    Args:
        cases: From `first_targets`: one case per user, at the end of its history.
        seed: Seed of the order.

    Raises:
        ValueError: If a user has another number of cases than one.
    """
    generator = _generator(cases, seed)
    gaps = [np.diff(row) for row in cases.timestamps]
    pooled = generator.permutation(np.concatenate(gaps))
    drawn = np.split(pooled, np.cumsum([len(each) for each in gaps])[:-1])
    rows = zip(cases.timestamps, drawn, strict=True)
    return replace(cases, timestamps=[np.append(row[:1], row[0] + np.cumsum(each)) for row, each in rows])


def _generator(cases: Cases, seed: int) -> np.random.Generator:
    if len(cases) != len(cases.users) or any(cases.user != np.arange(len(cases))):
        raise ValueError(
            f"{len(cases)} cases of {len(cases.users)} users: a history is shuffled for one target; take first_targets"
        )
    return np.random.default_rng(seed)
