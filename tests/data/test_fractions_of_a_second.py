"""Order, duplicates and ties within one second: decided on the times as they were given, in every notation."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.audit import audit
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.files import read_tables
from llmrec.data.ordering import order_events
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.split_events import instants
from llmrec.data.split_files import read_split_files

START = 1_700_000_000
PAGES = [f"page{place}" for place in range(6)]
GAP = 10**8
"""Nanoseconds between two pages: ten in a second."""


def visits(num_users: int = 40) -> pl.DataFrame:
    """Users who see the pages one after another within a second, `ns` as integers, in an order that tells nothing."""
    rows = [
        (f"u{user}", page, (START + 3_600 * user) * 10**9 + GAP * place, page.upper())
        for user in range(num_users)
        for place, page in enumerate(PAGES)
    ]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "ns", "title"], orient="row")
    return table.sample(fraction=1.0, shuffle=True, seed=0)


def moments(unit: str) -> pl.Expr:
    return pl.col("ns").cast(pl.Datetime("ns")).dt.cast_time_unit(unit)


NOTATIONS = {
    "ms": (pl.col("ns") // 10**6, "ms"),
    "us": (pl.col("ns") // 10**3, "us"),
    "ns": (pl.col("ns"), "ns"),
    "ms as texts": ((pl.col("ns") // 10**6).cast(pl.String), "ms"),
    "seconds as floats": (pl.col("ns") / 10**9, None),
    "seconds as decimals": ((pl.col("ns").cast(pl.Decimal(38, 9)) / 10**9), None),
    "seconds as texts": (pl.format("{}.{}", pl.col("ns") // 10**9, pl.col("ns") // 10**8 % 10), None),
    "ISO": (moments("ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"), None),
    "ISO with comma": (moments("ns").dt.strftime("%Y-%m-%d %H:%M:%S%.9f").str.replace(r"\.", ","), None),
    "datetimes in ms": (moments("ms"), None),
    "datetimes in us": (moments("us").dt.replace_time_zone("UTC"), None),
    "datetimes in ns": (moments("ns").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"), None),
}


def prepared(folder: Path, table: pl.DataFrame, kind: str, unit: str | None) -> PreparedData:
    file = folder / "events.parquet"
    table.write_parquet(file)
    with staged_directory(folder / "data") as staging:
        prepare(read_tables(file), staging, SplitSettings(kind=kind), time_unit=unit)
    return PreparedData.open(folder / "data")


@pytest.mark.parametrize("notation", NOTATIONS)
def test_events_within_a_second_keep_their_order(tmp_path: Path, notation: str) -> None:
    times, unit = NOTATIONS[notation]
    data = prepared(tmp_path, visits().with_columns(timestamp=times).drop("ns"), "leave_one_out", unit)
    histories = data.histories()
    assert histories["item_id"][:] == [PAGES] * 40
    assert data.splits.filter(split="test")["item_id"].unique().to_list() == ["page5"]
    assert data.manifest["ties"]["events"] == 0
    assert data.audit is not None
    found = {row["name"] for row in data.audit["findings"]}
    assert not found & {"tied_events", "ambiguous_targets", "simultaneous_training_events", "exact_duplicates"}
    assert Cases.from_histories(histories, data.catalog, "test").tied_event_share == 0
    assert data.interactions["timestamp"].dtype == pl.Int64 and data.interactions["timestamp"].min() == START


def test_only_equal_times_are_ties_and_duplicates(tmp_path: Path) -> None:
    """One user: a and b at the same millisecond, a again one later, the very same event twice, then c and d."""
    times = {"a": [5, 6, 6], "b": [5], "c": [7], "d": [1_000]}
    rows = [("u", item, START * 1_000 + time, item) for item in times for time in times[item]]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "title"], orient="row")
    data = prepared(tmp_path, table, "leave_one_out", "ms")
    steps = {step["name"]: step["dropped"] for step in data.manifest["counts"]["events"]}
    assert steps["exact_duplicate"] == 1 and data.interactions.height == 5
    assert data.manifest["ties"]["events"] == 2
    assert data.histories()["nanosecond"][0] == [5 * 10**6, 5 * 10**6, 6 * 10**6, 7 * 10**6, 0]
    assert Cases.from_histories(data.histories(), data.catalog, "test").tied_event_share == 2 / 5


def test_whole_seconds_are_stored_without_fractions(tmp_path: Path) -> None:
    table = visits(4).select("user_id", "item_id", "title", timestamp=pl.col("ns") // 10**9)
    data = prepared(tmp_path, table, "leave_one_out", None)
    for columns in (data.interactions.columns, data.splits.columns, data.histories().column_names):
        assert "nanosecond" not in columns


def test_a_cut_in_time_leaves_training_strictly_before(tmp_path: Path) -> None:
    """Six events in each of 40 seconds, 0.1 s apart: no second is parted."""
    table = (
        visits().with_columns(timestamp=pl.col("ns"), user_id=pl.concat_str(pl.lit("u"), pl.col("item_id"))).drop("ns")
    )
    data = prepared(tmp_path, table, "temporal", "ns")
    parts = {name: data.splits.filter(split=name)["timestamp"] for name in ("train", "validation", "test")}
    assert parts["train"].max() < parts["validation"].min() and parts["validation"].max() < parts["test"].min()
    assert {len(part) % 6 for part in parts.values()} == {0}


def test_an_audit_of_files_sees_the_future_within_a_second(tmp_path: Path) -> None:
    def findings(train: int, test: int) -> set[str]:
        paths = {"train": tmp_path / "train.csv", "test": tmp_path / "test.csv"}
        for path, time in zip(paths.values(), (train, test), strict=True):
            path.write_text(f"user_id,item_id,timestamp\nu,a{time},{START}.{time:03}\nu,b,{START - 9}.{time:03}\n")
        return {row["name"] for row in audit(read_split_files(paths)[0])["findings"]}

    assert "future_training_events" in findings(train=2, test=1)
    assert "simultaneous_training_events" in findings(train=1, test=1)
    assert not {"simultaneous_training_events", "tied_events"} & findings(train=2, test=1)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 999_999_999])), min_size=1, max_size=12))
def test_instants_compare_as_the_pairs_do(pairs: list[tuple[int, int]]) -> None:
    events = pl.DataFrame(pairs, schema=["timestamp", "nanosecond"], orient="row")
    numbers = instants(events).to_list()
    for first, one in zip(pairs, numbers, strict=True):
        for second, other in zip(pairs, numbers, strict=True):
            assert (first < second, first == second) == (one < other, one == other)
    keyed = events.with_columns(user_id=pl.lit("u"), item_id=pl.lit("i"))
    assert order_events(keyed).select("timestamp", "nanosecond").rows() == sorted(pairs)
