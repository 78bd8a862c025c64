from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from datasets import Features, List, Value
from hypothesis import given
from hypothesis import strategies as st
from small_data import histories_of

from llmrec.data.histories import USERS_PER_BATCH, draw_users, group_by_user, read_histories, write_histories


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


@given(number=st.integers(1, 4), seed=st.integers(0, 50))
def test_drawn_users_are_nested_and_can_be_learned_from(number: int, seed: int) -> None:
    rows = {"a": ("xyz", "ttt"), "b": ("xy", "tx"), "c": ("xy", "tt"), "d": ("xyz", "tvt"), "e": ("xyzx", "tttt")}
    histories = histories_of(**rows)
    drawn = draw_users(histories, number, seed)["user_id"]
    assert list(drawn) == sorted(drawn) and len(drawn) == number and "b" not in drawn
    assert set(drawn) <= set(draw_users(histories, min(number + 1, 4), seed)["user_id"])


def test_every_user_is_drawn_by_some_seed_and_no_more_than_there_are() -> None:
    histories = histories_of(a=("xy", "tt"), b=("xy", "tt"), c=("xy", "vx"))
    assert {draw_users(histories, 1, seed)["user_id"][0] for seed in range(20)} == {"a", "b"}
    for number in (0, 3):
        with pytest.raises(ValueError, match=f"{number} users are to be drawn, and 2 have"):
            draw_users(histories, number, 0)
