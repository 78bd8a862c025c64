"""The times of events: gaps, sessions, the rhythm of day and week, and how long until the same item comes again."""

from __future__ import annotations

from typing import Any

import polars as pl

from llmrec.data.catalog import Catalog
from llmrec.data.findings import share
from llmrec.data.quantiles import quantiles
from llmrec.data.times import clock_of

MINUTE, HOUR, DAY = 60, 3_600, 86_400
SESSION_GAP = 30 * MINUTE
"""Seconds from which a gap starts a new session."""
GAP_BOUNDS = {
    "same second": 0,
    "under 10 s": 1,
    "10 s": 10,
    "1 min": MINUTE,
    "5 min": 5 * MINUTE,
    "30 min": SESSION_GAP,
    "2 h": 2 * HOUR,
    "8 h": 8 * HOUR,
    "1 day": DAY,
    "3 days": 3 * DAY,
    "1 week": 7 * DAY,
    "4 weeks": 28 * DAY,
    "13 weeks": 91 * DAY,
    "1 year": 365 * DAY,
}
"""Seconds at which each bar of the histogram begins: steps of three to six times, at human grain."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WHOLE_DAYS = 0.99
"""Share of events at midnight from which the times are dates."""
MIN_INTERVALS = 10
"""Fewest repeats of an item that make an interval typical."""
MAX_ITEMS = 20
"""Items whose typical interval is listed."""


def gaps_of(events: pl.DataFrame) -> pl.Series:
    """Return each event's seconds since the event before it of its user; null for the first of a user.

    >>> gaps_of(pl.DataFrame({"user_id": ["a", "a", "b"], "timestamp": [5, 9, 1]})).to_list()
    [None, 4, None]
    """
    return events.select(gap=pl.col("timestamp").diff().over("user_id")).to_series()


def describe_gaps(events: pl.DataFrame) -> dict[str, Any] | None:
    """Describe the gaps between a user's consecutive events, in seconds; None where nobody has two events."""
    gaps = gaps_of(events).drop_nulls()
    if gaps.is_empty():
        return None
    bounds = list(GAP_BOUNDS.values())
    counts = [
        int(gaps.is_between(low, high, closed="left").sum())
        for low, high in zip(bounds, [*bounds[1:], 2**62], strict=True)
    ]
    return {
        "seconds": quantiles(gaps),
        "histogram": [
            {"label": label, "from_seconds": low, "count": count, "share": round(count / len(gaps), 6)}
            for (label, low), count in zip(GAP_BOUNDS.items(), counts, strict=True)
        ],
    }


def describe_sessions(events: pl.DataFrame) -> dict[str, Any]:
    """Describe sessions: a gap of `SESSION_GAP` seconds or more starts one, as does a user's first event."""
    starts = (gaps_of(events) >= SESSION_GAP).fill_null(True)
    sessions = events.select("user_id", session=starts.cum_sum())
    sizes = sessions.group_by("session").agg(pl.col("user_id").first(), pl.len())
    return {
        "gap_seconds": SESSION_GAP,
        "count": sizes.height,
        "events_per_session": quantiles(sizes["len"]),
        "sessions_per_user": quantiles(sizes.group_by("user_id").len()["len"]),
        "single_event_share": round(share(int((sizes["len"] == 1).sum()), sizes.height), 6),
    }


def describe_rhythm(events: pl.DataFrame) -> dict[str, Any]:
    """Describe hours and weekdays: the share of events in each, and how far from even they are.

    The distance is total variation: the share of events that would have to move for all to be even. Hours are None
    where times are dates.
    """
    times = events["timestamp"]
    dates_only = bool((times % DAY == 0).mean() >= WHOLE_DAYS)  # type: ignore[operator]
    weekdays = shares_of((times // DAY + 3) % 7, 7)  # 1970 began on a Thursday
    hours = None if dates_only else shares_of(times % DAY // HOUR, 24)
    return {
        "hours": hours,
        "hours_from_even": None if hours is None else from_even(hours),
        "hours_absent": "the times are dates, without hours" if dates_only else None,
        "weekdays": dict(zip(WEEKDAYS, weekdays, strict=True)),
        "weekdays_from_even": from_even(weekdays),
    }


def shares_of(codes: pl.Series, num: int) -> list[float]:
    """Return the share of each code 0..num-1.

    >>> shares_of(pl.Series([0, 0, 2, 0]), 3)
    [0.75, 0.0, 0.25]
    """
    return [round(share(int((codes == code).sum()), len(codes)), 6) for code in range(num)]


def from_even(shares: list[float]) -> float:
    """Return the total-variation distance of shares from even ones.

    >>> from_even([0.75, 0.25])
    0.25
    """
    return round(sum(abs(value - 1 / len(shares)) for value in shares) / 2, 6)


def describe_repeats(events: pl.DataFrame, catalog: Catalog) -> dict[str, Any]:
    """Describe events whose user had the item before, and with a clock the days since; per item those repeated often.

    Args:
        events: `user_id`, `item_id`, `timestamp`, users and times ascending.
        catalog: Knows the items' titles.
    """
    since = events.with_columns(seconds=pl.col("timestamp").diff().over("user_id", "item_id"))
    repeats = since.filter(pl.col("seconds").is_not_null())
    result: dict[str, Any] = {
        "count": repeats.height,
        "share": round(share(repeats.height, events.height), 6),
        "users_share": round(share(repeats["user_id"].n_unique(), events["user_id"].n_unique()), 6),
        "days": None,
        "items": None,
    }
    if clock_of(events["timestamp"]) == "ordinal":
        return result
    days = repeats.select("item_id", days=pl.col("seconds") / DAY)
    often = days.group_by("item_id").agg(
        repeats=pl.len(),
        **{
            name: pl.col("days").quantile(level, interpolation="linear")
            for name, level in (("p25", 0.25), ("median", 0.5), ("p75", 0.75))
        },
    )
    often = often.filter(pl.col("repeats") >= MIN_INTERVALS).sort("repeats", "item_id", descending=[True, False])
    result["days"] = quantiles(days["days"])
    result["items_with_interval"] = often.height
    result["median_of_items"] = quantiles(often["median"])
    result["items"] = [
        {
            "item_id": row["item_id"],
            "text": next(iter(catalog.attributes(catalog.index(row["item_id"])).values())),
            "repeats": row["repeats"],
            **{name: round(row[name], 2) for name in ("p25", "median", "p75")},
        }
        for row in often.head(MAX_ITEMS).iter_rows(named=True)
    ]
    return result
