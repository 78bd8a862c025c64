from __future__ import annotations

import polars as pl
import pytest

from llmrec.data.cleaning import CleaningReport, as_ids, clean_events

NOW = 1_700_000_000
ITEMS = pl.DataFrame({"item_id": ["1", "2"], "title": ["Heat", "Babe"]})


def test_each_reason_is_counted_once_and_the_sound_events_stay() -> None:
    rows = [
        ("a", "1", "1600000000"),
        ("a", "2", "1600000001"),
        ("b", "1", str(NOW + 86_400)),  # a clock of another time zone may run a day ahead
        (None, "1", "1600000002"),
        (" ", "1", "1600000002"),
        ("b", None, "1600000003"),
        ("b", "1", None),
        ("b", "1", "soon"),
        ("b", "1", "-5"),
        ("b", "1", "1600000003000"),
        ("b", "1", str(NOW + 86_401)),
        ("a", "1", "1600000000"),
        ("b", "3", "1600000004"),
    ]
    raw = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    events, report = clean_events(raw, ITEMS, now=NOW)
    assert sorted(events.rows()) == [("a", "1", 1600000000), ("a", "2", 1600000001), ("b", "1", NOW + 86_400)]
    assert events.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    assert {step.name: step.dropped for step in report.steps} == {
        "read": 0,
        "missing_user_id": 2,
        "missing_item_id": 1,
        "missing_timestamp": 1,
        "unreadable_timestamp": 1,
        "negative_time": 1,
        "wrong_time_unit": 1,
        "future_time": 1,
        "exact_duplicate": 1,
        "item_without_text": 1,
    }
    left = [step.events for step in report.steps]
    assert left[0] == 13 and left[-1] == 3
    assert all(
        before - step.dropped == after for before, step, after in zip(left, report.steps[1:], left[1:], strict=False)
    )
    assert (report.steps[-1].users, report.steps[-1].items) == (2, 2)


def test_rows_that_differ_in_a_carried_column_are_no_duplicates() -> None:
    raw = pl.DataFrame(
        {
            "user_id": ["a", "a", "a"],
            "item_id": [1, 1, 1],
            "timestamp": [5, 5, 5],
            "event_type": ["view", "buy", "buy"],
            "rating": ["4.5", "x", "x"],
            "session_id": [7, 7, 7],
        }
    )
    events, report = clean_events(raw, ITEMS, now=NOW)
    assert sorted(events.rows()) == [("a", "1", 5, "buy", None, "7"), ("a", "1", 5, "view", 4.5, "7")]
    assert {step.name: step.dropped for step in report.steps}["exact_duplicate"] == 1


def test_the_sources_own_reasons_come_first() -> None:
    raw = pl.DataFrame(
        {"user_id": ["a", "a"], "item_id": ["1", "2"], "timestamp": [5, 6], "left_out": ["quantity_zero", None]}
    )
    events, report = clean_events(raw, ITEMS, now=NOW)
    assert events.rows() == [("a", "2", 6)]
    assert [(step.name, step.dropped) for step in report.steps[:2]] == [("read", 0), ("quantity_zero", 1)]


def test_an_empty_table_is_an_error() -> None:
    raw = pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64})
    with pytest.raises(ValueError, match="the table is empty"):
        clean_events(raw, ITEMS)


def test_when_everything_is_dropped_the_reasons_and_ids_are_named() -> None:
    raw = pl.DataFrame({"user_id": ["a", None], "item_id": ["i1", "i2"], "timestamp": [5, 6]})
    with pytest.raises(ValueError, match=r"missing_user_id 1, item_without_text 1(.|\n)*'i1'(.|\n)*'1'") as error:
        clean_events(raw, ITEMS, now=NOW)
    assert len(str(error.value).splitlines()) <= 3


def test_ids_keep_what_the_caller_wrote() -> None:
    assert as_ids(pl.Series(["007", " 7", "", None])).to_list() == ["007", " 7", None, None]
    assert as_ids(pl.Series([7, None])).to_list() == ["7", None]
    assert as_ids(pl.Series([7.0, float("nan")])).to_list() == ["7", None]
    assert as_ids(pl.Series([7.5, 8.0])).to_list() == ["7.5", "8.0"]


def test_the_report_prints_only_steps_that_dropped_something() -> None:
    table = pl.DataFrame({"user_id": ["a"], "item_id": ["1"]})
    report = CleaningReport()
    report.add("read", 0, table)
    report.add("negative_time", 0, table)
    assert "negative_time" not in str(report) and "read" in str(report)
    assert [step["name"] for step in report.as_dicts()] == ["read", "negative_time"]
