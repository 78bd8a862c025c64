"""A whole `results.json` made up from a seed: numbers that hang together, no evaluation behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llmrec.data.findings import TITLES, Finding

MEANS = {  # NDCG@10, roughly as on a sparse catalogue
    **{"llmrec": 0.104, "content": 0.094, "gsasrec": 0.082, "sasrec": 0.080, "item_knn": 0.077},
    **{"lstm": 0.061, "recent_popularity": 0.039, "popularity": 0.032, "labelled_lstm": 0.05, "sasrec_bce": 0.07},
}
CUTOFFS = (5, 10, 20)
SEQUENTIAL = ("llmrec", "content", "gsasrec", "sasrec", "lstm")
SEARCHED = ("gsasrec", "sasrec", "item_knn", "lstm", "recent_popularity")
STRATA = {
    ("target_training_count", "Training events of the target"): ("0", "1–5", "6–20", ">20"),
    ("history_length", "Events before the target"): ("1–5", "6–20", "21–50", "51–200", ">200"),
    ("time_since_last_event", "Time since the last event"): ("under 1 hour", "under 1 day", "30 days or more"),
    ("user", "User in training"): ("new", "known"),
}


def interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def fake_results(names: Sequence[str] = tuple(MEANS)[:8], num_users: int = 3285, seed: int = 0) -> dict[str, Any]:
    """Every section of the report, for some of the systems; llmrec leads clearly, content is the best baseline."""
    generator = np.random.default_rng(seed)
    ndcg = {name: MEANS.get(name, 0.05) for name in names}
    metrics = {name: _metrics(value, generator) for name, value in ndcg.items()}
    baselines = [name for name in names if name != "llmrec"]
    best = max(baselines, key=lambda name: (ndcg[name], name), default=None)

    def difference(name: str, other: str) -> dict[str, dict[str, float]]:
        return {
            metric: interval(row["value"] - metrics[other][metric]["value"], 0.7 * (row["high"] - row["value"]))
            for metric, row in metrics[name].items()
        }

    comparisons = {name: {other: difference(name, other) for other in names if other != name} for name in names}
    tests = {}
    for metric in ("ndcg@10", "recall@10", "mrr") if best is not None and len(names) > 1 else ():
        tests[metric] = {
            name: {**comparisons[name][best][metric], "p": 0.0005, "p_holm": 0.0035, "detectable": 0.0086}
            for name in names
            if name != best
        }
    few = {name: {metric: row for metric, row in metrics[name].items() if "@10" in metric} for name in names}
    return {
        "format_version": 2,
        "subject": _subject() if "llmrec" in names else None,
        "protocol": _protocol(num_users),
        "systems": metrics,
        "comparisons": comparisons,
        "best_baseline": best,
        "tests": tests,
        "lists": {
            name: {"coverage@10": 0.41, "novelty@10": 11.27, "popularity@10": 23.4, "diversity@10": 0.682}
            for name in names
        },
        "strata": [_stratum(name, title, labels, ndcg, best, generator) for (name, title), labels in STRATA.items()],
        "shuffles": {
            "num_cases": num_users,
            "systems": {name: _shuffled(few[name], clock=name == "llmrec") for name in names if name in SEQUENTIAL},
        },
        "ablations": _ablations(few["llmrec"], num_users) if "llmrec" in names else None,
        "near_duplicates": {
            "num_groups": 118,
            "num_items": 275,
            "target_share": 0.061,
            "systems": {name: _moved(few[name], 0.0021) for name in names},
            "differences": {name: {metric: interval(0.0021, 0.0008) for metric in few[name]} for name in names},
        },
        "searches": {name: _search(ndcg[name]) for name in names if name in SEARCHED},
        "training": {
            "llmrec": [{"epoch": float(e), "loss": 7.2 - e, "value": 0.11 - 0.02 / e} for e in range(1, 4)],
        }
        if "llmrec" in names
        else {},
        "audit": _audit(),
    }


def _metrics(ndcg: float, generator: np.random.Generator) -> dict[str, dict[str, float]]:
    rows = {}
    for k, factor in zip(CUTOFFS, (0.86, 1.0, 1.14), strict=True):
        recall = ndcg * factor * (1.35 + 0.02 * generator.standard_normal())
        rows[f"ndcg@{k}"] = interval(ndcg * factor, 0.008)
        for name in ("recall", "hit"):
            rows[f"{name}@{k}"] = interval(recall, 0.011)
        rows[f"precision@{k}"] = interval(recall / k, 0.011 / k)
        rows[f"f1@{k}"] = interval(2 * recall / (k + 1), 0.022 / (k + 1))
        rows[f"map@{k}"] = interval(0.88 * ndcg * factor, 0.008)
    rows["mrr"] = interval(0.93 * ndcg, 0.008)
    return rows


def _moved(rows: dict[str, dict[str, float]], by: float) -> dict[str, dict[str, float]]:
    return {metric: {end: value + by for end, value in row.items()} for metric, row in rows.items()}


def _shuffled(rows: dict[str, dict[str, float]], clock: bool) -> dict[str, Any]:
    shuffled: dict[str, Any] = {"as_is": rows}
    for kind, change in (("order", -0.012), ("time", 0.0003)):
        if kind == "order" or clock:
            shuffled[kind] = _moved(rows, change)
            shuffled[f"{kind}_difference"] = {metric: interval(change, 0.004) for metric in rows}
    return shuffled


def _ablations(rows: dict[str, dict[str, float]], num_users: int) -> dict[str, Any]:
    variants = [
        ("full", True, True, True, 0.0),
        ("no reading", False, False, False, -0.007),
        ("no time words", True, False, True, -0.004),
        ("order shuffled", True, True, True, -0.012),
    ]
    return {
        "num_cases": num_users,
        "rows": [
            {
                "name": name,
                "reading": reading,
                "words": words,
                "embedding": embedding,
                "metrics": _moved(rows, change),
                "difference": {metric: interval(change, 0.003) for metric in rows} if change else None,
            }
            for name, reading, words, embedding, change in variants
        ],
    }


def _stratum(
    name: str,
    title: str,
    labels: Sequence[str],
    ndcg: dict[str, float],
    best: str | None,
    generator: np.random.Generator,
) -> dict[str, Any]:
    groups = []
    for place, label in enumerate(labels):
        num_cases = 0 if label == "new" else int(1600 / (place + 1))
        group: dict[str, Any] = {"label": label, "num_cases": num_cases, "num_users": num_cases}
        group |= {"systems": {}, "differences": {}}
        if num_cases:
            values = {
                system: (
                    0.0
                    if label == "0" and system not in ("llmrec", "content")
                    else value * (0.6 + 0.3 * place) * (1 + 0.1 * generator.standard_normal())
                )
                for system, value in ndcg.items()
            }
            half = 0.3 / num_cases**0.5
            group["systems"] = {
                system: {
                    metric: {**interval(value, half), "low": max(0.0, value - half)}
                    for metric in ("ndcg@10", "recall@10")
                }
                for system, value in values.items()
            }
            group["differences"] = {
                system: {metric: interval(value - values[best], half) for metric in ("ndcg@10", "recall@10")}
                for system, value in values.items()
                if best is not None and system != best
            }
        groups.append(group)
    return {"name": name, "title": title, "groups": groups}


def _search(value: float) -> dict[str, Any]:
    trials = []
    for place, rate in enumerate((0.001, 0.0003, 0.003)):
        end = 0.95**place * value
        curve = [{"epoch": e, "loss": 7 - 0.02 * e, "value": end * (1 - 0.9 ** (e / 2))} for e in range(5, 85, 5)]
        trials.append({"settings": {"learning_rate": rate, "dropout": 0.2}, "value": end, "curve": curve})
    return {"metric": "ndcg@10", "chosen": trials[0]["settings"], "trials": trials}


def _subject() -> dict[str, Any]:
    return {
        "name": "llmrec",
        "model": "run",
        "revision": None,
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "popularity_weight": 0.25,
        "saved_popularity_weight": 1.0,
        "adapter_sha256": "8f14e45fceea167a5a36dedd4bea2543" * 2,
        "model_sha256": "45c48cce2e2d7fbdea1afc51c7c6ad26" * 2,
    }


def _protocol(num_users: int) -> dict[str, Any]:
    return {
        "source": "amazon-industrial",
        "split_kind": "leave_one_out",
        "split": "test",
        "num_items": 3686,
        "num_cold_items": 315,
        "num_users": num_users,
        "num_users_drawn_from": None,
        "num_cases": num_users,
        "num_cases_without_history": 0,
        "targets": "all",
        "mask_seen": True,
        "repeated_target_share": 0.0222,
        "cold_target_share": 0.0347,
        "tied_event_share": 0.0,
        "tie_rule": "1 + items above + tied others / 2, among float32 scores; NaN counts against the target",
        "cutoffs": list(CUTOFFS),
        "confidence": 0.95,
        "bootstrap_draws": 2000,
        "permutation_draws": 2000,
        "seed": 0,
        "manifest_sha256": "ba15f3cd186cc2c2ebede08ae54473b59f70dd98fad36c4b3f2ed0f6bb2d6cce",
    }


def _audit() -> dict[str, Any]:
    twins = [{"item_id": f"B00{n}", "title": "Nitrile Exam Gloves, Powder Free, Medium, Box of 100"} for n in range(3)]
    findings = [
        ("future_training_events", "error", 12, 16173, "The model has read what it is asked for.", []),
        ("near_duplicate_items", "warning", 275, 3686, "Ties counted in favour lift a text model's NDCG@10.", twins),
        (
            "seen_targets",
            "note",
            73,
            3285,
            "Masked, they are misses.",
            [{"user_id": "A1", "item_id": ["B001", "B002"]}],
        ),
    ]
    return {
        "format_version": 1,
        "split_kind": "leave_one_out",
        "clock": "ordinal",
        "counts": {"events": 22743, "users": 3285, "items": 3686},
        "findings": [
            Finding(name, count, of, severity, effect, examples).as_dict()
            for name, severity, count, of, effect, examples in findings
        ],
        "passed": [{"name": name, "title": TITLES[name]} for name in ("exact_duplicates", "tied_events")],
        "skipped": [{"name": "future_items", "title": TITLES["future_items"], "reason": "the times count events"}],
    }
