from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import cases_of, catalog_of, histories_of

from llmrec.baselines.own_items import OwnItems
from llmrec.baselines.systems import SYSTEMS, choose_systems, grid
from llmrec.data.cases import Cases, case_batches
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import evaluate_system


def scores_of(system: OwnItems, cases: Cases) -> np.ndarray:
    """Scores (number of cases, N) in the order of the cases."""
    numbers, parts = zip(*system.catalogue_scores(cases), strict=True)
    assert all(part.dtype == torch.float32 for part in parts)
    return torch.cat(parts).numpy()[np.argsort(np.concatenate(numbers))]


def test_scores_by_hand():
    # Item 0 two and one events ago, item 1 three: half a half for each event behind it. Popularity 1 and 3 of 3 events.
    cases = cases_of([[1, 0, 0, 2]], [(0, 3)], num_items=4)
    found = scores_of(OwnItems(np.array([1, 3, 0, 3]), decay=0.5, popularity_weight=0.1), cases)
    popular = 0.1 * math.log(2) / math.log(4)  # 0.05
    assert found[0] == pytest.approx([0.5 + 1 + popular, 0.25 + 0.1, 0, 0.1])


def test_without_fading_and_popularity_it_counts():
    cases = cases_of([[1, 0, 1, 1, 2, 1]], [(0, 4), (0, 1), (0, 5)], num_items=3)
    found = scores_of(OwnItems(np.array([5, 1, 1]), decay=1.0, popularity_weight=0.0), cases)
    assert found.tolist() == [[1, 3, 0], [0, 1, 0], [1, 3, 1]]


def test_ranks_by_hand():
    """What ann had twice comes first, then what she had once; what she never had stands by its popularity."""
    histories = histories_of(ann=("aabcd", "tttxx"), ben=("ddd", "ttt"))
    events = TrainingEvents.from_histories(histories, catalog_of("abcde"))
    cases = Cases.from_histories(histories, catalog_of("abcde"), "test")
    own = OwnItems.from_events(events, decay=1.0, popularity_weight=0.1)
    assert own.counts.tolist() == [2, 1, 0, 3, 0]
    # c after a, a, b: a 2, b 1, d 0.1, then c and e tied. d after a, a, b, c: a 2, b and c 1 with b more popular, d.
    assert evaluate_system(own, cases, mask_seen=False).tolist() == [4.5, 4]
    popularity = SYSTEMS["popularity"].from_events(events)
    assert evaluate_system(own, cases, True).tolist() == evaluate_system(popularity, cases, True).tolist()


@given(
    history=st.lists(st.integers(0, 4), min_size=2, max_size=30),
    decay=st.sampled_from([1.0, 0.995, 0.8, 0.01]),
    weight=st.sampled_from([0.0, 0.1, 3.0]),
    max_scores=st.sampled_from([1, 10, 1000]),
)
def test_equal_to_a_sum_over_the_events_of_each_case(history, decay, weight, max_scores):
    counts = np.array([9, 0, 1, 4, 0, 2])
    cases = cases_of([history], [(0, position) for position in range(1, len(history))], num_items=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(case_batches, "__defaults__", (max_scores,))
        found = scores_of(OwnItems(counts, decay, weight), cases)
    for row, end in zip(found, range(1, len(history)), strict=True):
        expected = [weight * math.log1p(count) / math.log1p(9) for count in counts]
        for back, item in enumerate(reversed(history[:end])):
            expected[item] += decay**back
        assert row == pytest.approx(expected, rel=1e-6)


def test_nothing_after_the_target_is_read():
    one, other = (cases_of([[0, 1, 2, last]], [(0, 2)], num_items=4) for last in (3, 0))
    system = OwnItems(np.array([1, 2, 3, 4]), 0.9, 0.1)
    assert np.array_equal(scores_of(system, one), scores_of(system, other))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 0.0}, "decay is 0.0"),
        ({"decay": 1.1}, "decay is 1.1"),
        ({"popularity_weight": -1.0}, "popularity_weight is -1.0"),
        ({"popularity_weight": float("nan")}, "popularity_weight is nan"),
        ({"counts": [1, -1]}, "one number of events per item"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        OwnItems(**{"counts": [1, 2], "decay": 1.0, "popularity_weight": 0.1, **settings})


def test_it_is_searched_only_where_items_may_be_repeated():
    assert "own_items" in choose_systems(["all"], mask_seen=False)
    assert "own_items" not in choose_systems(["all"], mask_seen=True)
    assert choose_systems(["own_items"], mask_seen=False) == ["own_items"]
    with pytest.raises(ValueError, match="'own_items' ranks the items of the history"):
        choose_systems(["own_items"], mask_seen=True)
    assert {"decay": 1.0, "popularity_weight": 0.1} in grid("own_items", has_clock=False)
