"""Full-catalogue evaluation of anything that scores the catalogue: scores to ranks, ranks to each user's metrics.

A system is asked for its scores once and may answer in any order and in any batches. Several processes can each rank a
part: every one calls `score_ranks` on a system that yields its own cases, the parts are gathered, and `collect`
refuses them unless every case is there exactly once, so that neither padding nor a lost shard can move a mean. Scores
are dropped batch by batch: what is kept grows with the cases, not with cases times items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
import torch

from llmrec.data.cases import Cases
from llmrec.evaluation.metrics import CUTOFFS, Metric, case_metrics
from llmrec.ranking.ranks import target_ranks, top_k

LIST_LENGTH = 10


@dataclass(frozen=True, eq=False)
class Details:
    """What is recorded of a ranking besides the target's rank."""

    groups: np.ndarray
    """(N,) int64: items of one number are twins, different ids of one text (`data.near_duplicates`)."""
    listed: np.ndarray
    """(number of cases,) bool: cases whose first items are kept, as a person would see them."""
    list_length: int = LIST_LENGTH
    """Items kept of each such case, K."""

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)[1:]
        return np.argsort(numbers, kind="stable"), np.cumsum(sizes), numbers

    def twins(self, item: int) -> np.ndarray:
        """Return the other items of an item's group, (number of twins,) int64."""
        order, ends, numbers = self._order
        group = numbers[item]
        members = order[ends[group - 1] if group else 0 : ends[group]]
        return members[members != item]


class Ranking(NamedTuple):
    """What was recorded of every case, in the order of the cases."""

    ranks: np.ndarray
    """(number of cases,) float64."""
    ranks_without_twins: np.ndarray
    """(number of cases,) float64: the rank where the target's twins have left the catalogue."""
    lists: np.ndarray
    """(number of cases, K) int64 item indices, best first; -1 where a place is empty or the case is not listed."""


class RankedPart(NamedTuple):
    """Case numbers of one process (B,) and what was recorded of them, in the same order."""

    numbers: np.ndarray
    ranking: Ranking


