"""What is ranked: the targets of a split, each with the history before it.

A case is a user and a position; its history is everything before that position and its target stands at it. Nothing
after a user's last target is kept, so cases of the validation split hold no test event that comes later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from llmrec.data.histories import indexed_histories, moments_of

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrec.data.catalog import Catalog

SPLITS = ("validation", "test")
MAX_BATCH_SCORES = 2**23
"""Scores that one batch may hold: 32 MiB of float32."""


@dataclass(frozen=True, eq=False)
class Cases:
    """Targets to rank, grouped by user.

    Raises:
        ValueError: If the arrays do not fit each other, or a target has no earlier event.
    """

    users: list[str]
    """`user_id` of each user."""
    items: list[np.ndarray]
    """`item_index` of each user's events in order, each (L,) int64."""
    timestamps: list[np.ndarray]
    """Time of each of those events, each (L,) int64: seconds, or ordinals where the data have no clock."""
    user: np.ndarray
    """(number of cases,) int64: row of the case's user in the lists above."""
    position: np.ndarray
    """(number of cases,) int64: position of the case's target in that row, at least 1."""
    num_items: int
    """Catalogue items, N."""
    split: str
    """Name of the split that the targets come from."""
    num_users_drawn_from: int | None = None
    """Users with a case in the whole split, where only some were drawn."""
    num_without_history: int = 0
    """Targets of the whole split that were kept out because no event precedes them."""
    num_train_events: np.ndarray | None = None
    """(number of users,) int64: training events of each user, where it was counted."""
    tied: list[np.ndarray] | None = None
    """Which events share their full time with a neighbour, each (L,) bool; None where equal `timestamps` are ties."""
    item_ids: Sequence[str] | None = None
    """`item_id` of each catalogue item, (N,), so that lists and scores by id can be ranked; None where not known."""
    asked_at: np.ndarray | None = None
    """(number of cases,) int64: the moment of each request, where it is not the time of the target."""

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.items) == len(self.timestamps):
            raise ValueError(
                f"{len(self.users)} users, {len(self.items)} item rows, {len(self.timestamps)} time rows: give one each"
            )
        for user_id, items, timestamps in zip(self.users, self.items, self.timestamps, strict=True):
            if len(items) != len(timestamps):
                raise ValueError(f"user {user_id!r} has {len(items)} items and {len(timestamps)} times: give one each")
            if len(items) and (items.min() < 0 or items.max() >= self.num_items):
                raise ValueError(f"user {user_id!r} has an item_index outside 0..{self.num_items - 1}")
        if self.user.shape != self.position.shape or self.user.ndim != 1:
            raise ValueError(
                f"user {self.user.shape!r} and position {self.position.shape!r}: give one of each per case"
            )
        if len(self) and (self.user.min() < 0 or self.user.max() >= len(self.users)):
            raise ValueError(f"a case's user lies outside 0..{len(self.users) - 1}, the rows of users")
        lengths = np.array([len(items) for items in self.items], dtype=np.int64)
        wrong = np.flatnonzero((self.position < 1) | (self.position >= lengths[self.user]))
        if wrong.size:
            raise ValueError(
                f"case {wrong[0]} has its target at position {self.position[wrong[0]].item()!r}: "
                "it needs an event before it and must lie in its user's row"
            )

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def from_histories(
        cls, histories: Dataset, catalog: Catalog, split: str, max_users: int | None = None, seed: int = 0
    ) -> Cases:
        """Collect the targets of a split from histories, one row per user.

        Users without a target in the split, or with none that has an earlier event, are left out. Does not check that
        the split follows the clock; the data directory does.

        Args:
            histories: One row per user with `user_id` and the lists `item_id`, `timestamp`, `split`, in order of time.
            catalog: Items that are ranked.
            split: `validation` or `test`.
            max_users: Draw this many of the users with a case, without replacement; `None` for all.
            seed: Seed of that draw. The drawn users keep their order.

        Raises:
            ValueError: If the split is unknown or has no case, an item is not in the catalogue, or `max_users` is not
                positive.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: targets are taken from one of {', '.join(SPLITS)}")
        if max_users is not None and max_users < 1:
            raise ValueError(f"max_users is {max_users!r}: give at least 1, or None for all users")
        users: list[str] = []
        # Items, timestamps, which are tied, target positions, number of training events.
        rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]] = []
        num_without_history = 0
        events = zip(indexed_histories(histories, catalog), moments_of(histories), strict=True)
        for (user_id, items, timestamps, splits), moments in events:
            positions = np.flatnonzero(splits == split)
            num_without_history += int((positions == 0).sum())
            positions = positions[positions > 0]
            if len(positions):
                end = positions[-1] + 1
                users.append(user_id)
                num_train = int((splits == "train").sum())
                rows.append((items[:end].copy(), timestamps[:end].copy(), ties(moments[:end]), positions, num_train))
        if not users:
            raise ValueError(
                f"split {split!r} has no target with an event before it ({num_without_history} without): "
                "choose another split or prepare the data with larger fractions"
            )
        drawn_from = None
        if max_users is not None and max_users < len(users):
            drawn_from = len(users)
            drawn = np.sort(np.random.default_rng(seed).choice(len(users), size=max_users, replace=False))
            users, rows = [users[row] for row in drawn], [rows[row] for row in drawn]
        return cls(
            users=users,
            items=[row[0] for row in rows],
            timestamps=[row[1] for row in rows],
            tied=[row[2] for row in rows],
            user=np.repeat(np.arange(len(users)), [len(row[3]) for row in rows]),
            position=np.concatenate([row[3] for row in rows]),
            num_items=len(catalog),
            item_ids=catalog.ids,
            split=split,
            num_users_drawn_from=drawn_from,
            num_without_history=num_without_history,
            num_train_events=np.array([row[4] for row in rows], dtype=np.int64),
        )

    def take(self, cases: np.ndarray) -> Cases:
        """Return some of the cases, by number (B,), in that order; users and their histories stay as they are."""
        asked_at = None if self.asked_at is None else self.asked_at[cases]
        return replace(self, user=self.user[cases], position=self.position[cases], asked_at=asked_at)

    @cached_property
    def now(self) -> np.ndarray:
        """When each case is asked for, (number of cases,) int64: the time of its target, unless told otherwise."""
        return self._times_at(0) if self.asked_at is None else self.asked_at

    def asked_at_last_event(self) -> Cases:
        """Return the same cases, asked for at the time of the last event before each target."""
        return replace(self, asked_at=self._times_at(-1))

    def _times_at(self, offset: int) -> np.ndarray:
        pairs = zip(self.user, self.position + offset, strict=True)
        return np.array([self.timestamps[user][position] for user, position in pairs], dtype=np.int64)

    @property
    def first_of_each_user(self) -> np.ndarray:
        """Number of the earliest case of each user that has one, (number of such users,) int64, by user."""
        order = np.lexsort((self.position, self.user))
        return order[np.unique(self.user[order], return_index=True)[1]]

    def history(self, case: int) -> np.ndarray:
        """Return the item indices before the target, oldest first, (L,)."""
        return self.items[self.user[case]][: self.position[case]]

    def seen(self, case: int) -> np.ndarray:
        """Return the distinct item indices of the history, sorted."""
        return np.unique(self.history(case))

    @cached_property
    def targets(self) -> np.ndarray:
        """Item index of every target, (number of cases,) int64."""
        pairs = zip(self.user, self.position, strict=True)
        return np.fromiter((self.items[user][position] for user, position in pairs), dtype=np.int64, count=len(self))

    @cached_property
    def repeated(self) -> np.ndarray:
        """Which targets stand in their own history already, (number of cases,) bool; masking makes them misses."""
        return np.array([target in self.history(case) for case, target in enumerate(self.targets)], dtype=bool)

    @property
    def tied_event_share(self) -> float:
        """Share of the events kept here whose time is that of a neighbour, so that their order is a convention."""
        tied = self.tied or [ties(times[:, None]) for times in self.timestamps]
        return sum(int(row.sum()) for row in tied) / max(1, sum(map(len, tied)))


def ties(moments: np.ndarray) -> np.ndarray:
    """Say which of a user's events share their time with a neighbour, (L,) bool.

    Args:
        moments: (L, parts of a time) int64, in order.

    >>> ties(np.array([[5], [7], [7], [9]])).tolist()
    [False, True, True, False]
    """
    same = (np.diff(moments, axis=0) == 0).all(axis=1)
    return np.append(same, False)[: len(moments)] | np.insert(same, 0, False)[: len(moments)]


def case_batches(num_cases: int, num_items: int, max_scores: int = MAX_BATCH_SCORES) -> Iterator[np.ndarray]:
    """Cut the case numbers into runs whose score matrix (B, N) stays below `max_scores` entries.

    A single case is never cut, however large the catalogue.

    >>> [batch.tolist() for batch in case_batches(num_cases=5, num_items=100, max_scores=250)]
    [[0, 1], [2, 3], [4]]
    """
    size = max(1, max_scores // max(1, num_items))
    for start in range(0, num_cases, size):
        yield np.arange(start, min(start + size, num_cases))
