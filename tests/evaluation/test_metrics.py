from __future__ import annotations

from math import inf, log2

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from llmrec.evaluation.metrics import (
    case_metrics,
    f1_at_k,
    hit_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)

RANKS = np.array([1, 2, 2.5, 3, 3.5, 4, inf])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (hit_at_k, [1, 1, 1, 1, 0, 0, 0]),
        (recall_at_k, [1, 1, 1, 1, 0, 0, 0]),
        (precision_at_k, [1 / 3, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0]),
        (f1_at_k, [2 * (1 / 3) / (1 + 1 / 3)] * 4 + [0, 0, 0]),
        (ndcg_at_k, [1, 1 / log2(3), 1 / log2(3.5), 1 / 2, 0, 0, 0]),
        (reciprocal_rank, [1, 1 / 2, 1 / 2.5, 1 / 3, 0, 0, 0]),
    ],
)
def test_values_by_hand_at_three(metric, expected):
    np.testing.assert_allclose(metric(RANKS, 3), expected, rtol=1e-15)


def test_reciprocal_rank_without_a_cutoff():
    np.testing.assert_allclose(reciprocal_rank(RANKS), [1, 1 / 2, 1 / 2.5, 1 / 3, 1 / 3.5, 1 / 4, 0])


@pytest.mark.parametrize("k", [1, 5, 10, 40])
def test_ndcg_equals_scikit_learn_where_no_scores_tie(k):
    generator = np.random.default_rng(3)
    scores = generator.permuted(np.tile(np.arange(30.0), (1000, 1)), axis=1)
    targets = generator.integers(30, size=1000)
    ranks = 30 - scores[np.arange(1000), targets]
    relevance = np.eye(30)[targets]
    assert abs(ndcg_at_k(ranks, k).mean() - ndcg_score(relevance, scores, k=k)) < 1e-9


def test_case_metrics_names_and_values():
    values = case_metrics(np.array([1.0, 8.0]), cutoffs=(5, 10))
    assert list(values) == [
        *("ndcg@5", "recall@5", "hit@5", "precision@5", "f1@5"),
        *("ndcg@10", "recall@10", "hit@10", "precision@10", "f1@10"),
        "mrr",
    ]
    assert values["recall@5"].tolist() == [1, 0]
    assert values["ndcg@10"].tolist() == [1, 1 / log2(9)]
    assert values["mrr"].tolist() == [1, 1 / 8]


@pytest.mark.parametrize("rank", [0, 0.5, -1, float("nan")])
@pytest.mark.parametrize("metric", [hit_at_k, recall_at_k, precision_at_k, f1_at_k, ndcg_at_k, reciprocal_rank])
def test_impossible_ranks_are_refused(metric, rank):
    with pytest.raises(ValueError, match="ranks start at 1"):
        metric(np.array([1, rank]), 10)


@pytest.mark.parametrize("metric", [hit_at_k, ndcg_at_k, reciprocal_rank])
def test_a_cutoff_below_one_is_refused(metric):
    with pytest.raises(ValueError, match="cutoff 0"):
        metric(RANKS, 0)
