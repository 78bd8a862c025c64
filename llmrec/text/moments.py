"""Moments to words: the weekday and the part of the day, in English whatever the machine's locale.

Timestamps are read as they are stored, as seconds of UTC. A source that stores its own clock, as shops often do, is
read by that clock; nothing is converted, here or anywhere.
"""

from __future__ import annotations

import numpy as np

from llmrec.text.gaps import SECONDS_PER_DAY, SECONDS_PER_HOUR

NO_TIME = -1
"""Moment of an event whose time nobody gave, and gap before an event that has none before it."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAYPARTS = ("night", "morning", "afternoon", "evening")
FIRST_WEEKDAY = 3
"""1 January 1970 was a Thursday."""


def weekday_word(seconds: int) -> str:
    """Name the weekday of a moment, in seconds since the epoch.

    >>> [weekday_word(day * 86_400) for day in (0, 4, 18_518)]  # 13 September 2020
    ['thursday', 'monday', 'sunday']
    """
    return WEEKDAYS[(seconds // SECONDS_PER_DAY + FIRST_WEEKDAY) % 7]


def daypart_word(seconds: int) -> str:
    """Name the part of the day of a moment: six hours each, night from midnight.

    >>> [daypart_word(hour * 3_600) for hour in (0, 5, 6, 12, 18, 23)]
    ['night', 'night', 'morning', 'afternoon', 'evening', 'evening']
    """
    return DAYPARTS[seconds % SECONDS_PER_DAY // (6 * SECONDS_PER_HOUR)]


def event_times(timestamps: np.ndarray) -> np.ndarray:
    """Return (L, 2) int64: seconds since the event before, and the moment, of events at timestamps (L,).

    The first event has no gap, and where no time is known there is neither: `NO_TIME`.

    >>> event_times(np.array([100, 100, 160])).tolist(), event_times(np.array([NO_TIME, NO_TIME])).tolist()
    ([[-1, 100], [0, 100], [60, 160]], [[-1, -1], [-1, -1]])
    """
    gaps = np.diff(timestamps, prepend=timestamps[:1])
    gaps[:1] = NO_TIME
    return np.stack([np.where(timestamps < 0, NO_TIME, gaps), timestamps], axis=1).astype(np.int64)


def known(seconds: int) -> int | None:
    """Return a moment or gap, None where it is `NO_TIME`."""
    return None if seconds == NO_TIME else seconds
