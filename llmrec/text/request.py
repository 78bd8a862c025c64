"""A caller's history and candidates, checked and turned into item rows and times."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from llmrec.data.catalog import Catalog
from llmrec.text.moments import NO_TIME

Event = Mapping[str, Any]
"""`item_id` of a known item or the text fields of an unknown one, and optionally `timestamp`."""
Moment = int | float | str | datetime
"""Seconds since the epoch, an ISO date, or a datetime; those without an offset are UTC."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})")
"""Digits of an ISO date that a datetime does not hold."""
MAX_SECONDS = 100_000_000_000
"""Seconds until the year 5138; a larger timestamp is in another unit."""
NOT_TEXT = frozenset({"item_id", "timestamp", "event_type", "rating", "session_id"})


class NewItems:
    """Items that the catalogue lacks, each once: their text attributes by their place behind the catalogue."""

    def __init__(self) -> None:
        self._texts: list[dict[str, str]] = []
        self._places: dict[frozenset[tuple[str, str]], int] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, place: int) -> dict[str, str]:
        return self._texts[place]

    def place(self, text: dict[str, str]) -> int:
        """Return the place of an item with these attributes, which gets one if it has none yet."""
        found = self._places.setdefault(frozenset(text.items()), len(self._texts))
        if found == len(self._texts):
            self._texts.append(text)
        return found


class Request:
    """One history and its candidates: known items by catalogue index, new ones behind them, each once.

    Times are given to all events or to none. They are compared with their fractions of seconds: equal ones are in
    order, earlier ones behind later ones are an error, and so are milliseconds. None is compared with this machine's
    clock, so that a history may lie in the future.

    Args:
        catalog: the known items.
        history: events, oldest first.
        candidates: items to score.
        new: new items of other requests read with this one, which its own join; None starts afresh.
        now: when it is asked what comes next; the time of the last event by default.
        first: number of the first event given, in errors.

    Attributes:
        new: text attributes of the items that the catalogue lacks.
        items: (L,) item rows of the history.
        timestamps: (L,) seconds since the epoch; `NO_TIME` where no event has a time.
        now: seconds since the epoch, or `NO_TIME`.
        candidates: (C,) item rows.

    Raises:
        TypeError: if the history is no list, an event is no dict, or a value of one is no text.
        ValueError: if the history is empty or out of order, now is before its last event, a time is none, or an item
            is neither known nor has text.
    """

    def __init__(
        self,
        catalog: Catalog,
        history: Sequence[Event],
        candidates: Sequence[Event] = (),
        new: NewItems | None = None,
        now: Moment | None = None,
        first: int = 0,
    ) -> None:
        if isinstance(history, (str, Mapping)):
            raise TypeError(f"the history {history!r} is no list: give a list of events, oldest first.")
        if not len(history):
            raise ValueError("the history is empty: give at least one event with a known item_id or text fields.")
        self.catalog = catalog
        self.new = NewItems() if new is None else new
        rows = [self._row(event, f"event {position}") for position, event in enumerate(history, first)]
        self.items = np.array(rows, dtype=np.int64)
        moments = _moments(history, first)
        self.timestamps = np.array([seconds for seconds, _ in moments], dtype=np.int64)
        self.now = now_after(moments[-1][0], now, moments[-1][1])
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
        given = {name: value for name, value in event.items() if name not in NOT_TEXT and value is not None}
        text = {name: _text(value, f"{place}: {name}") for name, value in given.items()}
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
        return len(self.catalog) + self.new.place(text)


def _text(value: Any, place: str) -> str:
    """Return a value as text, those of a list joined by commas, as `prepare` joins them."""
    if isinstance(value, (list, tuple)) and not any(isinstance(part, (list, tuple, Mapping)) for part in value):
        value = ", ".join(str(part) for part in value if part is not None)
    if isinstance(value, (list, tuple, Mapping, bytes, set)):
        raise TypeError(f"{place} is {value!r}: a field is a text, a number or a list of them; join it to one text.")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{place} is {text!r}: half of a pair of surrogates is no character; mend the text where it was cut."
        ) from None
    return text


def _moments(history: Sequence[Event], first: int) -> list[tuple[int, int]]:
    """Return the seconds and nanoseconds of the events, counted from `first`; all `NO_TIME` where none has a time.

    Raises:
        ValueError: if some have a time and some not, the unit is not seconds, or the order is not that of time.
    """
    given = [event.get("timestamp") for event in history]
    if all(value is None for value in given):
        return [(NO_TIME, 0)] * len(given)
    for position, value in enumerate(given, first):
        if value is None:
            raise ValueError(
                f"event {position}: timestamp {value!r}: give seconds since the epoch to all events or to none."
            )
    moments = [_moment(value, f"event {position}: timestamp") for position, value in enumerate(given, first)]
    for position, (before, after) in enumerate(pairwise(moments), first + 1):
        if after < before:
            raise ValueError(
                f"event {position} is earlier ({_written(*after)}) than the one before it ({_written(*before)}): "
                "give the history oldest first."
            )
    return moments


def now_after(last: int, now: Moment | None, nanosecond: int = 0) -> int:
    """Return the moment of a request in seconds.

    Args:
        last: time of the last event, in seconds, or `NO_TIME`.
        now: when it is asked; None takes the time of the last event.
        nanosecond: of the last event, within its second.

    Raises:
        ValueError: if it is no time, or before the last event.

    >>> now_after(1_600_000_000, None), now_after(1_600_000_000, "2020-09-14")
    (1600000000, 1600041600)
    """
    if now is None:
        return last
    moment = _moment(now, "now")
    if moment < (last, nanosecond):
        raise ValueError(
            f"now={now!r} ({_written(*moment)}) is before the last event ({_written(last, nanosecond)}): "
            "give a later moment, or none."
        )
    return moment[0]


def _written(seconds: int, nanosecond: int) -> str:
    return f"{seconds}.{nanosecond:09}".rstrip("0").rstrip(".") if nanosecond else str(seconds)


def _moment(value: Any, place: str) -> tuple[int, int]:
    """Return a time as seconds since the epoch and nanoseconds within the second."""
    beyond = 0
    if isinstance(value, str):
        digits = NANOSECONDS.search(value)
        beyond = int(digits[1].ljust(3, "0")) if digits else 0
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{place} {value!r} is neither seconds nor an ISO date.") from None
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - EPOCH
        seconds, nanosecond = since // timedelta(seconds=1), since.microseconds * 1000 + beyond
    elif isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{place} {value!r} is no time: give seconds since the epoch, an ISO date or a datetime.")
    else:
        seconds, nanosecond = (int(value), int(value % 1 * 1e9)) if 0 <= value < MAX_SECONDS else (-1, 0)
    if not 0 <= seconds < MAX_SECONDS:
        raise ValueError(f"{place} {value!r} is no time in seconds since the epoch.\nDivide milliseconds by 1000.")
    return seconds, nanosecond
