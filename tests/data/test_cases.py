from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import cases_of, catalog_of, histories_of

from llmrec.data.cases import Cases, case_batches
from llmrec.evaluation.shuffles import first_targets

CATALOG = catalog_of("abcdef")
HISTORIES = histories_of(
    ann=("abca", "ttvx"),
    ben=("ab", "tt"),
    cat=("fedcb", "txxvx"),
    dan=("a", "x"),
    eve=("bbb", "xxx"),
)


def test_every_target_of_the_split_is_a_case_with_what_came_before():
    cases = Cases.from_histories(HISTORIES, CATALOG, "test")
    assert cases.users == ["ann", "cat", "eve"]
    assert cases.user.tolist() == [0, 1, 1, 1, 2, 2]
    assert cases.position.tolist() == [3, 1, 2, 4, 1, 2]
    assert cases.targets.tolist() == [0, 4, 3, 1, 1, 1]
    assert [cases.history(case).tolist() for case in range(6)] == [[0, 1, 2], [5], [5, 4], [5, 4, 3, 2], [1], [1, 1]]
    assert [cases.seen(case).tolist() for case in range(6)] == [[0, 1, 2], [5], [4, 5], [2, 3, 4, 5], [1], [1]]
    assert cases.repeated.tolist() == [True, False, False, False, True, True]
    assert len(cases) == 6
    assert cases.num_items == 6
    assert cases.num_without_history == 2  # the only event of dan, the first of eve


def test_validation_cases_hold_nothing_after_the_last_validation_target():
    cases = Cases.from_histories(HISTORIES, CATALOG, "validation")
    assert cases.users == ["ann", "cat"]
    assert [items.tolist() for items in cases.items] == [[0, 1, 2], [5, 4, 3, 2]]
    assert [times.tolist() for times in cases.timestamps] == [[0, 1, 2], [0, 1, 2, 3]]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_what_comes_from_the_target_on_never_reaches_its_history(data):
    item = st.integers(0, 9)
    row = data.draw(st.lists(item, min_size=2, max_size=12))
    position = data.draw(st.integers(1, len(row) - 1))
    later = data.draw(st.lists(item, min_size=len(row) - position, max_size=len(row) - position))
    letters = "abcdefghij"

    def history(items: list[int]) -> list[int]:
        word = "".join(letters[item] for item in items)
        splits = "".join("x" if place == position else "t" for place in range(len(items)))
        return Cases.from_histories(histories_of(ann=(word, splits)), catalog_of(letters), "test").history(0).tolist()

    assert history(row) == history(row[:position] + later) == row[:position]


def test_a_drawn_part_of_the_users_is_the_same_every_time_and_in_order():
    users = {f"user{number:02}": ("ab", "tx") for number in range(30)}
    histories = histories_of(**users)
    drawn = Cases.from_histories(histories, CATALOG, "test", max_users=7)
    assert drawn.num_users_drawn_from == len(list(users))
    assert len(drawn.users) == 7
    assert drawn.users == sorted(set(drawn.users))
    assert drawn.users == Cases.from_histories(histories, CATALOG, "test", max_users=7).users
    assert drawn.users != Cases.from_histories(histories, CATALOG, "test", max_users=7, seed=1).users
    assert drawn.users != list(users)[:7]
    assert Cases.from_histories(histories, CATALOG, "test", max_users=99).users == list(users)


def test_rows_beyond_the_first_arrow_batch_are_read():
    users = {f"user{number:04}": ("abc"[number % 3] + "d", "tx") for number in range(2500)}
    cases = Cases.from_histories(histories_of(**users), CATALOG, "test")
    assert cases.users == list(users)
    assert [items.tolist() for items in cases.items] == [[number % 3, 3] for number in range(2500)]


def test_a_selection_of_histories_is_respected():
    assert Cases.from_histories(HISTORIES.select([4, 0]), CATALOG, "test").users == ["eve", "ann"]


def test_tied_events_are_those_with_a_neighbour_at_the_same_time():
    cases = cases_of([[0, 1, 2, 3], [0, 1]], [(0, 3), (1, 1)], num_items=4)
    assert cases.tied_event_share == 0
    cases.timestamps[0][:] = [5, 5, 6, 7]
    assert cases.tied_event_share == 2 / 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "'tset'.*validation, test"),
        ({"split": "train"}, "'train'"),
        ({"split": "test", "max_users": 0}, "max_users is 0"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cases.from_histories(HISTORIES, CATALOG, **arguments)


def test_a_split_without_a_usable_target_is_refused():
    with pytest.raises(ValueError, match=r"'test' has no target with an event before it \(1 without\)"):
        Cases.from_histories(histories_of(ann=("ab", "tt"), dan=("a", "x")), CATALOG, "test")


def test_an_item_outside_the_catalogue_is_named():
    with pytest.raises(ValueError, match="item 'z' of user 'ann'"):
        Cases.from_histories(histories_of(ann=("abz", "ttx")), CATALOG, "test")


@pytest.mark.parametrize(
    ("rows", "targets", "message"),
    [
        ([[0, 1]], [(0, 0)], "at position 0"),
        ([[0, 1]], [(0, 2)], "at position 2"),
        ([[0, 1]], [(1, 1)], r"outside 0\.\.0"),
        ([[0, 9]], [(0, 1)], r"outside 0\.\.3"),
    ],
)
def test_hand_made_cases_are_checked(rows, targets, message):
    with pytest.raises(ValueError, match=message):
        cases_of(rows, targets, num_items=4)


def test_lengths_of_hand_made_cases_are_checked():
    one = np.array([0, 1])
    with pytest.raises(ValueError, match="give one each"):
        Cases(["ann"], [one], [np.array([0])], np.array([0]), np.array([1]), num_items=2, split="test")
    with pytest.raises(ValueError, match="give one each"):
        Cases(["ann", "ben"], [one], [one], np.array([0]), np.array([1]), num_items=2, split="test")
    with pytest.raises(ValueError, match="one of each per case"):
        Cases(["ann"], [one], [one], np.array([0]), np.array([1, 1]), num_items=2, split="test")


def test_now_is_the_time_of_the_target_or_of_the_event_before_it():
    cases = cases_of([[0, 1, 2], [3, 4]], [(1, 1), (0, 2), (0, 1)], num_items=5)
    cases.timestamps[0][:], cases.timestamps[1][:] = [10, 20, 40], [5, 7]
    assert cases.now.tolist() == [7, 40, 20]
    before = cases.asked_at_last_event()
    assert before.now.tolist() == [5, 20, 10]
    assert before.take(np.array([2, 0])).now.tolist() == [10, 5] and cases.take(np.array([1])).now.tolist() == [40]
    assert first_targets(before).now.tolist() == [10, 5] and first_targets(cases).now.tolist() == [20, 7]


@pytest.mark.parametrize(("num_cases", "num_items"), [(0, 10), (1, 10), (10, 3), (7, 100), (7, 101), (5, 1000)])
def test_every_case_is_in_one_batch_and_no_batch_is_larger_than_allowed(num_cases, num_items):
    batches = list(case_batches(num_cases, num_items, max_scores=100))
    assert np.concatenate([[], *batches]).tolist() == list(range(num_cases))
    assert all(len(batch) * num_items <= 100 or len(batch) == 1 for batch in batches)
