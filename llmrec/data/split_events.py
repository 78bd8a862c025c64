"""A split data set as an audit reads it: events in order, users and items as integers, and who is a target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from llmrec.data.findings import MAX_EXAMPLES
from llmrec.data.ordering import moment_columns, tie_keys
from llmrec.data.schema import SPLITS
from llmrec.data.times import clock_of, iso

SPLIT = pl.Enum(SPLITS)


def numbered(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Number texts by their first appearance.

    >>> codes, names = numbered(pl.Series(["b", "a", "b"]))
    >>> codes.to_list(), names.to_list()
    ([0, 1, 0], ['b', 'a'])
    """
    names = values.unique(maintain_order=True)
    codes = pl.int_range(len(names), dtype=pl.UInt32, eager=True)
    return values.replace_strict(names, codes, return_dtype=pl.UInt32), names


def ordered(splits: pl.DataFrame) -> pl.DataFrame:
    """Sort the events of several files by user, time and the tie key of `ordering`, then by split.

    The result does not depend on the order of the rows given.
    """
    keyed = splits.with_columns(tie_keys(splits), splits["split"].cast(SPLIT))
    return keyed.sort("user_id", *moment_columns(splits), "tie_key", "split").drop("tie_key")


def instants(events: pl.DataFrame) -> pl.Series:
    """Return numbers that compare as the full times do: the seconds, or ranks where times have fractions.

    >>> instants(pl.DataFrame({"timestamp": [7, 7, 8], "nanosecond": [5, 0, 0]})).to_list()
    [1, 0, 2]
    """
    if len(names := moment_columns(events)) == 1:
        return events["timestamp"].alias("instant")
    distinct = events.select(names).unique().sort(names).with_columns(instant=pl.int_range(pl.len(), dtype=pl.Int64))
    return events.select(names).join(distinct, on=names, maintain_order="left")["instant"]


def kind_of(kept: pl.DataFrame) -> str:
    """Say how events were parted.

    `temporal`: training is over when the test starts. `users`: no user has events in both. `leave_one_out`: most users
    have one test event, none more. Else `other`.

    >>> times = {"instant": [1, 2, 1, 3], "user": [0, 0, 1, 1], "split": ["train", "test"] * 2}
    >>> kind_of(pl.DataFrame(times)), kind_of(pl.DataFrame({**times, "instant": [1, 4, 2, 1]}))
    ('temporal', 'leave_one_out')
    """
    train, test = kept.filter(split="train"), kept.filter(split="test")
    if train.select(pl.col("instant").max()).item() < test.select(pl.col("instant").min()).item():
        return "temporal"
    if test.join(train, on="user", how="semi").is_empty():
        return "users"
    most = test.height > train["user"].n_unique() / 2
    return "leave_one_out" if most and test["user"].is_unique().all() else "other"


@dataclass(frozen=True, eq=False)
class SplitEvents:
    """Events and the split of each.

    A target is a test event whose user has an earlier event, as in evaluation, or a training event at all, as systems
    read that train on the future; its history is all of those.

    Args:
        events: `user_id`, `item_id`, `timestamp`, perhaps `nanosecond`, `split`, users and times ascending, each
            user's in their order.
        split_kind: `temporal`, `leave_one_out` or `users` where it is known; None infers it.

    Raises:
        ValueError: No event trains, or none is a test event.
    """

    events: pl.DataFrame
    split_kind: str | None = None

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            if split not in self.events["split"]:
                raise ValueError(
                    f"no event of {self.events.height:,} is in the {split} split; an audit compares the two"
                )

    @cached_property
    def clock(self) -> str:
        """`utc`, or `ordinal` where times only count events."""
        return clock_of(self.events["timestamp"])

    @cached_property
    def kind(self) -> str:
        """`temporal`, `leave_one_out`, `users` or `other`."""
        return self.split_kind or kind_of(self.kept)

    @property
    def crosses_time(self) -> bool:
        """Whether the split by its nature trains on events later than some test events."""
        return self.kind in ("leave_one_out", "users")

    @cached_property
    def _numbered(self) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
        users, user_names = numbered(self.events["user_id"])
        items, item_names = numbered(self.events["item_id"])
        times = [self.events["timestamp"], instants(self.events)]
        columns = [users.alias("user"), items.alias("item"), *times, self.events["split"].cast(SPLIT)]
        return pl.DataFrame(columns), user_names, item_names

    @property
    def every(self) -> pl.DataFrame:
        """All events, dropped ones too: `user`, `item`, `timestamp`, `instant`, `split`."""
        return self._numbered[0]

    @property
    def item_names(self) -> pl.Series:
        """`item_id` of each `item`."""
        return self._numbered[2]

    @cached_property
    def kept(self) -> pl.DataFrame:
        """The events of the splits, in order.

        `user`, `item` (UInt32), `timestamp` (seconds), `instant` (compares as the full time), `split`, `pair` (one
        number per user and item), `moment` (one per user and instant), `num_tied` (events of the moment), `first` (no
        event of the user precedes) and `seen` (a preceding event of the user has the item).
        """
        new_user = pl.col("user") != pl.col("user").shift(1)
        new_time = pl.col("instant") != pl.col("instant").shift(1)
        kept = self.every.filter(pl.col("split") != "dropped").with_columns(
            pair=pl.col("user").cast(pl.UInt64) * 2**32 + pl.col("item"),
            moment=(new_user | new_time).fill_null(True).cast(pl.UInt32).cum_sum(),
            first=new_user.fill_null(True),
        )
        return kept.with_columns(num_tied=pl.len().over("moment"), seen=~pl.col("pair").is_first_distinct())

    @cached_property
    def train(self) -> pl.DataFrame:
        """The training events."""
        return self.kept.filter(split="train")

    @cached_property
    def test(self) -> pl.DataFrame:
        """The test events, those that open their user's history too."""
        return self.kept.filter(split="test")

    @cached_property
    def targets(self) -> pl.DataFrame:
        """The test events with a history; `seen` where any event of it has the item."""
        users, pairs = (self.train[name].unique().implode() for name in ("user", "pair"))
        found = self.test.filter(~pl.col("first") | pl.col("user").is_in(users))
        return found.with_columns(seen=pl.col("seen") | pl.col("pair").is_in(pairs))

    def time(self, timestamp: int) -> str | int:
        """Write a timestamp as a reader wants it: in ISO 8601, or the ordinal."""
        return iso(timestamp) if self.clock == "utc" else timestamp

    def examples(self, rows: pl.DataFrame) -> list[dict[str, Any]]:
        """Describe the first rows: names for `user` and `item`, times for `timestamp` and `*_time`, else as it is."""
        _, user_names, item_names = self._numbered
        described = []
        for row in rows.head(MAX_EXAMPLES).iter_rows(named=True):
            example: dict[str, Any] = {}
            for name, value in row.items():
                if name == "user":
                    example["user_id"] = user_names[value]
                elif name == "item":
                    example["item_id"] = item_names[value]
                elif name == "timestamp":
                    example["time"] = self.time(value)
                else:
                    example[name] = self.time(value) if name.endswith("_time") else value
            described.append(example)
        return described

    def counts(self) -> dict[str, Any]:
        """Count events, users and items of each split, and the targets."""
        sizes = self.every.group_by("split").agg(
            events=pl.len(), users=pl.col("user").n_unique(), items=pl.col("item").n_unique()
        )
        by_split = {row.pop("split"): row for row in sizes.sort("split").to_dicts()}
        return {"splits": by_split, "targets": self.targets.height}
