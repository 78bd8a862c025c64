"""Metrics of what is shown, whatever was hit: how much of the catalogue, how known, how alike.

They read lists of item indices, best first, (number of lists, K), as `ranking.ranks.top_k` returns them: -1 stands in
a place that is empty. A list that holds too few items for a metric has the value NaN there, and counts in no mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_CHUNK_ENTRIES = 2**22
"""Entries of lists × K × D held at once: 32 MiB of float64."""


def users_per_item(items: Sequence[np.ndarray], num_items: int) -> np.ndarray:
    """Count the users who have each item, however often, (N,) int64.

    Args:
        items: For each training user the item indices of its events, (L,).
        num_items: Catalogue items, N.

    >>> users_per_item([np.array([0, 0, 2]), np.array([2])], num_items=4).tolist()
    [1, 0, 2, 0]
    """
    distinct = [np.unique(row) for row in items]
    return np.bincount(np.concatenate([np.empty(0, dtype=np.int64), *distinct]), minlength=num_items)


def coverage(lists: np.ndarray, num_items: int) -> float:
    """Return the share of the catalogue that is on at least one list.

    |∪ over lists L of L| / N. It grows with the number of lists, so it compares systems on the same cases only.

    References:
        Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy: evaluating recommender systems by coverage and
        serendipity", RecSys 2010 (catalogue coverage).

    Args:
        lists: (number of lists, K) item indices; -1 is an empty place.
        num_items: Catalogue items, N.

    Raises:
        ValueError: If an index is no row of the catalogue or stands twice on one list. So for all metrics here.

    >>> coverage(np.array([[0, 1], [1, -1]]), num_items=4)
    0.5
    """
    lists = _checked(lists, num_items)
    return len(np.unique(lists[lists >= 0])) / num_items


def novelty(lists: np.ndarray, counts: np.ndarray, num_users: int) -> np.ndarray:
    """Return the mean self-information of each list's items, in bits: how surprising it is that a user knows them.

    mean over i ∈ L of -log2((c_i + 1) / (U + 1)), where c_i of the U training users have item i, as if one user more
    had every item: 0 for an item that everyone has, log2(U + 1) for a cold one, which without that would be infinite.

    References:
        Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 107(10), 2010
        (self-information); Vargas and Castells, "Rank and relevance in novelty and diversity metrics for recommender
        systems", RecSys 2011, which weigh places and relevance; here every place counts the same.

    Args:
        lists: (number of lists, K) item indices; -1 is an empty place.
        counts: (N,) training users who have each item, from `users_per_item`.
        num_users: Training users, U.

    Returns:
        (number of lists,) float64; NaN where a list is empty.

    >>> novelty(np.array([[0, 1], [2, -1]]), counts=np.array([7, 3, 0]), num_users=7)
    array([0.5, 3. ])
    """
    counts = _checked_counts(counts, num_users)
    return _list_means(-np.log2((counts + 1) / (num_users + 1)), _checked(lists, len(counts)))


def popularity(lists: np.ndarray, counts: np.ndarray, num_users: int) -> np.ndarray:
    """Return the mean popularity of each list's items: the share of the training users who have an item.

    mean over i ∈ L of c_i / U; its mean over lists is the average recommendation popularity, divided by U so that data
    of different sizes compare. Whether that is a bias shows beside what people took: the same function of the targets
    as lists of one, `popularity(targets[:, None], counts, num_users)`.

    References:
        Abdollahpouri, Burke and Mobasher, "Managing popularity bias in recommender systems with personalized
        re-ranking", FLAIRS 2019 (ARP).

    Args:
        lists: (number of lists, K) item indices; -1 is an empty place.
        counts: (N,) training users who have each item, from `users_per_item`.
        num_users: Training users, U.

    Returns:
        (number of lists,) float64; NaN where a list is empty.

    >>> popularity(np.array([[0, 1], [2, -1]]), counts=np.array([8, 4, 0]), num_users=8)
    array([0.75, 0.  ])
    """
    counts = _checked_counts(counts, num_users)
    return _list_means(counts / num_users, _checked(lists, len(counts)))


def diversity(lists: np.ndarray, vectors: np.ndarray, max_chunk_entries: int = MAX_CHUNK_ENTRIES) -> np.ndarray:
    """Return how unlike each other the items of each list are: 1 - the mean cosine over its pairs.

    For m items of unit vectors v the mean over pairs is (|Σ v|² - m) / (m (m - 1)): no pair is ever formed. An item
    whose vector is zero has no direction and is left out, like an empty place.

    References:
        Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005 (intra-list
        similarity, there a sum over pairs).

    Args:
        lists: (number of lists, K) item indices; -1 is an empty place.
        vectors: (N, D) a vector per item, such as the embedding of its text; of any length.
        max_chunk_entries: Lists × K × D held in memory at once; changes nothing else.

    Returns:
        (number of lists,) float64, 0 for twins, 1 for strangers; NaN where fewer than two items can be compared.

    >>> vectors = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    >>> diversity(np.array([[0, 1, -1], [0, 2, -1], [0, 1, 2]]), vectors).round(4)
    array([1.    , 0.    , 0.6667])
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ValueError(f"vectors of shape {vectors.shape!r}: give one row per item, (N, D)")
    lists = _checked(lists, len(vectors))
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))  # (N,)
    if not np.isfinite(norms).all():
        raise ValueError(f"the vector of item {np.flatnonzero(~np.isfinite(norms))[0]} is not finite: correct it")
    values = np.full(len(lists), np.nan)
    rows = max(1, max_chunk_entries // max(1, lists.shape[1] * vectors.shape[1]))
    for start in range(0, len(lists), rows):
        items = lists[start : start + rows]
        usable = (items >= 0) & (norms[items] > 0)
        scales = np.where(usable, 1 / np.where(usable, norms[items], 1), 0)  # (rows, K)
        sums = (scales[:, None, :] @ vectors[items])[:, 0]  # (rows, D) float64
        num = usable.sum(axis=1)
        pairs = num * (num - 1)
        cosines = np.divide((sums**2).sum(axis=1) - num, pairs, out=np.full(len(items), np.nan), where=pairs > 0)
        values[start : start + rows] = np.maximum(0, 1 - cosines)  # rounding: twins are not less than alike
    return values


def list_metrics(
    lists: np.ndarray, counts: np.ndarray, num_users: int, vectors: np.ndarray | None = None, k: int = 10
) -> dict[str, float]:
    """Compute every metric of the first `k` places by name, averaged over the lists that have a value.

    A metric that no list has a value for is left out, and so is diversity without vectors.

    Args:
        lists: (number of lists, at least K) item indices; -1 is an empty place.
        counts: (N,) training users who have each item, from `users_per_item`.
        num_users: Training users, U.
        vectors: (N, D) a vector per item; `None` for no diversity.
        k: Places of each list that are read.

    Raises:
        ValueError: If the lists have fewer than `k` places, or the counts do not fit them.

    >>> list_metrics(np.array([[0, 1], [1, -1]]), counts=np.array([3, 1, 0, 0]), num_users=3, k=2)
    {'coverage@2': 0.5, 'novelty@2': 0.75, 'popularity@2': 0.5}
    """
    lists = np.asarray(lists)
    if k < 1 or lists.ndim != 2 or lists.shape[1] < k:
        raise ValueError(f"lists of shape {lists.shape!r} and cutoff {k!r}: give one row of at least that many places")
    lists = lists[:, :k]
    values = {"novelty": novelty(lists, counts, num_users), "popularity": popularity(lists, counts, num_users)}
    if vectors is not None:
        if len(vectors) != len(counts):
            raise ValueError(f"{len(vectors)} vectors for {len(counts)} items: give one per item of the catalogue")
        values["diversity"] = diversity(lists, vectors)
    means = {f"{name}@{k}": float(np.nanmean(value)) for name, value in values.items() if not np.isnan(value).all()}
    return {f"coverage@{k}": coverage(lists, len(counts)), **means}


def _list_means(of_item: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Average the values of the items on each list, (number of lists,); NaN where it is empty."""
    filled = lists >= 0
    sums = np.where(filled, of_item[lists], 0).sum(axis=1)
    num = filled.sum(axis=1)
    return np.divide(sums, num, out=np.full(len(lists), np.nan), where=num > 0)


def _checked(lists: np.ndarray, num_items: int) -> np.ndarray:
    lists = np.asarray(lists)
    if lists.ndim != 2:
        raise ValueError(f"lists of shape {lists.shape!r}: give one row per list, (number of lists, K)")
    if lists.size and (lists.min() < -1 or lists.max() >= num_items):
        raise ValueError(
            f"items from {lists.min().item()!r} to {lists.max().item()!r} on the lists: "
            f"an item_index lies in 0..{num_items - 1}, and -1 is an empty place"
        )
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row = np.flatnonzero(twice.any(axis=1))[0]
        raise ValueError(f"list {row} shows an item twice ({lists[row].tolist()!r}): a list holds different items")
    return lists


def _checked_counts(counts: np.ndarray, num_users: int) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 1 or not len(counts) or num_users < 1 or counts.min() < 0 or counts.max() > num_users:
        raise ValueError(
            f"counts of shape {counts.shape!r} for {num_users!r} users: give for each item how many of them have it "
            "(`users_per_item`), not how many events"
        )
    return counts
