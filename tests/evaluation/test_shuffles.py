from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import cases_of

from llmrec.data.cases import Cases
from llmrec.evaluation.shuffles import first_targets, shuffle_order, shuffle_times

DAY = 86_400
ROWS = [[0, 1, 2, 3, 4, 5], [5, 4, 3], [1, 1, 2, 0]]
CASES = cases_of(ROWS, [(2, 3), (0, 4), (0, 5), (2, 2)], num_items=6)


def test_first_targets_are_each_users_earliest_with_nothing_after_it():
    firsts = first_targets(CASES)
    assert CASES.first_of_each_user.tolist() == [1, 3]
    assert firsts.users == ["user 0", "user 2"]
    assert [row.tolist() for row in firsts.items] == [[0, 1, 2, 3, 4], [1, 1, 2]]
    assert [row.tolist() for row in firsts.timestamps] == [[0, 1, 2, 3, 4], [0, 1, 2]]
    assert firsts.targets.tolist() == CASES.targets[CASES.first_of_each_user].tolist() == [4, 2]


@given(st.integers(0, 1000))
def test_shuffled_order_keeps_items_times_and_target(seed):
    firsts = first_targets(CASES)
    shuffled = shuffle_order(firsts, seed)
    for before, after in zip(firsts.items, shuffled.items, strict=True):
        assert sorted(before[:-1]) == sorted(after[:-1]) and before[-1] == after[-1]
    assert all(np.array_equal(*pair) for pair in zip(firsts.timestamps, shuffled.timestamps, strict=True))
    assert shuffled.repeated.tolist() == firsts.repeated.tolist()


def test_order_is_shuffled_and_the_seed_decides_how():
    orders = {tuple(shuffle_order(first_targets(CASES), seed).items[0].tolist()) for seed in range(20)}
    assert len(orders) > 5
    again = [shuffle_order(first_targets(CASES), 3).items[0].tolist() for _ in range(2)]
    assert again[0] == again[1]


def timed_cases(rows: list[list[int]]) -> Cases:
    """One case per user, at the end of a history of these gaps in seconds."""
    times = [1_600_000_000 + user * DAY + np.append(0, np.cumsum(gaps)) for user, gaps in enumerate(rows)]
    users, last = np.arange(len(rows)), np.array([len(gaps) for gaps in rows])
    items = [np.arange(len(row)) % 7 for row in times]
    return Cases([f"u{user}" for user in users], items, times, users, last, 7, "test")


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 1000))
def test_shuffled_times_keep_all_gaps_and_where_each_history_begins(rows, seed):
    firsts = timed_cases(rows)
    shuffled = shuffle_times(firsts, seed)
    found = [np.diff(row) for row in shuffled.timestamps]
    assert sorted(np.concatenate(found)) == sorted(gap for gaps in rows for gap in gaps)
    assert [len(each) for each in found] == [len(gaps) for gaps in rows]
    assert [row[0] for row in shuffled.timestamps] == [row[0] for row in firsts.timestamps]
    assert all(np.array_equal(*pair) for pair in zip(shuffled.items, firsts.items, strict=True))
    assert shuffled.now.tolist() == [row[-1] for row in shuffled.timestamps]  # asked at the time that was drawn


@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("read", [lambda row: row[-1] // DAY % 7, lambda row: (row[-1] - row[-2]) // DAY % 7])
def test_whoever_reads_now_or_the_wait_falls_to_chance(length, read):
    """Seven items, one right for each weekday of now, or each length of the wait: known it is first, then as chance."""
    random = np.random.default_rng(0)
    firsts = timed_cases((DAY * random.integers(1, 60, size=(700, length))).tolist())
    wanted = np.array([read(row) for row in firsts.timestamps])
    for cases, expected, tolerance in ((firsts, 1.0, 0.0), (shuffle_times(firsts, seed=1), 1 / 7, 0.06)):
        hits = np.array([read(row) for row in cases.timestamps]) == wanted
        assert abs(hits.mean() - expected) <= tolerance


def test_a_history_of_two_targets_is_not_shuffled():
    with pytest.raises(ValueError, match="4 cases of 3 users"):
        shuffle_order(CASES, 0)
