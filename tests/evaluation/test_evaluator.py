from __future__ import annotations

from itertools import pairwise
from math import inf, log2, nan

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import cases_of

from llmrec.evaluation.evaluator import (
    Details,
    RankedPart,
    Ranking,
    collect,
    evaluate_system,
    metric_columns,
    rank_system,
    score_ranks,
    user_metrics,
)
from llmrec.evaluation.intervals import user_means

CASES = cases_of([[0, 1, 2], [3, 0], [1, 1, 4]], [(0, 1), (0, 2), (1, 1), (2, 1)], num_items=5)
SCORES = torch.tensor(
    [
        [5.0, 1.0, 2.0, 3.0, 4.0],  # history 0, target 1: rank 5, or 4 when 0 is masked
        [5.0, 4.0, 3.0, 2.0, 1.0],  # history 0 1, target 2: rank 3, or 1 when they are masked
        [2.0, 2.0, 1.0, 0.0, 0.0],  # history 3, target 0: tied with one other, rank 1.5
        [0.0, 9.0, 0.0, 0.0, 0.0],  # history 1, target 1: rank 1, or a miss when masked
    ]
)


class Scores:
    """Yields a table of scores in given batches."""

    def __init__(self, scores: torch.Tensor = SCORES, batches: tuple[list[int], ...] = ([0, 1, 2, 3],)):
        self.scores = scores
        self.batches = batches

    def catalogue_scores(self, cases):
        for numbers in self.batches:
            yield np.array(numbers), self.scores[numbers]


def test_ranks_by_hand():
    assert evaluate_system(Scores(), CASES, mask_seen=False).tolist() == [5, 3, 1.5, 1]
    assert evaluate_system(Scores(), CASES, mask_seen=True).tolist() == [4, 1, 1.5, inf]


@pytest.mark.parametrize("batches", [([0], [1], [2], [3]), ([3, 1], [0, 2]), ([2], [], [3, 0, 1])])
@pytest.mark.parametrize("mask_seen", [False, True])
def test_batches_and_their_order_change_nothing(batches, mask_seen):
    whole = evaluate_system(Scores(), CASES, mask_seen)
    assert evaluate_system(Scores(batches=batches), CASES, mask_seen).tolist() == whole.tolist()


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_any_batches_of_any_cases_give_the_ranks_of_loops(data, mask_seen):
    """Down to one user and one item, K beyond the catalogue, scores that tie or are NaN."""
    num_items = data.draw(st.integers(1, 6))
    item = st.integers(0, num_items - 1)
    rows = data.draw(st.lists(st.lists(item, min_size=2, max_size=4), min_size=1, max_size=4))
    targets = [(user, place) for user, row in enumerate(rows) for place in range(1, len(row))]
    cases = cases_of(rows, targets, num_items)
    score = st.sampled_from([0.0, 1.0, 2.0, nan])
    table = data.draw(st.lists(st.lists(score, min_size=num_items, max_size=num_items), min_size=12, max_size=12))
    order = data.draw(st.permutations(range(len(targets))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(targets)), max_size=4)))
    batches = tuple(order[a:b] for a, b in pairwise([0, *cuts, len(targets)]))
    ranks = evaluate_system(Scores(torch.tensor(table), batches), cases, mask_seen)
    for case, (user, place) in enumerate(targets):
        target, seen = rows[user][place], rows[user][:place] if mask_seen else []
        own, others = table[case][target], [table[case][other] for other in {*range(num_items)} - {*seen, target}]
        above, tied = sum(not other <= own for other in others), sum(other == own for other in others)
        assert ranks[case] == (inf if target in seen or own != own else 1 + above + tied / 2)
    per_user = user_metrics(ranks, cases, [num_items + 3])
    hits = per_user[f"hit@{num_items + 3}"].to_list()  # everything is on the list, but for misses
    for user, hit in enumerate(hits):
        mine = [rank < inf for rank, (owner, _) in zip(ranks, targets, strict=True) if owner == user]
        assert hit == pytest.approx(sum(mine) / len(mine))


def test_parts_of_several_processes_make_the_whole():
    parts = [score_ranks(Scores(batches=batches), CASES, True) for batches in (([3], [0]), ([1, 2],), ())]
    assert collect(parts, len(CASES)).ranks.tolist() == evaluate_system(Scores(), CASES, True).tolist()


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (([0, 1, 2],), "1 of 4 cases were not scored and 0 more than once .first: case 3"),
        (([0, 1], [1, 2, 3]), "0 of 4 cases were not scored and 1 more than once .first: case 1"),
        ((), "4 of 4 cases were not scored"),
    ],
)
def test_every_case_is_scored_exactly_once(batches, message):
    with pytest.raises(ValueError, match=message):
        evaluate_system(Scores(batches=batches), CASES, mask_seen=False)


