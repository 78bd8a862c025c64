"""Checks of what stands twice: events, pairs of user and item, and moments."""

from __future__ import annotations

import polars as pl

from llmrec.data.findings import Finding, graded, percent, share
from llmrec.data.split_events import SplitEvents


def exact_duplicates(data: SplitEvents) -> Finding:
    """Find events that repeat another in user, item and time."""
    again = ~pl.struct("moment", "pair").is_first_distinct()
    found = data.kept.filter(again)
    tested = share(data.test.filter(again).height, data.test.height)
    return Finding(
        "exact_duplicates",
        found.height,
        data.kept.height,
        "warning",
        f"Each counts again in popularity and in training, and {percent(tested)} of the test events weigh a second "
        "time in every metric.",
        data.examples(found.select("user", "item", "timestamp", "split")),
    )


def identical_events_across_splits(data: SplitEvents) -> Finding:
    """Find test events that also stand in training or validation, and validation events that stand in training."""
    keys = ["moment", "pair"]
    train, validation = data.train.select(keys), data.kept.filter(split="validation")
    both = pl.concat([train, validation.select(keys)])
    found_test = data.test.join(both, on=keys, how="semi", maintain_order="left")
    found = pl.concat([found_test, validation.join(train, on=keys, how="semi", maintain_order="left")])
    affected = share(found_test.height, data.test.height)
    return Finding(
        "identical_events_across_splits",
        found.height,
        data.test.height + validation.height,
        "error",
        f"{percent(affected)} of the test events are in an earlier split to be read off, up to that share of Recall@K; "
        "where seen items are masked they are misses instead.",
        data.examples(found.select("user", "item", "timestamp", "split")),
    )


def repeated_test_pairs(data: SplitEvents) -> Finding:
    """Find targets whose user and item are in training, at another time only."""
    same = data.targets.join(data.train, on=["moment", "pair"], how="anti", maintain_order="left")
    found = same.join(data.train, on="pair", how="semi", maintain_order="left")
    affected = share(found.height, data.targets.height)
    return Finding(
        "repeated_test_pairs",
        found.height,
        data.targets.height,
        "note",
        f"A list of the user's own training items can hit these: {percent(affected)} of Recall@K takes no more than "
        "repeating, unless seen items are masked.",
        data.examples(found.select("user", "item", "timestamp")),
    )


def seen_targets(data: SplitEvents) -> Finding:
    """Find targets whose item an earlier event of the user has."""
    found = data.targets.filter("seen")
    affected = share(found.height, data.targets.height)
    return Finding(
        "seen_targets",
        found.height,
        data.targets.height,
        graded(affected),
        f"Where seen items are masked they count as misses: Recall@K cannot exceed {percent(1 - affected)}.",
        data.examples(found.select("user", "item", "timestamp")),
    )


def repeat_events(data: SplitEvents) -> Finding:
    """Find events whose item the user had before."""
    found = data.kept.filter("seen")
    rate = percent(share(found.height, data.kept.height))
    return Finding(
        "repeat_events",
        found.height,
        data.kept.height,
        "note",
        f"A list of the user's own items can be right on {rate} of the events: where seen items are not masked, "
        "compare with it before crediting Recall@K to a model.",
        data.examples(found.select("user", "item", "timestamp")),
    )


def tied_events(data: SplitEvents) -> Finding:
    """Find events that share their moment with another."""
    found = data.kept.filter(pl.col("num_tied") > 1)
    tied = share(found.height, data.kept.height)
    return Finding(
        "tied_events",
        found.height,
        data.kept.height,
        graded(tied),
        f"For {percent(tied)} of the events the order is a convention; one by file or item id is a pattern that "
        "a model learns and Recall@K rewards, so llmrec orders equal times by a salted hash.",
        data.examples(found.select("user", "item", "timestamp", "num_tied")),
    )


def ambiguous_targets(data: SplitEvents) -> Finding:
    """Find targets that share their moment with another event of the user: which is the next is arbitrary."""
    found = data.targets.filter(pl.col("num_tied") > 1)
    moved = share(found.select((1 - 1 / pl.col("num_tied")).sum()).item(), data.targets.height)
    affected = share(found.height, data.targets.height)
    return Finding(
        "ambiguous_targets",
        found.height,
        data.targets.height,
        graded(affected),
        f"A random order of equal times would put another event in the place of {percent(moved)} of the targets on "
        f"average: at most {percent(affected)} of Recall@K hangs on that order.",
        data.examples(found.select("user", "item", "timestamp", "num_tied")),
    )
