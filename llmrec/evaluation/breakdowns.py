"""Sections on what a mean hides: kinds of target, shuffled histories, items of the same text, the lists themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec.data.findings import percent
from llmrec.evaluation.document import Cell, Section, Table, interval_cell
from llmrec.evaluation.reading import in_order, main_metric, metric_order, metric_title, ranked_systems, subject_name

Results = Mapping[str, Any]


def strata_section(results: Results) -> Section | None:
    """Show for each kind of target every system, and by how much the subject differs from the best baseline."""
    if not results.get("strata"):
        return None
    metric = main_metric(results)
    names = ranked_systems(results, metric)
    subject, best = subject_name(results), results.get("best_baseline")
    compared = best is not None and best != subject
    tables = []
    for stratum in results["strata"]:
        header = [stratum["title"], "targets", "users", *names]
        rows = []
        for group in stratum["groups"]:
            row = [Cell(group["label"]), Cell(f"{group['num_cases']:,}"), Cell(f"{group['num_users']:,}")]
            row += [_plain_cell(group["systems"].get(name, {}).get(metric)) for name in names]
            if compared:
                row.append(interval_cell(group["differences"].get(subject, {}).get(metric), signed=True))
            rows.append(row)
        if compared:
            header.append(f"{subject} − {best}")
        tables.append(Table(header, rows, stratum["title"], panels=f"strata-{stratum['name']}"))
    text = [f"{metric_title(metric)} of the targets of each kind: for whom a system works, and for whom it does not."]
    return Section("strata", "By kind of target", text, tables=tables, panels="strata")


def _plain_cell(interval: Mapping[str, float] | None) -> Cell:
    """Write a value without its interval, which the figure above the table shows."""
    return Cell(interval_cell(interval).text)


def shuffles_section(results: Results) -> Section | None:
    """Show what each system loses when order or times of the histories are destroyed."""
    shuffles = results.get("shuffles")
    if not shuffles or not shuffles["systems"]:
        return None
    metric = main_metric(results)
    kinds = [kind for kind in ("order", "time") if any(kind in row for row in shuffles["systems"].values())]
    header = ["system", "as it is"]
    for kind in kinds:
        header += [f"{kind}{'s' * (kind == 'time')} shuffled", "difference"]
    rows = []
    for name in in_order(results, shuffles["systems"]):
        measured = shuffles["systems"][name]
        row = [Cell(name), interval_cell(measured.get("as_is", {}).get(metric), brief=True)]
        for kind in kinds:
            row.append(interval_cell(measured.get(kind, {}).get(metric), brief=True))
            row.append(interval_cell(measured.get(f"{kind}_difference", {}).get(metric), signed=True))
        rows.append(row)
    text = [
        f"{metric_title(metric)} of the first target of each user ({shuffles['num_cases']:,}) after its history was "
        "shuffled. What a system loses came from the order, or from the times: for these all gaps of all users, the "
        "wait until now among them, change places. A system not listed reads neither of a history; a dash stands where "
        "one reads the order alone."
    ]
    return Section("shuffles", "Shuffled histories", text, tables=[Table(header, rows)])


def ablations_section(results: Results) -> Section | None:
    """Show what the adapter loses when a part is taken away or destroyed."""
    ablations = results.get("ablations")
    if not ablations:
        return None
    metrics = [main_metric(results), main_metric(results, "recall")]
    header = ["variant", "reads", "time in words", "time embedded"]
    for metric in metrics:
        header += [metric_title(metric), "difference"]
    rows = []
    for measured in ablations["rows"]:
        told = (measured.get("reading", True), measured["words"], measured["embedding"])
        row = [Cell(measured["name"]), *(Cell("yes" if each else "no") for each in told)]
        for metric in metrics:
            row.append(interval_cell(measured["metrics"][metric], brief=True))
            row.append(interval_cell((measured["difference"] or {}).get(metric), signed=True))
        rows.append(row)
    text = [
        f"The first target of each user ({ablations['num_cases']:,}), by the same adapter with a part taken away or "
        "destroyed; differences are to the adapter as it is, each user compared with itself. It was trained with that "
        "part: one trained without it may do better than a row here."
    ]
    if not all(measured.get("reading", True) for measured in ablations["rows"]):
        text.append(
            "No reading: the gate through which the language model's state enters the user state is closed, and no "
            "candidate reads. What is left are the embeddings of the history's items, their mean weighted by recency."
        )
    return Section("ablations", "Without reading, time or order", text, tables=[Table(header, rows)])


def near_duplicates_section(results: Results) -> Section | None:
    """Show what each system gains when a target has no twin to be mistaken for."""
    twins = results.get("near_duplicates")
    if not twins or not twins["systems"]:
        return None
    metric = main_metric(results)
    rows = [
        [
            Cell(name),
            interval_cell(results["systems"].get(name, {}).get(metric), brief=True),
            interval_cell(twins["systems"][name].get(metric), brief=True),
            interval_cell(twins["differences"].get(name, {}).get(metric), signed=True),
        ]
        for name in in_order(results, twins["systems"])
    ]
    by = ""
    if columns := twins.get("columns"):
        whose = "the columns that the adapter's template reads" if twins["template"] else "all text columns"
        by = f" Texts are compared by {whose}: {', '.join(columns)}."
    text = [
        f"{twins['num_items']:,} items share their text with another, in {twins['num_groups']:,} groups; "
        f"{percent(twins['target_share'])} of the targets are among them. {metric_title(metric)} when the target's "
        f"twins leave its ranking: what a system gains, it had lost by not telling equal texts apart.{by}"
    ]
    table = Table(["system", "as it is", "without twins", "difference"], rows)
    return Section("near-duplicates", "Items of the same text", text, tables=[table])


def lists_section(results: Results) -> Section | None:
    """Show what the recommended lists are like, whether or not they hit."""
    lists = results.get("lists")
    if not lists:
        return None
    names = in_order(results, lists)
    metrics = sorted({metric for name in names for metric in lists[name]}, key=metric_order)
    columns = [[lists[name].get(metric) for name in names] for metric in metrics]
    rows = [[Cell(name), *cells] for name, *cells in zip(names, *map(_plain_cells, columns), strict=True)]
    text = [
        "Coverage: share of the catalogue on at least one list. Popularity: mean share of the training users who have "
        "a listed item. Novelty: the mean of −log₂ of that share, in bits. Diversity: one minus the mean cosine of two "
        "texts of a list."
    ]
    return Section("lists", "The lists themselves", text, tables=[Table(["system", *map(metric_title, metrics)], rows)])


def _plain_cells(values: Sequence[float | None]) -> list[Cell]:
    """Write the numbers of a column: shares with four decimals, bits with two; a dash where none is.

    >>> [cell.text for cell in _plain_cells([0.25, None])], [cell.text for cell in _plain_cells([0.25, 1234.5])]
    (['0.2500', '–'], ['0.25', '1,234.50'])
    """
    decimals = 4 if all(abs(value) <= 1 for value in values if value is not None) else 2
    return [Cell("–" if value is None else f"{value:,.{decimals}f}".replace("-", "−")) for value in values]
