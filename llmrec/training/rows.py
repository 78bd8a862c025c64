"""Rows of users, as `datasets` holds them, become what a trainer reads: windows, counts, and targets to rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.data.directory import MASK_BELOW
from llmrec.data.training_events import TrainingEvents
from llmrec.models.adapter import inner
from llmrec.models.memory import Memory
from llmrec.recommender import Recommender
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.assemble import learn_items
from llmrec.training.dataset import WindowDataset

if TYPE_CHECKING:
    import datasets

COLUMNS = ("user_id", "item_id", "timestamp")


def windows_from(
    rows: datasets.Dataset, recommender: Recommender, args: RecTrainingArguments
) -> tuple[WindowDataset, Memory | None]:
    """Return the windows of users' training events, and what can be remembered of them.

    A recommender that was not trained takes from them how often each of its items is a target, and learns where its
    item projection starts.

    Args:
        rows: One row per user: `user_id`, and lists `item_id`, `timestamp` (seconds, ascending).
        recommender: What is trained.
        args: `mask_seen` is decided here where it is None: by how often an item is repeated.

    Raises:
        ValueError: A column is missing, an item is not in the catalogue, or no user has two events.
    """
    histories = as_histories(rows, "train")
    catalog = recommender.items.catalog
    events = TrainingEvents.from_histories(histories, catalog)
    if args.mask_seen is None:
        repeats = 1 - events.user_counts.sum() / events.counts.sum()
        args.mask_seen = bool(repeats < MASK_BELOW)
    model, arguments = inner(recommender.model), recommender.assembled
    if arguments is not None and not model.rec_items.counts.any():
        counts = events.user_counts if args.mask_seen else events.counts
        model.rec_items.counts.copy_(torch.from_numpy(counts))
        args.set_seed()
        learn_items(recommender, events.items, arguments, args.seed, args.mask_seen, progress=not args.disable_tqdm)
    dataset = WindowDataset(histories, catalog, recommender.processor, first_only=args.mask_seen)
    wanted = arguments is None or arguments.memory
    return dataset, Memory.counted(events) if wanted else None


def cases_from(rows: Any, items: Any) -> Any:
    """Return what is to be ranked: cases as they are, and of rows of users their last events.

    Raises:
        ValueError: A column is missing, an item is not in the catalogue, or no user has two events.
    """
    if not hasattr(rows, "column_names"):
        return rows
    catalog: Catalog = getattr(items, "catalog", items)
    return Cases.from_histories(as_histories(rows, "validation"), catalog, "validation")


def as_histories(rows: datasets.Dataset, last: str) -> datasets.Dataset:
    """Return rows of users with a list `split`: all `train`, but for the last event, which is `last`."""
    if missing := [name for name in COLUMNS if name not in rows.column_names]:
        raise ValueError(
            f"the rows have the columns {', '.join(rows.column_names)} and lack {missing[0]}: give one row per user "
            "with user_id, and lists item_id and timestamp."
        )
    rows = rows.select_columns(list(COLUMNS))
    for user, times in zip(rows["user_id"], rows["timestamp"], strict=True):
        if (np.diff(np.asarray(times)) < 0).any():
            raise ValueError(f"the events of user {user!r} are not in order of time: sort each list by timestamp.")
    splits = [["train"] * (len(times) - 1) + [last] if len(times) else [] for times in rows["timestamp"]]
    return rows.add_column("split", splits)
