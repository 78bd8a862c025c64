from __future__ import annotations

from math import inf, log2, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, precision_recall_fscore_support

from llmrec.evaluation.metrics import (
    AT_CUTOFF,
    average_precision_at_k,
    case_metrics,
    f1_at_k,
    hit_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
)
from llmrec.ranking.ranks import target_ranks

RANKS = np.array([1, 2, 2.5, 3, 3.5, 4, inf])
ALL = [*AT_CUTOFF.values(), reciprocal_rank]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (hit_at_k, [1, 1, 1, 1, 0, 0, 0]),
        (recall_at_k, [1, 1, 1, 1, 0, 0, 0]),
        (precision_at_k, [1 / 3, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0]),
        (f1_at_k, [2 * (1 / 3) / (1 + 1 / 3)] * 4 + [0, 0, 0]),
        (ndcg_at_k, [1, 1 / log2(3), 1 / log2(3.5), 1 / 2, 0, 0, 0]),
        (average_precision_at_k, [1, 1 / 2, 1 / 2.5, 1 / 3, 0, 0, 0]),
        (reciprocal_rank, [1, 1 / 2, 1 / 2.5, 1 / 3, 0, 0, 0]),
    ],
)
def test_values_by_hand_at_three(metric, expected):
    np.testing.assert_allclose(metric(RANKS, 3), expected, rtol=1e-15)


def test_reciprocal_rank_without_a_cutoff():
    np.testing.assert_allclose(reciprocal_rank(RANKS), [1, 1 / 2, 1 / 2.5, 1 / 3, 1 / 3.5, 1 / 4, 0])


NUM_ITEMS = 40


def random_cases(num_cases: int = 1000, num_values: int = 12) -> tuple[torch.Tensor, torch.Tensor, list[list[int]]]:
    """Scores of few values, so that most rows tie; some are NaN, and of every tenth row the target is left out."""
    generator = np.random.default_rng(11)
    scores = generator.integers(num_values, size=(num_cases, NUM_ITEMS)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.01] = nan
    targets = generator.integers(NUM_ITEMS, size=num_cases)
    excluded = [
        generator.choice(NUM_ITEMS, size=5, replace=False).tolist() + ([target] if case % 10 == 0 else [])
        for case, target in enumerate(targets)
    ]
    return torch.from_numpy(scores), torch.from_numpy(targets), excluded


def list_with_target_at(place: int) -> tuple[np.ndarray, np.ndarray]:
    """Relevance (1, N + 1) and scores without a tie: the target's column is the last, the list has the N others."""
    relevance = np.zeros((1, NUM_ITEMS + 1))
    relevance[0, -1] = 1
    scores = np.append(-2.0 * np.arange(1, NUM_ITEMS + 1), -2.0 * place + 1)[None]
    return relevance, scores


@pytest.mark.parametrize("k", [1, 5, 10, 40])
def test_a_thousand_tied_and_missing_targets_equal_scikit_learn_at_every_whole_rank(k):
    ranks = target_ranks(*random_cases()).numpy()
    between_places = np.isfinite(ranks) & (np.floor(ranks) != ranks)
    assert between_places.sum() > 300 and np.isinf(ranks).sum() > 100  # ties and misses are there
    ours = case_metrics(ranks, [k])
    for place in np.unique(ranks[np.isfinite(ranks) & ~between_places]).astype(int):
        relevance, scores = list_with_target_at(place)
        shown = (-scores).argsort().argsort() < k
        precision, recall, f1, _ = precision_recall_fscore_support(
            relevance, shown, average="samples", zero_division=0.0
        )
        whole = label_ranking_average_precision_score(relevance, scores)
        expected = {
            f"ndcg@{k}": ndcg_score(relevance, scores, k=k),
            f"recall@{k}": recall,
            f"hit@{k}": recall,
            f"precision@{k}": precision,
            f"f1@{k}": f1,
            f"map@{k}": whole if recall else 0.0,
            "mrr": whole,
        }
        for name, value in expected.items():
            assert np.abs(ours[name][ranks == place] - value).max() < 1e-9, (name, place)
    assert all(not values[np.isinf(ranks)].any() for values in ours.values())


def metrics_by_definition(row: list[float], target: int, excluded: list[int], k: int) -> dict[str, float]:
    """Go through the catalogue item by item; a tie is the mean of the places that the target could take in it."""
    values = dict.fromkeys((f"ndcg@{k}", f"recall@{k}", f"hit@{k}", f"precision@{k}", f"f1@{k}", f"map@{k}", "mrr"), 0)
    if target in excluded or row[target] != row[target]:
        return values
    others = [score for item, score in enumerate(row) if item not in excluded and item != target]
    above = sum(1 for score in others if score != score or score > row[target])
    ties = sum(1 for score in others if score == row[target])
    places = range(above + 1, above + ties + 2)
    place = sum(places) / len(places)
    values["mrr"] = 1 / place
    if place <= k:
        precision, recall, ideal_gain = 1 / k, 1 / 1, 1 / log2(1 + 1)
        values[f"ndcg@{k}"] = 1 / log2(1 + place) / ideal_gain
        values[f"recall@{k}"] = values[f"hit@{k}"] = recall
        values[f"precision@{k}"] = precision
        values[f"f1@{k}"] = 2 * precision * recall / (precision + recall)
        values[f"map@{k}"] = 1 / place / min(1, k)
    return values


