"""Ranks of targets among catalogue scores, and the top of each row of scores.

Tied items share the mean of the places they take, so a constant scorer gets chance; NaN always counts against the
target, so a broken scorer gets nothing. Neither function changes the scores it is given, and neither makes a copy for
the excluded items of target ranks: their share is counted apart and taken off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

TIE_RULE = "1 + items above + tied others / 2, among float32 scores; NaN counts against the target"

ItemIndices = np.ndarray | Sequence[int]


def target_ranks(
    scores: torch.Tensor, targets: torch.Tensor, excluded: Sequence[ItemIndices] | None = None
) -> torch.Tensor:
    """Rank each row's target among all items that are not excluded.

    The rank is 1 + (number of higher scores) + (number of equal other scores) / 2. The NaN score of another item counts
    as higher. A rank of infinity is a miss at every cutoff: the target's own score is NaN, or the target is excluded.

    Args:
        scores: (B, N) float32, higher is better.
        targets: (B,) integer item indices.
        excluded: For each of the B rows the item indices that leave its ranking (seen items), in any order; `None` for
            none.

    Returns:
        (B,) float64 ranks on the CPU.

    Raises:
        TypeError: If the scores are not float32.
        ValueError: If the shapes do not fit or an index is no row of the catalogue.

    >>> scores = torch.tensor([[0.9, 0.5, 0.5, 0.1]])
    >>> [target_ranks(scores, torch.tensor([item])).item() for item in range(4)]
    [1.0, 2.5, 2.5, 4.0]
    >>> target_ranks(scores, torch.tensor([1]), excluded=[[0]]).item()
    1.5
    >>> target_ranks(scores, torch.tensor([1]), excluded=[[0, 1]]).item()
    inf
    >>> target_ranks(torch.tensor([[float("nan"), 2.0, 1.0]] * 2), torch.tensor([1, 0])).tolist()
    [2.0, inf]
    """
    _check_scores(scores)
    num_rows, num_items = scores.shape
    if targets.shape != (num_rows,):
        raise ValueError(f"targets of shape {tuple(targets.shape)} for {num_rows} rows of scores: give one per row")
    targets = targets.to(scores.device, torch.long)
    if num_rows and (int(targets.min()) < 0 or int(targets.max()) >= num_items):
        raise ValueError(
            f"targets from {int(targets.min())!r} to {int(targets.max())!r}: an item_index lies in 0..{num_items - 1}"
        )
    own = scores.gather(1, targets[:, None])  # (B, 1)
    missed = own[:, 0].isnan()  # (B,)
    # NaN compares as false: the NaN scores of others are neither below nor equal, and so count as higher.
    num_at_most, num_below = _row_counts(scores <= own), _row_counts(scores < own)  # (B,), the target in the first
    num_ranked = torch.full((num_rows,), num_items, dtype=torch.float64)
    if excluded is not None:
        rows, items = _excluded_pairs(excluded, num_rows, num_items, scores.device)
        left_out, own_of_row = scores[rows, items], own[rows, 0]  # (number of pairs,)
        for counts, gone in (
            (num_at_most, left_out <= own_of_row),
            (num_below, left_out < own_of_row),
            (num_ranked, torch.ones_like(rows, dtype=torch.bool)),
        ):
            counts -= torch.bincount(rows[gone], minlength=num_rows).cpu()
        missed[rows[items == targets[rows]]] = True
    higher, equal_others = num_ranked - num_at_most, num_at_most - num_below - 1
    ranks = 1 + higher + equal_others / 2
    return ranks.masked_fill(missed.cpu(), torch.inf)


def top_k(scores: torch.Tensor, k: int, excluded: Sequence[ItemIndices] | None = None) -> torch.Tensor:
    """Find the `k` best items of each row, best first, ties in catalogue order.

    An item whose score is NaN or minus infinity is never returned, and no excluded item is.

    Args:
        scores: (B, N) float32, higher is better.
        k: How many items; no more than the N there are.
        excluded: For each of the B rows the item indices that must not be returned; `None` for none.

    Returns:
        (B, min(K, N)) int64 item indices on the CPU, filled with -1 where a row has fewer items to return.

    Raises:
        TypeError: If the scores are not float32.
        ValueError: If `k` is not positive, the shapes do not fit or an index is no row of the catalogue.

    >>> top_k(torch.tensor([[0.5, 0.9, 0.5, float("nan")]]), k=3).tolist()
    [[1, 0, 2]]
    >>> top_k(torch.tensor([[0.5, 0.9, 0.5, float("nan")]]), k=3, excluded=[[1]]).tolist()
    [[0, 2, -1]]
    """
    _check_scores(scores)
    if k < 1:
        raise ValueError(f"k is {k!r}: it counts the items to return; give at least 1")
    num_rows, num_items = scores.shape
    usable = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    if excluded is not None:
        rows, items = _excluded_pairs(excluded, num_rows, num_items, scores.device)
        usable[rows, items] = -torch.inf
    k = min(k, num_items)
    best = torch.full((num_rows, k), -1, dtype=torch.long)
    # topk breaks ties as it likes; everything down to its last value is sorted again, stably.
    thresholds = usable.topk(k, dim=1).values[:, -1] if num_items else usable.new_empty(num_rows)
    for row in range(num_rows):
        candidates = ((usable[row] >= thresholds[row]) & (usable[row] > -torch.inf)).nonzero()[:, 0]
        order = usable[row, candidates].sort(descending=True, stable=True).indices[:k]
        best[row, : len(order)] = candidates[order].cpu()
    return best


def _check_scores(scores: torch.Tensor) -> None:
    if scores.dtype != torch.float32:
        raise TypeError(
            f"scores are {scores.dtype!r}: ranks are those of float32 scores (lower precision ties what differs); "
            "compute the scores in float32"
        )
    if scores.ndim != 2:
        raise ValueError(f"scores of shape {tuple(scores.shape)}: give one row per case, (B, N)")


def _row_counts(mask: torch.Tensor) -> torch.Tensor:
    """Count the true entries of each row of (B, N), (B,) float64 on the CPU."""
    # On the CPU torch widens every entry before it adds; numpy counts bytes, many times faster.
    counts = torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1)) if mask.device.type == "cpu" else mask.sum(dim=1)
    return counts.cpu().double()


def _excluded_pairs(
    excluded: Sequence[ItemIndices], num_rows: int, num_items: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flatten the excluded items to distinct pairs: row numbers and item indices, both (number of pairs,)."""
    if len(excluded) != num_rows:
        raise ValueError(f"{len(excluded)} lists of excluded items for {num_rows} rows of scores: give one per row")
    per_row = [np.asarray(items, dtype=np.int64) for items in excluded]
    items = np.concatenate([np.empty(0, dtype=np.int64), *per_row])
    if items.size and (items.min() < 0 or items.max() >= num_items):
        raise ValueError(
            f"excluded items from {items.min().item()!r} to {items.max().item()!r}: "
            f"an item_index lies in 0..{num_items - 1}"
        )
    rows = np.repeat(np.arange(num_rows), [len(row) for row in per_row])
    pairs = np.unique(rows * num_items + items)  # an item listed twice leaves once
    rows, items = np.divmod(pairs, max(num_items, 1))
    return torch.from_numpy(rows).to(device), torch.from_numpy(items).to(device)
