"""Kinds of figure: dots with whiskers, bands of them, curves, columns; for a phone's width, in the colours of `svg`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmrec.evaluation.reading import number
from llmrec.evaluation.svg import INK, OTHER, QUIET, RULE, SUBJECT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All in pixels: a point of a figure is a pixel of the page.
WIDTH, NARROW = 400, 290
ROW, DODGE, LEGEND_ROW = 24, 10, 18
NUMBERS = 56  # right margin with a number in it
TYPE = 11
MAX_LABEL = 24  # characters

Interval = Mapping[str, float]


@dataclass(frozen=True)
class Style:
    """How a system is drawn in every figure."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Group:
    """A kind of target: its name, how many there are, and the interval of each system, None where there is none."""

    label: str
    note: str
    rows: Mapping[str, Interval | None]


def whiskers(rows: Mapping[str, Interval], styles: Mapping[str, Style], signed: bool) -> Figure:
    """Draw a dot and its interval per system, the number beside it; a zero line where numbers are differences."""
    left = _room_for(rows)
    figure, axes = _axes(WIDTH, ROW * len(rows) + 32, left, NUMBERS)
    _scale(axes, rows.values(), signed, len(rows))
    for row, (name, interval) in enumerate(rows.items()):
        style = styles[name]
        weight = "bold" if style.colour == SUBJECT else "normal"
        _dot(axes, row, interval, style, size=7)
        _name(axes, row, left, name, weight=weight)
        _number(axes, row, number(interval["value"], signed), weight)
    return figure


def bands(groups: Sequence[Group], styles: Mapping[str, Style], band: int, signed: bool = False) -> Figure:
    """Draw a band per group, and in it a dot and its interval per system, one below the other.

    Args:
        groups: All with the same systems; with one system its number stands beside it.
        styles: Of every system.
        band: Height of a band in pixels.
        signed: Whether the numbers are differences.
    """
    left = _room_for(text for group in groups for text in (group.label, group.note))
    right = NUMBERS if signed else 10
    figure, axes = _axes(WIDTH, band * len(groups) + 32, left, right)
    _scale(axes, [row for group in groups for row in group.rows.values() if row], signed, len(groups))
    edge = -left / (WIDTH - left - right)
    for place, group in enumerate(groups):
        if place:
            across = axes.get_yaxis_transform()
            axes.plot([edge, 1], [place - 0.5] * 2, transform=across, color=RULE, linewidth=1, clip_on=False)
        _name(axes, place, left, group.label, lift=7)
        _name(axes, place, left, group.note, QUIET, lift=-7)
        step = 0.8 / len(group.rows)
        for line, (name, interval) in enumerate(group.rows.items()):
            if interval is not None:
                _dot(axes, place + (line - (len(group.rows) - 1) / 2) * step, interval, styles[name], size=6)
                if signed:
                    _number(axes, place, number(interval["value"], signed=True))
    return figure


def legend(styles: Mapping[str, Style], columns: int = 3) -> Figure:
    """Draw the sign and name of every system."""
    lines = math.ceil(len(styles) / columns)
    figure, axes = _axes(WIDTH, LEGEND_ROW * lines + 4, left=0, right=0, bottom=2, top=2)
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(LEGEND_ROW * lines, 0)
    for place, (name, style) in enumerate(styles.items()):
        line, column = divmod(place, columns)
        x, y = 6 + column * WIDTH / columns, LEGEND_ROW * (line + 0.5)
        axes.plot([x], [y], style.marker, color=style.colour, markersize=6, markeredgewidth=0, clip_on=False)
        axes.annotate(short(name, 19), (x + 9, y), va="center_baseline", color=INK)
    return figure


