from __future__ import annotations

import itertools
from math import log2, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.evaluation.list_metrics import coverage, diversity, list_metrics, novelty, popularity, users_per_item
from llmrec.ranking.ranks import top_k

LISTS = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]])
COUNTS = np.array([7, 3, 1, 0, 2])
NUM_USERS = 7
VECTORS = np.array([[1, 0, 0], [0, 2, 0], [3, 3, 0], [0, 0, 0], [1, 1, 1]], dtype=np.float32)


def random_lists(seed: int, num_lists: int = 6, num_items: int = 9, k: int = 4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    lists = np.stack([generator.choice(num_items, size=k, replace=False) for _ in range(num_lists)])
    return np.where(generator.random(lists.shape) < 0.3, -1, lists)


def test_values_by_hand():
    assert coverage(LISTS, 5) == 4 / 5
    bits = [-log2(8 / 8), -log2(4 / 8), -log2(2 / 8), -log2(1 / 8)]
    np.testing.assert_allclose(novelty(LISTS, COUNTS, NUM_USERS), [(0 + 1 + 2) / 3, (0 + 3) / 2, nan])
    assert bits == [0, 1, 2, 3]
    np.testing.assert_allclose(
        popularity(LISTS, COUNTS, NUM_USERS), [(7 / 7 + 3 / 7 + 1 / 7) / 3, (7 / 7 + 0) / 2, nan], rtol=1e-15
    )
    cosines = [0, 1 / 2**0.5, 1 / 2**0.5]
    np.testing.assert_allclose(diversity(LISTS, VECTORS), [1 - sum(cosines) / 3, nan, nan], rtol=1e-12)


def test_all_by_name():
    values = list_metrics(LISTS, COUNTS, NUM_USERS, VECTORS, k=3)
    assert list(values) == ["coverage@3", "novelty@3", "popularity@3", "diversity@3"]
    assert values["coverage@3"] == 4 / 5
    assert values["novelty@3"] == pytest.approx((1 + 1.5) / 2)
    assert values["popularity@3"] == pytest.approx((11 / 21 + 1 / 2) / 2)
    assert values["diversity@3"] == pytest.approx(1 - 2**0.5 / 3)
    assert list(list_metrics(LISTS, COUNTS, NUM_USERS, k=3)) == ["coverage@3", "novelty@3", "popularity@3"]
    first_place = list_metrics(LISTS, COUNTS, NUM_USERS, VECTORS, k=1)
    assert first_place == {"coverage@1": 1 / 5, "novelty@1": 0, "popularity@1": 1}


def test_lists_without_an_item_have_a_coverage_and_nothing_else():
    assert list_metrics(np.full((3, 10), -1), COUNTS, NUM_USERS, VECTORS) == {"coverage@10": 0}


def diversity_pair_by_pair(row: np.ndarray, vectors: np.ndarray) -> float:
    usable = [vectors[item].astype(float) for item in row if item >= 0 and vectors[item].any()]
    pairs = list(itertools.combinations(usable, 2))
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]
    return 1 - sum(cosines) / len(pairs) if pairs else nan


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_diversity_equals_the_mean_over_pairs_in_any_chunks(seed, max_chunk_entries):
    vectors = np.random.default_rng(seed).normal(size=(9, 5)).astype(np.float32)
    vectors[::4] = 0  # items without a text
    lists = random_lists(seed)
    expected = [diversity_pair_by_pair(row, vectors) for row in lists]
    np.testing.assert_allclose(diversity(lists, vectors, max_chunk_entries), expected, atol=1e-9)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_lists_places_and_items_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    lists, counts, vectors = random_lists(seed), generator.integers(21, size=9), generator.normal(size=(9, 3))
    renamed = generator.permutation(9)  # item i becomes renamed[i]
    moved = np.where(lists >= 0, renamed[lists], -1)
    moved = generator.permuted(moved[generator.permutation(len(moved))], axis=1)
    old = np.argsort(renamed)
    again = list_metrics(moved, counts[old], 20, vectors[old], k=4)
    assert again == pytest.approx(list_metrics(lists, counts, 20, vectors, k=4), abs=1e-9)


def test_twins_are_not_diverse_and_strangers_are():
    for seed in range(20):  # rounding must not make the least diversity negative
        twins = np.outer(np.arange(1, 11), np.random.default_rng(seed).normal(size=16))
        assert 0 <= diversity(np.arange(10)[None], twins)[0] < 1e-9
    assert diversity(np.arange(10)[None], np.eye(10)) == 1


def test_popularity_beside_the_targets_shows_the_bias():
    targets = np.array([1, 2, 3])
    assert popularity(targets[:, None], COUNTS, NUM_USERS).mean() == pytest.approx((3 + 1 + 0) / 7 / 3)
    most_popular = np.tile([0, 1], (3, 1))
    assert popularity(most_popular, COUNTS, NUM_USERS).mean() == pytest.approx((7 + 3) / 7 / 2)


def test_lists_longer_than_the_catalogue_as_top_k_gives_them():
    best = top_k(torch.tensor([[0.1, 0.3, 0.2]]), k=10).numpy()
    lists = np.pad(best, ((0, 0), (0, 7)), constant_values=-1)
    values = list_metrics(lists, np.array([1, 0, 1]), num_users=1, vectors=np.eye(3))
    assert values == {"coverage@10": 1, "novelty@10": 1 / 3, "popularity@10": 2 / 3, "diversity@10": 1}


def test_one_item_and_one_user():
    values = list_metrics(np.array([[0]]), np.array([1]), num_users=1, vectors=np.ones((1, 2)), k=1)
    assert values == {"coverage@1": 1, "novelty@1": 0, "popularity@1": 1}


def test_users_are_counted_once_per_item_however_often_they_took_it():
    items = [np.array([4, 4, 4, 1]), np.array([1]), np.empty(0, dtype=np.int64)]
    assert users_per_item(items, num_items=6).tolist() == [0, 2, 0, 0, 1, 0]
    assert users_per_item([], num_items=2).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (np.array([0, 1]), "one row per list"),
        (np.array([[0, 5]]), r"0\.\.4"),
        (np.array([[0, -2]]), r"0\.\.4"),
        (np.array([[0, 1], [2, 2]]), "list 1 shows an item twice"),
    ],
)
def test_lists_are_checked(lists, message):
    for metric in (
        lambda: coverage(lists, 5),
        lambda: novelty(lists, COUNTS, NUM_USERS),
        lambda: popularity(lists, COUNTS, NUM_USERS),
        lambda: diversity(lists, VECTORS),
    ):
        with pytest.raises(ValueError, match=message):
            metric()


def test_counts_vectors_and_cutoffs_are_checked():
    for counts, num_users in ((COUNTS, 6), (-COUNTS, 7), (COUNTS * 0, 0), (COUNTS[None], 7)):
        with pytest.raises(ValueError, match="not how many events"):
            novelty(LISTS, counts, num_users)
    with pytest.raises(ValueError, match="vector of item 1 is not finite"):
        diversity(LISTS, np.array([[1.0], [nan], [1.0], [1.0]]))
    with pytest.raises(ValueError, match="one row per item"):
        diversity(LISTS, np.ones(5))
    with pytest.raises(ValueError, match="4 vectors for 5 items"):
        list_metrics(LISTS, COUNTS, NUM_USERS, VECTORS[:4], k=3)
    for k in (0, 4):
        with pytest.raises(ValueError, match="at least that many places"):
            list_metrics(LISTS, COUNTS, NUM_USERS, k=k)
