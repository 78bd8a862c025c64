"""Figures of the page, from `results.json`: means, differences to the best baseline, kinds of target, curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrec.evaluation.drawing import DODGE, ROW, TYPE, Group, Interval, Style, bands, curve, legend, short, whiskers
from llmrec.evaluation.provenance import chosen_trial
from llmrec.evaluation.reading import (
    difference_to,
    ends,
    in_order,
    main_metric,
    metric_title,
    number,
    ranked_systems,
    reference_name,
    subject_name,
)
from llmrec.evaluation.svg import OTHER, REFERENCE, SUBJECT, inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "Dv^Pd<X>p*h8"
"""For the systems drawn in grey."""


@dataclass(frozen=True)
class Panel:
    """One figure: a heading, perhaps a line below it, and the drawing as an SVG element."""

    title: str
    svg: str
    note: str = ""
    narrow: bool = False


def draw_panels(results: Mapping[str, Any]) -> dict[str, list[Panel]]:
    """Draw every figure that the results allow.

    Args:
        results: What `results.json` holds.

    Returns:
        For each key of `sections` (`systems`, `strata-user`, …) its figures.
    """
    import matplotlib

    with matplotlib.rc_context({"font.size": TYPE, "text.parse_math": False}):
        return {
            "systems": _systems(results),
            "differences": _differences(results),
            **_strata(results),
            "training": _training(results),
        }


def styles_of(results: Mapping[str, Any]) -> dict[str, Style]:
    """Style every system, best first: the subject and its reference in colour, the others in grey by their markers."""
    subject, reference = subject_name(results), reference_name(results)
    styles = {}
    markers = 0
    for name in ranked_systems(results, main_metric(results)):
        if name == subject:
            styles[name] = Style(SUBJECT, "o")
        elif name == reference:
            styles[name] = Style(REFERENCE, "s")
        else:
            styles[name] = Style(OTHER, MARKERS[markers % len(MARKERS)])
            markers += 1
    return styles


def _systems(results: Mapping[str, Any]) -> list[Panel]:
    styles = styles_of(results)
    panels: list[Panel] = []
    for metric in (main_metric(results), main_metric(results, "recall")):
        rows = {name: results["systems"][name][metric] for name in styles if metric in results["systems"][name]}
        if rows:
            picture = whiskers(rows, styles, signed=False)
            panels.append(_panel(picture, f"systems-{len(panels)}", metric_title(metric), _told(rows)))
    return panels


def _differences(results: Mapping[str, Any]) -> list[Panel]:
    styles, reference = styles_of(results), reference_name(results)
    panels: list[Panel] = []
    for metric in (main_metric(results), main_metric(results, "recall")):
        measured = {name: difference_to(results, name, reference, metric) for name in styles if name != reference}
        rows = {name: interval for name, interval in measured.items() if interval is not None}
        if rows:
            title = f"{metric_title(metric)}, difference to {reference}"
            picture = whiskers(rows, styles, signed=True)
            panels.append(_panel(picture, f"differences-{len(panels)}", title, _told(rows, signed=True)))
    return panels


def _strata(results: Mapping[str, Any]) -> dict[str, list[Panel]]:
    strata = results.get("strata")
    if not strata:
        return {}
    metric, styles = main_metric(results), styles_of(results)
    subject, best = subject_name(results), results.get("best_baseline")
    panels = {"strata": [_panel(legend(styles), "strata", "", "Signs of the systems.")]}
    for place, stratum in enumerate(strata):
        levels, differences = [], []
        for group in stratum["groups"]:
            label, note = group["label"], f"{group['num_cases']:,} targets"
            levels.append(Group(label, note, {name: group["systems"].get(name, {}).get(metric) for name in styles}))
            difference = group["differences"].get(subject, {}).get(metric)
            differences.append(Group(label, note, {subject: difference}))
        band = max(2 * ROW, DODGE * (len(styles) + 1))
        title = metric_title(metric)
        drawn = [_panel(bands(levels, styles, band), f"strata-{place}-0", title, _groups_told(levels))]
        if any(group.rows[subject] for group in differences):
            picture = bands(differences, styles, band, signed=True)
            told = _groups_told(differences, signed=True)
            drawn.append(_panel(picture, f"strata-{place}-1", f"{title}, {subject} − {best}", told))
        panels[f"strata-{stratum['name']}"] = drawn
    return panels


def _training(results: Mapping[str, Any]) -> list[Panel]:
    curves = dict(results.get("training") or {})
    for name, search in (results.get("searches") or {}).items():
        curves[name] = (chosen_trial(search) or {}).get("curve")
    values = {name: _points(rows, "value") for name, rows in curves.items()}
    top = max((value for points in values.values() for _, value in points), default=0.0)
    styles = styles_of(results)
    panels: list[Panel] = []
    for name in in_order(results, curves):
        points, note = values[name], ""
        if not points:
            points, note = _points(curves[name], "loss"), "training loss, for want of validation"
        if not points:
            continue
        best = None if note else max(range(len(points)), key=lambda place: points[place][1])
        picture = curve(points, styles.get(name, Style(OTHER, "o")), best, None if note else top)
        told = ", ".join(f"epoch {epoch:g}: {value:.4g}" for epoch, value in points)
        panels.append(_panel(picture, f"training-{len(panels)}", name, told, note, narrow=True))
    return panels


def _points(rows: list[dict[str, Any]] | None, key: str) -> list[tuple[float, float]]:
    return [(row["epoch"], row[key]) for row in rows or [] if row.get(key) is not None]


def _panel(picture: Figure, key: str, title: str, told: str, note: str = "", narrow: bool = False) -> Panel:
    drawing = inline_svg(picture, f"figure-{key}", short(title, 200) or "Legend", told)
    return Panel(title, drawing, note, narrow)


def _told(rows: Mapping[str, Interval], signed: bool = False) -> str:
    """Say what a figure shows, for readers who do not see it."""
    return "; ".join(f"{short(name)} {number(row['value'], signed)} {ends(row, signed)}" for name, row in rows.items())


def _groups_told(groups: list[Group], signed: bool = False) -> str:
    told = []
    for group in groups:
        measured = {name: interval for name, interval in group.rows.items() if interval is not None}
        told.append(f"{short(group.label)}, {group.note}: {_told(measured, signed) or 'nothing measured'}")
    return ". ".join(told)
