"""A report before it is Markdown or HTML: sections of sentences, notes and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmrec.evaluation.reading import ends, number


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: The value.
        interval: Its interval, if it has one.
        strong: Whether it wins.
        brief: Whether Markdown, which has little room, leaves the interval out.
    """

    text: str
    interval: str = ""
    strong: bool = False
    brief: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes:
        header: Names of the columns.
        rows: Cells; the first of each names the row.
        caption: What the table shows; empty where the section's title says it.
        align: `l` or `r` per column; numbers stand right.
        panels: Key of the figures that belong above it.
        folded: Whether a page may hide it at first.
    """

    header: list[str]
    rows: list[list[Cell]]
    caption: str = ""
    align: str = ""
    panels: str = ""
    folded: bool = False

    @property
    def alignment(self) -> str:
        """One letter per column: names left, numbers right, unless stated."""
        return self.align or "l" + "r" * (len(self.header) - 1)


@dataclass(frozen=True)
class Note:
    """A labelled sentence.

    Attributes:
        label: What it is about.
        text: The sentence.
        tag: How grave it is: error, warning or note; empty where that makes no sense.
        details: Examples.
    """

    label: str
    text: str
    tag: str = ""
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A part of the report; a part without tables, notes and sentences has figures alone.

    Attributes:
        key: Name for links and figures.
        title: Heading.
        text: Sentences, a paragraph each.
        notes: Labelled sentences.
        tables: Tables.
        panels: Key of the figures that belong above the tables.
        folded: Whether a page may hide it at first.
    """

    key: str
    title: str
    text: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    panels: str = ""
    folded: bool = False


def interval_cell(
    interval: Mapping[str, float] | None, signed: bool = False, strong: bool = False, brief: bool = False
) -> Cell:
    """Write a value with its interval, or a dash where nothing was measured.

    >>> interval_cell({"value": 0.5, "low": 0.25, "high": 0.75})
    Cell(text='0.5000', interval='[0.2500, 0.7500]', strong=False, brief=False)
    >>> interval_cell(None).text
    '–'
    """
    if interval is None:
        return Cell("–")
    return Cell(number(interval["value"], signed), ends(interval, signed), strong, brief)
