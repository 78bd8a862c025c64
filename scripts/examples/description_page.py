"""The page of a description, in Markdown and as one HTML file, from what describe.json holds alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmrec.evaluation.document import Cell, Note, Section, Table
from llmrec.evaluation.drawing import NARROW, TYPE, WIDTH, Style, columns, short
from llmrec.evaluation.page import html_page
from llmrec.evaluation.panels import Panel
from llmrec.evaluation.svg import SUBJECT, inline_svg
from llmrec.evaluation.table import markdown_page

STYLE = Style(SUBJECT, "o")
UNITS = (("years", 365.25 * 86_400), ("days", 86_400), ("h", 3_600), ("min", 60))
QUANTILES = {"min": "min", "p10": "10 %", "p25": "25 %", "median": "median", "p75": "75 %", "p90": "90 %", "max": "max"}
TITLES = {
    "span": "Span",
    "gaps": "Gaps",
    "sessions": "Sessions",
    "rhythm": "Rhythm",
    "repeat_intervals": "Repeat intervals",
    "drift": "Drift",
}


def description_markdown(description: Mapping[str, Any]) -> str:
    """Write the page in Markdown."""
    about = f"{summary_of(description)} {about_of(description)}"
    return markdown_page(title_of(description), about, sections_of(description))


def description_html(description: Mapping[str, Any]) -> str:
    """Write the page as an HTML document that opens offline; equal descriptions give equal text."""
    return html_page(
        title=title_of(description),
        verdict=summary_of(description),
        about=about_of(description),
        sections=list(sections_of(description)),
        panels=panels_of(description),
        footer="Drawn from describe.json alone.",
    )


def title_of(description: Mapping[str, Any]) -> str:
    """Name the page."""
    return f"Description of {description['source']}"


def summary_of(description: Mapping[str, Any]) -> str:
    """Say in two sentences what a reader should know first."""
    counts, users, repeats = description["counts"], description["events_per_user"], description["repeats"]
    text = (
        f"{counts['events']:,} events of {counts['users']:,} users with {counts['items']:,} items; half of the users "
        f"have {users['median']:g} events or more."
    )
    if description["sessions"]:
        gap, sessions = description["gaps"], description["sessions"]
        middle = f"The middle gap is {duration(gap['seconds']['median'])}, " if gap else ""
        text += f" {middle}{sessions['count']:,} sessions, {percent(repeats['share'])} of the events repeat an item."
    else:
        text += f" {percent(repeats['share'])} of them repeat an item; the data tell no time."
    return text


def about_of(description: Mapping[str, Any]) -> str:
    """Say which events are described, and whose clock they tell."""
    splits = description["events_of"]
    test = "Test events are left out: they are opened once, by llmrec evaluate."
    which = f"Events of the splits {', '.join(splits)}." if "test" in splits else f"Training events alone. {test}"
    clock = "Times are as the data directory has them, read as UTC." if description["clock"] == "utc" else ""
    return " ".join([which, clock, *(f"{note[0].upper()}{note[1:]}." for note in description["notes"])]).strip()


def sections_of(description: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the parts of the page; what these data do not tell stands in the last one, with the reason."""
    yield _size(description)
    if description["gaps"]:
        yield _gaps(description["gaps"])
    if description["sessions"]:
        yield _sessions(description["sessions"])
    if description["rhythm"]:
        yield _rhythm(description["rhythm"])
    yield _repeats(description["repeats"])
    if description["drift"]:
        yield _drift(description["drift"])
    if description["absent"]:
        notes = [Note(TITLES[name], reason) for name, reason in description["absent"].items()]
        yield Section("absent", "Not told by these data", notes=notes)


