from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmrec.data.splitting import drop_rare, leave_one_out_split, split_counts, temporal_cuts, temporal_split

START = 1_000_000_000
TIMES = st.lists(st.integers(START, START + 30), min_size=4, max_size=60)
LABELLED = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.sampled_from(["train", "train", "test"])),
    min_size=1,
    max_size=40,
)


def labelled_table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row")


@given(TIMES, st.floats(0.05, 0.45), st.floats(0.05, 0.45))
def test_one_cut_for_all_and_equal_times_never_straddle_it(times: list[int], validation: float, test: float) -> None:
    series = pl.Series(times)
    try:
        cuts = temporal_cuts(series, validation, test)
    except ValueError:
        assume(False)
    split = temporal_split(series, *cuts).to_list()
    parts = {name: [time for time, label in zip(times, split, strict=True) if label == name] for name in set(split)}
    assert set(parts) == {"train", "validation", "test"}
    assert max(parts["train"]) < cuts[0] <= min(parts["validation"])
    assert max(parts["validation"]) < cuts[1] <= min(parts["test"])
    assert len(parts["test"]) >= round(len(times) * test)
    assert sum(time > cuts[1] for time in times) <= max(1, round(len(times) * test))
    assert temporal_cuts(series.shuffle(seed=1), validation, test) == cuts


def test_cuts_by_hand() -> None:
    times = pl.Series([START + second for second in (0, 1, 2, 3, 4, 5, 6, 7, 7, 8)])
    # the last 2 of 10 begin at the second 7, whose twin joins them; the last 5 begin at 5
    assert temporal_cuts(times, 0.3, 0.2) == (START + 5, START + 7)


@pytest.mark.parametrize(
    ("times", "fractions", "message"),
    [
        (range(START, START + 10), (0.0, 0.1), "validation_fraction 0.0 is not between 0 and 1"),
        (range(START, START + 10), (0.1, 1.5), "test_fraction 1.5 is not between"),
        (range(START, START + 10), (0.6, 0.4), "leave no training"),
        (range(10), (0.1, 0.1), "--split leave_one_out"),
        ([START] * 10, (0.1, 0.1), "leave a part empty"),
        ([START, START + 1], (0.1, 0.1), "2 events are too few"),
    ],
)
def test_what_cannot_be_cut_is_an_error(times: list[int], fractions: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        temporal_cuts(pl.Series(list(times)), *fractions)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20).map(sorted))
def test_leave_one_out_against_a_loop_over_users(users: list[str]) -> None:
    expected = []
    for user, size in sorted(Counter(users).items()):
        assert user
        expected += ["train"] * size if size < 3 else ["train"] * (size - 2) + ["validation", "test"]
    assert leave_one_out_split(pl.Series(users)).to_list() == expected


def k_core_by_hand(rows: list[tuple[str, str, str]], min_user: int, min_item: int) -> set[int]:
    """Rows of training events in the core, removing one offending row at a time."""
    left = {number for number, row in enumerate(rows) if row[2] == "train"}
    while True:
        users, items = Counter(rows[row][0] for row in left), Counter(rows[row][1] for row in left)
        rare = [row for row in sorted(left) if users[rows[row][0]] < min_user or items[rows[row][1]] < min_item]
        if not rare:
            return left
        left.discard(rare[0])


@settings(max_examples=150)
@given(LABELLED, st.integers(0, 3), st.integers(0, 3))
def test_k_core_counts_training_events_only(rows: list[tuple[str, str, str]], min_user: int, min_item: int) -> None:
    core = k_core_by_hand(rows, min_user, min_item)
    assume(core)
    result = drop_rare(labelled_table(rows), min_user, min_item, "temporal")
    kept = {number for number, split in enumerate(result["split"]) if split == "train"}
    assert kept == core
    for row, (split, reason) in zip(rows, result.rows(), strict=True):
        assert split == row[2] if reason is None else split == "dropped" and row[2] == "train"


@settings(max_examples=60)
@given(LABELLED, st.integers(0, 3), st.integers(0, 3), st.sampled_from("wxyz"))
def test_held_out_items_cannot_change_what_is_trained_on(
    rows: list[tuple[str, str, str]], min_user: int, min_item: int, other: str
) -> None:
    assume(k_core_by_hand(rows, min_user, min_item))
    changed = [(user, item if split == "train" else other, split) for user, item, split in rows]
    for kind in ("temporal", "leave_one_out"):
        before = drop_rare(labelled_table(rows), min_user, min_item, kind)
        after = drop_rare(labelled_table(changed), min_user, min_item, kind)
        assert before.equals(after)


def test_under_leave_one_out_a_user_without_training_events_has_no_targets() -> None:
    rows = [("a", "x", "train"), ("a", "y", "train"), ("a", "z", "test")]
    rows += [("b", "x", "train"), ("b", "y", "validation"), ("b", "z", "test")]
    labelled = labelled_table(rows)
    dropped = ("dropped", "k_core_user")
    kept = [("train", None), ("train", None), ("test", None)]
    assert drop_rare(labelled, 2, 0, "leave_one_out").rows() == [*kept, dropped, dropped, dropped]
    assert drop_rare(labelled, 2, 0, "temporal").rows() == [*kept, dropped, ("validation", None), ("test", None)]


def test_an_item_that_only_the_held_out_events_hold_stays_in_them() -> None:
    rows = [("a", "x", "train"), ("b", "x", "train"), ("a", "y", "train"), ("a", "y", "test"), ("c", "z", "test")]
    result = drop_rare(labelled_table(rows), 0, 2, "temporal")
    expected = [("train", None), ("train", None), ("dropped", "k_core_item"), ("test", None), ("test", None)]
    assert result.rows() == expected


def test_impossible_minimums_are_errors() -> None:
    table = labelled_table([("a", "x", "train")])
    with pytest.raises(ValueError, match="min_user_events -1 is negative"):
        drop_rare(table, -1, 0, "temporal")
    with pytest.raises(ValueError, match="no training event is left with min_user_events 5"):
        drop_rare(table, 5, 0, "temporal")


def test_split_counts_name_new_users_and_cold_items() -> None:
    rows = [
        ("a", "x", "train"),
        ("a", "y", "validation"),
        ("b", "x", "test"),
        ("b", "y", "test"),
        ("c", "x", "dropped"),
    ]
    counts = split_counts(labelled_table(rows))
    assert list(counts) == ["train", "validation", "test", "dropped"]
    assert counts["validation"] == {"events": 1, "users": 1, "items": 1, "new_users": 0, "cold_items": 1}
    assert counts["test"] == {"events": 2, "users": 1, "items": 2, "new_users": 1, "cold_items": 1}


def test_temporal_validation_is_the_last_slice_before_the_test_cut():
    """What is chosen on it is chosen under drift, as the test has it: no event of another split lies in between."""
    random = np.random.default_rng(0)
    times = pl.Series(1_600_000_000 + random.integers(0, 10**6, size=500))
    cuts = temporal_cuts(times, 0.2, 0.1)
    split = temporal_split(times, *cuts)
    by_name = {name: times.filter(split == name) for name in ("train", "validation", "test")}
    assert by_name["train"].max() < cuts[0] <= by_name["validation"].min()
    assert by_name["validation"].max() < cuts[1] <= by_name["test"].min()
    order = split.gather(times.arg_sort()).to_list()
    assert order == ["train"] * order.count("train") + ["validation"] * order.count("validation") + [
        "test"
    ] * order.count("test")
    assert order.count("validation") >= 90
