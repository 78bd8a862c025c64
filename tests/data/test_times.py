from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.times import clock_of, iso, to_moments

# 2017-10-02 08:30:05 UTC, counted by hand: 17,441 days after 1970-01-01
MOMENT = 17_441 * 86_400 + 8 * 3_600 + 30 * 60 + 5


def to_seconds(times: pl.Series, unit: str | None = None) -> pl.Series:
    return to_moments(times, unit)["timestamp"]


@pytest.mark.parametrize(
    "text",
    [
        "2017-10-02T08:30:05Z",
        "2017-10-02 08:30:05",
        "2017-10-02 08:30:05 UTC",
        "2017-10-02T08:30:05.999",
        "2017-10-02T10:30:05+02:00",
        "2017-10-02T03:00:05-0530",
        "2017/10/02 08:30:05",
        str(MOMENT),
        f"{MOMENT}.75",
    ],
)
def test_one_moment_in_many_notations(text: str) -> None:
    assert to_seconds(pl.Series([text])).to_list() == [MOMENT]


def test_notations_may_be_mixed_and_unreadable_ones_are_null() -> None:
    texts = pl.Series(
        ["2017-10-02", "2017-10-02T08:30", str(MOMENT), "yesterday", None, "2017-13-02", "2017-10-02T24:00"]
    )
    assert to_seconds(texts).to_list() == [MOMENT - 30_605, MOMENT - 5, MOMENT, None, None, None, None]


def test_typed_columns() -> None:
    naive = datetime(2017, 10, 2, 8, 30, 5)
    zoned = datetime(2017, 10, 2, 10, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    assert to_seconds(pl.Series([naive])).to_list() == [MOMENT]
    assert to_seconds(pl.Series([zoned.astimezone(UTC)]).dt.convert_time_zone("Asia/Tokyo")).to_list() == [MOMENT]
    assert to_seconds(pl.Series([date(2017, 10, 2)])).to_list() == [MOMENT - 30_605]
    assert to_seconds(pl.Series([float(MOMENT) + 0.5, float("nan"), float("inf")])).to_list() == [MOMENT, None, None]
    assert to_seconds(pl.Series([None, None])).to_list() == [None, None]
    with pytest.raises(TypeError, match="Boolean"):
        to_seconds(pl.Series([True]))


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1)),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_every_unit_gives_the_second_that_python_gives(moment: datetime, unit: str) -> None:
    microseconds = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    ticks = {"s": microseconds // 10**6, "ms": microseconds // 1000, "us": microseconds, "ns": microseconds * 1000}[
        unit
    ]
    later = 4_000_000_000 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    expected = microseconds // 10**6
    assert to_seconds(pl.Series([ticks, later]), unit)[0] == expected
    assert to_seconds(pl.Series([str(ticks), str(later)]), unit)[0] == expected
    assert to_seconds(pl.Series([moment.isoformat()]))[0] == expected


@pytest.mark.parametrize(("factor", "unit"), [(10**3, "ms"), (10**6, "us"), (10**9, "ns")])
def test_a_finer_unit_is_an_error_with_the_remedy(factor: int, unit: str) -> None:
    for values in ([MOMENT * factor], [str(MOMENT * factor)], [float(MOMENT * factor)]):
        with pytest.raises(ValueError, match=f"--time_unit {unit}"):
            to_seconds(pl.Series(values))
        assert to_seconds(pl.Series(values), unit).to_list() == [MOMENT]


def test_seconds_called_milliseconds_are_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"not in milliseconds.*1970(.|\n)*--time_unit s"):
        to_seconds(pl.Series([MOMENT]), "ms")


def test_other_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match="time unit 'min' is not one of s, ms, us, ns"):
        to_seconds(pl.Series([1]), "min")
    with pytest.raises(ValueError, match="timestamp 'monday' is neither a number nor an ISO date"):
        to_seconds(pl.Series([None, "monday", "tuesday"]))


def test_ordinals_are_no_clock() -> None:
    assert clock_of(pl.Series([0, 1, 2_000])) == "ordinal"
    assert clock_of(pl.Series([0, MOMENT])) == "utc"
    assert iso(MOMENT) == "2017-10-02T08:30:05+00:00"
