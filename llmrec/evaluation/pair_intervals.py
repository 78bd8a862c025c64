"""Metrics of labelled pairs on resampled users: what chance leaves open, the pairs of one user hanging together."""

from __future__ import annotations

import warnings

import numpy as np

from llmrec.evaluation.intervals import CONFIDENCE, DRAWS, MAX_CHUNK_ENTRIES, SEED, drawn_users
from llmrec.evaluation.pair_metrics import auc_of_groups

METRICS = ("auc", "user_auc", "log_loss", "accuracy", "precision", "recall", "f1")


def resampled_metrics(
    labels: np.ndarray,
    logits: np.ndarray,
    users: np.ndarray,
    draws: int = DRAWS,
    seed: int = SEED,
    max_chunk_entries: int = MAX_CHUNK_ENTRIES,
) -> dict[str, np.ndarray]:
    """Draw users with replacement, each with all pairs, as many as there are, and compute every metric on each draw.

    Pooled metrics are those of all pairs of the drawn users, a user drawn twice counting twice; `user_auc` is the mean
    over the drawn users that have both labels. The same seed draws the same users for every system. Takes draws × pairs
    steps.

    Args:
        labels: (number of pairs,) bool.
        logits: (number of pairs,).
        users: (number of pairs,) int64: whose pair it is, numbered from 0 without gaps.
        draws: Number of resamples.
        seed: Seed of the draws.
        max_chunk_entries: Draws × pairs held in memory at once; changes nothing else.

    Returns:
        For each of `METRICS` (draws,) float64; NaN in draws where a metric has no value, for want of a label.

    References:
        Field and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69(3), 2007.
    """
    order = np.argsort(logits, kind="stable")
    labels, logits, users = labels[order], logits[order], users[order]
    runs = np.flatnonzero(np.append(True, np.diff(logits) != 0))  # starts of runs of equal scores
    num_users = int(users.max()) + 1
    own_auc = auc_of_groups(labels, logits, users)  # (U,)
    has_auc = ~np.isnan(own_auc)
    predicted = logits > 0
    loss = np.logaddexp(0, np.where(labels, -logits, logits))
    columns = [labels, predicted, labels & predicted, labels == predicted, loss, np.ones(len(labels))]
    sums = np.stack([np.bincount(users, weights=column, minlength=num_users) for column in columns], axis=1)
    sums = np.column_stack([sums, np.where(has_auc, own_auc, 0), has_auc])  # (U, 8)
    drawn = []
    for times in drawn_users(num_users, draws, seed, max(len(labels), num_users), max_chunk_entries):
        totals = (times @ sums).T
        positives, num_predicted, hits, right, losses, num_pairs, own, num_own = totals
        weights = times[:, users].astype(np.float64)  # (draws, pairs)
        positive = np.add.reduceat(weights * labels, runs, axis=1)
        negative = np.add.reduceat(weights * ~labels, runs, axis=1)
        wins = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
        drawn.append(
            [
                _share(wins, positives * (num_pairs - positives)),
                _share(own, num_own),
                losses / num_pairs,
                right / num_pairs,
                hits / np.maximum(num_predicted, 1),
                _share(hits, positives),
                _share(2 * hits, np.where(positives > 0, num_predicted + positives, 0)),
            ]
        )
    return dict(zip(METRICS, np.concatenate(drawn, axis=1), strict=True))


def interval_of(drawn: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the ends between which the middle `confidence` share of the draws that have a value lies.

    >>> low, high = interval_of(np.append(np.arange(101.0), np.nan), confidence=0.9)
    >>> round(low, 6), round(high, 6)
    (5.0, 95.0)
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no draw has a value: the ends are NaN, which says so
        low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, NaN of nothing."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
