"""Checks of time: what training knows from after the test, and what the clock can tell at all."""

from __future__ import annotations

import numpy as np
import polars as pl

from llmrec.data.findings import Finding, counted, graded, percent, share
from llmrec.data.split_events import SplitEvents

DAY = 86_400
WHOLE_DAYS = 0.99
SPLIT_NAMES = {"leave_one_out": "leave-one-out", "users": "a split by users"}


def future_training_events(data: SplitEvents) -> Finding:
    """Find training events later than the first test event of their user."""
    first = data.test.group_by("user").agg(test_time=pl.col("timestamp").min(), test_starts=pl.col("instant").min())
    found = data.train.join(first, on="user", maintain_order="left").filter(pl.col("instant") > pl.col("test_starts"))
    latest = data.train.group_by("user").agg(train_ends=pl.col("instant").max())
    harmed = data.test.join(latest, on="user").filter(pl.col("train_ends") > pl.col("instant"))
    affected = share(harmed.height, data.test.height)
    return Finding(
        "future_training_events",
        found.height,
        data.train.height,
        "error",
        f"The future of {counted(harmed['user'].n_unique(), 'user')} crosses the split, for {percent(affected)} of the "
        "test events: up to that share of Recall@K can be remembered from the user's own future instead of forecast.",
        data.examples(found.select("user", "item", "timestamp", "test_time")),
    )


def simultaneous_training_events(data: SplitEvents) -> Finding:
    """Find training events in the moment of a test event of their user."""
    found = data.train.join(data.test, on="moment", how="semi", maintain_order="left")
    harmed = data.test.join(data.train, on="moment", how="semi")
    affected = share(harmed.height, data.test.height)
    return Finding(
        "simultaneous_training_events",
        found.height,
        data.train.height,
        graded(affected),
        f"For {percent(affected)} of the test events training holds another event of the same user and moment: up to "
        "that share of Recall@K rests on a rule for equal times, not on a forecast.",
        data.examples(found.select("user", "item", "timestamp")),
    )


def training_after_test_starts(data: SplitEvents) -> Finding:
    """Find training events later than the first test event, of whatever user."""
    start, median = data.test["instant"].min(), np.median(data.test["instant"].to_numpy())
    found = data.train.filter(pl.col("instant") > start)
    by_construction = f", as {SPLIT_NAMES[data.kind]} has it by construction" if data.crosses_time else ""
    after_median = share(int((data.train["instant"] > median).sum()), data.train.height)
    return Finding(
        "training_after_test_starts",
        found.height,
        data.train.height,
        "note" if data.crosses_time else "warning",
        f"{percent(after_median)} of the training events are later than the median test event"
        f"{by_construction}: systems know coming trends, and a metric "
        "here is no estimate for a deployment, only for comparing systems on this split.",
        data.examples(found.sort("instant", maintain_order=True).select("user", "item", "timestamp")),
    )


def targets_known_only_later(data: SplitEvents) -> Finding:
    """Find targets whose item has training events, but none before the target."""
    first = data.train.group_by("item").agg(
        first_train_time=pl.col("timestamp").min(), known_from=pl.col("instant").min()
    )
    known = data.targets.join(first, on="item", maintain_order="left")
    found = known.filter(pl.col("known_from") > pl.col("instant"))
    affected = share(found.height, data.targets.height)
    return Finding(
        "targets_known_only_later",
        found.height,
        data.targets.height,
        "note" if data.crosses_time else graded(affected),
        f"Nobody could have learned these items by then: up to {percent(affected)} of Recall@K is owed to the future.",
        data.examples(found.select("user", "item", "timestamp", "first_train_time")),
    )


def future_items(data: SplitEvents) -> Finding:
    """Find training items whose first event of all is later than the first test event."""
    first = data.kept.group_by("item", maintain_order=True).agg(
        first_time=pl.col("timestamp").min(), first_instant=pl.col("instant").min()
    )
    known = first.join(data.train, on="item", how="semi", maintain_order="left")
    start = data.test["instant"].min()
    found = known.filter(pl.col("first_instant") > start)
    begun = np.searchsorted(
        np.sort(known["first_instant"].to_numpy()), data.targets["instant"].to_numpy(), side="right"
    )
    unborn = 1 - share(float(begun.mean()) if len(begun) else known.height, known.height)
    return Finding(
        "future_items",
        found.height,
        known.height,
        "note" if data.crosses_time else graded(unborn),
        f"For the average target {percent(unborn)} of the training items were used by nobody before: a system that "
        "tells old items from new gains ranks by leaving them out, and no deployment would offer them.",
        data.examples(found.sort("first_instant", maintain_order=True).drop("first_instant")),
    )


def no_clock(data: SplitEvents) -> Finding:
    """Find times that count events."""
    missing = data.clock == "ordinal"
    return Finding(
        "no_clock",
        data.kept.height if missing else 0,
        data.kept.height,
        "note",
        "Times count events and compare no two users: what training knows from after a test event cannot be measured, "
        "and no metric of this data says anything of gaps or recency.",
    )


def coarse_clock(data: SplitEvents) -> Finding:
    """Find times that are whole days, or one and the same."""
    times = data.kept["timestamp"]
    whole = times.n_unique() == 1 or float((times % DAY == 0).mean() or 0) >= WHOLE_DAYS  # type: ignore[arg-type]
    tied = share(int((data.targets["num_tied"] > 1).sum()), data.targets.height)
    return Finding(
        "coarse_clock",
        data.kept.height if whole and data.clock == "utc" else 0,
        data.kept.height,
        "note",
        f"The order inside a day is lost, with it that of {percent(tied)} of the targets: metrics that rest on the "
        "last events, and gaps under a day, mean little.",
    )