class CatalogueScorer(Protocol):
    """Anything that can be evaluated: a model, a baseline, another library behind a few lines."""

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and float32 scores of all items (B, N), higher is better, in any order of cases."""


def score_ranks(system: CatalogueScorer, cases: Cases, mask_seen: bool, details: Details | None = None) -> RankedPart:
    """Rank the targets of the cases that the system yields, all of them or this process's part.

    Args:
        system: Scores the catalogue.
        cases: What to rank.
        mask_seen: Take the items of a case's history out of its ranking. A target that is among them gets rank
            infinity.
        details: What else to record; without it ranks have all their twins and no list is kept.

    Returns:
        The case numbers in the order of the system and their ranks.

    Raises:
        TypeError: If scores are not float32.
        ValueError: If scores are not (B, N) for the B case numbers beside them, or a case number does not exist.
    """
    numbers, rankings = [np.empty(0, dtype=np.int64)], [_empty(0, details)]
    for batch, scores in system.catalogue_scores(cases):
        batch = np.asarray(batch, dtype=np.int64)
        if tuple(scores.shape) != (len(batch), cases.num_items):
            raise ValueError(
                f"scores of shape {tuple(scores.shape)} for {len(batch)} cases: "
                f"give one row per case and one column for each of the {cases.num_items} items"
            )
        _check_numbers(batch, len(cases))
        numbers.append(batch)
        rankings.append(_rank_batch(batch, scores, cases, mask_seen, details))
    parts = zip(*rankings, strict=True)
    return RankedPart(np.concatenate(numbers), Ranking(*(np.concatenate(part) for part in parts)))


def _rank_batch(
    batch: np.ndarray, scores: torch.Tensor, cases: Cases, mask_seen: bool, details: Details | None
) -> Ranking:
    targets = cases.targets[batch]
    excluded = [cases.history(case) if mask_seen else np.empty(0, dtype=np.int64) for case in batch]
    ranks = target_ranks(scores, torch.from_numpy(targets), excluded).numpy()
    ranking = _empty(len(batch), details)
    ranking.ranks[:] = ranking.ranks_without_twins[:] = ranks
    if details is None:
        return ranking
    twins = [details.twins(target) for target in targets]
    rows = np.flatnonzero([len(others) > 0 for others in twins])
    if rows.size:
        left_out = [np.concatenate([excluded[row], twins[row]]) for row in rows]
        ranking.ranks_without_twins[rows] = target_ranks(scores[rows], torch.from_numpy(targets[rows]), left_out)
    rows = np.flatnonzero(details.listed[batch])
    if rows.size:
        best = top_k(scores[rows], details.list_length, [excluded[row] for row in rows])
        ranking.lists[rows, : best.shape[1]] = best
    return ranking


def _empty(num_cases: int, details: Details | None) -> Ranking:
    length = details.list_length if details else 0
    return Ranking(np.empty(num_cases), np.empty(num_cases), np.full((num_cases, length), -1, dtype=np.int64))


def collect(parts: Iterable[RankedPart], num_cases: int) -> Ranking:
    """Put the parts of all processes together, in the order of the cases.

    Raises:
        ValueError: If a case is missing or ranked more than once.

    >>> def part(numbers, ranks):
    ...     return RankedPart(np.array(numbers), Ranking(np.array(ranks), np.array(ranks), np.empty((len(ranks), 0))))
    >>> collect([part([2, 0], [7.0, 1.5]), part([1], [np.inf])], num_cases=3).ranks
    array([1.5, inf, 7. ])
    """
    parts = list(parts)
    numbers = np.concatenate([np.empty(0, dtype=np.int64), *(part.numbers for part in parts)])
    _check_numbers(numbers, num_cases)
    times = np.bincount(numbers, minlength=num_cases)
    if (times != 1).any():
        raise ValueError(
            f"{(times == 0).sum()} of {num_cases} cases were not scored and {(times > 1).sum()} more than once "
            f"(first: case {np.flatnonzero(times != 1)[0]}): a system must yield every case exactly once"
        )
    place = np.argsort(numbers)
    columns = zip(*(part.ranking for part in parts), strict=True)
    return Ranking(*(np.concatenate(column)[place] for column in columns))


def rank_system(system: CatalogueScorer, cases: Cases, mask_seen: bool, details: Details | None = None) -> Ranking:
    """Rank every target in one process; see `score_ranks` and `collect`."""
    return collect([score_ranks(system, cases, mask_seen, details)], len(cases))


def evaluate_system(system: CatalogueScorer, cases: Cases, mask_seen: bool) -> np.ndarray:
    """Return the rank of every target, (number of cases,) float64, and nothing else."""
    return rank_system(system, cases, mask_seen).ranks


def user_metrics(
    ranks: np.ndarray, cases: Cases, cutoffs: Sequence[int] = CUTOFFS, own: Mapping[str, Metric] | None = None
) -> pl.DataFrame:
    """Average every metric over each user's cases.

    Args:
        ranks: (number of cases,) ranks in the order of the cases.
        cases: What was ranked.
        cutoffs: Values of K.
        own: Further metrics by name.

    Returns:
        One row per user that has a case: `user_id`, `num_targets` and a column per metric.

    Raises:
        ValueError: If there is not one rank per case.
    """
    if np.shape(ranks) != (len(cases),):
        raise ValueError(f"ranks of shape {np.shape(ranks)!r} for {len(cases)} cases: give one per case")
    num_targets = np.bincount(cases.user, minlength=len(cases.users))
    columns = {"user_id": pl.Series(cases.users, dtype=pl.String), "num_targets": pl.Series(num_targets)}
    found = case_metrics(ranks, cutoffs)
    for name, metric in (own or {}).items():
        found[name] = np.asarray(metric(np.asarray(ranks, dtype=np.float64), cases.num_items), dtype=np.float64)
        if found[name].shape != (len(cases),) or not np.isfinite(found[name]).all():
            raise ValueError(f"metric {name!r}: give one finite value per case, ({len(cases)},)")
    for name, values in found.items():
        sums = np.bincount(cases.user, weights=values, minlength=len(cases.users))
        columns[name] = pl.Series(sums / np.maximum(num_targets, 1))
    return pl.DataFrame(columns).filter(pl.col("num_targets") > 0)


def metric_columns(per_user: pl.DataFrame) -> list[str]:
    """List the columns of `user_metrics` that are metrics, in their order."""
    return [name for name in per_user.columns if name not in ("user_id", "num_targets")]


def _check_numbers(numbers: np.ndarray, num_cases: int) -> None:
    if numbers.size and (numbers.min() < 0 or numbers.max() >= num_cases):
        raise ValueError(
            f"case numbers from {numbers.min().item()} to {numbers.max().item()}: cases are numbered 0..{num_cases - 1}"
        )
