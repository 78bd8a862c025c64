"""Sections on where the numbers come from: the searches of the baselines, training, the audit of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrec.data.findings import SEVERITIES, counted, percent
from llmrec.evaluation.document import Cell, Note, Section, Table
from llmrec.evaluation.reading import in_order, metric_title, number

MAX_EXAMPLE = 240  # characters

Results = Mapping[str, Any]


def searches_section(results: Results) -> Section | None:
    """Show which settings each baseline's search chose, among how many."""
    searches = results.get("searches")
    if not searches:
        return None
    rows = []
    for name in in_order(results, searches):
        search = searches[name]
        trial = chosen_trial(search)
        rows.append(
            [
                Cell(name),
                Cell(f"{len(search['trials'])}"),
                Cell("–" if trial is None else number(trial["value"])),
                Cell(_settings(search["chosen"]) or "–"),
            ]
        )
    metrics = sorted({metric_title(search["metric"]) for search in searches.values()})
    text = [f"Each baseline's settings were chosen by {' and '.join(metrics)} on validation."]
    numbers = {name: search["num_cases"] for name, search in searches.items() if "num_cases" in search}
    if numbers:
        fitted = ", ".join(f"{name} (by {number:,} validation targets)" for name, number in numbers.items())
        text.append(f"Fitted for this report: {fitted}.")
    table = Table(["system", "trials", "validation", "chosen"], rows, align="lrrl")
    return Section("searches", "Search of the baselines", text, tables=[table])


def chosen_trial(search: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the trial of the chosen settings, the first best in value where none has exactly these.

    >>> trials = [{"settings": {"k": 3}, "value": 0.1}, {"settings": {"k": 5}, "value": 0.2}]
    >>> chosen_trial({"chosen": {"k": 5}, "trials": trials})["value"]
    0.2
    """
    trials = search["trials"]
    same = [trial for trial in trials if trial["settings"] == search["chosen"]]
    return max(same or trials, key=lambda trial: trial["value"], default=None)


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_setting(value)}" for name, value in sorted(settings.items()))


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def training_section(results: Results) -> Section | None:
    """Announce the curves, which are figures alone."""
    curves = [*(results.get("training") or {}).values()]
    for search in (results.get("searches") or {}).values():
        curves.append((chosen_trial(search) or {}).get("curve") or [])
    if not any(curves):
        return None
    text = ["Validation value by epoch, of the chosen trial where there was a search; a ring marks the best epoch."]
    return Section("training", "Training", text, panels="training")


def audit_section(results: Results) -> Section | None:
    """Show what the audit of the data found, the gravest first, and what it looked for besides."""
    audit = results.get("audit")
    if not audit:
        return None
    findings = sorted(audit["findings"], key=lambda finding: SEVERITIES.index(finding["severity"]))
    notes = [
        Note(
            label=finding["title"],
            text=f"{finding['count']:,} of {finding['of']:,} ({percent(finding['share'])}). {finding['effect']}",
            tag=finding["severity"],
            details=[_example(example) for example in finding["examples"]],
        )
        for finding in findings
    ]
    if audit.get("passed"):
        notes.append(Note("Looked for and not found", "; ".join(row["title"] for row in audit["passed"]) + "."))
    if audit.get("skipped"):
        reasons = "; ".join(f"{row['title']} ({row['reason']})" for row in audit["skipped"])
        notes.append(Note("Not answered by these data", f"{reasons}."))
    numbers = [counted(sum(row["severity"] == name for row in findings), name) for name in SEVERITIES]
    return Section("audit", "Audit of the data", [f"{', '.join(numbers)}."], notes)


def _example(example: Mapping[str, Any]) -> str:
    text = " ".join("; ".join(f"{name}: {_setting(value)}" for name, value in sorted(example.items())).split())
    return text if len(text) <= MAX_EXAMPLE else text[: MAX_EXAMPLE - 1] + "…"