def panels_of(description: Mapping[str, Any]) -> dict[str, list[Panel]]:
    """Draw every figure that the data allow, by the section it belongs to."""
    import matplotlib

    with matplotlib.rc_context({"font.size": TYPE, "text.parse_math": False}):
        panels: dict[str, list[Panel]] = {}
        if description["gaps"]:
            none, *bars = description["gaps"]["histogram"]
            title = f"Gaps to the event before; {percent(none['share'])} have none and are not drawn"
            panels["gaps"] = [_panel("gaps", title, [bar["share"] for bar in bars], [bar["label"] for bar in bars])]
        if rhythm := description["rhythm"]:
            panels["rhythm"] = [_panel("weekdays", "Weekday", [*rhythm["weekdays"].values()], [*rhythm["weekdays"]])]
            if rhythm["hours"]:
                hours = [str(hour) if hour % 4 == 0 else "" for hour in range(24)]
                panels["rhythm"].insert(0, _panel("hours", "Hour of the day", rhythm["hours"], hours))
        if drift := description["drift"]:
            panels["drift"] = _drift_panels(drift)
        return panels


def _size(description: Mapping[str, Any]) -> Section:
    counts, span = description["counts"], description["span"]
    notes = [Note("Events", f"{counts['events']:,}"), Note("Users", f"{counts['users']:,}")]
    without = percent(counts["items_without_event_share"])
    known = f"{counts['items']:,} of {counts['catalogue']:,} in the catalogue; {without} have no event"
    notes.append(Note("Items", known))
    if span:
        notes.append(Note("Span", f"{span['first'][:10]} to {span['last'][:10]}, {span['days']:,.0f} days"))
    rows = {"events per user": description["events_per_user"], "events per item": description["events_per_item"]}
    return Section("size", "Size", notes=notes, tables=[_quantile_table(rows, plainly)])


def _gaps(gaps: Mapping[str, Any]) -> Section:
    text = "Time from an event to the one before it of the same user; each bar reaches to where the next one begins."
    bars = [[Cell(bar["label"]), Cell(f"{bar['count']:,}"), Cell(percent(bar["share"]))] for bar in gaps["histogram"]]
    tables = [
        _quantile_table({"gap": gaps["seconds"]}, duration),
        Table(["from", "gaps", "share"], bars, "Gaps by length", folded=True),
    ]
    return Section("gaps", "Gaps", [text], tables=tables, panels="gaps")


def _sessions(sessions: Mapping[str, Any]) -> Section:
    text = (
        f"A gap of {duration(sessions['gap_seconds'])} or more starts a session: {sessions['count']:,} sessions, "
        f"{percent(sessions['single_event_share'])} of them with one event."
    )
    rows = {"events per session": sessions["events_per_session"], "sessions per user": sessions["sessions_per_user"]}
    return Section("sessions", "Sessions", [text], tables=[_quantile_table(rows, plainly)])


def _rhythm(rhythm: Mapping[str, Any]) -> Section:
    even = "of the events would have to move for {} to be even."
    text = [f"{percent(rhythm['weekdays_from_even'])} {even.format('weekdays')}"]
    if rhythm["hours"]:
        text.insert(0, f"{percent(rhythm['hours_from_even'])} {even.format('hours')}")
    else:
        text.append(f"No hours: {rhythm['hours_absent']}.")
    days = [[Cell(day), Cell(percent(share))] for day, share in rhythm["weekdays"].items()]
    tables = [Table(["weekday", "share"], days, "Weekdays", folded=True)]
    if rhythm["hours"]:
        hours = [[Cell(str(hour)), Cell(percent(share))] for hour, share in enumerate(rhythm["hours"])]
        tables.insert(0, Table(["hour", "share"], hours, "Hours", folded=True))
    return Section("rhythm", "Rhythm", text, tables=tables, panels="rhythm")


def _repeats(repeats: Mapping[str, Any]) -> Section:
    share = f"{repeats['count']:,}, {percent(repeats['share'])}: their user had the item before"
    notes = [Note("Repeats", share), Note("Users who repeat", percent(repeats["users_share"]))]
    tables = []
    if repeats["days"]:
        rows = {"days between": repeats["days"]}
        if repeats["median_of_items"]:
            rows["median of an item"] = repeats["median_of_items"]
            notes.append(Note("Items repeated often enough for an interval", f"{repeats['items_with_interval']:,}"))
        tables.append(_quantile_table(rows, plainly))
    if repeats["items"]:
        header = ["item", "repeats", "25 %", "median days", "75 %"]
        numbers = ("p25", "median", "p75")
        items = [
            [
                Cell(short(f"{row['text']} ({row['item_id']})", 60)),
                Cell(f"{row['repeats']:,}"),
                *(Cell(plainly(row[name])) for name in numbers),
            ]
            for row in repeats["items"]
        ]
        tables.append(Table(header, items, "Days until the same user has the item again, of the items repeated most"))
    return Section("repeats", "Repeats", notes=notes, tables=tables)


