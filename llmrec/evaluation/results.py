"""What `results.json` holds: every system's means, how they differ, for whom, and under which protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from llmrec.data.cases import Cases
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.evaluation.comparisons import Comparison, IntervalsByMetric
from llmrec.evaluation.evaluator import Ranking, metric_columns, user_metrics
from llmrec.evaluation.intervals import CONFIDENCE, DRAWS, SEED
from llmrec.evaluation.metrics import CUTOFFS
from llmrec.evaluation.reading import main_cutoff
from llmrec.evaluation.strata import Stratum
from llmrec.ranking.ranks import TIE_RULE
from llmrec.storage import sha256_of

FORMAT_VERSION = 2
FULL = "full"
"""The adapter as it is, with which it is compared where an input was taken away."""
SUBJECT = "llmrec"
"""Name of the system under test; the others are its baselines."""
PROPOSER = "llmrec_dual"
"""The dual head alone, the adapter's own or the proposer's, of which the adapter's candidate head re-ranks the best."""
NOW_LAST = "llmrec_now_last"
"""An adapter that is told of now, asked at the time of the last event instead of that of the target."""
AGAINST = "llmrec_against"
"""Another adapter, compared with the one under test."""
OWN = (SUBJECT, PROPOSER, NOW_LAST, AGAINST)
"""What is no baseline."""


def describe_protocol(
    data: PreparedData | None,
    cases: Cases,
    mask_seen: bool,
    training_counts: np.ndarray | None,
    cutoffs: Sequence[int] = CUTOFFS,
    draws: int = DRAWS,
    seed: int = SEED,
    targets: str = "all",
    reads_now: bool = False,
    made_for: Mapping[str, bool] | None = None,
) -> dict[str, Any]:
    """Say what every number depends on besides the system: data, split, mask, tie rule, intervals.

    Args:
        data: Where the cases come from; None for the caller's own.
        cases: What is ranked.
        mask_seen: Whether items of the history leave the ranking.
        training_counts: (N,) training events of each item, where they are known.
        cutoffs: Values of K.
        draws: Draws of the bootstrap and of the permutation tests.
        seed: Seed of draws, samples and shuffles.
        targets: `all`, or `first` where targets seen before were left out.
        reads_now: Whether the system under test is told when it is asked.
        made_for: By name of a system whether it was trained or chosen for rankings with seen items masked, where known.
    """
    origin: dict[str, Any] = {"split_kind": "given"}
    if data is not None:
        manifest_sha256 = sha256_of(data.path / MANIFEST)
        origin = {"source": data.manifest["source"], "split_kind": data.manifest["split"]["kind"]}
        origin["manifest_sha256"] = manifest_sha256
    if training_counts is not None:
        origin["num_cold_items"] = int((training_counts == 0).sum())
        origin["cold_target_share"] = float((training_counts[cases.targets] == 0).mean())
    return {
        **origin,
        "split": cases.split,
        "num_items": cases.num_items,
        "num_users": len(np.unique(cases.user)),
        "num_users_drawn_from": cases.num_users_drawn_from,
        "num_cases": len(cases),
        "num_cases_without_history": cases.num_without_history,
        "targets": targets,
        "now": "target" if reads_now else None,
        "mask_seen": mask_seen,
        "mask_seen_of": dict(made_for or {}),
        "repeated_target_share": float(cases.repeated.mean()),
        "tied_event_share": cases.tied_event_share,
        "tie_rule": TIE_RULE,
        "cutoffs": list(cutoffs),
        "confidence": CONFIDENCE,
        "bootstrap_draws": draws,
        "permutation_draws": draws,
        "seed": seed,
    }


