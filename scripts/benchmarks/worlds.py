"""Worlds whose every probability is known: what is wanted next depends on the time, in a way that is written down.

In each world a person has a taste, every event has a *moment* (a weekday, a gap, a month), and taste, moment and the
item before say how likely each item is. Who knows the rule and reads the clock can rank by it (the oracle); who sees
the order of items alone can at best average over the moments. `world_odds` computes both exactly.

python scripts/benchmarks/world_odds.py weekly data
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

MINUTE, HOUR, DAY = 60, 3_600, 86_400
START = 1_672_531_200
"""Sunday, 1 January 2023, 00:00 UTC."""
NOISE = 0.1
"""Share of events whose item is any of all."""
INTERVALS = (1, 3, 6, 10, 18, 35, 75, 150)
"""Days after which an item of the replenishment world returns."""
MONTH_STARTS = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])
"""Days of 2023 before each month."""

TASTES = ["amber", "cobalt", "ivory", "olive", "scarlet", "silver"]
NOUNS = [
    "kettle",
    "lantern",
    "basket",
    "ribbon",
    "whistle",
    "marble",
    "compass",
    "blanket",
    "pencil",
    "saddle",
    "mirror",
    "button",
    "hammock",
    "bottle",
    "feather",
    "thimble",
    "anchor",
    "candle",
]


@dataclass(frozen=True, eq=False)
class World:
    """A way in which events come about. Z tastes, K moments, N items, L events of a person.

    Attributes:
        name: Its name.
        titles: The items' texts, (N,).
        first: (Z, K, N) what a taste wants first, in a moment.
        wants: (N, Z, K, N) after an item, what a taste wants in a moment; (1, Z, K, N) where the item does not matter.
        moments: (L, K, K) how likely a moment is after another, at each place of a history; all rows of place 0 are
            those of the first event.
        moment_of: Times of a history (L,) in seconds to the moments of its events, (L,).
        time_of: A moment, the time before (None for the first event) and a generator to the time of an event.
    """

    name: str
    titles: list[str]
    first: np.ndarray
    wants: np.ndarray
    moments: np.ndarray
    moment_of: Callable[[np.ndarray], np.ndarray]
    time_of: Callable[[int, int | None, np.random.Generator], int]

    def odds(self, before: int | None) -> np.ndarray:
        """Return (Z, K, N): how likely each item is for a taste in a moment, after an item or as the first."""
        if before is None:
            return self.first
        return self.wants[before if len(self.wants) > 1 else 0]


def weekly(seed: int = 0) -> World:
    """What is wanted depends on the weekday.

    Each taste has two things for each weekday, one wanted four times as often. The next event comes 1 to 14 days
    later, each as likely, so that its weekday says nothing about the last one.
    """
    shelves, titles = shelve((3, 7, 2), seed)
    wants = np.stack([spread(items, (0.8, 0.2), len(titles)) for items in shelves.reshape(-1, 2)])

    def time_of(moment: int, before: int | None, random: np.random.Generator) -> int:
        day = START // DAY if before is None else before // DAY + 1
        day += (moment - weekdays(day * DAY)) % 7 + 7 * random.integers(12 if before is None else 2)
        return int(day * DAY + random.integers(8 * HOUR, 22 * HOUR))

    wants = wants.reshape(1, 3, 7, -1)
    return World("weekly", titles, wants[0], wants, steady([1 / 7] * 7, 15), weekdays, time_of)


def replenishment(seed: int = 0) -> World:
    """An item returns after its own interval.

    Each taste has one item for each of eight intervals. A visit fills everything up, so what has run out at the next
    one is told by how long ago the last one was.
    """
    shelves, titles = shelve((5, len(INTERVALS)), seed)
    wants = np.stack([spread([item], [1.0], len(titles)) for item in shelves.reshape(-1)])
    wants = wants.reshape(1, 5, len(INTERVALS), -1)
    bounds = np.array(INTERVALS[1:]) * DAY  # a gap is its interval and up to 15 % more

    def moment_of(times: np.ndarray) -> np.ndarray:
        return np.searchsorted(bounds, np.diff(times, prepend=times[:1]), side="right")

    def time_of(moment: int, before: int | None, random: np.random.Generator) -> int:
        if before is None:
            return int(START + random.integers(90 * DAY))
        return int(before + INTERVALS[moment] * DAY * random.uniform(1.0, 1.15))

    moments = steady([1 / len(INTERVALS)] * len(INTERVALS), 15, first=0)
    first = np.broadcast_to(wants[0].mean(axis=1, keepdims=True), wants[0].shape)
    return World("replenishment", titles, first, wants, moments, moment_of, time_of)


def drift(seed: int = 0) -> World:
    """Taste changes at a date.

    On the first of every month of a year each taste turns to another item and never comes back to the last one. A
    person comes in four different months, every choice of four as likely.
    """
    shelves, titles = shelve((3, 12), seed)
    wants = np.stack([spread([item], [1.0], len(titles)) for item in shelves.reshape(-1)]).reshape(1, 3, 12, -1)
    length = 4
    moments = np.zeros((length, 12, 12))
    for place in range(length):
        ways = np.array([comb(11 - month, length - 1 - place) for month in range(12)])  # to choose the months after it
        for before in range(12):
            chosen = ways * (np.arange(12) > before) if place else ways
            moments[place, before] = chosen / max(1, chosen.sum())  # too late a month has none after it, and never is

    def moment_of(times: np.ndarray) -> np.ndarray:
        return np.searchsorted(MONTH_STARTS, (times - START) // DAY, side="right") - 1

    def time_of(moment: int, before: int | None, random: np.random.Generator) -> int:
        day = MONTH_STARTS[moment] + random.integers(28)
        return int(START + day * DAY + random.integers(8 * HOUR, 22 * HOUR))

    return World("drift", titles, wants[0], wants, moments, moment_of, time_of)


def sessions(seed: int = 0) -> World:
    """After a long pause, start anew.

    Minutes later a person goes on to the next thing of the shelf, hours later takes up the last one again, and after
    days starts anew with the first of the own shelf.
    """
    shelves, titles = shelve((6, 8), seed)
    num_items = len(titles)
    following = np.empty(num_items, dtype=np.int64)
    following[shelves] = np.roll(shelves, -1, axis=1)
    wants = np.stack(
        [
            [[spread([item], [1.0], num_items) for item in (following[last], last, home)] for home in shelves[:, 0]]
            for last in range(num_items)
        ]
    )
    first = np.stack([[spread([home], [1.0], num_items)] * 3 for home in shelves[:, 0]])
    pauses = ((MINUTE, 20 * MINUTE), (2 * HOUR, 12 * HOUR), (2 * DAY, 20 * DAY))

    def moment_of(times: np.ndarray) -> np.ndarray:
        moments = np.searchsorted([HOUR, DAY], np.diff(times, prepend=times[:1]), side="right")
        moments[:1] = 2
        return moments

    def time_of(moment: int, before: int | None, random: np.random.Generator) -> int:
        if before is None:
            return int(START + random.integers(180 * DAY))
        return int(before + random.integers(*pauses[moment]))

    return World("sessions", titles, first, wants, steady([0.4, 0.3, 0.3], 15, first=2), moment_of, time_of)


WORLDS: dict[str, Callable[[int], World]] = {
    "weekly": weekly,
    "replenishment": replenishment,
    "drift": drift,
    "sessions": sessions,
}


def weekdays(times: Any) -> Any:
    """Return the weekday of one or many times in UTC, Monday 0; 1970 began on a Thursday.

    >>> weekdays(START), weekdays(np.array([0, DAY])).tolist()
    (6, [3, 4])
    """
    return (times // DAY + 3) % 7


def steady(chances: Sequence[float], length: int, first: int | None = None) -> np.ndarray:
    """Return (L, K, K): moments that do not depend on each other, the first one given or like all others.

    >>> steady([0.25, 0.75], 2, first=1)[:, 0].tolist()
    [[0.0, 1.0], [0.25, 0.75]]
    """
    moments = np.tile(np.asarray(chances), (length, len(chances), 1))
    if first is not None:
        moments[0] = np.eye(len(chances))[first]
    return moments


def spread(items: Sequence[int] | np.ndarray, shares: Sequence[float], num_items: int) -> np.ndarray:
    """Return (N,) probabilities: the shares of some items, and any item by chance.

    >>> spread([1], [1.0], 2)
    array([0.05, 0.95])
    """
    odds = np.full(num_items, NOISE / num_items)
    odds[np.asarray(items)] += (1 - NOISE) * np.asarray(shares)
    return odds


def shelve(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, list[str]]:
    """Number the items of tastes by chance and name them.

    Args:
        shape: Tastes, and what parts a taste's items.
        seed: Other seeds number and name otherwise.

    Returns:
        Item indices of that shape, and the titles (N,): a word for the taste, a word for the place.

    >>> shelves, titles = shelve((2, 3), seed=0)
    >>> [titles[item] for item in shelves[0]], len(set(titles))
    (['amber feather', 'amber pencil', 'amber lantern'], 6)
    """
    random = np.random.default_rng([seed, 1])
    shelves = random.permutation(int(np.prod(shape)))
    nouns = random.permutation(NOUNS)
    titles = [""] * len(shelves)
    for taste, items in zip(TASTES, shelves.reshape(shape[0], -1), strict=False):
        for item, noun in zip(items, nouns, strict=False):
            titles[item] = f"{taste} {noun}"
    return shelves.reshape(shape), titles
