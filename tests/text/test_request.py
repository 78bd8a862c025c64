from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from small_data import START, items_frame

from llmrec.data.catalog import Catalog
from llmrec.text.moments import NO_TIME
from llmrec.text.request import Request

CATALOG = Catalog(items_frame())
N = len(CATALOG)
KNOWN = {"item_id": "i04"}


def times(*values) -> list[int]:
    return Request(CATALOG, [{**KNOWN, "timestamp": value} for value in values]).timestamps.tolist()


def test_known_items_are_catalogue_rows_whatever_else_is_said_of_them():
    request = Request(CATALOG, [KNOWN, {"item_id": "i01", "title": "other words"}, {"item_id": "i04", "rating": 5}])
    assert request.items.tolist() == [4, 1, 4]
    assert list(request.new) == []
    assert request.attributes(4) == CATALOG.attributes(4)


def test_ids_that_were_read_as_numbers_are_found():
    catalog = Catalog(items_frame().with_columns(item_id=items_frame()["item_id"].str.slice(1)))
    assert Request(catalog, [{"item_id": 11}]).items.tolist() == [catalog.index("11")]


def test_new_items_stand_behind_the_known_ones_each_once():
    history = [{"title": "Saw"}, KNOWN, {"title": "Saw", "brand": "Acme"}, {"title": "Saw", "timestamp": None}]
    request = Request(CATALOG, history, [{"title": "Saw", "brand": "Acme"}, {"item_id": "i00"}, {"title": "Bolt"}])
    assert request.items.tolist() == [N, 4, N + 1, N]
    assert request.candidates.tolist() == [N + 1, 0, N + 2]
    assert [request.attributes(row) for row in (N, N + 1, N + 2)] == list(request.new)
    assert list(request.new) == [{"title": "Saw"}, {"title": "Saw", "brand": "Acme"}, {"title": "Bolt"}]


def test_an_unknown_id_with_words_is_read_by_its_words():
    request = Request(
        CATALOG, [{"item_id": "new", "title": "Saw", "rating": 3.0, "event_type": "buy", "session_id": "s"}]
    )
    assert request.items.tolist() == [N]
    assert list(request.new) == [{"title": "Saw"}]


def test_values_that_are_no_text_become_text():
    assert list(Request(CATALOG, [{"title": 7}]).new) == [{"title": "7"}]


def test_arrays_have_one_row_per_event_and_candidate():
    request = Request(CATALOG, [KNOWN, KNOWN])
    assert request.items.dtype == request.timestamps.dtype == request.candidates.dtype == np.int64
    assert request.candidates.shape == (0,)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"item_id": "no-such"}, "event 1: item 'no-such' is not in the catalogue"),
        ({}, r"event 1: \{\} has no item_id"),
        ({"timestamp": 5, "rating": 3}, "has no item_id and no text field"),
        ({"title": None}, "no text field"),
        ({"title": ""}, "no text field"),
        ({"title": "  "}, "no text field"),
        ({"item_id": "no-such", "title": " "}, "item 'no-such' is not in the catalogue"),
        ({"user_id": "ann"}, "title"),
        ({"titel": "Saw"}, r"titel(.|\n)*title"),
        ({"item_id": "no-such", "colour": "red"}, r"'no-such'(.|\n)*title, brand, genres"),
    ],
)
def test_events_that_say_nothing_of_an_item_are_refused(event, message):
    with pytest.raises(ValueError, match=message):
        Request(CATALOG, [KNOWN, event])
    with pytest.raises(ValueError, match=message.replace("event 1", "candidate 1")):
        Request(CATALOG, [KNOWN], [KNOWN, event])


@pytest.mark.parametrize("event", ["i04", 4, None, ["item_id", "i04"]])
def test_an_event_is_a_mapping(event):
    with pytest.raises(TypeError, match=r"event 1.*(\n|.)*item_id"):
        Request(CATALOG, [KNOWN, event])
    with pytest.raises(TypeError, match=r"candidate 0.*(\n|.)*item_id"):
        Request(CATALOG, [KNOWN], [event])


@pytest.mark.parametrize("history", ["i04", {"item_id": "i04"}])
def test_a_history_is_a_list(history):
    with pytest.raises(TypeError, match="history"):
        Request(CATALOG, history)


@pytest.mark.parametrize("history", [[], ()])
def test_an_empty_history_is_refused(history):
    with pytest.raises(ValueError, match="history is empty: give at least one event"):
        Request(CATALOG, history)


