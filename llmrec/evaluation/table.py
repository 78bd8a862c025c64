"""The readable page of an evaluation, in Markdown, from `results.json` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"ndcg": "NDCG", "recall": "Recall", "hit": "Hit", "precision": "Precision", "f1": "F1", "mrr": "MRR"}
SHOWN_AT_CUTOFF = ("ndcg", "recall", "precision", "f1")


def metric_title(metric: str) -> str:
    """Write a metric's name as a reader expects it.

    >>> metric_title("ndcg@10"), metric_title("mrr")
    ('NDCG@10', 'MRR')
    """
    name, _, cutoff = metric.partition("@")
    return TITLES.get(name, name) + (f"@{cutoff}" if cutoff else "")


def main_cutoff(cutoffs: Sequence[int]) -> int:
    """Choose the cutoff that leads the report: 10 where it was measured, else the largest.

    >>> main_cutoff([5, 10, 20]), main_cutoff([1, 5])
    (10, 5)
    """
    return 10 if 10 in cutoffs else max(cutoffs)


def ranked_systems(results: Mapping[str, Any], metric: str) -> list[str]:
    """List the systems from best to worst, equal ones by name."""
    systems = results["systems"]
    return sorted(systems, key=lambda name: (-systems[name][metric]["value"], name))


def winner(results: Mapping[str, Any], metric: str) -> str | None:
    """Name the system whose paired interval against every other lies above zero, if there is one.

    A system without rivals wins nothing.
    """
    for name, others in results["comparisons"].items():
        if others and all(difference[metric]["low"] > 0 for difference in others.values()):
            return name
    return None


def results_table(results: Mapping[str, Any]) -> str:
    """Write the page: what was measured and how, a table per cutoff, the paired differences.

    Args:
        results: What `results.json` holds.

    Returns:
        Markdown.
    """
    protocol = results["protocol"]
    first = main_cutoff(protocol["cutoffs"])
    cutoffs = [first, *(k for k in sorted(protocol["cutoffs"]) if k != first)]
    names = ranked_systems(results, f"ndcg@{first}")
    subject = "llmrec" if "llmrec" in names else names[0]
    parts = ["# Evaluation", _protocol_text(protocol)]
    for k in cutoffs:
        metrics = [f"{name}@{k}" for name in SHOWN_AT_CUTOFF]
        if k == first:
            metrics.append("mrr")
        parts += [f"## First {k} items", _systems_rows(results, names, metrics)]
    others = [name for name in names if name != subject]
    if others:
        metrics = [f"{name}@{first}" for name in ("ndcg", "recall")] + ["mrr"]
        rows = [
            [f"{subject} − {other}", *(_cell(results["comparisons"][subject][other][m], signed=True) for m in metrics)]
            for other in others
        ]
        parts += ["## Paired differences", _rows(["difference", *map(metric_title, metrics)], rows)]
    return "\n\n".join(parts) + "\n"


def _protocol_text(protocol: Mapping[str, Any]) -> str:
    repeated = f"{protocol['repeated_target_share']:.1%} of the targets are among them"
    whole = protocol.get("num_users_drawn_from")
    drawn = f" (a sample of {whole:,})" if whole else ""
    lines = [
        f"**Targets:** {protocol['num_cases']:,} of {protocol['num_users']:,} users{drawn}, {protocol['split']} split "
        f"({protocol['split_kind'].replace('_', '-')}), each ranked among all {protocol['num_items']:,} items. "
        f"Kept out for want of an earlier event: {protocol['num_cases_without_history']:,}.",
        f"**Seen items:** masked; {repeated} and count as misses."
        if protocol["mask_seen"]
        else f"**Seen items:** not masked; {repeated}.",
        f"**Rank:** {protocol['tie_rule']}.",
        f"**Time:** {protocol['tied_event_share']:.1%} of the events share their time with a neighbour; "
        "their order is a convention.",
        "**Values:** mean over each user's targets, then over users, with the "
        f"{protocol['confidence']:.0%} bootstrap interval over users ({protocol['bootstrap_draws']:,} draws, "
        f"seed {protocol['bootstrap_seed']}). Recall is also the hit rate: each case has one target.",
        "**Bold:** the paired interval of the difference to every other system lies above zero.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _systems_rows(results: Mapping[str, Any], names: Sequence[str], metrics: Sequence[str]) -> str:
    winners = {metric: winner(results, metric) for metric in metrics}
    rows = [
        [name, *(_cell(results["systems"][name][metric], bold=winners[metric] == name) for metric in metrics)]
        for name in names
    ]
    return _rows(["system", *map(metric_title, metrics)], rows)


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _cell(interval: Mapping[str, float], bold: bool = False, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (f"{interval[end]:{sign}.4f}" for end in ("value", "low", "high"))
    return f"{f'**{value}**' if bold else value} [{low}, {high}]"