def test_a_case_number_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.3"):
        evaluate_system(Scores(torch.zeros(5, 5), batches=([0, 1, 2, 3, 4],)), CASES, mask_seen=False)
    with pytest.raises(ValueError, match=r"0\.\.2"):
        collect([RankedPart(np.array([0, 1, 3]), Ranking(np.ones(3), np.ones(3), np.empty((3, 0))))], num_cases=3)


def test_scores_must_cover_the_catalogue_in_float32():
    with pytest.raises(ValueError, match="each of the 5 items"):
        evaluate_system(Scores(SCORES[:, :4]), CASES, mask_seen=False)
    with pytest.raises(TypeError, match="float32"):
        evaluate_system(Scores(SCORES.double()), CASES, mask_seen=False)


def test_a_constant_scorer_gets_chance_and_a_nan_scorer_nothing():
    assert evaluate_system(Scores(torch.ones(4, 5)), CASES, mask_seen=False).tolist() == [3] * 4
    assert evaluate_system(Scores(torch.ones(4, 5)), CASES, mask_seen=True).tolist() == [2.5, 2, 2.5, inf]
    ranks = evaluate_system(Scores(torch.full((4, 5), float("nan"))), CASES, mask_seen=False)
    per_user = user_metrics(ranks, CASES, cutoffs=[5, 100])
    assert not per_user.select(metric_columns(per_user)).to_numpy().any()


def test_a_users_value_is_the_mean_of_its_cases_and_a_systems_the_mean_of_users():
    ranks = np.array([1.0, 3.0, 2.0, inf])  # users 0, 0, 1, 2
    per_user = user_metrics(ranks, CASES, cutoffs=[2, 5])
    means = dict(
        zip(metric_columns(per_user), user_means(per_user.select(metric_columns(per_user)).to_numpy()), strict=True)
    )
    assert per_user["user_id"].to_list() == ["user 0", "user 1", "user 2"]
    assert per_user["num_targets"].to_list() == [2, 1, 1]
    np.testing.assert_allclose(per_user["ndcg@5"], [(1 + 1 / 2) / 2, 1 / log2(3), 0])
    np.testing.assert_allclose(per_user["recall@2"], [1 / 2, 1, 0])
    np.testing.assert_allclose(means["ndcg@5"], 1 / 3 * ((1 + 1 / 2) / 2 + 1 / log2(3)))
    np.testing.assert_allclose(means["mrr"], 1 / 3 * ((1 + 1 / 3) / 2 + 1 / 2))


def test_users_without_a_case_have_no_row():
    cases = cases_of([[0, 1], [0, 1], [0, 1]], [(2, 1), (0, 1)], num_items=2)
    per_user = user_metrics(np.array([1.0, 2.0]), cases, cutoffs=[1])
    expected = pl.DataFrame({"user_id": ["user 0", "user 2"], "recall@1": [0.0, 1.0]})
    assert per_user.select("user_id", "recall@1").equals(expected)


def test_one_rank_per_case_is_wanted():
    with pytest.raises(ValueError, match="for 4 cases"):
        user_metrics(np.ones(3), CASES)


def test_lists_and_ranks_without_twins_by_hand():
    details = Details(groups=np.array([0, 1, 1, 2, 1]), listed=np.array([True, False, True, False]), list_length=3)
    assert details.twins(1).tolist() == [2, 4] and details.twins(0).tolist() == []
    ranking = rank_system(Scores(), CASES, mask_seen=True, details=details)
    assert ranking.ranks.tolist() == [4, 1, 1.5, inf]
    # Case 0: above target 1 stand 4 and 2, its twins, and 3. Case 2: target 0 has no twin.
    assert ranking.ranks_without_twins.tolist() == [2, 1, 1.5, inf]
    assert ranking.lists.tolist() == [[4, 3, 2], [-1, -1, -1], [0, 1, 2], [-1, -1, -1]]


@pytest.mark.parametrize("mask_seen", [False, True])
def test_ranks_without_twins_are_those_of_a_catalogue_without_them(mask_seen):
    generator = np.random.default_rng(5)
    rows = [generator.integers(12, size=6).tolist() for _ in range(20)]
    cases = cases_of(rows, [(row, 5) for row in range(20)], num_items=12)
    scores = torch.from_numpy(generator.integers(5, size=(20, 12))).float()
    groups = generator.integers(4, size=12)
    details = Details(groups, np.ones(20, dtype=bool))
    order = generator.permutation(20).tolist()
    ranking = rank_system(Scores(scores, (order[:7], order[7:])), cases, mask_seen, details)
    assert ranking.ranks.tolist() == evaluate_system(Scores(scores, (list(range(20)),)), cases, mask_seen).tolist()
    for case, target in enumerate(cases.targets):
        left = [item for item in range(12) if item == target or groups[item] != groups[target]]
        left = [item for item in left if not (mask_seen and item in cases.history(case)) or item == target]
        others = [scores[case, item].item() for item in left if item != target]
        own = scores[case, target].item()
        rank = 1 + sum(other > own for other in others) + sum(other == own for other in others) / 2
        assert ranking.ranks_without_twins[case] == (inf if mask_seen and cases.repeated[case] else rank)
