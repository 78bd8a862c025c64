"""Means over users of several systems on the same users, and how they differ: intervals, tests, what could be detected.

All systems share the bootstrap's draws, so the mean of a difference is the difference of means, draw by draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from llmrec.evaluation.intervals import (
    CONFIDENCE,
    bootstrap_means,
    detectable_difference,
    holm,
    paired_permutation_test,
    percentile_interval,
    user_means,
)

IntervalsByMetric = dict[str, dict[str, float]]
"""For each metric its `value`, `low` and `high`."""
TestsByMetric = dict[str, dict[str, dict[str, float | None]]]
"""For each metric and system what `Comparison.tests_against` found."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Means of systems over the same users; make one with `Comparison.of`."""

    metrics: list[str]
    """Names of the M metrics."""
    users: dict[str, np.ndarray]
    """For each system the values of its users, (number of users, M)."""
    means: dict[str, np.ndarray]
    """For each system the means over users, (M,)."""
    drawn: dict[str, np.ndarray]
    """For each system the means over the bootstrap's draws of users, (draws, M)."""
    seed: int
    """Seed of the draws."""

    @classmethod
    def of(cls, per_user: Mapping[str, pl.DataFrame], metrics: Sequence[str], draws: int, seed: int) -> Comparison:
        """Draw users, the same ones for every system.

        Args:
            per_user: For each system its table of `user_metrics`, all of the same users.
            metrics: Columns to compare.
            draws: Number of bootstrap draws.
            seed: Seed of the draws.

        Raises:
            ValueError: If there is no system, or the tables differ in users, cases or metrics.
        """
        _check_same_users(per_user)
        users = {name: table.select(metrics).to_numpy() for name, table in per_user.items()}
        drawn = bootstrap_means(np.concatenate(list(users.values()), axis=1), draws, seed)
        parts = np.split(drawn, len(users), axis=1)
        return cls(
            metrics=list(metrics),
            users=users,
            means={name: user_means(values) for name, values in users.items()},
            drawn=dict(zip(users, parts, strict=True)),
            seed=seed,
        )

    def intervals(self, name: str) -> IntervalsByMetric:
        """Return a system's means with their bootstrap intervals."""
        return self._summary(self.means[name], self.drawn[name])

    def difference(self, name: str, other: str) -> IntervalsByMetric:
        """Return the paired difference name - other, each user compared with itself."""
        return self._summary(self.means[name] - self.means[other], self.drawn[name] - self.drawn[other])

    def tests_against(self, best: str, metrics: Sequence[str], draws: int) -> TestsByMetric:
        """Test for each metric every other system's difference to one system.

        Args:
            best: The system compared with.
            metrics: Metrics to test.
            draws: Sign flips of the permutation test.

        Returns:
            For each metric and system `value`, `low`, `high` of the difference, the two-sided p-value `p`, `p_holm`
            corrected for the number of systems, and the smallest difference `detectable` with these users, None for
            a single user.
        """
        names = [name for name in self.users if name != best]
        tests: TestsByMetric = {}
        for metric in metrics:
            column = self.metrics.index(metric)
            differences = np.stack([(self.users[name] - self.users[best])[:, column] for name in names], axis=1)
            p_values = paired_permutation_test(differences, draws, self.seed)
            rows = zip(names, p_values, holm(p_values), detectable_difference(differences), strict=True)
            tests[metric] = {
                name: {
                    **self.difference(name, best)[metric],
                    "p": float(p),
                    "p_holm": float(corrected),
                    "detectable": float(smallest) if np.isfinite(smallest) else None,
                }
                for name, p, corrected, smallest in rows
            }
        return tests

    def _summary(self, means: np.ndarray, drawn: np.ndarray) -> IntervalsByMetric:
        low, high = percentile_interval(drawn, CONFIDENCE)
        rows = zip(self.metrics, means.tolist(), low.tolist(), high.tolist(), strict=True)
        return {metric: {"value": value, "low": bottom, "high": top} for metric, value, bottom, top in rows}


def _check_same_users(per_user: Mapping[str, pl.DataFrame]) -> None:
    if not per_user:
        raise ValueError("no system to report: give at least one table of per-user metrics")
    first, reference = next(iter(per_user.items()))
    for name, table in per_user.items():
        if table.columns != reference.columns or not table.select("user_id", "num_targets").equals(
            reference.select("user_id", "num_targets")
        ):
            raise ValueError(
                f"systems {first!r} and {name!r} were not evaluated on the same users, targets and metrics: "
                "evaluate both on one set of cases"
            )
