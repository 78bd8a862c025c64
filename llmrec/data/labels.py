"""Ratings become likes and dislikes; what lies between them leaves and is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from llmrec.data.findings import counted, percent, share

CASES = ("all", "last")


@dataclass(frozen=True)
class LabelSettings:
    """Which ratings are likes, which are dislikes, and which events are asked about.

    Attributes:
        like_at_least: Least rating of a like.
        dislike_at_most: Greatest rating of a dislike; None makes every rating below a like one.
        cases: `all`: each event with one before it is asked about; `last`: the last of each user alone.

    Raises:
        ValueError: The thresholds cross, are no numbers, or the cases are unknown.
    """

    like_at_least: float
    dislike_at_most: float | None = None
    cases: str = "all"

    def __post_init__(self) -> None:
        most = -float("inf") if self.dislike_at_most is None else self.dislike_at_most
        if not most < self.like_at_least:
            raise ValueError(
                f"dislike_at_most {self.dislike_at_most!r} is not below like_at_least {self.like_at_least!r}: no "
                "rating can be both;\ngive for example --like_at_least 4 --dislike_at_most 3"
            )
        if self.cases not in CASES:
            raise ValueError(f"cases {self.cases!r} is not one of {', '.join(CASES)}")

    def describe(self) -> dict[str, Any]:
        """Return the settings as they stand in the manifest."""
        return {"like_at_least": self.like_at_least, "dislike_at_most": self.dislike_at_most, "cases": self.cases}


def label_events(events: pl.DataFrame, settings: LabelSettings) -> pl.DataFrame:
    """Keep the likes and dislikes, and say which is which in a column `liked`.

    Args:
        events: Clean events with a `rating`.
        settings: The thresholds.

    Returns:
        The events outside the thresholds, in their order, with `liked` (Boolean).

    Raises:
        ValueError: There is no rating, some are missing or no numbers, or all labels are the same.

    >>> events = pl.DataFrame({"item_id": ["x", "y", "z"], "rating": [4.0, 3.5, 1.0]})
    >>> label_events(events, LabelSettings(like_at_least=4, dislike_at_most=3)).rows()
    [('x', 4.0, True), ('z', 1.0, False)]
    """
    if "rating" not in events.columns:
        raise ValueError(
            f"like_at_least {settings.like_at_least!r} reads ratings, but the events have no column of them;\n"
            "name it with --columns rating=YOUR_COLUMN, or leave out --like_at_least"
        )
    unrated = events["rating"].is_null() | events["rating"].is_nan()
    if unrated.any():
        row = events.filter(unrated).row(0, named=True)
        raise ValueError(
            f"{counted(int(unrated.sum()), 'event')} of {events.height:,} have no number as rating (the first: user "
            f"{row.get('user_id')!r}, item {row.get('item_id')!r});\ntake them out, or leave out --like_at_least"
        )
    liked = pl.col("rating") >= settings.like_at_least
    disliked = ~liked if settings.dislike_at_most is None else pl.col("rating") <= settings.dislike_at_most
    labelled = events.with_columns(liked=liked).filter(liked | disliked)
    if labelled["liked"].n_unique() < 2:
        low, high = events["rating"].min(), events["rating"].max()
        raise ValueError(
            f"ratings from {low!r} to {high!r} give {counted(int(labelled['liked'].sum()), 'like')} of "
            f"{counted(labelled.height, 'label')} with like_at_least {settings.like_at_least!r} and dislike_at_most "
            f"{settings.dislike_at_most!r}:\nboth labels are needed; move the thresholds"
        )
    return labelled


def label_counts(events: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Count events and likes of each split, in the order of the splits.

    Args:
        events: `liked` and `split`.

    >>> label_counts(pl.DataFrame({"liked": [True, False, True], "split": ["train", "train", "test"]}))
    {'train': {'events': 2, 'liked': 1}, 'test': {'events': 1, 'liked': 1}}
    """
    parts = {split: events.filter(split=split)["liked"] for split in ("train", "validation", "test")}
    return {split: {"events": len(liked), "liked": int(liked.sum())} for split, liked in parts.items() if len(liked)}


def labels_table(labels: dict[str, Any]) -> str:
    """Write what the manifest says of the labels, for a terminal.

    >>> counts = {"train": {"events": 8, "liked": 6}}
    >>> print(labels_table({"like_at_least": 4.0, "dislike_at_most": None, "cases": "all", "counts": counts}))
    labels: liked from rating 4.0 on, disliked below it; asked about: every event after a user's first
    train: 6 of 8 liked (75%)
    """
    most = labels["dislike_at_most"]
    below = "below it" if most is None else f"up to {most}"
    asked = "each user's last event" if labels["cases"] == "last" else "every event after a user's first"
    lines = [f"labels: liked from rating {labels['like_at_least']} on, disliked {below}; asked about: {asked}"]
    for split, part in labels["counts"].items():
        rate = percent(share(part["liked"], part["events"]))
        lines.append(f"{split}: {part['liked']:,} of {part['events']:,} liked ({rate})")
    return "\n".join(lines)
