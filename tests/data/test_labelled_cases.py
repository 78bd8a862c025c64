from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import catalog_of, histories_of

from llmrec.data.labelled_cases import LabelledCases

CATALOG = catalog_of("abcdef")


def labelled_histories(**users: tuple[str, str, str]) -> Dataset:
    """As `histories_of`, with labels spelled out: `ann=("abc", "tvx", "+-+")`."""
    plain = histories_of(**{user: (items, splits) for user, (items, splits, _) in users.items()})
    liked = [[sign == "+" for sign in signs] for _, _, signs in users.values()]
    return Dataset.from_dict({**plain.to_dict(), "liked": liked})


HISTORIES = labelled_histories(
    ann=("abcd", "tttt", "+-++"),
    ben=("ef", "xx", "-+"),
    cat=("a", "x", "+"),
    dan=("fedc", "xxxx", "--+-"),
    eve=("abc", "ttv", "++-"),
)


def test_every_event_with_one_before_it_is_a_case() -> None:
    cases = LabelledCases.from_histories(HISTORIES, CATALOG, "test")
    assert cases.users == ["ben", "dan"]
    assert cases.user.tolist() == [0, 1, 1, 1]
    assert cases.position.tolist() == [1, 1, 2, 3]
    assert cases.labels.tolist() == [True, False, True, False]
    assert cases.targets.tolist() == [5, 4, 3, 2]
    assert [cases.history(case).tolist() for case in range(4)] == [[4], [5], [5, 4], [5, 4, 3]]
    assert [cases.history_liked(case).tolist() for case in range(4)] == [
        [False],
        [False],
        [False] * 2,
        [False, False, True],
    ]
    assert cases.num_without_history == 3  # the first events of ben, cat and dan
    assert (len(cases), cases.num_items, cases.split) == (4, 6, "test")


def test_only_the_last_event_where_the_data_ask_no_more() -> None:
    cases = LabelledCases.from_histories(HISTORIES, CATALOG, "test", cases="last")
    assert cases.users == ["ben", "dan"]
    assert cases.position.tolist() == [1, 3]
    assert cases.num_without_history == 1  # cat has nothing but the question


def test_training_cases_hold_nothing_of_later_splits() -> None:
    cases = LabelledCases.from_histories(HISTORIES, CATALOG, "train")
    assert cases.users == ["ann", "eve"]
    assert [items.tolist() for items in cases.items] == [[0, 1, 2, 3], [0, 1]]
    assert [liked.tolist() for liked in cases.liked] == [[True, False, True, True], [True, True]]
    assert cases.num_train_events is not None and cases.num_train_events.tolist() == [4, 2]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_what_comes_from_the_case_on_never_reaches_its_history(data: st.DataObject) -> None:
    signs = st.sampled_from("+-")
    size = data.draw(st.integers(2, 10))
    position = data.draw(st.integers(1, size - 1))
    row = [data.draw(st.tuples(st.sampled_from("abcdef"), signs)) for _ in range(size)]
    later = [data.draw(st.tuples(st.sampled_from("abcdef"), signs)) for _ in range(size - position)]

    def history(events: list[tuple[str, str]]) -> tuple[list[int], list[bool], list[int]]:
        items, labels = ("".join(part) for part in zip(*events, strict=True))
        splits = "".join("x" if place == position else "t" for place in range(size))
        cases = LabelledCases.from_histories(labelled_histories(ann=(items, splits, labels)), CATALOG, "test")
        assert len(cases.items[0]) == position + 1
        return cases.history(0).tolist(), cases.history_liked(0).tolist(), cases.timestamps[0][:position].tolist()

    before = (["abcdef".index(item) for item, _ in row[:position]], [sign == "+" for _, sign in row[:position]])
    assert history(row) == history(row[:position] + later) == (*before, list(range(position)))


