"""Statistics of events, by hand."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from description import NO_CLOCK, describe, describe_events
from description_drift import chance_distance, choose_attribute, describe_drift, values_of
from description_time import describe_gaps, describe_repeats, describe_rhythm, describe_sessions
from small_data import data_directory

from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.data.times import to_moments

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MONDAY = 1_704_067_200  # 1 January 2024, 00:00 UTC

CATALOG = Catalog(
    pl.DataFrame(
        {"item_id": list("xyz"), "title": ["Tea", "Rice", "Soap"], "category": ["food", "food", "care"]},
    )
)


def events_of(text: str, start: int = MONDAY + 9 * HOUR) -> pl.DataFrame:
    """Events such as `"ann:x0 ann:y90"`: user, item, seconds since `start`; users and times ascending."""
    words = (word.split(":") for word in text.split())
    rows = [(user, event[0], start + int(event[1:])) for user, event in words]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def test_gaps_are_those_within_users() -> None:
    events = events_of(f"ann:x0 ann:y0 ann:z9 ann:x{9 + 2 * DAY} bob:x5 bob:y{5 + 30 * MINUTE}")
    gaps = describe_gaps(events)
    counts = {bar["label"]: bar["count"] for bar in gaps["histogram"] if bar["count"]}
    assert counts == {"same second": 1, "under 10 s": 1, "1 day": 1, "30 min": 1}
    assert sum(bar["share"] for bar in gaps["histogram"]) == 1
    # in order: 0, 9, 1800, 172800
    assert gaps["seconds"]["median"] == (9 + 1800) / 2
    assert gaps["seconds"]["mean"] == (0 + 9 + 1_800 + 172_800) / 4
    assert describe_gaps(events_of("ann:x0 bob:x1")) is None


def test_half_an_hour_starts_a_session_and_a_second_less_does_not() -> None:
    events = events_of("ann:x0 ann:y1799 ann:z3599 bob:x0 cat:x0 cat:y1")
    sessions = describe_sessions(events)
    # ann: (x y) and (z); bob: (x); cat: (x y)
    assert sessions["count"] == 4
    assert sessions["single_event_share"] == 2 / 4
    assert sessions["events_per_session"]["mean"] == 6 / 4
    assert sessions["sessions_per_user"]["mean"] == pytest.approx(4 / 3, abs=1e-4)
    assert sessions["sessions_per_user"]["max"] == 2


def test_rhythm_counts_hours_and_weekdays_in_utc() -> None:
    rhythm = describe_rhythm(events_of(f"ann:x0 ann:x{HOUR} ann:x{6 * DAY} ann:x{13 * DAY}"))
    assert {day: share for day, share in rhythm["weekdays"].items() if share} == {"Mon": 0.5, "Sun": 0.5}
    assert {hour: share for hour, share in enumerate(rhythm["hours"]) if share} == {9: 0.75, 10: 0.25}
    # two of seven days hold half each: all but 2/7 of the events would have to move
    assert rhythm["weekdays_from_even"] == pytest.approx(5 / 7, abs=1e-6)
    assert rhythm["hours_from_even"] == pytest.approx(22 / 24, abs=1e-6)


def test_dates_have_weekdays_and_no_hours() -> None:
    rhythm = describe_rhythm(events_of(f"ann:x0 ann:x{DAY}", start=MONDAY))
    assert rhythm["hours"] is None and rhythm["hours_from_even"] is None
    assert rhythm["hours_absent"] == "the times are dates, without hours"
    assert rhythm["weekdays"]["Tue"] == 0.5


def test_repeats_and_the_days_until_them() -> None:
    every_four_days = " ".join(f"ann:x{4 * DAY * turn}" for turn in range(11))
    events = events_of(f"{every_four_days} bob:x0 bob:y{DAY} bob:x{3 * DAY} bob:y{8 * DAY} cat:x0 cat:y0")
    repeats = describe_repeats(events, CATALOG)
    assert repeats["count"] == 10 + 2
    assert repeats["share"] == pytest.approx(12 / 17, abs=1e-6)
    assert repeats["users_share"] == pytest.approx(2 / 3, abs=1e-6)
    assert repeats["days"]["median"] == 4 and repeats["days"]["min"] == 3 and repeats["days"]["max"] == 7
    # ten times four days and once three; y repeats once, too seldom to be typical
    assert repeats["items"] == [
        {"item_id": "x", "text": "Tea", "repeats": 11, "p25": 4.0, "median": 4.0, "p75": 4.0},
    ]
    assert repeats["items_with_interval"] == 1


def test_ordinals_have_repeats_without_intervals_and_say_why() -> None:
    description = describe_events(events_of("ann:x1 ann:y2 ann:x3", start=0), CATALOG)
    assert description["clock"] == "ordinal"
    assert description["repeats"]["count"] == 1 and description["repeats"]["days"] is None
    for part in ("span", "gaps", "sessions", "rhythm", "drift"):
        assert description[part] is None and description["absent"][part] == NO_CLOCK
    assert description["events_per_user"]["max"] == 3


def test_drift_is_the_distance_of_consecutive_months() -> None:
    """January 75 % food, February 25 %, March as February; April has one event and is left out."""
    plan = {"2024-01": (45, 15), "2024-02": (15, 45), "2024-03": (15, 45), "2024-04": (1, 0)}
    rows = [
        ("ann", item, int(to_moments(pl.Series([f"{month}-02"]), None)["timestamp"][0]) + place)
        for month, (food, care) in plan.items()
        for place, item in enumerate("x" * food + "z" * care)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    drift = describe_drift(events, CATALOG, "category")
    assert [entry["distance"] for entry in drift["distances"]] == [0.5, 0.0]
    assert [entry["month"] for entry in drift["distances"]] == ["2024-02", "2024-03"]
    assert drift["values"] == ["care", "food"]
    assert [month["shares"] for month in drift["months"]] == [[0.25, 0.75], [0.75, 0.25], [0.75, 0.25]]
    assert drift["mean_distance"] == 0.25 and drift["first_to_last"] == 0.5
    assert drift["months_left_out"] == 1 and drift["coverage"] == 1
    # pooled half and half, twice sixty events: each share's difference deviates by √(1/4 · 2/60)
    assert drift["distances"][0]["by_chance"] == pytest.approx(math.sqrt(2 / math.pi / 120), abs=1e-6)
    assert describe_drift(events.filter(pl.col("timestamp") < rows[60][2]), CATALOG, "category") is None


def test_chance_is_what_two_samples_of_one_distribution_show() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    first, second = random.multinomial(80, shares, size=4_000), random.multinomial(120, shares, size=4_000)
    found = np.abs(first / 80 - second / 120).sum(axis=1).mean() / 2
    assert chance_distance(80 * shares, 120 * shares) == pytest.approx(found, rel=0.03)


def test_values_of_a_list_share_their_item() -> None:
    films = Catalog(
        pl.DataFrame({"item_id": ["1", "2", "3"], "title": list("abc"), "genres": ["Crime, Drama", "Crime", "Crime"]})
    )
    assert choose_attribute(films) == "genres"
    assert sorted(values_of(films, "genres").rows()) == [
        ("1", "Crime", 0.5),
        ("1", "Drama", 0.5),
        ("2", "Crime", 1.0),
        ("3", "Crime", 1.0),
    ]
    with pytest.raises(ValueError, match="attribute 'brand' is not one of the items' title, genres"):
        values_of(films, "brand")


def test_only_training_events_are_described_unless_asked(tmp_path) -> None:
    data = PreparedData.open(data_directory(tmp_path / "data", irregular=True))
    train, every = describe(data), describe(data, "all")
    splits = data.splits["split"]
    assert train["counts"]["events"] == (splits == "train").sum() < every["counts"]["events"] == len(splits)
    assert train["events_of"] == ["train"] and every["events_of"] == ["train", "validation", "test"]
    assert train["events_per_user"]["mean"] == pytest.approx((splits == "train").sum() / 12, abs=1e-4)
    with pytest.raises(ValueError, match="events 'test' is not one of train, all"):
        describe(data, "test")
