"""Checks of counts: who is unknown to training, and whether the rare were sorted out by looking at the test."""

from __future__ import annotations

import numpy as np
import polars as pl

from llmrec.data.findings import Finding, percent, share
from llmrec.data.split_events import SplitEvents

SURE = 10.0
"""Users or items that must be missing below a minimum count before the gap is taken for no accident.

At 10, 0.8% of 4,000 samples of 20 to 1,000 Poisson counts (means 4 to 50) that nobody had cut were taken for cut.
"""


def cold_targets(data: SplitEvents) -> Finding:
    """Find targets whose item has no training event."""
    found = data.targets.join(data.train, on="item", how="anti", maintain_order="left")
    affected = share(found.height, data.targets.height)
    return Finding(
        "cold_targets",
        found.height,
        data.targets.height,
        "note",
        f"A system that knows items by id alone cannot hit them: its Recall@K cannot exceed {percent(1 - affected)}.",
        data.examples(found.select("user", "item", "timestamp")),
    )


def cold_users(data: SplitEvents) -> Finding:
    """Find test users without a training event."""
    users = data.test.select("user").unique(maintain_order=True)
    found = users.join(data.train, on="user", how="anti", maintain_order="left")
    affected = share(data.targets.join(found, on="user", how="semi").height, data.targets.height)
    return Finding(
        "cold_users",
        found.height,
        users.height,
        "note",
        f"A system with a vector per user has none for {percent(affected)} of the targets; test events with no event "
        f"before them ({data.test.height - data.targets.height:,}) have no history and are not ranked.",
        data.examples(found),
    )


def missing_below(counts: np.ndarray) -> tuple[int, float]:
    """Return the least count, and how many counts just below it were to be expected had nothing been cut off.

    As many counts are looked at below the least one c as above it: w = min(3, c - 1). Where the numbers fall from
    c..c+w-1 to the next w counts, at least the first number is expected below c too. Where they rise, the rise is
    continued downwards, and the steeper it is, the nearer to the quicker fall of a Poisson distribution. Counts of
    which none is twice another show no tail, and nothing is expected.

    Args:
        counts: (number of users or items,) events of each, at least 1.

    >>> missing_below(np.array([5] * 12 + [6] * 10 + [9] * 4 + [30]))
    (5, 22.0)
    >>> missing_below(np.array([2, 3, 3, 3, 3, 4, 4]))[1] < 0.2
    True
    """
    least = int(counts.min())
    width = min(3, least - 1)
    if not width or counts.max() < 2 * least:
        return least, 0.0
    at = int((counts < least + width).sum())
    above = int(((counts >= least + width) & (counts < least + 2 * width)).sum())
    if at >= above:
        return least, float(at)
    rise = at / above
    poisson = ((least - width / 2) / (least + width / 2)) ** width
    return least, at * rise * poisson ** (1 - rise)


def below_core(data: SplitEvents, key: str) -> tuple[int, pl.DataFrame]:
    """Find users or items below a minimum count in training, where with held-out events nobody is below it.

    A sharp lower edge in the counts over all splits is taken for a k-core computed before splitting. Events that
    preparation dropped count as training, for its own k-core looks at nothing else. Does not see a k-core that later
    sampling has blurred.

    Args:
        data: The events.
        key: `user` or `item`.

    Returns:
        The minimum count, and those below it in training with `events` and `training_events`; none without an edge.
    """
    trained = pl.col("split").is_in(["train", "dropped"])
    counts = data.every.group_by(key, maintain_order=True).agg(events=pl.len(), training_events=trained.sum())
    least, missing = missing_below(counts["events"].to_numpy())
    by_protocol = 1
    if key == "user" and data.kind == "leave_one_out":
        by_protocol += data.kept.filter(pl.col("split") != "train")["split"].n_unique()
    edge = missing >= SURE and least > by_protocol
    return least, counts.filter((pl.col("training_events") < least) & edge)


def items_core_fitted_on_test(data: SplitEvents) -> Finding:
    """Find items that held-out events lift to a minimum count."""
    least, found = below_core(data, "item")
    targets = share(data.targets.join(found, on="item", how="semi").height, data.targets.height)
    training = share(data.train.join(found, on="item", how="semi").height, data.train.height)
    return Finding(
        "items_core_fitted_on_test",
        found.height,
        len(data.item_names),
        "warning",
        f"All items have {least} events or more, these only with the held-out ones, so they were sure to come up: they "
        f"hold {percent(training)} of the training events and {percent(targets)} of the targets, and a {least}-core of "
        "training events would leave that share of Recall@K to items without any.",
        data.examples(found),
    )


def users_core_fitted_on_test(data: SplitEvents) -> Finding:
    """Find users that held-out events lift to a minimum count."""
    least, found = below_core(data, "user")
    targets = share(data.targets.join(found, on="user", how="semi").height, data.targets.height)
    lesser = least - data.kept.filter(pl.col("split") != "train")["split"].n_unique()
    same = f"a minimum of {lesser} training events keeps the same users, but " if data.kind == "leave_one_out" else ""
    return Finding(
        "users_core_fitted_on_test",
        found.height,
        data.every["user"].n_unique(),
        "warning",
        f"All users have {least} events or more, these only with the held-out ones: {percent(targets)} of every "
        f"metric's targets are theirs, and none speaks of users with fewer; {same}a k-core usually sorts out items by "
        "their held-out events as well.",
        data.examples(found),
    )
