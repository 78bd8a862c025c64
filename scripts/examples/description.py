"""What a data set is like, before anything is trained on it: how much, how often, when, again, and whether it drifts.

Statistics of events alone; nothing here is learned or judged. By default only training events are described: test
events are opened once, by the evaluation.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from description_drift import choose_attribute, describe_drift
from description_time import describe_gaps, describe_repeats, describe_rhythm, describe_sessions

from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.data.findings import share
from llmrec.data.quantiles import quantiles
from llmrec.data.times import clock_of, iso

FORMAT_VERSION = 1
NO_CLOCK = "the times of these data count events and tell no time"
PARTS = {"train": ("train",), "all": ("train", "validation", "test")}
"""Which splits are described, by name; dropped events never are."""


def describe(data: PreparedData, part: str = "train", attribute: str | None = None) -> dict[str, Any]:
    """Describe a data directory.

    Args:
        data: The data.
        part: A name in `PARTS`.
        attribute: Column of the items whose drift is shown; None chooses one.

    Returns:
        What describe.json holds; a part that these data do not allow is None, and `absent` says why.

    Raises:
        ValueError: The part or attribute is unknown, or there is no event.
    """
    if part not in PARTS:
        raise ValueError(f"events {part!r} is not one of {', '.join(PARTS)}")
    kept = data.splits["split"].is_in(PARTS[part])
    events = data.interactions.select("user_id", "item_id", "timestamp").filter(kept)
    if events.is_empty():
        raise ValueError(f"no event is in {', '.join(PARTS[part])}: there is nothing to describe; use --events all")
    manifest = data.manifest
    about = {
        "format_version": FORMAT_VERSION,
        "source": manifest["source"],
        "notes": manifest["notes"],
        "split_kind": manifest["split"]["kind"],
        "events_of": list(PARTS[part]),
    }
    return about | describe_events(events, data.catalog, attribute)


def describe_events(events: pl.DataFrame, catalog: Catalog, attribute: str | None = None) -> dict[str, Any]:
    """Describe events: `user_id`, `item_id`, `timestamp`, users and times ascending.

    Raises:
        ValueError: No item has the attribute.
    """
    by_user, by_item = (events.group_by(key).len()["len"] for key in ("user_id", "item_id"))
    result: dict[str, Any] = {
        "clock": clock_of(events["timestamp"]),
        "counts": {
            "events": events.height,
            "users": len(by_user),
            "items": len(by_item),
            "catalogue": len(catalog),
            "items_without_event_share": 1 - share(len(by_item), len(catalog)),
        },
        "events_per_user": quantiles(by_user),
        "events_per_item": quantiles(by_item),
        "repeats": describe_repeats(events, catalog),
        **dict.fromkeys(("span", "gaps", "sessions", "rhythm", "drift")),
        "absent": {},
    }
    if result["clock"] == "ordinal":
        result["absent"] = dict.fromkeys(("span", "gaps", "sessions", "rhythm", "drift", "repeat_intervals"), NO_CLOCK)
        return result
    first, last = events["timestamp"].min(), events["timestamp"].max()
    assert isinstance(first, int) and isinstance(last, int)
    result["span"] = {"first": iso(first), "last": iso(last), "days": round((last - first) / 86_400, 2)}
    result["gaps"] = describe_gaps(events)
    if result["gaps"] is None:
        result["absent"]["gaps"] = "nobody has two events"
    result["sessions"] = describe_sessions(events)
    result["rhythm"] = describe_rhythm(events)
    chosen = attribute or choose_attribute(catalog)
    if chosen is None:
        result["absent"]["drift"] = "items have no attribute that sorts them, such as category or genres"
    else:
        result["drift"] = describe_drift(events, catalog, chosen)
        if result["drift"] is None:
            result["absent"]["drift"] = "fewer than two months have enough events"
    return result
