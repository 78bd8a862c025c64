"""Metrics of labelled pairs: a user, an item, and whether the user took it.

They judge a score pair by pair, where the metrics of ranks judge an order of the catalogue: a model can be good at one
and bad at the other. Labels are 0 or 1. A pair is predicted positive when its score exceeds the threshold: 0 for
logits, which is the probability one half, or 0.5 where probabilities are given. AUC needs no threshold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def accuracy(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.0) -> float:
    """Return the share of pairs whose prediction is their label.

    (true positives + true negatives) / pairs. Where one label is rare, always saying the other comes close to 1.

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.3.

    Args:
        labels: (number of pairs,) 0 or 1.
        scores: (number of pairs,) logits, or anything else that has a threshold.
        threshold: Score that a positive prediction must exceed.

    Raises:
        ValueError: If there is no pair, the shapes differ, a label is not 0 or 1, or a score is NaN. So for all metrics
            here.

    >>> accuracy(np.array([1, 1, 0, 0]), np.array([2.0, -1.0, -3.0, 0.0]))
    0.75
    """
    labels, scores = _checked(labels, scores)
    return float(((scores > threshold) == labels).mean())


def precision(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.0) -> float:
    """Return the share of positive predictions that are right, zero where nothing is predicted positive.

    true positives / predicted positives.

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.3.

    >>> precision(np.array([1, 1, 0]), np.array([2.0, -1.0, 3.0]))
    0.5
    """
    labels, scores = _checked(labels, scores)
    predicted = scores > threshold
    return float((predicted & labels).sum() / max(1, predicted.sum()))


def recall(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.0) -> float:
    """Return the share of positive pairs that are predicted positive.

    true positives / positives.

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.3.

    Raises:
        ValueError: If no label is 1.

    >>> recall(np.array([1, 1, 0]), np.array([2.0, -1.0, 3.0]))
    0.5
    """
    labels, scores = _checked(labels, scores)
    if not labels.any():
        raise ValueError("no label is 1: a share of the positive pairs needs one; add pairs that were taken")
    return float(((scores > threshold) & labels).sum() / labels.sum())


def f1(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.0) -> float:
    """Return the harmonic mean of precision and recall over all pairs, zero where both are.

    2 · true positives / (predicted positives + positives).

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, equation 8.6.

    Raises:
        ValueError: If no label is 1.

    >>> f1(np.array([1, 1, 0]), np.array([2.0, -1.0, 3.0]))
    0.5
    """
    found, right = recall(labels, scores, threshold), precision(labels, scores, threshold)
    return 2 * found * right / (found + right) if found else 0.0


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the chance that a positive pair scores above a negative one, both drawn from all pairs; ties count half.

    AUC = (R - P (P + 1) / 2) / (P Q), where R is the sum of the mid-ranks of the P positive pairs, counted upwards from
    1, and Q the number of negative ones (the Mann-Whitney statistic over its largest value). Pairs of different users
    are compared, so a score that only knows which users take much is rewarded; `user_auc` does not reward it.

    References:
        Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
        Radiology 143(1), 1982.

    Raises:
        ValueError: If the labels are all 0 or all 1.

    >>> auc(np.array([1, 0, 1, 0]), np.array([3.0, 2.0, 2.0, 1.0]))  # wins 3, ties 1, of 4 comparisons
    0.875
    """
    labels, scores = _checked(labels, scores)
    value = auc_of_groups(labels, scores, np.zeros(len(labels), dtype=np.int64))[0]
    if np.isnan(value):
        raise ValueError(f"all labels are {int(labels[0])}: AUC compares positive with negative pairs; give both")
    return float(value)


class UserAUC(NamedTuple):
    """AUC averaged over users, and how many users it speaks for."""

    value: float
    num_users: int
    """Users with both labels, whose mean it is."""
    num_users_left_out: int
    """Users whose labels are all 0 or all 1; nothing can be compared there."""


