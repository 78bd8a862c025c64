"""A caller's history and candidates, checked and turned into item rows and times."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.text.moments import NO_TIME

Event = Mapping[str, Any]
"""`item_id` of a known item or the text fields of an unknown one, and optionally `timestamp`."""
Moment = int | float | str | datetime
"""Seconds since the epoch, an ISO date, or a datetime; those without an offset are UTC."""
MAX_SECONDS = 100_000_000_000
"""Seconds until the year 5138; a larger timestamp is in another unit."""
NOT_TEXT = frozenset({"item_id", "timestamp", "event_type", "rating", "session_id"})


class Request:
    """One history and its candidates: known items by catalogue index, new ones behind them, each once.

    Times are given to all events or to none. Equal ones are in order, earlier ones behind later ones are an error, and
    so are milliseconds. None is compared with this machine's clock, so that a history may lie in the future.

    Args:
        catalog: the known items.
        history: events, oldest first.
        candidates: items to score.
        new: new items of other requests read with this one, which its own join; None starts a list.
        now: when it is asked what comes next; the time of the last event by default.
        first: number of the first event given, in errors.

    Attributes:
        new: text attributes of the items that the catalogue lacks.
        items: (L,) item rows of the history.
        timestamps: (L,) seconds since the epoch; `NO_TIME` where no event has a time.
        now: seconds since the epoch, or `NO_TIME`.
        candidates: (C,) item rows.

    Raises:
        TypeError: if the history is no list, or an event is no dict.
        ValueError: if the history is empty or out of order, now is before its last event, a time is none, or an item
            is neither known nor has text.
    """

    def __init__(
        self,
        catalog: Catalog,
        history: Sequence[Event],
        candidates: Sequence[Event] = (),
        new: list[dict[str, str]] | None = None,
        now: Moment | None = None,
        first: int = 0,
    ) -> None:
        if isinstance(history, (str, Mapping)):
            raise TypeError(f"the history {history!r} is no list: give a list of events, oldest first.")
        if not len(history):
            raise ValueError("the history is empty: give at least one event with a known item_id or text fields.")
        self.catalog = catalog
        self.new = [] if new is None else new
        rows = [self._row(event, f"event {position}") for position, event in enumerate(history, first)]
        self.items = np.array(rows, dtype=np.int64)
        self.timestamps = _timestamps(history, first)
        self.now = now_after(int(self.timestamps[-1]), now)
        rows = [self._row(event, f"candidate {position}") for position, event in enumerate(candidates)]
        self.candidates = np.array(rows, dtype=np.int64)

    def attributes(self, index: int) -> dict[str, str]:
        """Return the text attributes of an item row."""
        return self.catalog.attributes(index) if index < len(self.catalog) else self.new[index - len(self.catalog)]

    def _row(self, event: Event, place: str) -> int:
        if not isinstance(event, Mapping):
            raise TypeError(f"{place} is {event!r}: give a dict with a known item_id, or with text such as title=....")
        item_id = event.get("item_id")
        if item_id is not None and str(item_id) in self.catalog:
            return self.catalog.index(str(item_id))
        text = {name: str(value) for name, value in event.items() if name not in NOT_TEXT and value is not None}
        text = {name: value for name, value in text.items() if value.strip()}
        fields = [name for name in self.catalog.frame.columns if name != "item_id"]
        if not any(name in text for name in fields):
            what = (
                f"item {item_id!r} is not in the catalogue"
                if item_id is not None
                else f"{dict(event)!r} has no item_id"
            )
            raise ValueError(
                f"{place}: {what} and no text field describes it.\n"
                f"Give a known id, or text under one of the catalogue's names: {', '.join(fields)}."
            )
        if strange := [name for name in text if name not in fields]:
            warnings.warn(
                f"{', '.join(strange)}: no item of the catalogue has such a field, they have {', '.join(fields)}; "
                "is one of these meant?",
                stacklevel=2,
            )
        if text not in self.new:
            self.new.append(text)
        return len(self.catalog) + self.new.index(text)


def _timestamps(history: Sequence[Event], first: int) -> np.ndarray:
    """Return the events' times (L,) in seconds, events counted from `first`; all `NO_TIME` where none has one.

    Raises:
        ValueError: if some have a time and some not, the unit is not seconds, or the order is not that of time.
    """
    given = [event.get("timestamp") for event in history]
    if all(value is None for value in given):
        return np.full(len(given), NO_TIME, dtype=np.int64)
    for position, value in enumerate(given, first):
        if value is None:
            raise ValueError(
                f"event {position}: timestamp {value!r}: give seconds since the epoch to all events or to none."
            )
    seconds = [_seconds(value, f"event {position}: timestamp") for position, value in enumerate(given, first)]
    for position, (before, after) in enumerate(pairwise(seconds), first + 1):
        if after < before:
            raise ValueError(
                f"event {position} is earlier ({after}) than the one before it ({before}): "
                "give the history oldest first."
            )
    return np.array(seconds, dtype=np.int64)


def now_after(last: int, now: Moment | None) -> int:
    """Return the moment of a request in seconds.

    Args:
        last: time of the last event, in seconds, or `NO_TIME`.
        now: when it is asked; None takes the time of the last event.

    Raises:
        ValueError: if it is no time, or before the last event.

    >>> now_after(1_600_000_000, None), now_after(1_600_000_000, "2020-09-14")
    (1600000000, 1600041600)
    """
    if now is None:
        return last
    seconds = _seconds(now, "now")
    if seconds < last:
        raise ValueError(f"now={now!r} ({seconds}) is before the last event ({last}): give a later moment, or none.")
    return seconds


def _seconds(value: Any, place: str) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{place} {value!r} is neither seconds nor an ISO date.") from None
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{place} {value!r} is no time: give seconds since the epoch, an ISO date or a datetime.")
    if not 0 <= value < MAX_SECONDS:
        raise ValueError(f"{place} {value!r} is no time in seconds since the epoch.\nDivide milliseconds by 1000.")
    return int(value)
