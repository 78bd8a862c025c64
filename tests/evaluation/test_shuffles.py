from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import cases_of

from llmrec.evaluation.cases import Cases
from llmrec.evaluation.shuffles import first_targets, shuffle_order, shuffle_times

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


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=12), st.integers(0, 1000))
def test_shuffled_times_keep_the_gaps_the_span_and_the_items(gaps, seed):
    times = np.concatenate([[1_600_000_000], 1_600_000_000 + np.cumsum(gaps)])
    items = np.arange(len(times))
    last = len(times) - 1
    firsts = Cases(["u"], [items], [times], np.array([0]), np.array([last]), len(times), "test")
    shuffled = shuffle_times(firsts, seed).timestamps[0]
    assert sorted(np.diff(shuffled[:-1])) == sorted(np.diff(times[:-1]))
    assert (shuffled[0], shuffled[-2], shuffled[-1]) == (times[0], times[-2], times[-1])
    assert (np.diff(shuffled) >= 0).all()
    assert np.array_equal(shuffle_times(firsts, seed).items[0], items)


def test_a_history_of_two_targets_is_not_shuffled():
    with pytest.raises(ValueError, match="4 cases of 3 users"):
        shuffle_order(CASES, 0)