def curve(points: Sequence[tuple[float, float]], style: Style, best: int | None, top: float | None) -> Figure:
    """Draw a line over epochs.

    Args:
        points: Epoch and value.
        style: Of the system.
        best: Which point to ring and to name, if any.
        top: Height that the axis reaches from zero, so that several curves can be compared; None for its own range.
    """
    figure, axes = _axes(NARROW, 170, left=44, right=14)
    colour = INK if style.colour == OTHER else style.colour
    epochs, values = zip(*points, strict=True)
    axes.plot(epochs, values, color=colour, linewidth=1.6, marker="o", markersize=3 if len(points) < 30 else 0)
    if best is not None:
        axes.plot(*points[best], "o", markersize=9, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=1.4)
        below = top is not None and values[best] > 0.8 * top
        share = (best + 0.5) / len(points)
        axes.annotate(
            number(values[best]),
            points[best],
            (0, -11 if below else 9),
            textcoords="offset points",
            color=INK,
            ha="left" if share < 0.2 else "right" if share > 0.8 else "center",
            va="top" if below else "bottom",
        )
    if top is not None:
        axes.set_ylim(0, 1.1 * top or 1)
    if len(points) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.grid(axis="y", color=RULE, linewidth=1)
    return figure


def columns(heights: Sequence[float], labels: Sequence[str], style: Style, top: float | None, width: int) -> Figure:
    """Draw a column per value, shares in percent.

    Args:
        heights: Shares.
        labels: Below each column; an empty one is left out.
        style: Of the columns; of its own colour alone.
        top: Height that the axis reaches, so that several figures can be compared; None for its own.
        width: In pixels.
    """
    slanted = max(map(len, labels), default=0) > 5
    figure, axes = _axes(width, 170, left=44, right=8, bottom=66 if slanted else 24)
    places = range(len(heights))
    axes.bar(places, heights, width=0.8, color=style.colour, linewidth=0)
    shown = [place for place in places if labels[place]]
    axes.set_xticks(shown, [labels[place] for place in shown])
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(heights) - 0.4)
    axes.set_ylim(0, (1.08 * (top or max(heights, default=0))) or 1)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    axes.grid(visible=False, axis="x")
    axes.grid(axis="y", color=RULE, linewidth=1)
    return figure


def short(text: str, longest: int = MAX_LABEL) -> str:
    """Cut a text to the room there is, and take out signs that no figure can hold.

    >>> short("a name that goes on and on and on"), short("a\\x00b")
    ('a name that goes on and…', 'a b')
    """
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _axes(width: int, height: int, left: int, right: int, bottom: int = 24, top: int = 8) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
    inside = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = figure.add_axes(inside, facecolor="none")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=QUIET, labelsize=TYPE, pad=6)
    axes.grid(axis="x", color=RULE, linewidth=1)
    return figure, axes


def _scale(axes: Axes, intervals: Iterable[Interval], signed: bool, num_rows: int) -> None:
    """Make room for every interval and zero, and for the rows from top to bottom."""
    ends = [0.0, *(interval[end] for interval in intervals for end in ("low", "value", "high"))]
    low, high = min(ends), max(ends)
    margin = 0.04 * (high - low) or 0.5
    axes.set_xlim(low - margin if signed else low, high + margin)
    axes.set_ylim(num_rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=4)
    if signed:
        axes.axvline(0, color=QUIET, linewidth=1)


def _dot(axes: Axes, row: float, interval: Interval, style: Style, size: float) -> None:
    ends = [interval["low"], interval["high"]]
    axes.plot(ends, [row, row], color=style.colour, linewidth=1.4, clip_on=False)
    axes.plot(
        [interval["value"]], [row], style.marker, color=style.colour, markersize=size, markeredgewidth=0, clip_on=False
    )


def _name(
    axes: Axes, row: float, left: int, text: str, colour: str = INK, weight: str = "normal", lift: float = 0
) -> None:
    """Write text from the figure's left edge, a `left` of pixels beside the axes."""
    axes.annotate(
        short(text),
        (0, row),
        (-left, lift),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center_baseline",
        color=colour,
        fontweight=weight,
        annotation_clip=False,
    )


def _number(axes: Axes, row: float, text: str, weight: str = "normal") -> None:
    """Write a number up to the figure's right edge, so that numbers stand below each other."""
    axes.annotate(
        text,
        (1, row),
        (NUMBERS, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        color=INK,
        fontweight=weight,
        annotation_clip=False,
    )


def _room_for(texts: Iterable[str]) -> int:
    """Return the pixels of the left margin that the longest text takes, in any system's type."""
    return min(160, 14 + math.ceil(6.4 * max((len(short(text)) for text in texts), default=0)))