def build_results(protocol: Mapping[str, Any], per_user: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Summarise every system, compare every pair, and test each against the best baseline.

    The best baseline is the one with the highest NDCG at the main cutoff on these very cases: the hardest to beat.

    Args:
        protocol: From `describe_protocol`; names the draws and their seed.
        per_user: For each system its table of `user_metrics`, all of the same users.

    Returns:
        `protocol`; `systems[name][metric]` with `value`, `low`, `high`; `comparisons[name][other][metric]`, the paired
        difference name - other; `variants` of the system under test, which win and lose nothing; `best_baseline`; and
        `tests[metric][name]` of the difference to it, with p-values.

    Raises:
        ValueError: If there is no system, or the tables differ in users, cases or metrics.
    """
    metrics = metric_columns(next(iter(per_user.values()))) if per_user else []
    comparison = Comparison.of(per_user, metrics, protocol["bootstrap_draws"], protocol["seed"])
    k = main_cutoff(protocol["cutoffs"])
    best = best_baseline(comparison, f"ndcg@{k}")
    tested = (f"ndcg@{k}", f"recall@{k}", "mrr")
    return {
        "format_version": FORMAT_VERSION,
        "protocol": dict(protocol),
        "systems": {name: comparison.intervals(name) for name in per_user},
        "comparisons": {
            name: {other: comparison.difference(name, other) for other in per_user if other != name}
            for name in per_user
        },
        "best_baseline": best,
        "variants": [name for name in (NOW_LAST,) if name in per_user],
        "tests": comparison.tests_against(best, tested, protocol["permutation_draws"])
        if best is not None and len(per_user) > 1
        else {},
    }


def best_baseline(comparison: Comparison, metric: str) -> str | None:
    """Name the system with the highest mean that is not of the adapter under test, the first by name among equals."""
    column = comparison.metrics.index(metric)
    rivals = sorted(name for name in comparison.means if name not in OWN)
    return max(rivals, key=lambda name: comparison.means[name][column], default=None)


def stratified_results(
    results: Mapping[str, Any], cases: Cases, rankings: Mapping[str, Ranking], strata: Sequence[Stratum]
) -> list[dict[str, Any]]:
    """Summarise every system on each group of cases, and its paired difference to the best baseline there.

    Args:
        results: From `build_results`.
        cases: What was ranked.
        rankings: For each system what was recorded of the cases.
        strata: Ways to part the cases.

    Returns:
        For each stratum `name`, `title` and `groups`, each with `label`, `num_cases`, `num_users`, `systems` and
        `differences`; a group without cases has no numbers.
    """
    protocol, best = results["protocol"], results["best_baseline"]
    k = main_cutoff(protocol["cutoffs"])
    metrics = _leading_metrics(protocol)

    def group_of(stratum: Stratum, number: int) -> dict[str, Any]:
        chosen = np.flatnonzero(stratum.group == number)
        described: dict[str, Any] = {
            "label": stratum.labels[number],
            "num_cases": len(chosen),
            "num_users": len(np.unique(cases.user[chosen])),
            "systems": {},
            "differences": {},
        }
        if len(chosen):
            part = cases.take(chosen)
            tables = {name: user_metrics(ranking.ranks[chosen], part, [k]) for name, ranking in rankings.items()}
            comparison = Comparison.of(tables, metrics, protocol["bootstrap_draws"], protocol["seed"])
            described["systems"] = {name: comparison.intervals(name) for name in tables}
            rivals = [] if best is None else [name for name in tables if name != best]
            described["differences"] = {name: comparison.difference(name, best) for name in rivals}
        return described

    return [
        {
            "name": stratum.name,
            "title": stratum.title,
            "groups": [group_of(stratum, number) for number in range(len(stratum.labels))],
        }
        for stratum in strata
    ]


def near_duplicate_results(
    results: Mapping[str, Any], cases: Cases, rankings: Mapping[str, Ranking], groups: np.ndarray
) -> dict[str, Any]:
    """Compare every system with itself where the target's twins, items of the same text, have left the catalogue.

    Args:
        results: From `build_results`.
        cases: What was ranked.
        rankings: For each system what was recorded of the cases.
        groups: (N,) number of each item's text.

    Returns:
        `num_groups` of several items, `num_items` in them, `target_share` with a twin, `systems` without twins, and
        `differences`: without twins - as they are.
    """
    sizes = np.bincount(groups)[groups]
    changed = {
        name: _change(
            results["protocol"],
            user_metrics(ranking.ranks, cases),
            user_metrics(ranking.ranks_without_twins, cases),
        )
        for name, ranking in rankings.items()
    }
    return {
        "num_groups": len(np.unique(groups[sizes > 1])),
        "num_items": int((sizes > 1).sum()),
        "target_share": float((sizes[cases.targets] > 1).mean()),
        "systems": {name: after for name, (_, after, _) in changed.items()},
        "differences": {name: difference for name, (_, _, difference) in changed.items()},
    }


def shuffle_results(
    protocol: Mapping[str, Any], cases: Cases, ranks: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Compare every system with itself on histories whose order or times were shuffled.

    Args:
        protocol: From `describe_protocol`.
        cases: From `shuffles.first_targets`.
        ranks: For each system its ranks `as_is`, and under `order` and `time` those after shuffling.

    Returns:
        `num_cases` and `systems`: for each its means `as_is`, under each shuffle, and each `…_difference`,
        shuffled - as is.
    """
    systems: dict[str, Any] = {}
    for name, kinds in ranks.items():
        plain = user_metrics(kinds["as_is"], cases)
        systems[name] = {}
        for kind in (kind for kind in ("order", "time") if kind in kinds):
            as_is, shuffled, difference = _change(protocol, plain, user_metrics(kinds[kind], cases))
            systems[name] |= {"as_is": as_is, kind: shuffled, f"{kind}_difference": difference}
    return {"num_cases": len(cases), "systems": systems}


def ablation_results(
    protocol: Mapping[str, Any], cases: Cases, ranks: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Compare the whole model with itself where an input was taken away or destroyed, on the same users.

    Args:
        protocol: From `describe_protocol`.
        cases: From `shuffles.first_targets`.
        ranks: For each variant its `ranks`, (number of users,), and what it reads, as `Variant` has it; `full` first.

    Returns:
        `num_cases` and `rows`: for each variant what it reads, its means under `metrics`, and under `difference` the
        paired difference variant - full.
    """
    tables = {name: user_metrics(row["ranks"], cases) for name, row in ranks.items()}
    metrics = _leading_metrics(protocol)
    comparison = Comparison.of(tables, metrics, protocol["bootstrap_draws"], protocol["seed"])
    rows = [
        {
            "name": name,
            **{key: value for key, value in row.items() if key != "ranks"},
            "metrics": comparison.intervals(name),
            "difference": None if name == FULL else comparison.difference(name, FULL),
        }
        for name, row in ranks.items()
    ]
    return {"num_cases": len(cases), "rows": rows}


def _change(
    protocol: Mapping[str, Any], before: pl.DataFrame, after: pl.DataFrame
) -> tuple[IntervalsByMetric, IntervalsByMetric, IntervalsByMetric]:
    """Return a system's means before and after a change, and the paired difference after - before."""
    comparison = Comparison.of(
        {"before": before, "after": after},
        _leading_metrics(protocol),
        protocol["bootstrap_draws"],
        protocol["seed"],
    )
    return comparison.intervals("before"), comparison.intervals("after"), comparison.difference("after", "before")


def _leading_metrics(protocol: Mapping[str, Any]) -> list[str]:
    k = main_cutoff(protocol["cutoffs"])
    return [f"ndcg@{k}", f"recall@{k}"]
