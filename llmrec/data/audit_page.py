"""An audit as a reader wants it: a page in Markdown, and a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec.data.findings import SEVERITIES, counted, percent
from llmrec.formatting import escape_markdown

SPLITS = {
    "leave_one_out": "leave-one-out",
    "users": "by users, each with all events in one split and no cut in time",
}


def audit_summary(result: Mapping[str, Any]) -> str:
    """Write one line per finding, and before them how many there are of each severity.

    >>> found = {"severity": "note", "share": 0.25, "title": "Cold", "count": 1, "of": 4}
    >>> print(audit_summary({"findings": [found], "passed": [], "skipped": []}))
    audit: 0 errors, 0 warnings, 1 note; 0 checks found nothing, 0 need more than these data hold
      note       25%  Cold (1 of 4)
    """
    findings = result["findings"]
    numbers = ", ".join(counted(sum(row["severity"] == name for row in findings), name) for name in SEVERITIES)
    passed, skipped = counted(len(result["passed"]), "check"), len(result["skipped"])
    lines = [f"audit: {numbers}; {passed} found nothing, {skipped} need more than these data hold"]
    for row in findings:
        of = f"({row['count']:,} of {row['of']:,})"
        lines.append(f"  {row['severity']:<7}  {percent(row['share']):>6}  {row['title']} {of}")
    return "\n".join(lines)


def cell(value: Any) -> str:
    """Write a value as it is shown in a cell of a Markdown table, whatever signs it holds.

    >>> cell("a|b\\n<c>"), cell(["1", "2"]), cell(1200)
    ('a\\\\|b &lt;c>', '1, 2', '1,200')
    """
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return escape_markdown(text)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows of equal keys as a Markdown table.

    >>> print(table([{"user_id": "a", "events": 5}]))
    | user_id | events |
    |---|---|
    | a | 5 |
    """
    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def audit_page(result: Mapping[str, Any]) -> str:
    """Write the page: how the events are parted, the findings in a table, each with its effect and examples.

    Args:
        result: What audit.json holds.

    Returns:
        Markdown.
    """
    findings, counts = result["findings"], result["counts"]
    clock = "times in UTC" if result["clock"] == "utc" else "ordinals instead of times"
    targets = f"{counted(counts['targets'], 'target')} (test events with a history)"
    parts = [
        "# Audit",
        f"Split: {SPLITS.get(result['split_kind'], result['split_kind'])}; {clock}; {targets}.",
        table([{"split": name, **sizes} for name, sizes in counts["splits"].items()]),
        "## Findings",
    ]
    rows = [{name: row[name] for name in ("severity", "title", "count", "of", "share")} for row in findings]
    parts.append(table([{**row, "share": percent(row["share"])} for row in rows]) if rows else "None.")
    for row in findings:
        parts.append(f"### {row['title']}")
        effect = escape_markdown(row["effect"])
        parts.append(f"{row['severity'].capitalize()}, {row['count']:,} of {row['of']:,}. {effect}")
        if row["examples"]:
            parts.append(table(row["examples"]))
    if result["passed"]:
        parts += ["## Looked for and not found", "\n".join(f"- {row['title']}" for row in result["passed"])]
    if result["skipped"]:
        reasons = "\n".join(f"- {row['title']}: {row['reason']}" for row in result["skipped"])
        parts += ["## Not answered by these data", reasons]
    return "\n\n".join(parts) + "\n"
