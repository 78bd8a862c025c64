"""Bootstrap intervals over users: how far a mean could move if other users had been observed.

The same seed draws the same users for every column of the same table, so that two systems are always compared on the
same draw.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DRAWS = 2000
SEED = 0
CONFIDENCE = 0.95
MAX_CHUNK_ENTRIES = 2**22
"""Entries of draws × users held at once: 32 MiB of float64."""


class Interval(NamedTuple):
    """A mean over users with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_means(
    values: np.ndarray, draws: int = DRAWS, seed: int = SEED, max_chunk_entries: int = MAX_CHUNK_ENTRIES
) -> np.ndarray:
    """Draw users with replacement, as many as there are, and return the mean of every column for every draw.

    Args:
        values: (number of users, M), one column per metric or system; drawn together.
        draws: Number of resamples.
        seed: Seed of the draws.
        max_chunk_entries: Draws × users held in memory at once; changes nothing else.

    Returns:
        (draws, M) float64.

    Raises:
        ValueError: If there is no user, a value is not finite, or `draws` is not positive.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, algorithm 6.1.

    >>> bootstrap_means(np.array([[0.25, 1.0], [0.25, 1.0]]), draws=3).tolist()
    [[0.25, 1.0], [0.25, 1.0], [0.25, 1.0]]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values of shape {values.shape!r}: give one row per user, at least one")
    if not np.isfinite(values).all():
        raise ValueError(
            "a user's value is not finite: the mean of the others would hide it; correct or leave out the user"
        )
    if draws < 1:
        raise ValueError(f"draws is {draws!r}: give at least 1; 2,000 make an interval's ends steady")
    num_users = len(values)
    generator = np.random.default_rng(seed)
    # Taken off and added back: equal values then give exactly that value, whatever the rounding of a sum.
    offset = values[0]
    means = []
    chunk = max(1, max_chunk_entries // num_users)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = generator.integers(num_users, size=(size, num_users))
        drawn += num_users * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_users).reshape(size, num_users)
        means.append(offset + times.astype(np.float64) @ (values - offset) / num_users)
    # Adding back rounds: without it the mean of zeros and ones could fall below zero by the last bit.
    return np.clip(np.concatenate(means), values.min(axis=0), values.max(axis=0))


def user_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of every column of (number of users, M): exactly the value where all users have the same.

    >>> user_means(np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]])).tolist()
    [0.1, 2.0]
    """
    values = np.asarray(values, dtype=np.float64)
    return values[0] + (values - values[0]).mean(axis=0)


def percentile_interval(means: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends between which the middle `confidence` share of the draws lies, column by column.

    >>> low, high = percentile_interval(np.arange(101.0)[:, None], confidence=0.9)
    >>> low.round(6).tolist(), high.round(6).tolist()
    ([5.0], [95.0])
    """
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def mean_intervals(
    values: np.ndarray, draws: int = DRAWS, seed: int = SEED, confidence: float = CONFIDENCE
) -> list[Interval]:
    """Return the mean over users of every column with its percentile bootstrap interval.

    One user says nothing about others: its interval is the value itself.

    Args:
        values: (number of users, M), one column per metric or system.
        draws: Number of resamples.
        seed: Seed of the draws.
        confidence: Share of the draws between the ends.

    Returns:
        M intervals.

    >>> mean_intervals(np.array([[0.5, 0.1], [0.5, 0.1], [0.5, 0.1]]))
    [Interval(value=0.5, low=0.5, high=0.5), Interval(value=0.1, low=0.1, high=0.1)]
    """
    low, high = percentile_interval(bootstrap_means(values, draws, seed), confidence)
    return [Interval(*ends) for ends in zip(user_means(values).tolist(), low.tolist(), high.tolist(), strict=True)]


def mean_interval(values: np.ndarray, draws: int = DRAWS, seed: int = SEED, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean over users, (number of users,), with its interval, as `mean_intervals` does for columns.

    >>> mean_interval(np.array([0.5, 0.5, 0.5]))
    Interval(value=0.5, low=0.5, high=0.5)
    """
    return mean_intervals(np.asarray(values)[:, None], draws, seed, confidence)[0]


def paired_difference(
    a: np.ndarray, b: np.ndarray, draws: int = DRAWS, seed: int = SEED, confidence: float = CONFIDENCE
) -> Interval:
    """Return the mean of a - b over users with its interval, each user compared with itself.

    What makes users differ from one another cancels, so this interval is the one to judge two systems by; whether
    their own intervals overlap says little.

    Args:
        a: (number of users,) values of one system.
        b: (number of users,) values of the other, the same users in the same order.
        draws: Number of resamples.
        seed: Seed of the draws.
        confidence: Share of the draws between the ends.

    Raises:
        ValueError: If the numbers of users differ.

    >>> paired_difference(np.array([0.5, 1.0]), np.array([0.25, 0.75]))
    Interval(value=0.25, low=0.25, high=0.25)
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(
            f"values of shapes {a.shape!r} and {b.shape!r}: a paired difference needs the same users in both"
        )
    return mean_interval(a - b, draws, seed, confidence)
