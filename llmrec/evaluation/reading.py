"""What a reader takes from the numbers first: whose report it is, the order, a winner, the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TITLES = {
    **{"ndcg": "NDCG", "recall": "Recall", "hit": "Hit", "precision": "Precision", "f1": "F1", "map": "MAP"},
    **{"mrr": "MRR", "coverage": "Coverage", "novelty": "Novelty", "popularity": "Popularity"},
    **{"diversity": "Diversity", "auc": "AUC", "user_auc": "AUC per user", "log_loss": "Log-loss"},
    **{"accuracy": "Accuracy"},
}


def metric_title(metric: str) -> str:
    """Write a metric's name as a reader expects it.

    >>> metric_title("ndcg@10"), metric_title("mrr")
    ('NDCG@10', 'MRR')
    """
    name, _, cutoff = metric.partition("@")
    return TITLES.get(name, name) + (f"@{cutoff}" if cutoff else "")


def metric_order(metric: str) -> tuple[int, int]:
    """Key that sorts metrics as a report shows them, whatever order they were stored in.

    >>> sorted(["mrr", "recall@10", "ndcg@10", "ndcg@5"], key=metric_order)
    ['ndcg@5', 'ndcg@10', 'recall@10', 'mrr']
    """
    name, _, cutoff = metric.partition("@")
    return list(TITLES).index(name) if name in TITLES else len(TITLES), int(cutoff or 0)


def number(value: float, signed: bool = False) -> str:
    """Write a metric's value with four decimals and a true minus; zero has no sign of its own.

    >>> number(0.25), number(0.25, signed=True), number(-0.5), number(-0.00001, signed=True)
    ('0.2500', '+0.2500', '−0.5000', '+0.0000')
    """
    rounded = round(value, 4) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:{'+' if signed else ''}.4f}".replace("-", "−")


def ends(interval: Mapping[str, float], signed: bool = False) -> str:
    """Write the ends of an interval.

    >>> ends({"value": 0.0, "low": -0.5, "high": 0.5}, signed=True)
    '[−0.5000, +0.5000]'
    """
    return f"[{number(interval['low'], signed)}, {number(interval['high'], signed)}]"


def main_cutoff(cutoffs: Sequence[int]) -> int:
    """Choose the cutoff that leads the report: 10 where it was measured, else the largest.

    >>> main_cutoff([5, 10, 20]), main_cutoff([1, 5])
    (10, 5)
    """
    return 10 if 10 in cutoffs else max(cutoffs)


def main_metric(results: Mapping[str, Any], name: str = "ndcg") -> str:
    """Name a metric at the leading cutoff: `ndcg@10`, say."""
    return f"{name}@{main_cutoff(results['protocol']['cutoffs'])}"


def ranked_systems(results: Mapping[str, Any], metric: str) -> list[str]:
    """List the systems from best to worst, equal ones by name."""
    systems = results["systems"]
    return sorted(systems, key=lambda name: (-systems[name][metric]["value"], name))


def in_order(results: Mapping[str, Any], some: Iterable[str]) -> list[str]:
    """List some of the systems in the order of the report, unknown ones after them by name."""
    order = {name: place for place, name in enumerate(ranked_systems(results, main_metric(results)))}
    return sorted(some, key=lambda name: (order.get(name, len(order)), name))


def winner(results: Mapping[str, Any], metric: str) -> str | None:
    """Name the system whose paired interval against every other lies above zero, if there is one.

    A system without rivals wins nothing. A variant of the system under test, which differs from it by what it is
    asked, is nobody's rival.
    """
    variants = results.get("variants", ())
    for name, others in results["comparisons"].items():
        rivals = [difference for other, difference in others.items() if other not in variants]
        if rivals and name not in variants and all(difference[metric]["low"] > 0 for difference in rivals):
            return name
    return None


def subject_name(results: Mapping[str, Any]) -> str:
    """Name the system that the report is about: the stated subject, else llmrec, else the best."""
    systems = results["systems"]
    for name in ((results.get("subject") or {}).get("name"), "llmrec"):
        if name in systems:
            return str(name)
    return ranked_systems(results, main_metric(results))[0]


def reference_name(results: Mapping[str, Any]) -> str | None:
    """Name the system the others are held against: the best baseline, else the best that is not the subject."""
    best = results.get("best_baseline")
    if best in results["systems"]:
        return str(best)
    subject = subject_name(results)
    return next((name for name in ranked_systems(results, main_metric(results)) if name != subject), None)


def difference_to(results: Mapping[str, Any], name: str, other: str | None, metric: str) -> Mapping[str, float] | None:
    """Look up the paired difference name − other, if it was measured."""
    return results["comparisons"].get(name, {}).get(other, {}).get(metric)


def verdict(results: Mapping[str, Any]) -> str:
    """Say in a sentence or two how the subject stands, claiming nothing that lies within the interval.

    >>> interval = {"value": 0.2, "low": 0.1, "high": 0.3}
    >>> alone = {"systems": {"lstm": {"ndcg@10": interval}}, "comparisons": {"lstm": {}}}
    >>> verdict({"protocol": {"cutoffs": [10]}, **alone})
    'lstm has NDCG@10 0.2000 [0.1000, 0.3000]. No other system was evaluated beside it.'
    """
    metric = main_metric(results)
    subject = subject_name(results)
    value = results["systems"][subject][metric]
    others = [name for name in ranked_systems(results, metric) if name != subject]
    sentence = f"{subject} has {metric_title(metric)} {number(value['value'])} {ends(value)}"
    if not others:
        return f"{sentence}. No other system was evaluated beside it."
    rival = reference_name(results)
    if rival in (None, subject):
        rival = others[0]
    difference = difference_to(results, subject, rival, metric)
    best = f", the best of the {len(others)} others," if len(others) > 1 and rival == others[0] else ""
    sentence += f"; {rival}{best} has {number(results['systems'][rival][metric]['value'])}."
    if difference is None:
        return sentence
    if difference["low"] > 0:
        reading = "lies above zero"
    elif difference["high"] < 0:
        reading = "lies below zero"
    else:
        reading = "is not larger than its error"
    return f"{sentence} The paired difference {number(difference['value'], True)} {ends(difference, True)} {reading}."