def test_no_user_is_in_two_splits_of_a_split_by_users(tmp_path: Path) -> None:
    import polars as pl

    from llmrec.data.directory import PreparedData, staged_directory
    from llmrec.data.labels import LabelSettings
    from llmrec.data.preparation import SplitSettings, prepare
    from llmrec.data.schema import RawTables

    rows = [
        (f"u{user:02}", "abcdef"[(user * event) % 6], user + 7 * event, event % 5)
        for user in range(30)
        for event in range(5)
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")
    raw = RawTables(events, CATALOG.frame, "tests", "none", "none", {})
    with staged_directory(tmp_path / "data") as staging:
        prepare(raw, staging, SplitSettings(kind="users"), labels=LabelSettings(2))
    data = PreparedData.open(tmp_path / "data")
    parts = [LabelledCases.from_directory(data, split) for split in ("train", "validation", "test")]
    users = [set(part.users) for part in parts]
    assert [len(part) for part in users] == [24, 3, 3]
    assert len(set.union(*users)) == 30
    assert sum(map(len, parts)) == 30 * 4


def test_a_draw_is_uniform_nested_and_the_same_every_time() -> None:
    histories = labelled_histories(**{f"user{number:02}": ("abcdef", "tttttt", "++-+--") for number in range(20)})
    cases = LabelledCases.from_histories(histories, CATALOG, "train")
    assert len(cases) == 100

    def numbers(drawn: LabelledCases) -> list[int]:
        return (drawn.user * 5 + drawn.position - 1).tolist()

    small, large = cases.draw(16, seed=3), cases.draw(64, seed=3)
    assert len(small) == 16 and len(set(numbers(large))) == 64
    assert set(numbers(small)) < set(numbers(large))
    assert numbers(small) == sorted(numbers(small)) == numbers(cases.draw(16, seed=3))
    assert numbers(small) != numbers(cases.draw(16, seed=4))
    assert small.labels.tolist() == [cases.labels[number] for number in numbers(small)]
    counts = np.bincount(np.concatenate([numbers(cases.draw(16, seed)) for seed in range(400)]), minlength=100)
    # 400 · 16 / 100 = 64 times each, give or take √(400 · .16 · .84) = 7.3
    assert np.abs(counts - 64).max() < 4 * 7.4


def test_shown_events_are_those_up_to_the_last_case_of_each_user() -> None:
    cases = LabelledCases.from_histories(HISTORIES, CATALOG, "test")
    items, liked = cases.shown_events
    assert items.tolist() == [4, 5, 5, 4, 3, 2] and liked.tolist() == [False, True, False, False, True, False]
    items, liked = cases.take(np.array([2, 1])).shown_events  # positions 2 and 1 of dan
    assert items.tolist() == [5, 4, 3] and liked.tolist() == [False, False, True]


def test_a_drawn_part_of_the_users() -> None:
    histories = labelled_histories(**{f"user{number:02}": ("ab", "tx", "+-") for number in range(30)})
    drawn = LabelledCases.from_histories(histories, CATALOG, "test", max_users=7, seed=1)
    assert (len(drawn), drawn.num_users_drawn_from) == (7, 30)
    assert drawn.users == sorted(set(drawn.users))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, "split 'tset' is not one of train, validation, test"),
        ({"split": "test", "cases": "first"}, "cases 'first' is not one of all, last"),
        ({"split": "test", "max_users": 0}, "max_users is 0"),
    ],
)
def test_bad_requests_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledCases.from_histories(HISTORIES, CATALOG, **arguments)  # type: ignore[arg-type]


def test_data_without_labels_or_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="no likes and dislikes"):
        LabelledCases.from_histories(histories_of(ann=("ab", "tx")), CATALOG, "test")
    with pytest.raises(ValueError, match=r"'validation' has no labelled event with an event before it \(1 without\)"):
        LabelledCases.from_histories(labelled_histories(ann=("ab", "vt", "++")), CATALOG, "validation")
    cases = LabelledCases.from_histories(HISTORIES, CATALOG, "test")
    for num_examples in (0, 5):
        with pytest.raises(ValueError, match="of 4 cases cannot be drawn"):
            cases.draw(num_examples, seed=0)


def test_hand_made_labels_are_checked() -> None:
    items, one = [np.array([0, 1])], np.array([1])
    for liked, message in (([np.array([True])], "one label per event"), ([np.array([1, 0])], "arrays of bool")):
        with pytest.raises(ValueError, match=message):
            LabelledCases(["ann"], items, items, one - 1, one, num_items=2, split="test", liked=liked)
