"""A readable page as one HTML file: that of an evaluation, from `results.json` alone, or of any sections.

It opens without a network: no script, no font, no picture from outside. It follows the reader's choice of light or
dark, and a phone's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from llmrec.evaluation.document import Cell, Note, Section, Table
from llmrec.evaluation.panels import Panel, draw_panels
from llmrec.evaluation.protocol import about
from llmrec.evaluation.reading import subject_name, verdict
from llmrec.evaluation.sections import report_sections

STYLE = Path(__file__).with_name("page.css")
# Should a text ever get past the escaping, it still loads nothing and runs nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def results_page(results: Mapping[str, Any]) -> str:
    """Write the page: the verdict, what was measured, figures and tables, strata, curves, the audit.

    Args:
        results: What `results.json` holds.

    Returns:
        An HTML document; equal results give equal text.
    """
    subject, protocol = subject_name(results), results["protocol"]
    return html_page(
        title=f"Evaluation of {subject}",
        verdict=verdict(results),
        about=f"{about(protocol)} Ranges are {protocol['confidence']:.0%} bootstrap intervals over users.",
        sections=report_sections(results),
        panels=draw_panels(results),
        footer=f"Drawn from results.json alone. Data manifest {protocol.get('manifest_sha256', 'not given')}.",
        subject=subject,
    )


def html_page(
    title: str,
    verdict: str,
    about: str,
    sections: Sequence[Section],
    panels: Mapping[str, Sequence[Panel]],
    footer: str,
    subject: str = "",
) -> str:
    """Write a page.

    Args:
        title: Its heading.
        verdict: What a reader should know first.
        about: What it is about, in smaller type.
        sections: Its parts.
        panels: Figures by the keys that sections and tables name.
        footer: The last line.
        subject: Name of the table rows to set off, if any.
    """
    title, verdict, about, footer = (escape(text) for text in (title, verdict, about, footer))
    links = " ".join(f'<a href="#{section.key}">{escape(section.title)}</a>' for section in sections)
    body = "\n".join(_section(section, panels, subject) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p class="verdict">{verdict}</p>
<p class="quiet">{about}</p>
<nav aria-label="Sections">{links}</nav>
</header>
{body}
<footer class="quiet">{footer}</footer>
</main>
</body>
</html>
"""


def _section(section: Section, panels: Mapping[str, Sequence[Panel]], subject: str) -> str:
    heading = f'<h2 id="{section.key}-title">{escape(section.title)}</h2>'
    body = [f"<p>{escape(paragraph)}</p>" for paragraph in section.text]
    body.append(_figures(panels.get(section.panels, [])))
    if section.notes:
        tagged = any(note.tag for note in section.notes)
        body.append(_findings(section.notes) if tagged else _facts(section.notes))
    for number, table in enumerate(section.tables):
        body.append(_table(table, f"{section.key}-table-{number}", f"{section.key}-title", panels, subject))
    inner = "\n".join(part for part in body if part)
    kind = ' class="folded"' if section.folded else ""
    if section.folded:
        content = f"<details>\n<summary>{heading}</summary>\n{inner}\n</details>"
    else:
        content = f"{heading}\n{inner}"
    return f'<section id="{section.key}" aria-labelledby="{section.key}-title"{kind}>\n{content}\n</section>'


def _figures(panels: Sequence[Panel]) -> str:
    if not panels:
        return ""
    figures = []
    for panel in panels:
        note = f"<span>{escape(panel.note)}</span>" if panel.note else ""
        caption = f"<figcaption>{escape(panel.title)}{note}</figcaption>" if panel.title else ""
        figures.append(f"<figure>{caption}{panel.svg}</figure>")
    kind = "figures narrow" if panels[0].narrow else "figures"
    return f'<div class="{kind}">\n' + "\n".join(figures) + "\n</div>"


def _table(table: Table, key: str, section_title: str, panels: Mapping[str, Sequence[Panel]], subject: str) -> str:
    sides = [' class="l"' if side == "l" else "" for side in table.alignment]
    head = "".join(
        f'<th scope="col"{side}>{_breakable(name)}</th>' for name, side in zip(table.header, sides, strict=True)
    )
    rows = []
    for name, *cells in table.rows:
        kind = ' class="subject"' if name.text == subject else ""
        values = "".join(f"<td{side}>{_cell(cell)}</td>" for cell, side in zip(cells, sides[1:], strict=True))
        rows.append(f'<tr{kind}><th scope="row" class="l">{_breakable(name.text)}</th>{values}</tr>')
    labelled = key if table.caption else section_title
    # A box that scrolls must be reachable by keyboard, hence the tabindex.
    box = (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{labelled}">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>\n</div>"
    )
    if table.folded:
        return f'<details>\n<summary id="{key}">{escape(table.caption)}</summary>\n{box}\n</details>'
    caption = f'<h3 id="{key}">{escape(table.caption)}</h3>\n' if table.caption else ""
    return caption + _figures(panels.get(table.panels, [])) + box


def _breakable(name: str) -> str:
    """Let a long name go on in a second line after an underscore."""
    return escape(name).replace("_", "_<wbr>")


def _cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.strong else escape(cell.text)
    return f"{text} <small>{escape(cell.interval)}</small>" if cell.interval else text


def _facts(notes: Sequence[Note]) -> str:
    return (
        "<dl>\n" + "\n".join(f"<dt>{escape(note.label)}</dt><dd>{escape(note.text)}</dd>" for note in notes) + "\n</dl>"
    )


def _findings(notes: Sequence[Note]) -> str:
    items = []
    for note in notes:
        kind = f" {note.tag}" if note.tag in ("error", "warning") else ""
        tag = f'<span class="tag{kind}">{escape(note.tag)}</span>' if note.tag else ""
        details = "".join(f"<li>{escape(detail)}</li>" for detail in note.details)
        if details:
            details = f"<details><summary>Examples</summary><ul>{details}</ul></details>"
        items.append(f"<li>{tag}<strong>{escape(note.label)}</strong><p>{escape(note.text)}</p>{details}</li>")
    return '<ul class="findings">\n' + "\n".join(items) + "\n</ul>"
