"""Times of any notation to whole seconds since 1970 in UTC, with the wrong unit told from the right one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import polars as pl

TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
ORDINAL_LIMIT = 100_000_000
"""Tables whose latest time lies before this second (March 1973) count events, they do not tell time."""
UNIT_LIMIT = 100_000_000_000
"""A number of seconds from here on (year 5138) was counted in a finer unit."""

ISO = (
    r"^\s*(?<year>\d{4})[-/](?<month>\d{2})[-/](?<day>\d{2})"
    r"(?:[T ](?<hour>\d{2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,]\d+)?)?)?"
    r"\s*(?:Z|UTC|(?<sign>[+-])(?<zone_hours>\d{2}):?(?<zone_minutes>\d{2}))?\s*$"
)


def guess_unit(values: pl.Series) -> str:
    """Guess the unit of epoch times from the size of their median.

    >>> guess_unit(pl.Series([964982703, 964982931])), guess_unit(pl.Series([1570000000000]))
    ('s', 'ms')
    >>> guess_unit(pl.Series([0, 1, 2]))
    's'
    """
    size = abs(cast("float", values.median() or 0))
    return "s" if size < UNIT_LIMIT else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"


def seconds_of_iso(texts: pl.Series) -> pl.Series:
    """Convert ISO 8601 dates and datetimes to seconds; no offset means UTC, unreadable ones become null.

    >>> seconds_of_iso(pl.Series(["1970-01-02", "1970-01-01T01:00:00+01:00", "1970-01-01 00:00:07.5", "?"])).to_list()
    [86400, 0, 7, None]
    """
    parts = texts.str.extract_groups(ISO).struct.unnest()

    def number(name: str) -> pl.Expr:
        return pl.col(name).cast(pl.Int64, strict=False).fill_null(0)

    day = pl.concat_str("year", "month", "day", separator="-").str.to_date("%Y-%m-%d", strict=False)
    possible = (number("hour") < 24) & (number("minute") < 60) & (number("second") < 60)
    offset = (number("zone_hours") * 3600 + number("zone_minutes") * 60) * pl.when(sign="-").then(-1).otherwise(1)
    seconds = day.cast(pl.Int64) * 86400 + number("hour") * 3600 + number("minute") * 60 + number("second") - offset
    return parts.select(pl.when(possible).then(seconds)).to_series()


def seconds_of_numbers(values: pl.Series, unit: str | None) -> pl.Series:
    """Convert epoch times to seconds, rounding down; what is not finite becomes null.

    Raises:
        ValueError: No unit was given and the times are not in seconds, or the one given cannot be right.

    >>> seconds_of_numbers(pl.Series([1570000000999]), "ms").to_list()
    [1570000000]
    >>> seconds_of_numbers(pl.Series([1570000000999]), None)
    Traceback (most recent call last):
    ValueError: timestamp 1570000000999 looks like milliseconds, times are read as seconds since 1970;
    pass --time_unit ms
    """
    if values.dtype.is_float():
        values = values.set(~values.is_finite(), None)
    present = values.drop_nulls()
    guess = guess_unit(present)
    if unit is None and guess != "s":
        example = present.filter(present.abs() >= UNIT_LIMIT)[0]
        raise ValueError(
            f"timestamp {example!r} looks like {UNIT_NAMES[guess]}, times are read as seconds since 1970;\n"
            f"pass --time_unit {guess}"
        )
    seconds = (values // TICKS_PER_SECOND[unit or "s"]).cast(pl.Int64, strict=False)
    latest = cast("int | None", seconds.max())
    if unit not in (None, "s") and latest is not None and latest < ORDINAL_LIMIT:
        raise ValueError(
            f"timestamp {present[0]!r} is not in {UNIT_NAMES[unit or 's']}: the latest time would be {iso(latest)};\n"
            f"pass --time_unit {guess}"
        )
    return seconds


def to_seconds(times: pl.Series, unit: str | None = None) -> pl.Series:
    """Convert a column of times to seconds since 1970-01-01 00:00 UTC.

    Args:
        times: Numbers, dates, datetimes (naive ones are taken as UTC), or texts holding a number or an ISO date.
        unit: Unit of numbers, one of s, ms, us, ns; None reads seconds and refuses finer units.

    Returns:
        Int64 seconds; null where a value is missing or cannot be read.

    Raises:
        ValueError: Unknown unit, numbers in another unit, or no readable time at all.
        TypeError: The column cannot hold times.

    >>> to_seconds(pl.Series(["2001-09-09 01:46:40", "1000000000", None])).to_list()
    [1000000000, 1000000000, None]
    """
    if unit is not None and unit not in TICKS_PER_SECOND:
        raise ValueError(f"time unit {unit!r} is not one of {', '.join(TICKS_PER_SECOND)}")
    if times.dtype == pl.Date:
        return times.cast(pl.Int64) * 86400
    if times.dtype == pl.Datetime:
        return times.dt.epoch("s")
    if times.dtype.is_numeric():
        return seconds_of_numbers(times, unit)
    if times.dtype == pl.Null:
        return times.cast(pl.Int64)
    if times.dtype != pl.String:
        raise TypeError(f"timestamps of type {times.dtype} are no times; give numbers, ISO dates or datetimes")
    whole, real = times.cast(pl.Int64, strict=False), times.cast(pl.Float64, strict=False)
    numbers = whole if whole.null_count() == real.null_count() else real
    seconds = seconds_of_numbers(numbers, unit) if numbers.null_count() < len(numbers) else numbers.cast(pl.Int64)
    readable = seconds.zip_with(seconds.is_not_null(), seconds_of_iso(times))
    if len(present := times.drop_nulls()) and readable.null_count() == len(readable):
        raise ValueError(
            f"timestamp {present[0]!r} is neither a number nor an ISO date such as 2024-05-31 or 2024-05-31T18:00:00Z"
        )
    return readable


def clock_of(seconds: pl.Series) -> str:
    """Say whether times tell the time (`utc`) or only count events (`ordinal`).

    >>> clock_of(pl.Series([0, 1, 2])), clock_of(pl.Series([964982703]))
    ('ordinal', 'utc')
    """
    latest = cast("int | None", seconds.max())
    return "ordinal" if latest is None or latest < ORDINAL_LIMIT else "utc"


def iso(seconds: int) -> str:
    """Write seconds since 1970 as an ISO datetime in UTC.

    >>> iso(1000000000)
    '2001-09-09T01:46:40+00:00'
    """
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
