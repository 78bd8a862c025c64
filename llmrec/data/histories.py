"""Histories: one row per user, all events in order, in Arrow on disk and read through `datasets` without loading it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from llmrec.data.catalog import Catalog
from llmrec.data.schema import MOMENT

if TYPE_CHECKING:
    from datasets import Dataset

USERS_PER_BATCH = 1_000
EXTRA = {"nanosecond": "int64", "liked": "bool"}
"""Lists that only some data have, and the kind of their values."""


def group_by_user(interactions: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Gather each user's events, dropped ones left out, in the order of the table.

    Args:
        interactions: `user_id`, `item_id`, `timestamp`, perhaps `nanosecond` and `liked`, users and times ascending.
        splits: `split` for each row of `interactions`.

    Returns:
        One row per user: `user_id`, and lists `item_id`, `timestamp`, `split`, and those of `nanosecond` and `liked`
        that the events have.

    >>> events = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["2", "1", "2"], "timestamp": [5, 6, 5]})
    >>> splits = pl.DataFrame({"split": ["train", "test", "dropped"]})
    >>> group_by_user(events, splits).rows()
    [('a', ['2', '1'], [5, 6], ['train', 'test'])]
    """
    labels = [name for name in EXTRA if name in interactions.columns]
    labelled = interactions.select("user_id", "item_id", "timestamp", *labels).with_columns(splits["split"])
    kept = labelled.filter(pl.col("split") != "dropped")
    return kept.group_by("user_id", maintain_order=True).agg("item_id", "timestamp", "split", *labels)


def write_histories(path: str | os.PathLike[str], histories: pl.DataFrame) -> None:
    """Write histories as an Arrow stream with the features of `datasets`."""
    import pyarrow as pa
    from datasets import Features, List, Value

    features = Features(
        user_id=Value("string"),
        item_id=List(Value("string")),
        timestamp=List(Value("int64")),
        split=List(Value("string")),
        **{name: List(Value(kind)) for name, kind in EXTRA.items() if name in histories.columns},
    )
    schema = features.arrow_schema
    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for rows in histories.iter_slices(USERS_PER_BATCH):
            writer.write_table(rows.to_arrow().cast(schema))


def read_histories(path: str | os.PathLike[str]) -> Dataset:
    """Open histories memory-mapped: `user_id`, and lists `item_id`, `timestamp` (seconds), `split`; `EXTRA`.

    Raises:
        ValueError: The file is damaged.
    """
    from datasets import Dataset

    histories = Dataset.from_file(os.fspath(path))
    histories.data.validate(full=True)  # Arrow believes what it reads: a wrong offset would lead out of its memory
    return histories


def indexed_histories(histories: Dataset, catalog: Catalog) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each user's id, item indices (int64), timestamps (int64) and splits (str), the last three (L,).

    Raises:
        ValueError: An event's item is not in the catalogue.
    """
    catalog_index = pl.DataFrame({"item_id": catalog.ids, "item_index": np.arange(len(catalog))})
    columns = histories.select_columns(["user_id", "item_id", "timestamp", "split"])
    for table in columns.with_format("arrow").iter(batch_size=USERS_PER_BATCH):
        batch = pl.DataFrame(pl.from_arrow(table))
        events = batch.explode("item_id", "timestamp", "split").join(
            catalog_index, on="item_id", how="left", maintain_order="left"
        )
        unknown = events.filter(pl.col("item_index").is_null())
        if len(unknown):
            raise ValueError(
                f"item {unknown['item_id'][0]!r} of user {unknown['user_id'][0]!r} is not in the catalogue: "
                "every event needs an item with text; prepare the data again"
            )
        arrays = [events[name].to_numpy() for name in ("item_index", "timestamp", "split")]
        ends = np.cumsum(batch["item_id"].list.len().to_numpy())
        for user_id, start, end in zip(batch["user_id"], [0, *ends[:-1]], ends, strict=True):
            items, timestamps, splits = (array[start:end] for array in arrays)
            yield user_id, items, timestamps, splits


def training_histories(histories: Dataset) -> Dataset:
    """Return the training events alone, one row per user that has any: `user_id`, lists `item_id` and `timestamp`."""
    from datasets import Dataset

    columns = histories.select_columns(["user_id", "item_id", "timestamp", "split"]).with_format("arrow")[:]
    events = pl.DataFrame(pl.from_arrow(columns)).explode("item_id", "timestamp", "split")
    train = events.filter(pl.col("split") == "train").drop("split")
    return Dataset(train.group_by("user_id", maintain_order=True).agg("item_id", "timestamp").to_arrow())


def draw_users(histories: Dataset, number: int, seed: int) -> Dataset:
    """Keep the rows of some users, drawn among those with two training events: one to read and one to predict.

    The users of a smaller draw are among those of every larger one of the same seed; rows keep their order.

    Raises:
        ValueError: There are not as many such users.
    """
    able = [row for row, user in enumerate(histories.select_columns(["split"])) if user["split"].count("train") > 1]
    if not 1 <= number <= len(able):
        raise ValueError(
            f"{number!r} users are to be drawn, and {len(able)} have two training events: give 1 to {len(able)} "
            "(--users of transfer, --max_train_users of train)."
        )
    drawn = np.random.default_rng(seed).permutation(able)[:number]
    return histories.select(sorted(drawn.tolist()))


def likes_of(histories: Dataset) -> Iterator[np.ndarray]:
    """Yield which events each user liked, (L,) bool, user by user as `indexed_histories`.

    Raises:
        ValueError: The histories hold no likes and dislikes.
    """
    if "liked" not in histories.column_names:
        raise ValueError(
            "the histories hold no likes and dislikes;\nprepare the data again with --like_at_least, for example 4"
        )
    yield from _lists(histories, "liked")


def moments_of(histories: Dataset) -> Iterator[np.ndarray]:
    """Yield the full time of each user's events, (L, 1 or 2) int64: seconds, and nanoseconds where the data have them.

    User by user as `indexed_histories`. Equal rows are ties.
    """
    names = [name for name in MOMENT if name in histories.column_names]
    for parts in zip(*(_lists(histories, name) for name in names), strict=True):
        yield np.stack(parts, axis=1)


def _lists(histories: Dataset, name: str) -> Iterator[np.ndarray]:
    for table in histories.select_columns([name]).with_format("arrow").iter(batch_size=USERS_PER_BATCH):
        for values in pl.DataFrame(pl.from_arrow(table))[name]:
            yield values.to_numpy()
