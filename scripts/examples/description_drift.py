"""Drift: how the shares of categories move from month to month, beside how far chance alone would move them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from llmrec.data.catalog import Catalog

ATTRIBUTES = ("category", "genres", "department", "brand", "author", "artist", "tags")
"""Attributes that sort items, the best known first."""
LISTS = ("genres", "tags")
"""Attributes that hold several values, joined by a comma; an event counts for each in equal parts."""
MIN_COVERAGE = 0.5
"""Share of the items that must have an attribute before it is chosen."""
MIN_MONTH_EVENTS = 50
"""Months with fewer events are left out: their shares are chance."""
MAX_VALUES = 8
"""Categories shown one by one."""


def choose_attribute(catalog: Catalog) -> str | None:
    """Choose the first attribute of `ATTRIBUTES` that enough items have and that sorts them; None if there is none.

    >>> frame = pl.DataFrame({"item_id": ["1", "2", "3"], "title": ["a", "b", "c"], "brand": ["x", "y", None]})
    >>> choose_attribute(Catalog(frame))
    'brand'
    """
    for name in ATTRIBUTES:
        if name in catalog.frame.columns:
            values = catalog.frame[name].drop_nulls()
            if len(values) >= MIN_COVERAGE * len(catalog) and 2 <= values.n_unique() < len(catalog):
                return name
    return None


def values_of(catalog: Catalog, attribute: str) -> pl.DataFrame:
    """Return `item_id`, `value` and its `weight` in the item; a list's values share the item equally.

    Raises:
        ValueError: The items have no such attribute.
    """
    known = [name for name in catalog.frame.columns if name != "item_id"]
    if attribute not in known:
        raise ValueError(f"attribute {attribute!r} is not one of the items' {', '.join(known)}")
    values = catalog.frame.select("item_id", value=attribute).drop_nulls()
    if attribute in LISTS:
        values = values.with_columns(pl.col("value").str.split(", ")).explode("value")
    return values.with_columns(weight=1 / pl.len().over("item_id"))


def describe_drift(events: pl.DataFrame, catalog: Catalog, attribute: str) -> dict[str, Any] | None:
    """Describe the months' shares of an attribute and the distance of each month from the one before it.

    Args:
        events: `item_id` and `timestamp` in seconds, UTC.
        catalog: Has the attribute.
        attribute: Column of the items.

    Returns:
        `months` with shares of the most frequent values, `distances` of consecutive months (total variation over all
        values: the share of events that would have to be of another value) with what chance alone would give, and
        their means; None with fewer than two months.

    Raises:
        ValueError: The items have no such attribute.
    """
    told = events.select("item_id", month=pl.from_epoch("timestamp").dt.strftime("%Y-%m"))
    weighted = told.join(values_of(catalog, attribute), on="item_id")
    sizes = weighted.group_by("month").agg(events=pl.col("weight").sum()).sort("month")
    kept = sizes.filter(pl.col("events") >= MIN_MONTH_EVENTS)
    if kept.height < 2:
        return None
    weighted = weighted.join(kept.select("month"), on="month", how="semi")
    totals = weighted.group_by("value").agg(pl.col("weight").sum()).sort("weight", "value", descending=[True, False])
    names, months = totals["value"].to_list(), kept["month"].to_list()
    cells = weighted.group_by("month", "value").agg(pl.col("weight").sum())
    counts = np.zeros((len(months), len(names)))
    row = cells["month"].replace_strict(months, list(range(len(months))), return_dtype=pl.Int64)
    column = cells["value"].replace_strict(names, list(range(len(names))), return_dtype=pl.Int64)
    counts[row.to_numpy(), column.to_numpy()] = cells["weight"].to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True)
    distances = [
        {
            "month": month,
            "distance": round(total_variation(before, after), 6),
            "by_chance": round(chance_distance(first, second), 6),
        }
        for month, before, after, first, second in zip(months[1:], shares, shares[1:], counts, counts[1:], strict=False)
    ]
    return {
        "attribute": attribute,
        "num_values": len(names),
        "coverage": round(float(sizes["events"].sum()) / events.height, 6),
        "values": names[:MAX_VALUES],
        "months": [
            {"month": month, "events": round(float(size), 2), "shares": [round(float(value), 6) for value in values]}
            for month, size, values in zip(months, counts.sum(axis=1), shares[:, :MAX_VALUES], strict=True)
        ],
        "months_left_out": sizes.height - kept.height,
        "distances": distances,
        "mean_distance": round(float(np.mean([entry["distance"] for entry in distances])), 6),
        "mean_by_chance": round(float(np.mean([entry["by_chance"] for entry in distances])), 6),
        "first_to_last": round(total_variation(shares[0], shares[-1]), 6),
    }


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Return half the sum of absolute differences of two distributions, between 0 and 1.

    >>> total_variation(np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    0.25
    """
    return float(np.abs(first - second).sum() / 2)


def chance_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation expected of two samples of one distribution, if all events were independent.

    Each share's difference is about normal with variance p (1 - p) (1/n + 1/m), and a normal's mean absolute value is
    √(2/π) of its deviation. Events of one person resemble each other, so real months differ by more even without drift.

    Args:
        first: Counts of one sample.
        second: Counts of the other.

    >>> round(chance_distance(np.array([50, 50]), np.array([50, 50])), 4)
    0.0564
    """
    pooled = (first + second) / (first.sum() + second.sum())
    deviation = np.sqrt(pooled * (1 - pooled) * (1 / first.sum() + 1 / second.sum()))
    return float(np.sqrt(2 / np.pi) * deviation.sum() / 2)
