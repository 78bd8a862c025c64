from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from small_data import START, cases_of, catalog_of, histories_of

from llmrec.baselines.counting import DAY, Popularity, RecentPopularity
from llmrec.data.cases import Cases, case_batches
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import evaluate_system

CATALOG = catalog_of("abcdef")


def popularity_of(histories: Dataset) -> Popularity:
    return Popularity.from_events(TrainingEvents.from_histories(histories, CATALOG))


def cases_at(moments: list[int], num_items: int) -> Cases:
    """One user and one case per moment, its history a single event of the same moment."""
    return Cases(
        users=[f"user {row}" for row in range(len(moments))],
        items=[np.zeros(2, dtype=np.int64) for _ in moments],
        timestamps=[np.array([moment, moment]) for moment in moments],
        user=np.arange(len(moments)),
        position=np.ones(len(moments), dtype=np.int64),
        num_items=num_items,
        split="test",
    )


def scores_of(system, cases: Cases) -> np.ndarray:
    """Scores (number of cases, N) in the order of the cases, each of which was yielded once."""
    batches = list(system.catalogue_scores(cases))
    numbers = np.concatenate([numbers for numbers, _ in batches])
    assert sorted(numbers) == list(range(len(cases)))
    scores = torch.cat([scores for _, scores in batches])
    assert scores.dtype == torch.float32
    return scores.numpy()[np.argsort(numbers)]


def test_only_training_events_count_and_each_of_them():
    histories = histories_of(ann=("aabf", "tttx"), ben=("acc", "tvx"), cat=("dd", "xx"))
    assert popularity_of(histories).counts.tolist() == [3, 1, 0, 0, 0, 0]


def test_what_is_held_out_does_not_move_a_score():
    one = popularity_of(histories_of(ann=("abc", "ttx")))
    other = popularity_of(histories_of(ann=("abf", "ttx")))
    assert one.counts.tolist() == other.counts.tolist()


def test_every_case_gets_the_counts():
    cases = cases_of([[0, 1, 2], [0, 1]], [(0, 1), (0, 2), (1, 1)], num_items=3)
    assert scores_of(Popularity(np.array([5, 0, 7])), cases).tolist() == [[5, 0, 7]] * 3


def test_ranks_by_hand_with_equal_counts_sharing_their_places():
    histories = histories_of(ann=("aab", "ttx"), ben=("bcd", "ttx"), cat=("ca", "tx"))
    cases = Cases.from_histories(histories, CATALOG, "test")
    # Counts a 2, c 2, b 1, the rest 0: b stands third, d among the places 4 to 6, a in 1 to 2.
    ranks = evaluate_system(popularity_of(histories), cases, mask_seen=False)
    assert ranks.tolist() == [3, 5, 1.5]
    ranks = evaluate_system(popularity_of(histories), cases, mask_seen=True)
    assert ranks.tolist() == [2, 3, 1]


def test_an_unknown_item_is_refused():
    with pytest.raises(ValueError, match="'z'"):
        popularity_of(histories_of(ann=("az", "tt")))


@pytest.mark.parametrize("counts", [[[1, 2]], [1, -1]])
def test_counts_are_checked(counts):
    with pytest.raises(ValueError, match="one number of events per item"):
        Popularity(np.array(counts))


INF = float("inf")


def test_a_window_by_hand():
    # Item 0 at 0 s and 100 s, item 1 at 100 s and 160 s, item 2 at 200 s; item 3 is cold.
    times = START + np.array([0, 100, 100, 160, 200])
    recent = RecentPopularity(np.array([0, 0, 1, 1, 2]), times, num_items=4, window=100)
    cases = cases_at([START + second for second in (160, 0, 101, 200, 201, 9999)], num_items=4)
    assert scores_of(recent, cases).tolist() == [
        [1, 1, 0, -INF],  # 61 … 159: not the event at the very moment
        [0, 0, 0, -INF],  # nothing before
        [1, 1, 0, -INF],  # 2 … 100
        [0, 1, 0, -INF],  # 101 … 199: an event exactly one window ago is too old
        [0, 1, 1, -INF],  # 102 … 200
        [0, 1, 1, -INF],  # long after training: as seen from its end
    ]
    everything = RecentPopularity(np.array([0, 0, 1, 1, 2]), times, num_items=4, window=None)
    assert scores_of(everything, cases)[[0, 1, 5]].tolist() == [[2, 1, 0, -INF], [0, 0, 0, -INF], [2, 2, 1, -INF]]


@given(
    events=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=30),
    moments=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    window=st.none() | st.integers(1, 35),
    max_scores=st.sampled_from([1, 10, 1000]),
)
def test_sliding_equals_counting_for_each_case(events, moments, window, max_scores):
    items, times = np.array(events).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case_batches, "__defaults__", (max_scores,))
        recent = RecentPopularity(items, START + times, num_items=6, window=window)
        found = scores_of(recent, cases_at([START + moment for moment in moments], num_items=6))
    for row, moment in zip(found, moments, strict=True):
        now = min(moment, max(times) + 1)
        expected = [-INF if item not in items else 0 for item in range(6)]
        for item, time in events:
            expected[item] += time < now and (window is None or now - time < window)
        assert row.tolist() == expected


def test_recent_events_are_those_of_the_training_split():
    histories = histories_of(ann=("abc", "ttx"), ben=("ccb", "tvx")).map(
        lambda row: {"timestamp": [START + place * DAY for place in range(len(row["timestamp"]))]}
    )
    events = TrainingEvents.from_histories(histories, CATALOG)
    cases = Cases.from_histories(histories, CATALOG, "test")
    found = scores_of(RecentPopularity.from_events(events, 30 * DAY), cases)
    assert found.tolist() == [[1, 1, 1, -INF, -INF, -INF]] * 2


def test_without_a_clock_everything_counts_whatever_the_ordinal():
    events = TrainingEvents([np.array([0, 1, 1])], [np.array([0, 1, 2])], num_items=3)
    cases = cases_of([[0, 1], [2, 1]], [(0, 1), (1, 1)], num_items=3)
    recent = RecentPopularity.from_events(events, None)
    assert scores_of(recent, cases).tolist() == [[1, 2, -INF]] * 2
    popular = Popularity.from_events(events)
    assert evaluate_system(recent, cases, True).tolist() == evaluate_system(popular, cases, True).tolist()
    with pytest.raises(ValueError, match="no clock"):
        RecentPopularity.from_events(events, DAY)


def test_a_window_is_positive():
    with pytest.raises(ValueError, match="window is 0"):
        RecentPopularity(np.array([0]), np.array([START]), num_items=1, window=0)
