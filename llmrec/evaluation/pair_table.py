"""The report of labelled pairs in Markdown, from `pair_results` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrec.data.findings import counted, percent
from llmrec.evaluation.document import Cell, Table, interval_cell
from llmrec.evaluation.pair_intervals import METRICS
from llmrec.evaluation.reading import metric_title, ranked_systems, winner
from llmrec.evaluation.table import table_lines

BOLD = ("auc", "user_auc")


def pair_table(results: Mapping[str, Any]) -> str:
    """Write the report: what was judged, every system's metrics, and the differences to the best baseline.

    Args:
        results: From `pair_results`.

    Returns:
        Markdown. Bold is an AUC whose paired difference to every other system lies above zero.
    """
    order = ranked_systems(results, "auc")
    winners = {metric: _winner(results, metric) for metric in BOLD}
    rows = [
        [
            Cell(name),
            *(
                interval_cell(results["systems"][name][metric], strong=winners.get(metric) == name)
                for metric in METRICS
            ),
        ]
        for name in order
    ]
    parts = ["# Labelled pairs", _about(results["protocol"])]
    parts.append(table_lines(Table(["system", *map(metric_title, METRICS)], rows)))
    best = results["best_baseline"]
    others = [name for name in order if name != best]
    if best is not None and others:
        differences = [
            [
                Cell(name),
                *(interval_cell(results["comparisons"][name][best][metric], signed=True) for metric in METRICS),
            ]
            for name in others
        ]
        parts += [f"## Difference to {best}", table_lines(Table(["system", *map(metric_title, METRICS)], differences))]
    return "\n\n".join(parts) + "\n"


def _winner(results: Mapping[str, Any], metric: str) -> str | None:
    """Name the winner by a metric, nobody where it has no value."""
    missing = any(measured[metric] is None for measured in results["systems"].values())
    return None if missing else winner(results, metric)


def _about(protocol: Mapping[str, Any]) -> str:
    whole = protocol["num_users_drawn_from"]
    drawn = f" (a sample of {whole:,})" if whole else ""
    kind = f" ({protocol['split_kind'].replace('_', '-')})" if "split_kind" in protocol else ""
    single = f"{counted(protocol['num_users_of_one_label'], 'user')} with"
    source = f"{protocol['source']}, " if "source" in protocol else ""
    return (
        f"{source}{protocol['split']} split{kind}: {protocol['num_cases']:,} cases of {protocol['num_users']:,} "
        f"users{drawn}, {percent(protocol['like_share'])} liked; {single} one label only and no AUC of their own. "
        f"{protocol['scores']}. Brackets are "
        f"{percent(protocol['confidence'])} intervals over {protocol['bootstrap_draws']:,} draws of users, each with "
        "all cases."
    )
