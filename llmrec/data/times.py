"""Times of any notation to seconds since 1970 in UTC and nanoseconds within the second; a wrong unit is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import polars as pl

NANOSECONDS = 1_000_000_000
TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": NANOSECONDS}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
ORDINAL_LIMIT = 100_000_000
"""Tables whose latest time lies before this second (March 1973) count events, they do not tell time."""
UNIT_LIMIT = 100_000_000_000
"""A number of seconds from here on (year 5138) was counted in a finer unit."""

EXACT = pl.Decimal(38, 9)
"""Numbers written with fractions are read as decimals: a float of seconds tells no nanoseconds apart."""
ISO = (
    r"^\s*(?<year>\d{4})[-/](?<month>\d{2})[-/](?<day>\d{2})"
    r"(?:[T ](?<hour>\d{2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d+))?)?)?"
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


def moments_of_iso(texts: pl.Series) -> pl.DataFrame:
    """Convert ISO 8601 dates and datetimes to moments; no offset means UTC, unreadable ones become null.

    >>> moments_of_iso(pl.Series(["1970-01-02", "1970-01-01T01:00:00+01:00", "1970-01-01 00:00:07.5", "?"])).rows()
    [(86400, 0), (0, 0), (7, 500000000), (None, None)]
    """
    parts = texts.str.extract_groups(ISO).struct.unnest()

    def number(name: str) -> pl.Expr:
        return pl.col(name).cast(pl.Int64, strict=False).fill_null(0)

    day = pl.concat_str("year", "month", "day", separator="-").str.to_date("%Y-%m-%d", strict=False)
    possible = (number("hour") < 24) & (number("minute") < 60) & (number("second") < 60) & day.is_not_null()
    offset = (number("zone_hours") * 3600 + number("zone_minutes") * 60) * pl.when(sign="-").then(-1).otherwise(1)
    seconds = day.cast(pl.Int64) * 86400 + number("hour") * 3600 + number("minute") * 60 + number("second") - offset
    digits = pl.col("fraction").fill_null("").str.slice(0, 9).str.pad_end(9, "0").cast(pl.Int64)
    return parts.select(timestamp=pl.when(possible).then(seconds), nanosecond=pl.when(possible).then(digits))


def moments_of_numbers(values: pl.Series, unit: str | None) -> pl.DataFrame:
    """Convert epoch times to moments; what is not finite becomes null.

    Raises:
        ValueError: No unit was given and the times are not in seconds, or the one given cannot be right.

    >>> moments_of_numbers(pl.Series([1570000000999]), "ms").rows()
    [(1570000000, 999000000)]
    >>> moments_of_numbers(pl.Series([1570000000999]), None)
    Traceback (most recent call last):
    ValueError: timestamp 1570000000999 looks like milliseconds, times are read as seconds since 1970;
    pass --time_unit ms
    """
    if values.dtype.is_integer():
        values = values.cast(pl.Int64, strict=False)
    elif values.dtype.is_float():
        values = values.set(~values.is_finite(), None).cast(pl.Float64)
    present = values.drop_nulls()
    guess = guess_unit(present)
    if unit is None and guess != "s":
        example = present.filter(present.abs() >= UNIT_LIMIT)[0]
        raise ValueError(
            f"timestamp {example} looks like {UNIT_NAMES[guess]}, times are read as seconds since 1970;\n"
            f"pass --time_unit {guess}"
        )
    moments = parted(values, TICKS_PER_SECOND[unit or "s"])
    latest = cast("int | None", moments["timestamp"].max())
    if unit not in (None, "s") and latest is not None and latest < ORDINAL_LIMIT:
        raise ValueError(
            f"timestamp {present[0]} is not in {UNIT_NAMES[unit or 's']}: the latest time would be {iso(latest)};\n"
            f"pass --time_unit {guess}"
        )
    return moments


def parted(values: pl.Series, ticks_per_second: int) -> pl.DataFrame:
    """Part numbers into seconds, rounded down, and the nanoseconds that are left.

    >>> parted(pl.Series([-1, 2500]), 1000).rows()
    [(-1, 999000000), (2, 500000000)]
    """
    seconds = (values // ticks_per_second).cast(pl.Int64, strict=False)
    rest = (values - seconds * ticks_per_second) * (NANOSECONDS // ticks_per_second)
    return pl.DataFrame(
        {
            "timestamp": seconds,
            "nanosecond": rest.cast(pl.Int64, strict=False).set(seconds.is_null(), None).clip(0, NANOSECONDS - 1),
        }
    )


def to_moments(times: pl.Series, unit: str | None = None) -> pl.DataFrame:
    """Convert a column of times to seconds since 1970-01-01 00:00 UTC and the nanoseconds within the second.

    Args:
        times: Numbers, dates, datetimes (naive ones are taken as UTC), or texts holding a number or an ISO date.
        unit: Unit of numbers, one of s, ms, us, ns; None reads seconds and refuses finer units.

    Returns:
        `timestamp` and `nanosecond` (0 to 999,999,999), Int64; null where a value is missing or cannot be read.
        Floats are as exact as they are: 0.2 microseconds for seconds of this century.

    Raises:
        ValueError: Unknown unit, numbers in another unit, or no readable time at all.
        TypeError: The column cannot hold times.

    >>> to_moments(pl.Series(["2001-09-09 01:46:40", "1000000000.25", None])).rows()
    [(1000000000, 0), (1000000000, 250000000), (None, None)]
    """
    if unit is not None and unit not in TICKS_PER_SECOND:
        raise ValueError(f"time unit {unit!r} is not one of {', '.join(TICKS_PER_SECOND)}")
    if isinstance(times.dtype, pl.Datetime):
        return parted(times.to_physical(), TICKS_PER_SECOND[times.dtype.time_unit])
    if times.dtype == pl.Date:
        return parted(times.cast(pl.Int64) * 86400, 1)
    if times.dtype.is_decimal():
        times = times.cast(EXACT, strict=False)
    if times.dtype.is_numeric():
        return moments_of_numbers(times, unit)
    if times.dtype == pl.Null:
        return parted(times.cast(pl.Int64), 1)
    if times.dtype != pl.String:
        raise TypeError(f"timestamps of type {times.dtype} are no times; give numbers, ISO dates or datetimes")
    whole, exact = times.cast(pl.Int64, strict=False), times.cast(EXACT, strict=False)
    numbers = whole if whole.null_count() == exact.null_count() else exact
    moments = moments_of_numbers(numbers, unit) if numbers.null_count() < len(numbers) else parted(whole, 1)
    unread = moments["timestamp"].is_null()
    written = moments_of_iso(times)
    moments = moments.with_columns(moments[name].zip_with(~unread, written[name]) for name in moments.columns)
    if len(present := times.drop_nulls()) and moments["timestamp"].null_count() == len(moments):
        raise ValueError(
            f"timestamp {present[0]!r} is neither a number nor an ISO date such as 2024-05-31 or 2024-05-31T18:00:00Z"
        )
    return moments


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
