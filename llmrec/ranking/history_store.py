"""Open histories of many users in bounded memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Protocol

from llmrec.data.processes import Lock
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
    did, is read again. Any number of threads may share a store, but of one user one request at a time: an open history
    that is handed out goes on with the next request.

    Args:
        max_histories: how many are kept; the least recently used is given up first. One takes about 5 MB with MiniLM
            and 256 tokens (`Reading`).
        max_mebibytes: what they may take together, as they were when last asked for; None leaves that to their number.
            The newest is kept whatever it takes.
    """

    def __init__(self, max_histories: int = 1000, max_mebibytes: float | None = None) -> None:
        for name, value in (("max_histories", max_histories), ("max_mebibytes", max_mebibytes)):
            if value is not None and not value >= 1:
                raise ValueError(f"{name}={value!r}: give at least 1.")
        self.max_histories = max_histories
        self.max_mebibytes = math.inf if max_mebibytes is None else max_mebibytes
        self._kept: OrderedDict[Hashable, tuple[OpenHistory, float]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def mebibytes(self) -> float:
        """What the kept histories take together."""
        with self._lock:
            return sum(size for _, size in self._kept.values())

    def open(self, recommender: Opener, user_id: str, history: Sequence[Event]) -> OpenHistory:
        """Return the user's open history, up to its last event; raises as `Recommender.open`."""
        key = user_id, recommender.version
        with self._lock:
            kept, _ = self._kept.pop(key, (None, 0.0))  # what is being read on is nobody else's
        if kept is None or kept.history != list(history[: len(kept.history)]):
            kept = recommender.open(history)
        for event in history[len(kept.history) :]:
            kept.append(event)
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = kept, kept.mebibytes
            taken = self.mebibytes
            while len(self._kept) > 1 and (len(self._kept) > self.max_histories or taken > self.max_mebibytes):
                _, (_, size) = self._kept.popitem(last=False)
                taken -= size
        return kept
