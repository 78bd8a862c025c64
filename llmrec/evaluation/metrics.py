"""Metrics as functions of ranks: one value per case, one relevant item (the target) in each.

A rank is the place of the target in the whole catalogue, first place 1. With ties it may lie between two places (2.5),
and it is infinite for a target that cannot be recommended. A target is hit at cutoff K when its rank is at most K.
Averaging is left to the caller: over a user's cases first, then over users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

CUTOFFS = (5, 10, 20)


def hit_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1 where the target is among the first `k`, else 0.

    HR@K = [rank ≤ K]. Equal to recall, since there is one relevant item. A tie across the cutoff is decided by the
    mid-rank, not split.

    References:
        Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22(1), 2004.

    Args:
        ranks: (number of cases,) ranks from 1, or infinity.
        k: Cutoff.

    Raises:
        ValueError: If a rank is below 1 or NaN, or `k` is not positive. So for all metrics here.

    >>> hit_at_k(np.array([1, 2.5, 3.5, np.inf]), k=3)
    array([1., 1., 0., 0.])
    """
    return (_checked(ranks, k) <= k).astype(np.float64)


def recall_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the share of a case's relevant items among the first `k`: with one relevant item, the hit.

    R@K = |relevant ∩ first K| / |relevant| = [rank ≤ K].

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, equation 8.2.

    >>> recall_at_k(np.array([1, 11]), k=10)
    array([1., 0.])
    """
    return hit_at_k(ranks, k)


def precision_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the share of relevant items among the first `k`, whose best value is 1 / K here.

    P@K = |relevant ∩ first K| / K = [rank ≤ K] / K. The divisor is K even where the catalogue is smaller.

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, equation 8.1.

    >>> precision_at_k(np.array([1, 11]), k=10)
    array([0.1, 0. ])
    """
    return hit_at_k(ranks, k) / k


def f1_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the harmonic mean of precision and recall of each case, zero where both are.

    F1@K = 2 · P@K · R@K / (P@K + R@K) = 2 · [rank ≤ K] / (K + 1). The mean over cases is the mean of these values, not
    the F1 of mean precision and mean recall (here both ways agree, since precision is recall over K).

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, equation 8.6.

    >>> f1_at_k(np.array([1, 4]), k=3)
    array([0.5, 0. ])
    """
    return 2 * hit_at_k(ranks, k) / (k + 1)


def ndcg_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the normalised discounted cumulative gain of each case.

    DCG@K = Σ over the first K places p of gain(p) / log2(1 + p); the ideal DCG of one relevant item of gain 1 is 1, so
    NDCG@K = [rank ≤ K] / log2(1 + rank). Libraries that normalise by the ideal list of K relevant items show a value
    4.5 times lower at K = 10.

    References:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002; the discount
        log2(1 + p) is that of Burges et al., "Learning to rank using gradient descent", ICML 2005.

    >>> ndcg_at_k(np.array([1, 3, 7, 11]), k=10)
    array([1. , 0.5 , 0.33333333, 0. ])
    """
    return hit_at_k(ranks, k) / np.log2(1 + np.asarray(ranks, dtype=np.float64))


def reciprocal_rank(ranks: np.ndarray, k: int | None = None) -> np.ndarray:
    """Return 1 / rank of each case, zero beyond the cutoff where one is given; its mean is MRR.

    RR = 1 / rank; RR@K = [rank ≤ K] / rank.

    References:
        Voorhees, "The TREC-8 question answering track report", 1999.

    >>> reciprocal_rank(np.array([1, 4, np.inf]))
    array([1. , 0.25, 0. ])
    >>> reciprocal_rank(np.array([1, 4, np.inf]), k=3)
    array([1., 0., 0.])
    """
    inverse = 1 / _checked(ranks, k)
    return inverse if k is None else hit_at_k(ranks, k) * inverse


def average_precision_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return the average precision of each case within the first `k`; its mean is MAP at K.

    AP@K = Σ over the relevant places p ≤ K of P@p / min(K, |relevant|). One relevant item has one term, P@rank =
    1 / rank, and a divisor of 1, so AP@K = [rank ≤ K] / rank = RR@K: MRR at a cutoff is this column too.

    References:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, equation 8.8, cut at K.

    >>> average_precision_at_k(np.array([1, 4, 11]), k=10)
    array([1. , 0.25, 0. ])
    """
    return reciprocal_rank(ranks, k)


AT_CUTOFF = {
    "ndcg": ndcg_at_k,
    "recall": recall_at_k,
    "hit": hit_at_k,
    "precision": precision_at_k,
    "f1": f1_at_k,
    "map": average_precision_at_k,
}


Metric = Callable[[np.ndarray, int], np.ndarray]
"""A metric of one's own: ranks (number of cases,) and the number of items that were ranked to one value per case."""


def metric_named(metric: str | Metric) -> tuple[str, Metric | None]:
    """Return a metric's name, and its function where it is the caller's own."""
    return (metric, None) if isinstance(metric, str) else (getattr(metric, "__name__", type(metric).__name__), metric)


def case_metrics(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, np.ndarray]:
    """Compute every metric of every case, by name: `ndcg@10`, …, and `mrr` without a cutoff.

    >>> {name: values.tolist() for name, values in case_metrics(np.array([1, 3]), cutoffs=[2]).items()}
    {'ndcg@2': [1.0, 0.0], 'recall@2': [1.0, 0.0], 'hit@2': [1.0, 0.0], 'precision@2': [0.5, 0.0],
     'f1@2': [0.6666666666666666, 0.0], 'map@2': [1.0, 0.0], 'mrr': [1.0, 0.3333333333333333]}
    """
    values = {f"{name}@{k}": metric(ranks, k) for k in cutoffs for name, metric in AT_CUTOFF.items()}
    values["mrr"] = reciprocal_rank(ranks)
    return values


def _checked(ranks: np.ndarray, k: int | None) -> np.ndarray:
    ranks = np.asarray(ranks, dtype=np.float64)
    if k is not None and k < 1:
        raise ValueError(f"cutoff {k!r}: it counts the first items of a ranking; give at least 1")
    if not (ranks >= 1).all():
        wrong = ranks[~(ranks >= 1)][0].item()
        raise ValueError(f"rank {wrong!r}: ranks start at 1, and a target that cannot be ranked has rank infinity")
    return ranks