@pytest.mark.parametrize("k", [1, 5, 10, 40, 100])
def test_a_thousand_tied_and_missing_targets_equal_the_definitions(k):
    scores, targets, excluded = random_cases()
    ours = case_metrics(target_ranks(scores, targets, excluded).numpy(), [k])
    rows = zip(scores.tolist(), targets.tolist(), excluded, strict=True)
    expected = [metrics_by_definition(row, target, left_out, k) for row, target, left_out in rows]
    assert list(ours) == list(expected[0])
    for name, values in ours.items():
        assert np.abs(values - [case[name] for case in expected]).max() < 1e-9, name


@pytest.mark.parametrize("k", [1, 5, 10, 40])
def test_ndcg_equals_scikit_learn_on_scores_that_do_not_tie(k):
    generator = np.random.default_rng(3)
    scores = generator.permuted(np.tile(np.arange(30.0, dtype=np.float32), (1000, 1)), axis=1)
    targets = generator.integers(30, size=1000)
    ranks = target_ranks(torch.from_numpy(scores), torch.from_numpy(targets)).numpy()
    assert abs(ndcg_at_k(ranks, k).mean() - ndcg_score(np.eye(30)[targets], scores, k=k)) < 1e-9


@pytest.mark.parametrize("num_items", [20, 21, 100, 1000])
def test_ties_are_not_ranked_first_a_constant_scorer_gets_no_more_than_chance(num_items):
    rank = target_ranks(torch.full((1, num_items), 0.5), torch.tensor([num_items // 3])).numpy()
    assert rank == (1 + num_items) / 2
    every_place = np.arange(1.0, num_items + 1)
    for name, value in case_metrics(rank, [10]).items():
        assert value[0] <= case_metrics(every_place, [10])[name].mean(), name


def test_ndcg_is_the_one_of_one_relevant_item_and_no_other_definition():
    places = np.arange(1, 11)
    ours = ndcg_at_k(places.astype(float), 10)
    np.testing.assert_allclose(ours, 1 / np.log2(places + 1), rtol=1e-15)
    ideal_of_ten_relevant = (1 / np.log2(places + 1)).sum()  # 4.54: shows a perfect list as 0.22
    assert ours[0] == 1 and ours[0] / ideal_of_ten_relevant < 0.23
    assert ours[1] < 1  # Järvelin and Kekäläinen's first form does not discount the second place


@pytest.mark.parametrize("metric", AT_CUTOFF.values())
def test_a_cutoff_beyond_the_catalogue_changes_only_what_divides_by_it(metric):
    ranks = np.array([1.0, 2.0, 3.0, inf])  # a catalogue of 3 items
    at_catalogue, beyond = metric(ranks, 3), metric(ranks, 50)
    if metric in (precision_at_k, f1_at_k):
        assert ((beyond < at_catalogue) == (ranks <= 3)).all()
    else:
        assert beyond.tolist() == at_catalogue.tolist()


def test_the_only_item_is_always_first():
    ranks = target_ranks(torch.tensor([[0.3]]), torch.tensor([0])).numpy()
    values = case_metrics(ranks, [1, 10])
    assert [values[name][0] for name in ("ndcg@1", "recall@10", "precision@1", "f1@1", "map@10", "mrr")] == [1] * 6
    assert values["precision@10"][0] == 1 / 10


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 15))
def test_the_order_of_cases_and_of_items_changes_nothing(seed, num_items, k):
    generator = np.random.default_rng(seed)
    scores = generator.integers(4, size=(6, num_items)).astype(np.float32)
    targets = generator.integers(num_items, size=6)
    values = case_metrics(target_ranks(torch.from_numpy(scores), torch.from_numpy(targets)).numpy(), [k])
    cases, items = generator.permutation(6), generator.permutation(num_items)
    shuffled = torch.from_numpy(scores[cases][:, items])
    moved = torch.from_numpy(np.argsort(items)[targets[cases]])
    again = case_metrics(target_ranks(shuffled, moved).numpy(), [k])
    assert {name: row.tolist() for name, row in again.items()} == {
        name: row[cases].tolist() for name, row in values.items()
    }


@given(st.lists(st.one_of(st.floats(1, 1e6), st.just(inf)), min_size=1, max_size=20), st.integers(1, 50))
def test_every_metric_lies_between_0_and_1_and_no_better_rank_scores_less(ranks, k):
    ranks = np.sort(np.array(ranks))
    for name, values in case_metrics(ranks, [k]).items():
        assert ((values >= 0) & (values <= 1)).all(), name
        assert (np.diff(values) <= 0).all(), name


def test_case_metrics_names_and_values():
    values = case_metrics(np.array([1.0, 8.0]), cutoffs=(5, 10))
    assert list(values) == [
        *("ndcg@5", "recall@5", "hit@5", "precision@5", "f1@5", "map@5"),
        *("ndcg@10", "recall@10", "hit@10", "precision@10", "f1@10", "map@10"),
        "mrr",
    ]
    assert values["recall@5"].tolist() == [1, 0]
    assert values["ndcg@10"].tolist() == [1, 1 / log2(9)]
    assert values["map@10"].tolist() == values["mrr"].tolist() == [1, 1 / 8]


@pytest.mark.parametrize("rank", [0, 0.5, -1, nan])
@pytest.mark.parametrize("metric", ALL)
def test_impossible_ranks_are_refused(metric, rank):
    with pytest.raises(ValueError, match="ranks start at 1"):
        metric(np.array([1, rank]), 10)


@pytest.mark.parametrize("metric", ALL)
def test_a_cutoff_below_one_is_refused(metric):
    with pytest.raises(ValueError, match="cutoff 0"):
        metric(RANKS, 0)
