"""Chance, measured over users: bootstrap intervals, paired tests, and the smallest difference that could be seen.

The user is the unit, since the cases of one user resemble each other. The same seed draws the same users for every
column of the same table, so that two systems are always compared on the same draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

DRAWS = 2000
SEED = 0
CONFIDENCE = 0.95
POWER = 0.8
MAX_CHUNK_ENTRIES = 2**22
"""Entries of draws × users held at once: 32 MiB of float64."""


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
    _check(values, draws)
    num_users = len(values)
    # Taken off and added back: equal values then give exactly that value, whatever the rounding of a sum.
    offset = values[0]
    chunks = drawn_users(num_users, draws, seed, num_users, max_chunk_entries)
    means = [offset + times.astype(np.float64) @ (values - offset) / num_users for times in chunks]
    # Adding back rounds: without it the mean of zeros and ones could fall below zero by the last bit.
    return np.clip(np.concatenate(means), values.min(axis=0), values.max(axis=0))


def drawn_users(
    num_users: int, draws: int, seed: int, entries_per_draw: int, max_chunk_entries: int = MAX_CHUNK_ENTRIES
) -> Iterator[np.ndarray]:
    """Yield how often each user was drawn, with replacement, as many as there are, a few draws at once.

    Args:
        num_users: Users to draw from, U.
        draws: Number of resamples.
        seed: Seed of the draws; the same seed draws the same users for everyone.
        entries_per_draw: Numbers that the caller holds for each draw.
        max_chunk_entries: Numbers that the caller may hold at once; changes nothing else.

    Yields:
        (some draws, U) int64, in all `draws` rows.

    >>> sum(times.sum(axis=1).tolist() == [3] * len(times) for times in drawn_users(3, 10, 0, 3, max_chunk_entries=12))
    3
    """
    generator = np.random.default_rng(seed)
    for size in _chunks(draws, entries_per_draw, max_chunk_entries):
        drawn = generator.integers(num_users, size=(size, num_users))
        drawn += num_users * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * num_users).reshape(size, num_users)


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


def paired_permutation_test(
    differences: np.ndarray, draws: int = DRAWS, seed: int = SEED, max_chunk_entries: int = MAX_CHUNK_ENTRIES
) -> np.ndarray:
    """Return the two-sided p-value of each column: how often chance alone moves a mean as far from zero.

    If two systems were the same, a user's difference would as likely carry the other sign. Signs are drawn at random,
    one per user for all columns, and p = (1 + draws at least as far from zero as what was seen) / (1 + draws). What was
    seen counts as one of the draws: p is never zero, and a test at level α errs at most that often.

    Args:
        differences: (number of users,) or (number of users, M): one system minus the other, user by user.
        draws: Number of sign patterns; the smallest possible p is 1 / (1 + draws).
        seed: Seed of the signs.
        max_chunk_entries: Draws × users held in memory at once; changes nothing else.

    Returns:
        () or (M,) float64.

    Raises:
        ValueError: If there is no user, a difference is not finite, or `draws` is not positive.

    References:
        Fisher, "The Design of Experiments", 1935, section 21; Phipson and Smyth, "Permutation p-values should never be
        zero", Statistical Applications in Genetics and Molecular Biology 9(1), 2010.

    >>> paired_permutation_test(np.zeros(8)).item()
    1.0
    >>> paired_permutation_test(np.ones(30), draws=999).item()
    0.001
    """
    columns, shape = _as_columns(differences)
    _check(columns, draws)
    seen = np.abs(columns.sum(axis=0))
    # A sum adds up in another order under other signs; what is equal must not fall short by the last bit.
    least = seen - 1e-12 * np.abs(columns).sum(axis=0)
    generator = np.random.default_rng(seed)
    num_as_far = np.zeros(columns.shape[1], dtype=np.int64)
    for size in _chunks(draws, len(columns), max_chunk_entries):
        signs = 2.0 * generator.integers(2, size=(size, len(columns))) - 1
        num_as_far += (np.abs(signs @ columns) >= least).sum(axis=0)
    return ((1 + num_as_far) / (1 + draws)).reshape(shape)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust the p-values of several tests so that the chance of any false finding stays at the level used.

    In rising order the j-th of m p-values, counted from 0, is multiplied by m - j; none falls below the one before it,
    and none exceeds 1.

    Args:
        p_values: (m,) in any order.

    Returns:
        (m,) float64 adjusted values in the same order.

    Raises:
        ValueError: If a value is no probability.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979.

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values {p.tolist()!r}: give one list of numbers between 0 and 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted


def detectable_difference(differences: np.ndarray, power: float = POWER, confidence: float = CONFIDENCE) -> np.ndarray:
    """Return the smallest true difference that users as many and as varied as these would show, column by column.

    (z of (1 + confidence) / 2 + z of power) · s / √U, where s is the standard deviation of the U users' differences: a
    two-sided test at level 1 - confidence finds a difference of this size in the share `power` of such samples. A
    smaller one may be there unseen. One user shows no spread, so the answer is infinity.

    Args:
        differences: (number of users,) or (number of users, M): one system minus the other, user by user.
        power: Chance to find it, between 0 and 1.
        confidence: 1 minus the level of the test.

    Returns:
        () or (M,) float64, in the unit of the differences.

    Raises:
        ValueError: If there is no user, a difference is not finite, or `power` or `confidence` is not between 0 and 1.

    References:
        Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 2, in the normal approximation.

    >>> detectable_difference(np.array([0.0, 0.1] * 50)).round(4).item()  # 2.80 · 0.0503 / 10
    0.0141
    """
    if not (0 < power < 1 and 0 < confidence < 1):
        raise ValueError(f"power {power!r} and confidence {confidence!r}: both lie between 0 and 1, as 0.8 and 0.95")
    columns, shape = _as_columns(differences)
    _check(columns)
    if len(columns) == 1:
        return np.full(shape, np.inf)
    normal = NormalDist()
    reach = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)
    return (reach * columns.std(axis=0, ddof=1) / np.sqrt(len(columns))).reshape(shape)


def _as_columns(differences: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Give one column its second axis, and say what shape the answer has: () or (M,)."""
    differences = np.asarray(differences, dtype=np.float64)
    return (differences[:, None] if differences.ndim == 1 else differences), differences.shape[1:]


def _check(values: np.ndarray, draws: int = DRAWS) -> None:
    if values.ndim != 2 or not len(values):
        raise ValueError(f"values of shape {values.shape!r}: give one row per user, at least one")
    if not np.isfinite(values).all():
        raise ValueError(
            "a user's value is not finite: the mean of the others would hide it; correct or leave out the user"
        )
    if draws < 1:
        raise ValueError(f"draws is {draws!r}: give at least 1; 2,000 make an interval's ends steady")


def _chunks(draws: int, entries_per_draw: int, max_chunk_entries: int) -> Iterator[int]:
    """Yield how many draws to hold at once, until all are done."""
    chunk = max(1, max_chunk_entries // entries_per_draw)
    for start in range(0, draws, chunk):
        yield min(chunk, draws - start)