def test_times_in_every_form_are_seconds():
    moment = datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)
    abroad = moment.astimezone(timezone(timedelta(hours=5)))
    forms = [START, float(START) + 0.4, np.int64(START), np.float32(0), moment, abroad, moment.replace(tzinfo=None)]
    texts = ["2020-09-13T12:26:40", "2020-09-13 12:26:40+00:00", "2020-09-13T17:26:40+05:00", "2020-09-13T12:26:40Z"]
    for form in [*forms, *texts]:
        expected = 0 if isinstance(form, np.float32) else START
        assert times(form) == [expected], form
    assert times("2020-09-13") == [START - 44_800]


def test_no_times_at_all_are_known_as_such():
    assert Request(CATALOG, [KNOWN, {**KNOWN, "timestamp": None}]).timestamps.tolist() == [NO_TIME, NO_TIME]


def test_equal_times_are_in_order():
    assert times(5, 5, 6) == [5, 5, 6]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((5, None), "event 1: timestamp None: give seconds since the epoch to all events or to none"),
        ((None, 5), "event 0: timestamp None"),
        ((6, 5), r"event 1 is earlier \(5\) than the one before it \(6\): give the history oldest first"),
        ((-1,), "event 0: timestamp -1"),
        ((1_600_000_000_000,), r"timestamp 1600000000000(.|\n)*1000"),
        ((float("nan"),), "timestamp nan"),
        ((float("inf"),), "timestamp inf"),
        ((True,), "timestamp True"),
        (("yesterday",), "timestamp 'yesterday' is neither seconds nor an ISO date"),
        (("",), "neither seconds nor an ISO date"),
        (([5],), r"timestamp \[5\]"),
        ((datetime(1950, 1, 1),), "timestamp"),
    ],
)
def test_times_that_are_none_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        times(*values)


@pytest.mark.parametrize("form", [START, float(START), "2020-09-13T12:26:40Z", datetime(2020, 9, 13, 12, 26, 40)])
def test_now_in_every_form_is_seconds(form):
    assert Request(CATALOG, [{**KNOWN, "timestamp": START - 5}], now=form).now == START
    assert Request(CATALOG, [KNOWN], now=form).now == START  # no event has a time
    assert Request(CATALOG, [{**KNOWN, "timestamp": START}], now=form).now == START


def test_now_is_by_default_the_time_of_the_last_event():
    history = [{**KNOWN, "timestamp": START - 5}, {**KNOWN, "timestamp": START}]
    assert Request(CATALOG, history).now == START
    assert Request(CATALOG, [KNOWN]).now == NO_TIME


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (START - 1, rf"now={START - 1} \({START - 1}\) is before the last event \({START}\)"),
        ("2020-09-13", "is before the last event"),
        (START * 1000, r"now 1600000000000 is no time in seconds(.|\n)*1000"),
        (-1, "now -1 is no time in seconds"),
        ("today", "now 'today' is neither seconds nor an ISO date"),
        (True, "now True is no time: give seconds"),
        ([START], "is no time: give seconds"),
    ],
)
def test_a_now_that_cannot_be_is_refused(now, message):
    with pytest.raises(ValueError, match=message):
        Request(CATALOG, [{**KNOWN, "timestamp": START}], now=now)


def test_text_under_a_name_that_no_item_has_is_told(recwarn):
    with pytest.warns(UserWarning, match="brnd: no item of the catalogue has such a field, they have title, brand"):
        Request(CATALOG, [{"title": "Saw", "brnd": "Acme"}])
    known = CATALOG.ids[0]
    Request(CATALOG, [{"item_id": known, "brnd": "Acme"}, {"title": "Saw", "rating": 3, "timestamp": None}])
    assert not recwarn.list


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (5.2, 5.7),
        ("2020-09-13T12:26:40.100", "2020-09-13T12:26:40.200"),
        ("2020-09-13T12:26:40.123456001Z", "2020-09-13T14:26:40.123456002+02:00"),
        (datetime(2020, 9, 13, microsecond=1), datetime(2020, 9, 13, microsecond=2)),
    ],
)
def test_the_order_within_a_second_counts(before, after):
    assert len(set(times(before, after))) == 1
    with pytest.raises(ValueError, match=r"event 1 is earlier \(\d+\.\d+\) than the one before it \(\d+\.\d+\)"):
        times(after, before)
    last = [{**KNOWN, "timestamp": after}]
    assert Request(CATALOG, last, now=after).now == times(after)[0]
    with pytest.raises(ValueError, match="before the last event"):
        Request(CATALOG, last, now=before)
