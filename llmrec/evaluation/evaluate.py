"""`evaluate`: rank the same cases by anything that scores, and say by how much the systems differ."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import polars as pl
import torch

from llmrec.data.cases import Cases, case_batches
from llmrec.data.catalog import Catalog
from llmrec.evaluation.evaluator import CatalogueScorer, Ranking, metric_columns, rank_system, user_metrics
from llmrec.evaluation.intervals import DRAWS, SEED
from llmrec.evaluation.metrics import CUTOFFS, Metric, metric_named
from llmrec.evaluation.report import case_table, write_report
from llmrec.evaluation.results import build_results, describe_protocol

if TYPE_CHECKING:
    import pandas

    from llmrec.data.directory import PreparedData

    class AdaptedRecommender(Protocol):
        """A `Recommender`: it ranks by the scorer that it hands out."""

        def scorer(self) -> CatalogueScorer:
            """Return what scores the catalogue."""

    Scores: TypeAlias = Callable[[Cases, np.ndarray], np.ndarray | torch.Tensor]
    System: TypeAlias = AdaptedRecommender | CatalogueScorer | Scores | pl.DataFrame | pandas.DataFrame


class Interval(NamedTuple):
    """A mean over users with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True, eq=False)
class EvaluationResults:
    """What `evaluate` found; printed it is a table.

    Attributes:
        metrics: Names of the metrics that were asked for, in that order.
        per_user: For each system one row per user: `user_id`, `num_targets` and every metric.
        per_case: One row per case: user, position, target and its rank by each system.
        content: What `results.json` holds.
    """

    metrics: tuple[str, ...]
    per_user: Mapping[str, pl.DataFrame]
    per_case: pl.DataFrame
    content: Mapping[str, Any]

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in the order in which they were given."""
        return list(self.per_user)

    def interval(self, system: str, metric: str | None = None) -> Interval:
        """Return a system's mean over users; the first metric by default."""
        return Interval(**self.content["systems"][system][metric or self.metrics[0]])

    def difference(self, system: str, other: str, metric: str | None = None) -> Interval:
        """Return the paired difference system - other, each user compared with itself."""
        return Interval(**self.content["comparisons"][system][other][metric or self.metrics[0]])

    def to_frame(self) -> pl.DataFrame:
        """Return one row per system and metric: `system`, `metric`, `value`, `low`, `high`."""
        rows = [(name, metric, *self.interval(name, metric)) for name in self.systems for metric in self.metrics]
        return pl.DataFrame(rows, schema=["system", "metric", "value", "low", "high"], orient="row")

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the report: results.json, .md, .html and .png, per_user.parquet and per_case.parquet.

        Raises:
            PermissionError: The folder cannot be written.
        """
        write_report(self.content, self.per_user, self.per_case, os.fspath(folder))

    def __str__(self) -> str:
        cells = [["system", *self.metrics]]
        cells += [[name, *(str(self.interval(name, metric)) for metric in self.metrics)] for name in self.systems]
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def evaluate(
    systems: Mapping[str, System],
    cases: Cases,
    metrics: Sequence[str | Metric] = ("ndcg@10", "recall@10", "mrr"),
    *,
    mask_seen: bool | None = None,
    items: Catalog | Sequence[str] | None = None,
    data: PreparedData | None = None,
    seed: int = SEED,
    draws: int = DRAWS,
) -> EvaluationResults:
    """Rank every case by every system over the whole catalogue, in one process.

    Args:
        systems: By name: a `Recommender`; a baseline, or anything with `catalogue_scores(cases)`; a function of cases
            and case numbers (B,) that returns scores (B, N), higher is better; or a frame of somebody else's lists:
            `user_id`, `item_id` and `score`, or `rank` from 1. What is absent from a list is ranked behind it.
        cases: Targets and the histories before them, such as `data.test`.
        metrics: Names such as `ndcg@10`, `recall@20`, `mrr`, or functions of ranks and the number of items.
        mask_seen: Whether items of a history leave its ranking; None takes what the first recommender was trained for,
            else what the data suggest, else true.
        items: Ids by index, where the cases do not know them and a frame is ranked.
        data: Where the cases come from, for the report.
        seed: Seed of the bootstrap.
        draws: Draws of the bootstrap.

    Raises:
        ValueError: There is no system, a metric is unknown, scores are of another shape, or a list names a user or item
            that there is not, or lacks a user of the cases.
        TypeError: A system is nothing that scores.
    """
    named = dict(metric_named(metric) for metric in metrics)
    if not systems or not named:
        raise ValueError("nothing to evaluate: give at least one system and one metric.")
    ids = cases.item_ids if items is None else items.ids if isinstance(items, Catalog) else list(items)
    mask_seen = _mask(systems, data) if mask_seen is None else mask_seen
    scorers = {name: as_scorer(name, system, ids) for name, system in systems.items()}
    rankings: dict[str, Ranking] = {name: rank_system(scorer, cases, mask_seen) for name, scorer in scorers.items()}
    cutoffs = sorted({*CUTOFFS, *(int(name.rpartition("@")[2]) for name in named if "@" in name)})
    own = {name: metric for name, metric in named.items() if metric is not None}
    per_user = {name: user_metrics(ranking.ranks, cases, cutoffs, own) for name, ranking in rankings.items()}
    if unknown := [name for name in named if name not in metric_columns(next(iter(per_user.values())))]:
        known = sorted({column.partition("@")[0] for column in metric_columns(next(iter(per_user.values())))})
        raise ValueError(f"metric {unknown[0]!r} is unknown: give one of {', '.join(known)} with @K, or a function.")
    protocol = describe_protocol(data, cases, mask_seen, None, cutoffs, draws, seed)
    columns = list(named) + [name for name in metric_columns(next(iter(per_user.values()))) if name not in named]
    per_user = {name: table.select("user_id", "num_targets", *columns) for name, table in per_user.items()}
    content = build_results(protocol, per_user)
    targets = [str(item) for item in range(cases.num_items)] if ids is None else ids
    return EvaluationResults(tuple(named), per_user, case_table(cases, rankings, [], targets), content)


def as_scorer(name: str, system: System, item_ids: Sequence[str] | None) -> CatalogueScorer:
    """Return what `rank_system` asks of a system of any kind; see `evaluate`."""
    if hasattr(system, "scorer"):
        return system.scorer()
    if hasattr(system, "catalogue_scores"):
        return system
    if callable(system):
        return _Function(name, system)
    if isinstance(system, pl.DataFrame) or type(system).__module__.partition(".")[0] == "pandas":
        if item_ids is None:
            raise ValueError(f"system {name!r} is a frame of item ids: give items= the ids of the catalogue, by index.")
        return _Lists(name, system if isinstance(system, pl.DataFrame) else pl.from_pandas(system), item_ids)
    raise TypeError(
        f"system {name!r} is {type(system).__name__!r}: give a Recommender, a baseline, a function of cases and case "
        "numbers, or a frame of user_id, item_id and score or rank."
    )


@dataclass(frozen=True)
class _Function:
    """A function of cases and case numbers as a scorer."""

    name: str
    scores: Scores

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        for numbers in case_batches(len(cases), cases.num_items):
            yield numbers, torch.as_tensor(self.scores(cases, numbers)).float()


class _Lists:
    """Lists or scores of users as a scorer."""

    def __init__(self, name: str, frame: pl.DataFrame, item_ids: Sequence[str]) -> None:
        value = next((column for column in ("score", "rank") if column in frame.columns), None)
        if value is None or not {"user_id", "item_id"} <= set(frame.columns):
            raise ValueError(
                f"system {name!r} has the columns {', '.join(frame.columns)}: give user_id, item_id, and score or rank."
            )
        index = pl.DataFrame({"item_id": list(item_ids), "index": np.arange(len(item_ids))})
        rows = frame.with_columns(pl.col("user_id", "item_id").cast(pl.String)).join(index, on="item_id", how="left")
        if (unknown := rows.filter(pl.col("index").is_null())).height:
            raise ValueError(f"system {name!r} lists item {unknown['item_id'][0]!r}, which the catalogue lacks.")
        if (twice := rows.filter(pl.struct("user_id", "item_id").is_duplicated())).height:
            raise ValueError(f"system {name!r} lists {twice['item_id'][0]!r} twice for user {twice['user_id'][0]!r}.")
        sign = -1.0 if value == "rank" else 1.0
        self.name = name
        self.lists = {
            user: (part["index"].to_numpy(writable=True), sign * part[value].cast(pl.Float64).to_numpy())
            for (user,), part in rows.partition_by("user_id", as_dict=True).items()
        }

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        for numbers in case_batches(len(cases), cases.num_items):
            scores = torch.empty(len(numbers), cases.num_items)
            for row, case in zip(scores, numbers, strict=True):
                user = cases.users[cases.user[case]]
                if user not in self.lists:
                    raise ValueError(f"system {self.name!r} has no list for user {user!r}, who has a target.")
                items, values = self.lists[user]
                # Ranks, for scores of any size: what is not listed stands behind all that is.
                order = np.unique(values, return_inverse=True)[1].astype(np.float32)
                row[:] = -1
                row[torch.from_numpy(items)] = torch.from_numpy(np.where(np.isnan(values), np.nan, order).astype("f4"))
            yield numbers, scores


def _mask(systems: Mapping[str, System], data: PreparedData | None) -> bool:
    for system in systems.values():
        if (config := getattr(system, "config", None)) is not None and hasattr(config, "mask_seen"):
            return bool(config.mask_seen)
    return True if data is None else data.mask_seen
