"""What `pair_results.json` holds: every system's metrics of labelled pairs, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrec.data.labelled_cases import LabelledCases
from llmrec.evaluation.intervals import CONFIDENCE, DRAWS, SEED
from llmrec.evaluation.pair_intervals import METRICS, interval_of, resampled_metrics
from llmrec.evaluation.pair_metrics import auc_of_groups, pair_metrics
from llmrec.evaluation.results import SUBJECT

FORMAT_VERSION = 1
SCORES = "Scores are logits: the probability of a like is 1 / (1 + exp(-score)), and a score above 0 predicts a like"


def pair_results(
    systems: Mapping[str, np.ndarray],
    cases: LabelledCases,
    manifest: Mapping[str, Any] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Any]:
    """Measure every system on the same cases, and compare every pair of systems on the same draws of users.

    Intervals come from drawing users, each with all cases. A user whose labels are all the same has no AUC of their
    own: `user_auc` is the mean over the others, None where there are none. The best baseline is the system besides
    `llmrec` with the highest pooled AUC on these very cases, the hardest to beat.

    Args:
        systems: For each system its logits, (number of cases,).
        cases: What was judged.
        manifest: Of the data directory the cases come from: source, split and thresholds are told from it.
        draws: Draws of the bootstrap.
        seed: Seed of the draws.

    Returns:
        `protocol`; `systems[name][metric]` with `value`, `low`, `high`; `comparisons[name][other][metric]`, the paired
        difference name - other; and `best_baseline`. Metrics: see `pair_intervals.METRICS`.

    Raises:
        ValueError: If there is no system, scores do not fit the cases or are NaN, or all labels are the same.
    """
    if not systems:
        raise ValueError("no system to report: give the scores of at least one")
    users = np.unique(cases.user, return_inverse=True)[1]
    values: dict[str, dict[str, float]] = {}
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for name, scores in systems.items():
        logits = np.asarray(scores, dtype=np.float64)
        values[name] = pair_metrics(cases.labels, logits)
        own = auc_of_groups(cases.labels, logits, users)
        values[name]["user_auc"] = float(own[~np.isnan(own)].mean()) if not np.isnan(own).all() else float("nan")
        drawn[name] = resampled_metrics(cases.labels, logits, users, draws, seed)
    undefined = {metric: int(np.isnan(draw).sum()) for metric, draw in next(iter(drawn.values())).items()}
    rivals = sorted(name for name in systems if name != SUBJECT)
    return {
        "format_version": FORMAT_VERSION,
        "task": "pointwise",
        "protocol": {
            **_source(manifest or {}),
            "split": cases.split,
            "num_items": cases.num_items,
            "num_users": len(np.unique(cases.user)),
            "num_users_drawn_from": cases.num_users_drawn_from,
            "num_users_of_one_label": int(np.isnan(own).sum()),
            "num_cases": len(cases),
            "num_cases_without_history": cases.num_without_history,
            "like_share": float(cases.labels.mean()),
            "scores": SCORES,
            "confidence": CONFIDENCE,
            "bootstrap_draws": draws,
            "draws_without_value": {metric: count for metric, count in undefined.items() if count},
            "seed": seed,
        },
        "systems": {name: _intervals(values[name], drawn[name]) for name in systems},
        "comparisons": {
            name: {
                other: _intervals(
                    {metric: values[name][metric] - values[other][metric] for metric in METRICS},
                    {metric: drawn[name][metric] - drawn[other][metric] for metric in METRICS},
                )
                for other in systems
                if other != name
            }
            for name in systems
        },
        "best_baseline": max(rivals, key=lambda name: values[name]["auc"], default=None),
    }


def _intervals(values: Mapping[str, float], drawn: Mapping[str, np.ndarray]) -> dict[str, dict[str, float] | None]:
    """Return each metric with its interval, None where it has no value."""
    intervals: dict[str, dict[str, float] | None] = {}
    for metric in METRICS:
        low, high = interval_of(drawn[metric])
        value = values[metric]
        intervals[metric] = None if np.isnan(value) else {"value": value, "low": low, "high": high}
    return intervals


def _source(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a data directory says of the data: source, kind of split, labels."""
    if not manifest:
        return {}
    labels = {name: value for name, value in manifest["labels"].items() if name != "counts"}
    return {"source": manifest["source"], "split_kind": manifest["split"]["kind"], "labels": labels}
