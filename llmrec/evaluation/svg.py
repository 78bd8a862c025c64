"""A matplotlib figure → an inline SVG that takes its colours and its type from the page around it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A figure is drawn in these stand-ins; each becomes a variable of the page's style sheet, which knows light and dark.
INK, QUIET, RULE, PAPER = "#000010", "#000020", "#000030", "#000040"
SUBJECT, REFERENCE, OTHER = "#000050", "#000060", "#000070"
VARIABLES = {
    **{INK: "ink", QUIET: "quiet", RULE: "rule", PAPER: "paper"},
    **{SUBJECT: "subject", REFERENCE: "reference", OTHER: "other"},
}
XLINK = "{http://www.w3.org/1999/xlink}href"


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Write a figure as an SVG element for an HTML page.

    Equal figures give equal text: no date, no random ids. Text stays text.

    Args:
        figure: Drawn in the stand-in colours of this module, a unit a pixel.
        name: Unlike that of any other figure of the page; its ids start with it.
        title: What the figure is, for readers who do not see it.
        description: What it shows, likewise.

    Returns:
        One `<svg>` element.
    """
    # Here and not at the top: matplotlib takes a second to import, and evaluation during training draws nothing.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(buffer.getvalue())
    _drop(root, ("metadata", "style"))
    used = {match for element in root.iter() for match in _references(element)}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _rename(element, name, used)
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if "style" in element.attrib:
            element.set("style", _page_style(element.get("style", "")))
    _, _, width, height = root.get("viewBox", "0 0 0 0").split()
    root.attrib.clear()
    root.attrib |= {"viewBox": f"0 0 {width} {height}", "width": width, "height": height, "role": "img"}
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, id=f"{name}-{'title' if tag == 'title' else 'description'}")
        element.text = text
        root.insert(place, element)
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")).strip()


def _drop(root: ElementTree.Element, tags: tuple[str, ...]) -> None:
    """Take out what holds addresses or would style the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in tags:
                parent.remove(child)


def _references(element: ElementTree.Element) -> list[str]:
    names = [value.removeprefix("#") for key, value in element.attrib.items() if key in ("href", XLINK)]
    return names + [match for value in element.attrib.values() for match in re.findall(r"url\(#([^)]+)\)", value)]


def _rename(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Make ids and what points at them unique to the figure; an id that nothing points at goes."""
    attributes = dict(element.attrib)
    element.attrib.clear()
    for key, value in attributes.items():
        if key == "id" and value not in used:
            continue
        if key == "id":
            value = f"{name}-{value}"
        elif key in ("href", XLINK):
            key, value = "href", f"#{name}-{value.removeprefix('#')}"
        element.set(key, re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value))


def _page_style(style: str) -> str:
    """Point stand-in colours at the page's variables, and leave the family of the type to the page.

    Versions of matplotlib differ in how they state the type: in one declaration or in several.

    >>> _page_style("font: 700 11px 'DejaVu Sans', sans-serif; fill: #000010")
    'font-weight: 700; font-size: 11px; fill: var(--ink)'
    >>> _page_style("font-weight: 700; font-size: 11px; font-family: 'DejaVu Sans'; fill: #000010")
    'font-weight: 700; font-size: 11px; fill: var(--ink)'
    """
    style = re.sub(r"font: (?:(\d+) )?([\d.]+px)[^;]*", _font, style)
    style = re.sub(r"font-family: [^;]*(; |$)", "", style)
    return re.sub("|".join(VARIABLES), lambda match: f"var(--{VARIABLES[match.group()]})", style)


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match.group(1)}; " if match.group(1) else ""
    return f"{weight}font-size: {match.group(2)}"
