from __future__ import annotations

from pathlib import Path

import polars as pl
from datasets import Features, List, Value

from llmrec.data.histories import USERS_PER_BATCH, group_by_user, read_histories, write_histories


def test_a_file_of_several_batches_comes_back_as_written(tmp_path: Path) -> None:
    users = [f"u{number:05}" for number in range(USERS_PER_BATCH * 2 + 3) for _ in range(number % 3 + 1)]
    events = pl.DataFrame({"user_id": users}).with_row_index("timestamp").cast({"timestamp": pl.Int64})
    events = events.with_columns(item_id=pl.format("i{}", "timestamp"))
    splits = events.select(
        split=pl.when(pl.col("timestamp") % 5 == 0).then(pl.lit("dropped")).otherwise(pl.lit("train"))
    )
    grouped = group_by_user(events, splits)
    write_histories(tmp_path / "histories.arrow", grouped)
    dataset = read_histories(tmp_path / "histories.arrow")
    assert dataset.features == Features(
        user_id=Value("string"),
        item_id=List(Value("string")),
        timestamp=List(Value("int64")),
        split=List(Value("string")),
    )
    assert dataset.cache_files, "memory-mapped"
    expected: dict[str, list[int]] = {}
    for timestamp, user in enumerate(users):
        if timestamp % 5:
            expected.setdefault(user, []).append(timestamp)
    assert dataset["user_id"][:] == list(expected)
    assert dataset["timestamp"][:] == list(expected.values())
    assert dataset["item_id"][7] == [f"i{timestamp}" for timestamp in dataset["timestamp"][7]]


def test_events_keep_the_order_of_the_table() -> None:
    events = pl.DataFrame({"user_id": ["a"] * 3, "item_id": ["9", "1", "5"], "timestamp": [4, 4, 4]})
    grouped = group_by_user(events, pl.DataFrame({"split": ["train", "train", "test"]}))
    assert grouped.rows() == [("a", ["9", "1", "5"], [4, 4, 4], ["train", "train", "test"])]