def _drift(drift: Mapping[str, Any]) -> Section:
    text = [
        f"From month to month {percent(drift['mean_distance'])} of the events are of another value of "
        f"{drift['attribute']} (total variation, mean); chance alone would give {percent(drift['mean_by_chance'])} if "
        f"events were independent. The last month differs from the first by {percent(drift['first_to_last'])}."
    ]
    if drift["months_left_out"]:
        text.append(f"Months with too few events, {drift['months_left_out']:,}, are left out.")
    distances = {entry["month"]: entry for entry in drift["distances"]}
    rows = []
    for month in drift["months"]:
        found = distances.get(month["month"])
        moved = [percent(found["distance"]), percent(found["by_chance"])] if found else ["–", "–"]
        cells = [f"{month['events']:,.0f}", *moved, *map(percent, month["shares"])]
        rows.append([Cell(month["month"]), *(Cell(cell) for cell in cells)])
    header = ["month", "events", "distance", "by chance", *(short(value) for value in drift["values"])]
    table = Table(header, rows, "Shares by month, and the distance to the month before", folded=True)
    return Section("drift", f"Drift of {drift['attribute']}", text, tables=[table], panels="drift")


def _drift_panels(drift: Mapping[str, Any]) -> list[Panel]:
    months = [month["month"] for month in drift["months"]]
    every = -(-len(months) // 6)
    labels = [month if place % every == 0 else "" for place, month in enumerate(months)]
    moved = [0.0, *(entry["distance"] for entry in drift["distances"])]
    panels = [_panel("drift", "Distance to the month before", moved, labels, width=NARROW)]
    shares = [[month["shares"][place] for month in drift["months"]] for place in range(len(drift["values"]))]
    top = max(map(max, shares))
    for place, value in enumerate(drift["values"]):
        panels.append(_panel(f"drift-{place}", value, shares[place], labels, top, NARROW))
    return panels


def _panel(
    key: str, title: str, heights: Sequence[float], labels: Sequence[str], top: float | None = None, width: int = WIDTH
) -> Panel:
    named = [f"{label}: {percent(height)}" for label, height in zip(labels, heights, strict=True) if label]
    picture = columns(heights, labels, STYLE, top, width)
    title = short(title, 80)
    return Panel(title, inline_svg(picture, f"figure-{key}", title, "; ".join(named)), narrow=width == NARROW)


def _quantile_table(rows: Mapping[str, Mapping[str, float]], write: Any) -> Table:
    header = ["", *QUANTILES.values(), "mean"]
    cells = [[Cell(name), *(Cell(write(row[key])) for key in (*QUANTILES, "mean"))] for name, row in rows.items()]
    return Table(header, cells)


def plainly(value: float) -> str:
    """Write a number with as many digits as say something.

    >>> plainly(1234.5), plainly(3.0), plainly(0.1234), plainly(4.999)
    ('1,234', '3', '0.12', '5')
    """
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """Write a share in percent.

    >>> percent(0.1234), percent(0.00012), percent(0)
    ('12.3 %', '0.012 %', '0 %')
    """
    return f"{100 * share:.3g} %" if share >= 0.01 else f"{100 * share:.2g} %"


def duration(seconds: float) -> str:
    """Write seconds in the largest unit that they fill.

    >>> duration(45), duration(5_400), duration(172_800), duration(800 * 86_400)
    ('45 s', '1.5 h', '2 days', '2.19 years')
    """
    for unit, size in UNITS:
        if seconds >= size:
            return f"{plainly(seconds / size)} {unit}"
    return f"{plainly(seconds)} s"
