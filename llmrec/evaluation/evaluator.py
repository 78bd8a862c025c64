"""Full-catalogue evaluation of anything that scores the catalogue: scores to ranks, ranks to each user's metrics.

A system is asked for its scores once and may answer in any order and in any batches. Several processes can each rank a
part: every one calls `score_ranks` on a system that yields its own cases, the parts are gathered, and `collect`
refuses them unless every case is there exactly once, so that neither padding nor a lost shard can move a mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import polars as pl
import torch

from llmrec.evaluation.cases import Cases
from llmrec.evaluation.intervals import DRAWS, SEED, mean_intervals
from llmrec.evaluation.metrics import CUTOFFS, case_metrics
from llmrec.ranking.ranks import target_ranks

RankedPart = tuple[np.ndarray, np.ndarray]
"""Case numbers and their ranks, both (number of cases in the part,)."""


class CatalogueScorer(Protocol):
    """Anything that can be evaluated: a model, a baseline, another library behind a few lines."""

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and float32 scores of all items (B, N), higher is better, in any order of cases."""


def score_ranks(system: CatalogueScorer, cases: Cases, mask_seen: bool) -> RankedPart:
    """Rank the targets of the cases that the system yields, all of them or this process's part.

    Args:
        system: Scores the catalogue.
        cases: What to rank.
        mask_seen: Take the items of a case's history out of its ranking. A target that is among them gets rank
            infinity.

    Returns:
        The case numbers in the order of the system and their ranks.

    Raises:
        TypeError: If scores are not float32.
        ValueError: If scores are not (B, N) for the B case numbers beside them, or a case number does not exist.
    """
    numbers, ranks = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for batch, scores in system.catalogue_scores(cases):
        batch = np.asarray(batch, dtype=np.int64)
        if tuple(scores.shape) != (len(batch), cases.num_items):
            raise ValueError(
                f"scores of shape {tuple(scores.shape)} for {len(batch)} cases: "
                f"give one row per case and one column for each of the {cases.num_items} items"
            )
        _check_numbers(batch, len(cases))
        excluded = [cases.seen(case) for case in batch] if mask_seen else None
        numbers.append(batch)
        ranks.append(target_ranks(scores, torch.from_numpy(cases.targets[batch]), excluded).numpy())
    return np.concatenate(numbers), np.concatenate(ranks)


def collect(parts: Iterable[RankedPart], num_cases: int) -> np.ndarray:
    """Put the parts of all processes together, in the order of the cases.

    Returns:
        (num_cases,) float64 ranks.

    Raises:
        ValueError: If a case is missing or ranked more than once.

    >>> collect([(np.array([2, 0]), np.array([7.0, 1.5])), (np.array([1]), np.array([np.inf]))], num_cases=3)
    array([1.5, inf, 7. ])
    """
    parts = list(parts)
    numbers = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, dtype=np.int64)
    _check_numbers(numbers, num_cases)
    times = np.bincount(numbers, minlength=num_cases)
    if (times != 1).any():
        raise ValueError(
            f"{(times == 0).sum()} of {num_cases} cases were not scored and {(times > 1).sum()} more than once "
            f"(first: case {np.flatnonzero(times != 1)[0]}): a system must yield every case exactly once"
        )
    ranks = np.empty(num_cases)
    for part_numbers, part_ranks in parts:
        ranks[part_numbers] = part_ranks
    return ranks


def evaluate_system(system: CatalogueScorer, cases: Cases, mask_seen: bool) -> np.ndarray:
    """Rank every target in one process, (number of cases,) float64; see `score_ranks` and `collect`."""
    return collect([score_ranks(system, cases, mask_seen)], len(cases))


def user_metrics(ranks: np.ndarray, cases: Cases, cutoffs: Sequence[int] = CUTOFFS) -> pl.DataFrame:
    """Average every metric over each user's cases.

    Args:
        ranks: (number of cases,) ranks in the order of the cases.
        cases: What was ranked.
        cutoffs: Values of K.

    Returns:
        One row per user that has a case: `user_id`, `num_targets` and a column per metric.

    Raises:
        ValueError: If there is not one rank per case.
    """
    if np.shape(ranks) != (len(cases),):
        raise ValueError(f"ranks of shape {np.shape(ranks)!r} for {len(cases)} cases: give one per case")
    num_targets = np.bincount(cases.user, minlength=len(cases.users))
    columns = {"user_id": pl.Series(cases.users, dtype=pl.String), "num_targets": pl.Series(num_targets)}
    for name, values in case_metrics(ranks, cutoffs).items():
        sums = np.bincount(cases.user, weights=values, minlength=len(cases.users))
        columns[name] = pl.Series(sums / np.maximum(num_targets, 1))
    return pl.DataFrame(columns).filter(pl.col("num_targets") > 0)


def metric_columns(per_user: pl.DataFrame) -> list[str]:
    """List the columns of `user_metrics` that are metrics, in their order."""
    return [name for name in per_user.columns if name not in ("user_id", "num_targets")]


def summarise(
    ranks: np.ndarray, cases: Cases, cutoffs: Sequence[int] = CUTOFFS, draws: int = DRAWS, seed: int = SEED
) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Average over each user's cases, then over users, with 95 % bootstrap intervals over users.

    Returns:
        The table of `user_metrics`, and for each metric its `value`, `low` and `high`.
    """
    per_user = user_metrics(ranks, cases, cutoffs)
    names = metric_columns(per_user)
    intervals = mean_intervals(per_user.select(names).to_numpy(), draws, seed)
    return per_user, {name: interval._asdict() for name, interval in zip(names, intervals, strict=True)}


def _check_numbers(numbers: np.ndarray, num_cases: int) -> None:
    if numbers.size and (numbers.min() < 0 or numbers.max() >= num_cases):
        raise ValueError(
            f"case numbers from {numbers.min().item()} to {numbers.max().item()}: cases are numbered 0..{num_cases - 1}"
        )