def user_auc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> UserAUC:
    """Return the mean over users of each user's own AUC, every user with both labels counted once.

    The sibling of `auc` that judges the order within a user's pairs alone, as a list is ordered for one user.

    References:
        Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009, section 4.1.1.

    Args:
        labels: (number of pairs,) 0 or 1.
        scores: (number of pairs,) logits or probabilities.
        users: (number of pairs,) whose pair it is: numbers or strings, in any order.

    Raises:
        ValueError: If no user has both labels.

    >>> user_auc(np.array([1, 0, 1, 0, 1]), np.array([2.0, 1.0, 5.0, 5.0, 3.0]), np.array(["a", "a", "b", "b", "c"]))
    UserAUC(value=0.75, num_users=2, num_users_left_out=1)
    """
    labels, scores = _checked(labels, scores)
    users = np.asarray(users)
    if users.shape != labels.shape:
        raise ValueError(f"users of shape {users.shape!r} for {len(labels)} pairs: give one per pair")
    values = auc_of_groups(labels, scores, np.unique(users, return_inverse=True)[1])
    kept = values[~np.isnan(values)]
    if not len(kept):
        raise ValueError(f"none of {len(values)} users has both labels: AUC compares a user's positive with its others")
    return UserAUC(float(kept.mean()), len(kept), len(values) - len(kept))


def auc_of_groups(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the AUC within each group; NaN where a label is missing.

    Args:
        labels: (number of pairs,) bool.
        scores: (number of pairs,) float64.
        groups: (number of pairs,) int64, numbered from 0.

    >>> auc_of_groups(np.array([True, False, True]), np.array([2.0, 1.0, 3.0]), np.array([0, 0, 1])).tolist()
    [1.0, nan]
    """
    order = np.lexsort((scores, groups))
    labels, scores, groups = labels[order], scores[order], groups[order]
    starts = np.ones(len(labels), dtype=bool)  # of a run of equal scores in one group
    starts[1:] = (scores[1:] != scores[:-1]) | (groups[1:] != groups[:-1])
    first = np.flatnonzero(starts)
    run_lengths = np.diff(np.append(first, len(labels)))
    mid_places = np.repeat(first + (run_lengths + 1) / 2, run_lengths)  # from 1, over all groups
    sizes = np.bincount(groups)
    mid_ranks = mid_places - np.repeat(np.cumsum(sizes) - sizes, sizes)
    positives = np.bincount(groups, weights=labels)
    rank_sums = np.bincount(groups, weights=mid_ranks * labels)
    wins = rank_sums - positives * (positives + 1) / 2
    comparisons = positives * (sizes - positives)
    return np.divide(wins, comparisons, out=np.full(len(sizes), np.nan), where=comparisons > 0)


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the labels, in nats: log 2 = 0.693 for a constant logit of 0.

    mean of log(1 + exp(-z)) for label 1 and log(1 + exp(z)) for label 0, computed without overflow. This one takes
    logits alone: a probability of 1 - 1e-17 is already 1. What training minimises as BCE with logits.

    References:
        Good, "Rational decisions", Journal of the Royal Statistical Society B 14(1), 1952.

    >>> round(log_loss(np.array([1, 0]), np.array([0.0, 0.0])), 4)
    0.6931
    >>> log_loss(np.array([1, 0]), np.array([-1000.0, -1000.0]))
    500.0
    """
    labels, logits = _checked(labels, logits)
    return float(np.logaddexp(0, np.where(labels, -logits, logits)).mean())


def pair_metrics(labels: np.ndarray, logits: np.ndarray, users: np.ndarray | None = None) -> dict[str, float]:
    """Compute every metric of labelled pairs, by name; with `users` also `user_auc` and the users it leaves out.

    >>> metrics = pair_metrics(np.array([1, 0, 1, 0]), np.array([2.0, -1.0, 1.0, 0.5]))
    >>> {name: round(value, 4) for name, value in metrics.items()}
    {'accuracy': 0.75, 'precision': 0.6667, 'recall': 1.0, 'f1': 0.8, 'auc': 1.0, 'log_loss': 0.4319}
    """
    values = {name: metric(labels, logits) for name, metric in PAIR_METRICS.items()}
    if users is not None:
        own = user_auc(labels, logits, users)
        values |= {"user_auc": own.value, "num_users_left_out": own.num_users_left_out}
    return values


PAIR_METRICS = {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "auc": auc,
    "log_loss": log_loss,
}


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as bool and scores as float64."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(
            f"labels of shape {labels.shape!r} and scores of shape {scores.shape!r}: give one of each per pair"
        )
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.size:
        raise ValueError(f"label {wrong[0].item()!r}: a label is 1 where the user took the item, else 0")
    if np.isnan(scores).any():
        raise ValueError(
            f"score {np.flatnonzero(np.isnan(scores))[0]} is NaN: a pair without a score has no prediction"
        )
    return labels.astype(bool), scores
