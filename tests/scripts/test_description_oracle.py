"""Every statistic of a description counted again, event by event, in plain Python."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from description import describe_events
from small_data import DAY

from llmrec.data.catalog import Catalog

HOUR = 3_600
START = 1_704_067_200  # Monday, 1 January 2024, 00:00 UTC
EDGES = [0, 1, 10, 60, 300, 1_800, 7_200, 28_800, 86_400, 259_200, 604_800, 2_419_200, 7_862_400, 31_536_000]
CATEGORIES = {"a": "food", "b": "food", "c": "care", "d": "toys", "e": "care", "f": None, "g": "toys"}
CATALOG = Catalog(
    pl.DataFrame(
        {"item_id": list(CATEGORIES), "title": [f"Item {item}" for item in CATEGORIES], "category": CATEGORIES.values()}
    )
)


def drawn_events(seed: int) -> list[tuple[str, str, int]]:
    """Thirty users, most of them busy; gaps lie at the edges of the histogram, a second before them, and between."""
    random, rows = np.random.default_rng(seed), []
    for user in range(30):
        at = START + int(random.integers(20 * DAY))
        for place in range(int(random.integers(1, 60))):
            if place:
                edge = EDGES[random.choice(len(EDGES), p=[0.1] * 8 + [0.15] + [0.01] * 5)]
                at += max(0, edge - int(random.integers(2)) + int(random.integers(2) * random.integers(HOUR)))
            rows.append((f"u{user:02}", str(random.choice(list("abcdef"))), at))
    return rows


def told(values: list[float]) -> dict[str, float]:
    """Quantiles between the two nearest values, and the mean."""
    ordered = sorted(values)

    def at(level: float) -> float:
        place = level * (len(ordered) - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        return low + (high - low) * (place - math.floor(place))

    levels = {"min": 0, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "max": 1}
    return {name: at(level) for name, level in levels.items()} | {"mean": sum(values) / len(values)}


def near(values: dict) -> object:
    return pytest.approx(values, abs=6e-5)  # four digits are written


@pytest.fixture(scope="module", params=range(3))
def drawn(request) -> tuple[list[tuple[str, str, int]], dict]:
    rows = drawn_events(request.param)
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return rows, describe_events(frame, CATALOG)


def of_users(rows: list[tuple[str, str, int]]) -> list[list[tuple[str, int]]]:
    found = defaultdict(list)
    for user, item, at in rows:
        found[user].append((item, at))
    return list(found.values())


def test_sizes(drawn) -> None:
    rows, described = drawn
    users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    assert described["counts"]["events"] == len(rows) and described["counts"]["users"] == len(users) == 30
    assert described["counts"]["items"] == len(items) == 6 and described["counts"]["catalogue"] == 7
    assert described["counts"]["items_without_event_share"] == pytest.approx(1 / 7)
    assert described["events_per_user"] == near(told(list(users.values())))
    assert described["events_per_item"] == near(told(list(items.values())))
    first, last = min(row[2] for row in rows), max(row[2] for row in rows)
    span = described["span"]
    assert [datetime.fromisoformat(span[name]).timestamp() for name in ("first", "last")] == [first, last]
    assert span["days"] == pytest.approx((last - first) / DAY, abs=6e-3)


def test_gaps_and_sessions(drawn) -> None:
    rows, described = drawn
    gaps, sessions = [], []
    for events in of_users(rows):
        own = [1]
        for (_, before), (_, after) in itertools.pairwise(events):
            gaps.append(after - before)
            own = [*own, 1] if after - before >= 1_800 else [*own[:-1], own[-1] + 1]
        sessions.append(own)
    assert described["gaps"]["seconds"] == near(told(gaps))
    bars = described["gaps"]["histogram"]
    assert [bar["from_seconds"] for bar in bars] == EDGES
    counts = Counter(max(place for place, edge in enumerate(EDGES) if edge <= gap) for gap in gaps)
    assert [bar["count"] for bar in bars] == [counts[place] for place in range(len(EDGES))]
    assert [bar["share"] for bar in bars] == pytest.approx([bar["count"] / len(gaps) for bar in bars], abs=1e-6)
    sizes = [size for own in sessions for size in own]
    found = described["sessions"]
    assert found["count"] == len(sizes) and found["gap_seconds"] == 1_800
    assert found["events_per_session"] == near(told(sizes))
    assert found["sessions_per_user"] == near(told([len(own) for own in sessions]))
    assert found["single_event_share"] == pytest.approx(sizes.count(1) / len(sizes), abs=1e-6)


def test_rhythm(drawn) -> None:
    rows, described = drawn
    moments = [datetime.fromtimestamp(at, tz=UTC) for _, _, at in rows]
    hours, days = Counter(one.hour for one in moments), Counter(one.strftime("%w") for one in moments)
    rhythm = described["rhythm"]
    assert rhythm["hours"] == pytest.approx([hours[hour] / len(rows) for hour in range(24)], abs=1e-6)
    expected = [days[day] / len(rows) for day in "1234560"]
    assert list(rhythm["weekdays"]) == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert list(rhythm["weekdays"].values()) == pytest.approx(expected, abs=1e-6)
    # what stands above even is what would have to move
    assert rhythm["weekdays_from_even"] == pytest.approx(sum(max(0, one - 1 / 7) for one in expected), abs=1e-5)
    above = sum(max(0, hours[hour] / len(rows) - 1 / 24) for hour in range(24))
    assert rhythm["hours_from_even"] == pytest.approx(above, abs=3e-5)


def test_repeats(drawn) -> None:
    rows, described = drawn
    waits, who = defaultdict(list), set()
    for number, events in enumerate(of_users(rows)):
        for place, (item, at) in enumerate(events):
            before = [moment for other, moment in events[:place] if other == item]
            if before:
                waits[item].append((at - before[-1]) / DAY)
                who.add(number)
    every = [wait for own in waits.values() for wait in own]
    found = described["repeats"]
    assert found["count"] == len(every) and found["share"] == pytest.approx(len(every) / len(rows), abs=1e-6)
    assert found["users_share"] == pytest.approx(len(who) / 30, abs=1e-6)
    assert found["days"] == near(told(every))
    often = {item: told(own) for item, own in waits.items() if len(own) >= 10}
    assert found["items_with_interval"] == len(often) == len(found["items"]) > 3
    assert found["median_of_items"] == near(told([own["median"] for own in often.values()]))
    order = sorted(often, key=lambda item: (-len(waits[item]), item))
    assert [row["item_id"] for row in found["items"]] == order
    for row in found["items"]:
        expected = {name: often[row["item_id"]][name] for name in ("p25", "median", "p75")}
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=6e-3)
        assert (row["text"], row["repeats"]) == (f"Item {row['item_id']}", len(waits[row["item_id"]]))


def test_drift(drawn) -> None:
    rows, described = drawn
    months = defaultdict(Counter)
    for _, item, at in rows:
        if CATEGORIES[item] is not None:
            months[datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m")][CATEGORIES[item]] += 1
    kept = {month: months[month] for month in sorted(months) if months[month].total() >= 50}
    found = described["drift"]
    assert found["attribute"] == "category" and found["num_values"] == 3
    assert [month["month"] for month in found["months"]] == list(kept) and len(kept) >= 2
    assert found["months_left_out"] == len(months) - len(kept)
    assert found["coverage"] == pytest.approx(sum(one.total() for one in months.values()) / len(rows), abs=1e-6)
    assert found["values"] == [name for name, _ in sum(kept.values(), Counter()).most_common()]
    shares = [{name: one[name] / one.total() for name in found["values"]} for one in kept.values()]
    for month, expected in zip(found["months"], shares, strict=True):
        assert month["shares"] == pytest.approx(list(expected.values()), abs=1e-6)
        assert month["events"] == kept[month["month"]].total()
    apart = [sum(max(0, b[name] - a[name]) for name in a) for a, b in itertools.pairwise(shares)]
    assert [one["distance"] for one in found["distances"]] == pytest.approx(apart, abs=1e-5)
    assert found["mean_distance"] == pytest.approx(sum(apart) / len(apart), abs=1e-5)
    ends = sum(max(0, shares[-1][name] - shares[0][name]) for name in found["values"])
    assert found["first_to_last"] == pytest.approx(ends, abs=1e-5)
    assert found["mean_by_chance"] == pytest.approx(np.mean([one["by_chance"] for one in found["distances"]]), abs=1e-5)
