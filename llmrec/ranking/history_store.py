"""Open histories of many users in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Protocol

from llmrec.ranking.open_history import OpenHistory
from llmrec.text.request import Event


class Opener(Protocol):
    """What opens histories: a `Recommender`."""

    @property
    def version(self) -> Hashable:
        """Whatever changes when its weights or its items do."""
        ...

    def open(self, history: Sequence[Event]) -> OpenHistory:
        """Read a history."""
        ...


class HistoryStore:
    """The open histories of the users seen last, by user, adapter and catalogue.

    A user who comes back with more events has the new ones read alone; one whose history changed, or whose recommender
    did, is read again. Not for several threads at once.

    Args:
        max_histories: how many are kept; the least recently used is given up first. One takes about 5 MB with MiniLM
            and 256 tokens (`Reading`).
    """

    def __init__(self, max_histories: int = 1000) -> None:
        if max_histories < 1:
            raise ValueError(f"max_histories={max_histories!r}: give at least 1.")
        self.max_histories = max_histories
        self._kept: OrderedDict[Hashable, OpenHistory] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def open(self, recommender: Opener, user_id: str, history: Sequence[Event]) -> OpenHistory:
        """Return the user's open history, up to its last event; raises as `Recommender.open`."""
        key = user_id, recommender.version
        kept = self._kept.pop(key, None)
        if kept is None or kept.history != list(history[: len(kept.history)]):
            kept = recommender.open(history)
        for event in history[len(kept.history) :]:
            kept.append(event)
        self._kept[key] = kept
        while len(self._kept) > self.max_histories:
            self._kept.popitem(last=False)
        return kept
