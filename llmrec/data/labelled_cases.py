"""What is judged: events whose label is asked for, each with the labelled history before it.

The question "will this user like that item?" is an event with one before it; its history is everything before its
position, its label whether the user liked it. Splits are judged alike, training too, which is where examples come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.cases import Cases
from llmrec.data.histories import indexed_histories, likes_of
from llmrec.data.labels import CASES

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrec.data.catalog import Catalog
    from llmrec.data.directory import PreparedData

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledCases(Cases):
    """Events to judge, grouped by user, as `Cases` with labels; make them with `from_directory`.

    Raises:
        ValueError: If the arrays do not fit each other, or a case has no earlier event.
    """

    liked: list[np.ndarray]
    """Whether the user liked each event of the rows in `items`, each (L,) bool."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if [len(liked) for liked in self.liked] != [len(items) for items in self.items]:
            raise ValueError("liked does not fit items: give one label per event of each user")
        if any(liked.dtype != bool for liked in self.liked):
            raise ValueError("liked holds other values than true and false: give arrays of bool")

    @classmethod
    def from_directory(
        cls, data: PreparedData, split: str, max_users: int | None = None, seed: int = 0
    ) -> LabelledCases:
        """Collect the cases of a split of a data directory, which says itself what is asked about.

        Args:
            data: Prepared with likes and dislikes.
            split: `train`, `validation` or `test`.
            max_users: Draw this many of the users with a case, without replacement; `None` for all.
            seed: Seed of that draw.

        Raises:
            ValueError: If the data hold no labels, the split is unknown or has no case, or `max_users` is not positive.
        """
        cases = data.manifest.get("labels", {}).get("cases", "all")
        return cls.from_histories(data.histories(), data.catalog, split, max_users, seed, cases=cases)

    @classmethod
    def from_histories(
        cls,
        histories: Dataset,
        catalog: Catalog,
        split: str,
        max_users: int | None = None,
        seed: int = 0,
        cases: str = "all",
    ) -> LabelledCases:
        """Collect the cases of a split from histories, one row per user.

        Users without a case in the split are left out, and of the others everything after their last one.

        Args:
            histories: One row per user with `user_id` and the lists `item_id`, `timestamp`, `split`, `liked`.
            catalog: The items.
            split: `train`, `validation` or `test`.
            max_users: Draw this many of the users with a case, without replacement; `None` for all.
            seed: Seed of that draw. The drawn users keep their order.
            cases: `all` events of the split with an event before them, or each user's `last` event alone.

        Raises:
            ValueError: If there are no labels, an argument is out of range, the split has no case, or an item is not in
                the catalogue.
        """
        for name, value, known in (("split", split, SPLITS), ("cases", cases, CASES)):
            if value not in known:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(known)}")
        if max_users is not None and max_users < 1:
            raise ValueError(f"max_users is {max_users!r}: give at least 1, or None for all users")
        # User, items, timestamps, labels, positions of the cases, number of training events.
        rows: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]] = []
        num_without_history = 0
        events = zip(indexed_histories(histories, catalog), likes_of(histories), strict=True)
        for (user_id, items, timestamps, splits), liked in events:
            asked = splits == split
            if cases == "last":
                asked[:-1] = False
            num_without_history += int(asked[0])
            positions = np.flatnonzero(asked[1:]) + 1
            if len(positions):
                end = positions[-1] + 1
                own = (items[:end].copy(), timestamps[:end].copy(), liked[:end].copy())
                rows.append((user_id, *own, positions, int((splits == "train").sum())))
        if not rows:
            raise ValueError(
                f"split {split!r} has no labelled event with an event before it ({num_without_history} without): "
                "choose another split or prepare the data with larger fractions"
            )
        drawn_from = None
        if max_users is not None and max_users < len(rows):
            drawn_from = len(rows)
            drawn = np.sort(np.random.default_rng(seed).choice(len(rows), size=max_users, replace=False))
            rows = [rows[row] for row in drawn]
        return cls(
            users=[row[0] for row in rows],
            items=[row[1] for row in rows],
            timestamps=[row[2] for row in rows],
            liked=[row[3] for row in rows],
            user=np.repeat(np.arange(len(rows)), [len(row[4]) for row in rows]),
            position=np.concatenate([row[4] for row in rows]),
            num_items=len(catalog),
            split=split,
            num_users_drawn_from=drawn_from,
            num_without_history=num_without_history,
            num_train_events=np.array([row[5] for row in rows], dtype=np.int64),
        )

    def take(self, cases: np.ndarray) -> LabelledCases:
        """Return some of the cases, by number (B,), in that order; users and their histories stay as they are."""
        return replace(self, user=self.user[cases], position=self.position[cases])

    def draw(self, num_examples: int, seed: int) -> LabelledCases:
        """Draw cases for few-shot training, without replacement, every case as likely as every other.

        Labels come as they fall, and a user with many events is drawn more often. Of one seed, a smaller draw is part
        of every larger one, so that a curve over their sizes adds examples and exchanges none.

        Args:
            num_examples: Cases to draw.
            seed: Seed of the draw.

        Raises:
            ValueError: If there are not as many cases.
        """
        if not 1 <= num_examples <= len(self):
            raise ValueError(f"num_examples {num_examples!r} of {len(self):,} cases cannot be drawn; give fewer")
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:num_examples]))

    @cached_property
    def labels(self) -> np.ndarray:
        """Whether the user liked the item in question, (number of cases,) bool."""
        pairs = zip(self.user, self.position, strict=True)
        return np.fromiter((self.liked[user][position] for user, position in pairs), dtype=bool, count=len(self))

    def history_liked(self, case: int) -> np.ndarray:
        """Return which events before the case were liked, oldest first, (L,) bool."""
        return self.liked[self.user[case]][: self.position[case]]

    @property
    def shown_events(self) -> tuple[np.ndarray, np.ndarray]:
        """All that these cases show, histories and answers, each event once: items (E,) int64 and labels (E,) bool."""
        users, last = np.unique(self.user), np.zeros(len(self.users), dtype=np.int64)
        np.maximum.at(last, self.user, self.position)
        items, liked = ([rows[user][: last[user] + 1] for user in users] for rows in (self.items, self.liked))
        return np.concatenate(items), np.concatenate(liked)
