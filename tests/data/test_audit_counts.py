"""Cold users and items, and k-cores that counted held-out events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_splits import START, findings_of, tally

from llmrec.data.audit import audit
from llmrec.data.audit_counts import SURE, missing_below
from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables
from llmrec.data.split_events import SplitEvents
from llmrec.data.splitting import leave_one_out_split, temporal_cuts, temporal_split

CORES = ("items_core_fitted_on_test", "users_core_fitted_on_test")


def test_targets_of_items_and_users_that_training_does_not_know() -> None:
    found = findings_of("ann:a0t ann:b5x ann:c6x ben:b0t ben:a6x eve:a5v eve:b6x fay:a7x fay:b8x")
    # targets: ann's two, ben's one, eve's one, fay's second; her first has no history
    assert tally(found["cold_targets"]) == (1, 5, "note") and "80%" in found["cold_targets"]["effect"]
    assert tally(found["cold_users"]) == (2, 4, "note")
    assert "40% of the targets" in found["cold_users"]["effect"] and "(1)" in found["cold_users"]["effect"]
    assert found["cold_users"]["examples"] == [{"user_id": "eve"}, {"user_id": "fay"}]


def random_events(num_users: int = 400, num_items: int = 1000, seed: int = 0) -> pl.DataFrame:
    """Events of long-tailed users and items, one a minute, sorted by user and time."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        length = min(60, 1 + int(random.pareto(0.9) * 3))
        items = np.unique((num_items * random.random(2 * length) ** 4).astype(int))[:length]
        rows += [(f"u{user}", f"i{item}") for item in random.permutation(items)]
    times = START + 60 * random.permutation(len(rows))
    events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(timestamp=times)
    return events.sort("user_id", "timestamp")


def core(events: pl.DataFrame, least: int, keys: tuple[str, ...] = ("user_id", "item_id")) -> pl.DataFrame:
    """The k-core of all events, as published data sets often come."""
    while True:
        kept = events.filter(pl.all_horizontal(pl.len().over(key) >= least for key in keys))
        if kept.height == events.height:
            return kept
        events = kept


def labelled(events: pl.DataFrame, kind: str) -> pl.DataFrame:
    if kind == "leave_one_out":
        return events.with_columns(leave_one_out_split(events["user_id"]).alias("split"))
    cuts = temporal_cuts(events["timestamp"], 0.1, 0.1)
    return events.with_columns(temporal_split(events["timestamp"], *cuts).alias("split"))


@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
@pytest.mark.parametrize("seed", range(3))
def test_a_core_of_all_events_is_found(kind: str, seed: int) -> None:
    splits = labelled(core(random_events(seed=seed), 5), kind)
    found = {row["name"]: row for row in audit(SplitEvents(splits))["findings"]}
    for name, key in zip(CORES, ("item_id", "user_id"), strict=True):
        trained = splits.group_by(key).agg((pl.col("split") == "train").sum())
        below = trained.filter(pl.col("split") < 5)[key].to_list()
        assert tally(found[name]) == (len(below), trained.height, "warning")
        assert "5 events or more" in found[name]["effect"]
        assert all(example[key] in below and example["training_events"] < 5 for example in found[name]["examples"])
        targets = splits.filter(split="test")
        share = targets[key].is_in(below).mean()
        assert f"{share:.1%}".replace(".0%", "%") in found[name]["effect"]
    lesser = "a minimum of 3 training events keeps the same users"
    assert (lesser in found["users_core_fitted_on_test"]["effect"]) == (kind == "leave_one_out")


@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
@pytest.mark.parametrize("seed", range(3))
def test_events_without_a_core_and_with_one_on_training_events_alone_pass(tmp_path: Path, kind: str, seed: int) -> None:
    events = random_events(seed=seed)
    items = events.select("item_id").unique().with_columns(title=pl.concat_str(pl.lit("item "), "item_id"))
    for number, least in enumerate((0, 3, 5)):
        settings = SplitSettings(kind=kind, min_user_events=least, min_item_events=least)
        with staged_directory(tmp_path / str(number)) as staging:
            prepare(RawTables(events, items, "files", "", "", {}), staging, settings)
        found = PreparedData.open(tmp_path / str(number)).audit
        assert found is not None
        assert not {row["name"] for row in found["findings"]} & set(CORES)
        assert not [row for row in found["findings"] if row["severity"] == "error"]


@pytest.mark.parametrize("mean", [4, 10, 20, 50])
@pytest.mark.parametrize("seed", range(5))
def test_counts_that_nobody_cut_show_no_sharp_edge(mean: int, seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(mean, 2000)
    assert missing_below(counts[counts > 0])[1] < SURE


def test_a_core_is_found_behind_preparations_own(tmp_path: Path) -> None:
    events = core(random_events(), 5)
    items = events.select("item_id").unique().with_columns(title=pl.concat_str(pl.lit("item "), "item_id"))
    with staged_directory(tmp_path / "data") as staging:
        prepare(RawTables(events, items, "files", "", "", {}), staging, SplitSettings(min_item_events=4))
    found = PreparedData.open(tmp_path / "data").audit
    assert found is not None and set(CORES) <= {row["name"] for row in found["findings"]}


def test_the_three_events_that_leave_one_out_needs_are_no_core() -> None:
    splits = labelled(core(random_events(), 3, ("user_id",)), "leave_one_out")
    assert splits.group_by("user_id").len()["len"].min() == 3
    names = {row["name"] for row in audit(SplitEvents(splits))["findings"]}
    assert not names & set(CORES)


@pytest.mark.parametrize(
    ("counts", "least", "missing"),
    [
        ([5] * 12 + [6] * 10 + [8] * 9 + [30], 5, 22.0),  # a falling tail cut off
        ([4] * 10 + [6] * 20 + [9] * 40, 4, 30 * 0.75 * (2.5 / 5.5) ** (3 / 4)),  # a rising one dies out by itself
        ([2] * 3 + [3] * 4 + [4] * 9, 2, 3 * 0.75 * (1.5 / 2.5) ** (1 / 4)),  # one count below two, one at, one above
        ([7] * 50, 7, 0.0),  # all equal: no tail
        ([7] * 50 + [13], 7, 0.0),  # nearly
        ([1] * 90 + [2] * 40, 1, 0.0),  # nothing lies below one
    ],
)
def test_how_many_are_missing_below_the_least_count(counts: list[int], least: int, missing: float) -> None:
    assert missing_below(np.array(counts)) == (least, pytest.approx(missing))
