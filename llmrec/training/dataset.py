"""Training examples: the windows of all users' training events, each target trained once per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from torch.utils.data import Dataset

from llmrec.data.catalog import Catalog
from llmrec.losses.catalogue import IGNORED
from llmrec.text.batch import Pass
from llmrec.text.processor import Processor
from llmrec.text.windows import Window

if TYPE_CHECKING:
    import datasets


class Example(TypedDict):
    """One window: the pass, the item after each of its events (L,), or `IGNORED`, and what each counts, or None."""

    row: Pass
    labels: np.ndarray
    weights: np.ndarray | None


class WindowDataset(Dataset):
    """Windows over the training events of histories that stay in Arrow; text is made when a window is asked for.

    Args:
        histories: one row per user with `item_id`, `timestamp` and `split`.
        catalog: the items.
        processor: writes and cuts the text.
        overlap: share of a window's text that the next one reads again, as context that is not trained twice. Zero
            reads no event twice; serving keeps more (`RecommenderConfig.window_overlap`).
        max_train_events: newest training events kept of each user, or None for all.
        last_positions: newest positions of each user that are trained, or None for all; older events are read.
        recency_half_life: events after which a position counts half as much; None lets all count alike. Weights are
            scaled to a mean of one over an epoch's positions, so that learning rates keep their meaning.
        first_only: train on an item's first event of a user alone, for rankings that leave seen items out: what they
            never show need not be predicted.

    Raises:
        ValueError: if no user has two training events with a target among them, or a setting allows none.
    """

    def __init__(
        self,
        histories: datasets.Dataset,
        catalog: Catalog,
        processor: Processor,
        overlap: float = 0.0,
        max_train_events: int | None = None,
        first_only: bool = False,
        last_positions: int | None = None,
        recency_half_life: float | None = None,
    ) -> None:
        if max_train_events is not None and max_train_events < 2:
            raise ValueError(f"max_train_events={max_train_events!r}: give at least 2, one to read and one to predict.")
        if last_positions is not None and last_positions < 1:
            raise ValueError(f"last_positions={last_positions!r}: give at least 1, or leave it out to train all.")
        if recency_half_life is not None and not recency_half_life > 0:
            raise ValueError(f"recency_half_life={recency_half_life!r}: give more than 0 events, or leave it out.")
        self.recency_half_life = recency_half_life
        self.catalog = catalog
        self.processor = processor
        self.items: list[np.ndarray] = []
        self.timestamps: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.windows: list[tuple[int, Window]] = []
        lengths: list[int] = []
        for row in histories.select_columns(["item_id", "timestamp", "split"]):
            kept = [position for position, split in enumerate(row["split"]) if split == "train"]
            newest = slice(None if max_train_events is None else -max_train_events, None)
            items = np.array([catalog.index(row["item_id"][position]) for position in kept], dtype=np.int64)
            labels = items.copy()
            if first_only:
                labels[~np.isin(np.arange(len(items)), np.unique(items, return_index=True)[1])] = IGNORED
            items, labels = items[newest], labels[newest]
            labels[: 0 if last_positions is None else -last_positions] = IGNORED
            if len(items) < 2:
                continue
            timestamps = np.array([row["timestamp"][position] for position in kept[newest]], dtype=np.int64)
            # The last event is only a target: no state after it is trained.
            blocks = processor.blocks(items[:-1], timestamps[:-1], catalog)
            windows = processor.windows(blocks, overlap)
            windows = [window for window in windows if (labels[window.first + 1 : window.end + 1] != IGNORED).any()]
            if not windows:
                continue
            self.windows += [(len(self.items), window) for window in windows]
            rows = [self._read(items, timestamps, labels, blocks, window)[0] for window in windows]
            lengths += map(processor.num_tokens, rows)
            self.items.append(items)
            self.labels.append(labels)
            self.timestamps.append(timestamps)
        if not self.windows:
            repeats = ", or all repeat an item: train with --mask_seen false" if first_only else ""
            raise ValueError(f"no user has two training events{repeats}: nothing to learn from.\nPrepare more data.")
        self.lengths = np.array(lengths)
        """Tokens of each window."""
        counted = [self._recency(len(labels))[1:][labels[1:] != IGNORED] for labels in self.labels]
        self._scale = 1 / float(np.concatenate(counted).mean())

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def num_targets(self) -> int:
        """Positions trained in one epoch."""
        return sum(int((labels[1:] != IGNORED).sum()) for labels in self.labels)

    def __getitem__(self, index: int) -> Example:
        user, window = self.windows[index]
        items, timestamps = self.items[user], self.timestamps[user]
        blocks = self.processor.blocks(items[: window.end], timestamps[: window.end], self.catalog)
        row, labels = self._read(items, timestamps, self.labels[user], blocks, window)
        weights = None
        if self.recency_half_life is not None:
            weights = (self._scale * self._recency(len(items))[row.offset + 1 : window.end + 1]).astype(np.float32)
        return Example(row=row, labels=labels, weights=weights)

    def _recency(self, length: int) -> np.ndarray:
        """Return what each event of a user counts as a target, (L,), before scaling: one for the newest."""
        age = np.arange(length)[::-1]
        return 0.5 ** (age / (self.recency_half_life or np.inf))

    def _read(
        self,
        items: np.ndarray,
        timestamps: np.ndarray,
        labels: np.ndarray,
        blocks: Sequence[Sequence[int]],
        window: Window,
    ) -> tuple[Pass, np.ndarray]:
        """Read one window; every trained position is asked at the time of the event that comes next."""
        row = self.processor.read(items[: window.end], blocks, window, timestamps[: window.end])
        wanted = np.full(len(row.items), IGNORED, dtype=np.int64)
        wanted[row.first :] = labels[row.offset + row.first + 1 : window.end + 1]
        trained = np.flatnonzero(wanted != IGNORED)
        row = self.processor.ask(row, timestamps, trained, timestamps[row.offset + trained + 1])
        return row, wanted
