from __future__ import annotations

from math import inf, log2

import numpy as np
import polars as pl
import pytest
import torch
from small_data import cases_of

from llmrec.evaluation.evaluator import collect, evaluate_system, score_ranks, summarise, user_metrics

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


def test_parts_of_several_processes_make_the_whole():
    parts = [score_ranks(Scores(batches=batches), CASES, True) for batches in (([3], [0]), ([1, 2],), ())]
    assert collect(parts, len(CASES)).tolist() == evaluate_system(Scores(), CASES, True).tolist()


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
        collect([(np.array([0, 1, 3]), np.ones(3))], num_cases=3)


def test_scores_must_cover_the_catalogue_in_float32():
    with pytest.raises(ValueError, match="each of the 5 items"):
        evaluate_system(Scores(SCORES[:, :4]), CASES, mask_seen=False)
    with pytest.raises(TypeError, match="float32"):
        evaluate_system(Scores(SCORES.double()), CASES, mask_seen=False)


def test_a_constant_scorer_gets_chance_and_a_nan_scorer_nothing():
    assert evaluate_system(Scores(torch.ones(4, 5)), CASES, mask_seen=False).tolist() == [3] * 4
    assert evaluate_system(Scores(torch.ones(4, 5)), CASES, mask_seen=True).tolist() == [2.5, 2, 2.5, inf]
    ranks = evaluate_system(Scores(torch.full((4, 5), float("nan"))), CASES, mask_seen=False)
    _, summary = summarise(ranks, CASES, cutoffs=[5, 100])
    assert all(interval == {"value": 0, "low": 0, "high": 0} for interval in summary.values())


def test_a_users_value_is_the_mean_of_its_cases_and_a_systems_the_mean_of_users():
    ranks = np.array([1.0, 3.0, 2.0, inf])  # users 0, 0, 1, 2
    per_user, summary = summarise(ranks, CASES, cutoffs=[2, 5])
    assert per_user["user_id"].to_list() == ["user 0", "user 1", "user 2"]
    assert per_user["num_targets"].to_list() == [2, 1, 1]
    np.testing.assert_allclose(per_user["ndcg@5"], [(1 + 1 / 2) / 2, 1 / log2(3), 0])
    np.testing.assert_allclose(per_user["recall@2"], [1 / 2, 1, 0])
    np.testing.assert_allclose(summary["ndcg@5"]["value"], 1 / 3 * ((1 + 1 / 2) / 2 + 1 / log2(3)))
    np.testing.assert_allclose(summary["mrr"]["value"], 1 / 3 * ((1 + 1 / 3) / 2 + 1 / 2))
    assert all(row["low"] <= row["value"] <= row["high"] for row in summary.values())


def test_users_without_a_case_have_no_row():
    cases = cases_of([[0, 1], [0, 1], [0, 1]], [(2, 1), (0, 1)], num_items=2)
    per_user = user_metrics(np.array([1.0, 2.0]), cases, cutoffs=[1])
    expected = pl.DataFrame({"user_id": ["user 0", "user 2"], "recall@1": [0.0, 1.0]})
    assert per_user.select("user_id", "recall@1").equals(expected)


def test_one_rank_per_case_is_wanted():
    with pytest.raises(ValueError, match="for 4 cases"):
        user_metrics(np.ones(3), CASES)
