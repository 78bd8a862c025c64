from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.evaluation.metrics import ndcg_at_k, recall_at_k
from llmrec.ranking.ranks import target_ranks, top_k

NAN = float("nan")
FEW_VALUES = st.sampled_from([-math.inf, -1.0, 0.0, 0.25, 0.5, 2.0, math.inf, NAN])


@st.composite
def rankings(draw):
    """A few rows of scores with many ties and NaN, a target and some excluded items for each."""
    num_items = draw(st.integers(1, 9))
    rows = draw(st.lists(st.lists(FEW_VALUES, min_size=num_items, max_size=num_items), min_size=1, max_size=4))
    item = st.integers(0, num_items - 1)
    targets = [draw(item) for _ in rows]
    excluded = [draw(st.lists(item, max_size=num_items)) for _ in rows]
    return rows, targets, excluded


def rank_by_placing(scores: list[float], target: int, excluded: list[int]) -> float:
    """Sort the items and take the mean of the places that the target's score could stand at."""
    if target in excluded or math.isnan(scores[target]):
        return math.inf
    above_all = [(1, 0.0) if math.isnan(score) else (0, score) for score in scores]
    kept = sorted((above_all[item] for item in range(len(scores)) if item not in excluded), reverse=True)
    places = [place for place, score in enumerate(kept, start=1) if score == above_all[target]]
    return sum(places) / len(places)


@settings(deadline=None, max_examples=300)
@given(rankings())
def test_ranks_equal_placing_one_by_one(ranking):
    rows, targets, excluded = ranking
    ranks = target_ranks(torch.tensor(rows), torch.tensor(targets), excluded)
    assert ranks.dtype == torch.float64
    assert ranks.tolist() == [rank_by_placing(*row) for row in zip(rows, targets, excluded, strict=True)]


@settings(deadline=None, max_examples=100)
@given(rankings(), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_catalogue_order_or_batch(ranking, random):
    rows, targets, excluded = ranking
    ranks = target_ranks(torch.tensor(rows), torch.tensor(targets), excluded).tolist()
    order = list(range(len(rows[0])))
    random.shuffle(order)
    for row, target, left_out, rank in zip(rows, targets, excluded, ranks, strict=True):
        shuffled = torch.tensor([[row[item] for item in order]])
        again = target_ranks(
            shuffled,
            torch.tensor([order.index(target)]),
            [np.array([order.index(item) for item in left_out], dtype=int)],
        )
        assert again.tolist() == [rank]


@settings(deadline=None, max_examples=300)
@given(rankings(), st.integers(1, 12))
def test_top_k_equals_sorting(ranking, k):
    rows, _, excluded = ranking
    best = top_k(torch.tensor(rows), k, excluded)
    assert best.shape == (len(rows), min(k, len(rows[0])))
    for row, left_out, found in zip(rows, excluded, best.tolist(), strict=True):
        usable = [item for item, score in enumerate(row) if item not in left_out and score > -math.inf]
        expected = sorted(usable, key=lambda item: (-row[item], item))[:k]
        assert found == expected + [-1] * (best.shape[1] - len(expected))


@pytest.mark.parametrize("num_items", [1, 2, 25, 1000])
def test_a_constant_scorer_gets_chance(num_items):
    ranks = target_ranks(torch.full((3, num_items), 0.7), torch.tensor([0, num_items // 2, num_items - 1]))
    assert ranks.tolist() == [(num_items + 1) / 2] * 3


def test_a_constant_scorer_gets_chance_among_unseen_items():
    ranks = target_ranks(torch.zeros(1, 100), torch.tensor([50]), excluded=[range(10)])
    assert ranks.tolist() == [(90 + 1) / 2]


@pytest.mark.parametrize("num_items", [1, 5, 100])
def test_a_nan_scorer_gets_nothing_even_when_every_item_fits_the_cutoff(num_items):
    ranks = target_ranks(torch.full((2, num_items), NAN), torch.tensor([0, num_items - 1])).numpy()
    for metric in (ndcg_at_k, recall_at_k):
        assert metric(ranks, k=200).tolist() == [0.0, 0.0]


def test_a_target_that_is_excluded_is_a_miss_whatever_its_score():
    scores = torch.tensor([[9.0, 1.0], [9.0, 1.0]])
    assert target_ranks(scores, torch.tensor([0, 0]), excluded=[[0], [1]]).tolist() == [math.inf, 1.0]


def test_excluding_an_item_twice_is_excluding_it():
    scores = torch.tensor([[9.0, 5.0, 1.0]])
    assert target_ranks(scores, torch.tensor([2]), excluded=[[0, 0, 0]]).tolist() == [2.0]


def test_scores_are_left_as_they_were():
    scores = torch.tensor([[0.1, NAN, 0.3]])
    before = scores.clone()
    target_ranks(scores, torch.tensor([0]), excluded=[[2]])
    top_k(scores, 2, excluded=[[2]])
    torch.testing.assert_close(scores, before, rtol=0, atol=0, equal_nan=True)


def test_expanded_scores_are_ranked_and_searched():
    scores = torch.tensor([1.0, 3.0, 2.0]).expand(2, -1)
    assert target_ranks(scores, torch.tensor([0, 2]), excluded=[[1], []]).tolist() == [2.0, 2.0]
    assert top_k(scores, 1, excluded=[[1], []]).tolist() == [[2], [1]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_only_float32_scores_are_ranked(dtype):
    with pytest.raises(TypeError, match="float32"):
        target_ranks(torch.zeros(1, 3, dtype=dtype), torch.tensor([0]))
    with pytest.raises(TypeError, match="float32"):
        top_k(torch.zeros(1, 3, dtype=dtype), k=1)


@pytest.mark.parametrize(
    ("targets", "excluded", "message"),
    [
        ([0], None, "one per row"),
        ([0, 3], None, r"0\.\.2"),
        ([-1, 0], None, r"0\.\.2"),
        ([0, 1], [[]], "one per row"),
        ([0, 1], [[], [3]], r"0\.\.2"),
    ],
)
def test_shapes_and_indices_are_checked(targets, excluded, message):
    with pytest.raises(ValueError, match=message):
        target_ranks(torch.zeros(2, 3), torch.tensor(targets), excluded)


def test_top_k_wants_at_least_one_item():
    with pytest.raises(ValueError, match="k is 0"):
        top_k(torch.zeros(1, 3), k=0)


def test_top_k_of_a_large_constant_row_is_the_start_of_the_catalogue():
    assert top_k(torch.zeros(2, 20_000), k=30).tolist() == [list(range(30))] * 2
