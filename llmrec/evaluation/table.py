"""The readable page of an evaluation in Markdown, from `results.json` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmrec.evaluation.document import Cell, Note, Section, Table
from llmrec.evaluation.protocol import about
from llmrec.evaluation.reading import verdict
from llmrec.evaluation.sections import report_sections
from llmrec.formatting import escape_markdown


def results_table(results: Mapping[str, Any]) -> str:
    """Write the page: the verdict, what was measured, a table per cutoff, differences, strata and the rest.

    Args:
        results: What `results.json` holds.

    Returns:
        Markdown. Names and texts of the data stand there as text: none of their signs becomes markup.
    """
    return markdown_page("Evaluation", verdict(results), report_sections(results), about(results["protocol"]))


def markdown_page(title: str, verdict: str, sections: Iterable[Section], about: str = "") -> str:
    """Write a page of sections under a title, a first sentence and what that is about."""
    parts = [f"# {escape_markdown(title)}", escape_markdown(verdict), *([escape_markdown(about)] if about else [])]
    for section in sections:
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def headline(results: Mapping[str, Any]) -> str:
    """Write the start of the page, for a terminal: the verdict, whom it is about, the table of the leading cutoff."""
    systems = next(section for section in report_sections(results) if section.key == "systems")
    lines = [escape_markdown(verdict(results)), about(results["protocol"]), table_lines(systems.tables[0])]
    return "\n\n".join(lines) + "\n"


def table_lines(table: Table) -> str:
    """Write a table in Markdown, a line for each row."""
    rule = ["---:" if side == "r" else "---" for side in table.alignment]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return _lines([[escape_markdown(name) for name in table.header], rule, *rows])


def _section(section: Section) -> Iterable[str]:
    body = [escape_markdown(paragraph) for paragraph in section.text]
    if section.notes:
        body.append("\n".join(_note(note) for note in section.notes))
    for table in section.tables:
        body += [f"### {escape_markdown(table.caption)}"] * bool(table.caption) + [table_lines(table)]
    figures_alone = not section.notes and not section.tables
    return [] if figures_alone else [f"## {escape_markdown(section.title)}", *body]


def _note(note: Note) -> str:
    tag = f"{note.tag}: " if note.tag else ""
    lines = [f"- **{escape_markdown(tag + note.label)}{'.' if note.tag else ':'}** {escape_markdown(note.text)}"]
    return "\n".join([*lines, *(f"  - {escape_markdown(detail)}" for detail in note.details)])


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    if cell.strong:
        text = f"**{text}**"
    return f"{text} {cell.interval}" if cell.interval and not cell.brief else text
