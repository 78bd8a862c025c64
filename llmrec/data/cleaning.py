"""Events made sound: missing keys, impossible times, duplicates and items without text leave, and each is counted."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

import polars as pl

from llmrec.data.schema import OPTIONAL, REQUIRED
from llmrec.data.times import UNIT_LIMIT, to_moments

DAY = 86_400


@dataclass(frozen=True)
class Step:
    """One step of cleaning: how many events it took away, and what was left after it."""

    name: str
    dropped: int
    events: int
    users: int
    items: int


@dataclass
class CleaningReport:
    """The steps of cleaning, in order."""

    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, dropped: int, left: pl.DataFrame) -> None:
        """Record a step that dropped events and left a table."""
        if self.steps and not dropped:
            users, items = self.steps[-1].users, self.steps[-1].items
        else:
            users, items = (left[key].drop_nulls().n_unique() for key in ("user_id", "item_id"))
        self.steps.append(Step(name, dropped, left.height, users, items))

    def as_dicts(self) -> list[dict[str, str | int]]:
        """Return the steps as they stand in the manifest."""
        return [asdict(step) for step in self.steps]

    def __str__(self) -> str:
        """Return a table of the first step and of those that dropped something.

        >>> table = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["1", "1"]})
        >>> report = CleaningReport()
        >>> report.add("read", 0, table)
        >>> report.add("future_time", 1, table.head(1))
        >>> print(report)
        step         dropped  events  users  items
        read               0       2      2      1
        future_time        1       1      1      1
        """
        shown = [step for number, step in enumerate(self.steps) if number == 0 or step.dropped]
        width = max(len(step.name) for step in [*shown, Step("step", 0, 0, 0, 0)])
        lines = [f"{'step':<{width}}  {'dropped':>10}  {'events':>10}  {'users':>9}  {'items':>9}"]
        for step in shown:
            counts = f"{step.dropped:>10,}  {step.events:>10,}  {step.users:>9,}  {step.items:>9,}"
            lines.append(f"{step.name:<{width}}  {counts}")
        return "\n".join(lines)


def as_ids(values: pl.Series) -> pl.Series:
    """Convert ids to strings, blank ones to null; whole floats, as pandas writes columns with gaps, lose the `.0`.

    >>> as_ids(pl.Series([31.0, None])).to_list(), as_ids(pl.Series(["007", " "])).to_list()
    (['31', None], ['007', None])
    """
    if values.dtype.is_float():
        values = values.set(values.is_nan(), None)
        whole = values.cast(pl.Int64, strict=False)
        values = whole if (whole == values).all() else values
    texts = values.cast(pl.String)
    return texts.set(texts.str.strip_chars() == "", None)


def typed_events(interactions: pl.DataFrame, time_unit: str | None) -> pl.DataFrame:
    """Give the columns of events their types; what cannot be read becomes null, `time_given` tells it from missing.

    The time is in `timestamp` (seconds) and `nanosecond` (within the second).

    Raises:
        ValueError: The times are in another unit than said, or none can be read.
        TypeError: The timestamp column cannot hold times.
    """
    columns = [
        as_ids(interactions["user_id"]).alias("user_id"),
        as_ids(interactions["item_id"]).alias("item_id"),
        *to_moments(interactions["timestamp"], time_unit).get_columns(),
        interactions["timestamp"].is_not_null().alias("time_given"),
    ]
    if "left_out" in interactions.columns:
        columns.append(interactions["left_out"])
    for name, kind in OPTIONAL.items():
        if name in interactions.columns:
            values = interactions[name]
            columns.append((as_ids(values) if kind == pl.String else values.cast(kind, strict=False)).alias(name))
    return pl.DataFrame(columns)


def clean_events(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    *,
    time_unit: str | None = None,
    now: int | None = None,
) -> tuple[pl.DataFrame, CleaningReport]:
    """Drop the events that cannot be used, and count them by reason.

    In this order: what the source leaves out, no user, no item, no time, unreadable time, negative time, time counted
    in a finer unit, time more than a day ahead, the same event again (equal in every column carried and in the full
    time), item without text. Does not find bots, and does not order or split events.

    Args:
        interactions: `user_id`, `item_id`, `timestamp` and optional columns, of any type.
        items: The clean items; only their `item_id` is used.
        time_unit: Unit of numeric times (s, ms, us, ns); None means seconds and refuses others.
        now: The present, in seconds since 1970; None asks the clock.

    Returns:
        Events with `user_id`, `item_id`, `timestamp` (Int64 seconds), `nanosecond` (Int64, where any time has a
        fraction of a second) and optional columns, and the report.

    Raises:
        ValueError: The table is empty, the times are in another unit, or no event is left.
        TypeError: The timestamp column cannot hold times.
    """
    if interactions.is_empty():
        raise ValueError("interactions: the table is empty; give at least one event")
    limit = (int(time.time()) if now is None else now) + DAY
    events = typed_events(interactions, time_unit)
    report = CleaningReport()
    report.add("read", 0, events)
    seconds = pl.col("timestamp")
    own_reasons: list[str] = []
    if "left_out" in events.columns:
        own_reasons = events["left_out"].drop_nulls().unique().sort().to_list()
    for name, bad in {
        **{reason: pl.col("left_out").eq_missing(pl.lit(reason)) for reason in own_reasons},
        "missing_user_id": pl.col("user_id").is_null(),
        "missing_item_id": pl.col("item_id").is_null(),
        "missing_timestamp": ~pl.col("time_given"),
        "unreadable_timestamp": seconds.is_null(),
        "negative_time": seconds < 0,
        "wrong_time_unit": seconds >= UNIT_LIMIT,
        "future_time": seconds > limit,
    }.items():
        kept = events.filter(~bad)
        report.add(name, events.height - kept.height, kept)
        events = kept
    events = events.drop("time_given", "left_out", strict=False)
    unique = events.unique(maintain_order=True)
    report.add("exact_duplicate", events.height - unique.height, unique)
    events = unique.join(items.select("item_id"), on="item_id", how="semi")
    report.add("item_without_text", unique.height - events.height, events)
    if events.is_empty():
        reasons = ", ".join(f"{step.name} {step.dropped:,}" for step in report.steps if step.dropped)
        ids = f"{interactions['item_id'].drop_nulls().head(3).to_list()} and {items['item_id'].head(3).to_list()}"
        raise ValueError(
            f"interactions: no event of {interactions.height:,} is left after cleaning ({reasons});\n"
            f"mend the table or the column mapping; item ids of events and of items with text: {ids}"
        )
    fractions = ["nanosecond"] if (events["nanosecond"] != 0).any() else []
    return events.select(*REQUIRED, *fractions, *(name for name in OPTIONAL if name in events.columns)), report
