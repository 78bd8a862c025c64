from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import cases_of

from llmrec.baselines.content import ContentBaseline
from llmrec.data.distinct_rows import unique_rows
from llmrec.evaluation.evaluator import evaluate_system


def unit_rows(num_rows: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(num_rows, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def all_scores(baseline: ContentBaseline, cases) -> torch.Tensor:
    batches = list(baseline.catalogue_scores(cases))
    numbers = np.concatenate([numbers for numbers, _ in batches])
    assert numbers.tolist() == list(range(len(cases)))
    return torch.cat([scores for _, scores in batches])


def test_scores_by_hand():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]])
    cases = cases_of([[0, 1, 3, 2]], [(0, 1), (0, 2), (0, 3)], num_items=4)
    scores = all_scores(ContentBaseline(vectors, decay=0.5), cases)
    # Users: (1, 0); then (0.5, 1) of length √1.25; then half of that, the last event having no words.
    expected = [[1, 0, 0.6, 0], [0.5, 1, 0.3 + 0.8, 0], [0.5, 1, 0.3 + 0.8, 0]]
    np.testing.assert_allclose(scores, np.array(expected) / [[1], [1.25**0.5], [1.25**0.5]], rtol=1e-6)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("decay", [0.3, 0.7, 0.99, 1.0])
def test_long_histories_equal_the_formula_over_every_event(decay):
    vectors = unit_rows(20, 8)
    row = np.random.default_rng(1).integers(20, size=301)
    cases = cases_of([row.tolist()], [(0, 300)], num_items=20)
    user = sum(decay ** (299 - place) * vectors[row[place]].astype(np.float64) for place in range(300))
    expected = vectors @ (user / np.linalg.norm(user))
    np.testing.assert_allclose(all_scores(ContentBaseline(vectors, decay), cases)[0], expected, rtol=1e-5, atol=1e-6)


def test_events_from_the_target_on_do_not_move_a_score():
    baseline = ContentBaseline(unit_rows(9, 5))
    one = all_scores(baseline, cases_of([[0, 1, 2, 3]], [(0, 2)], num_items=9))
    other = all_scores(baseline, cases_of([[0, 1, 7, 8]], [(0, 2)], num_items=9))
    assert torch.equal(one, other)


def test_a_case_scores_the_same_alone_and_among_many():
    baseline = ContentBaseline(unit_rows(53, 33))
    rows = np.random.default_rng(2).integers(53, size=(29, 6)).tolist()
    many = all_scores(baseline, cases_of(rows, [(user, 5) for user in range(29)], num_items=53))
    for user in range(29):
        alone = all_scores(baseline, cases_of([rows[user]], [(0, 5)], num_items=53))
        assert torch.equal(alone[0], many[user])


@pytest.mark.parametrize(("num_unique", "num_items"), [(3, 7), (37, 101), (100, 257), (255, 1023)])
@pytest.mark.parametrize("width", [3, 17, 384])
def test_items_of_equal_text_tie_exactly(num_unique, num_items, width):
    which = np.random.default_rng(3).integers(num_unique, size=num_items)
    vectors = unit_rows(num_unique, width)[which]
    rows = np.random.default_rng(4).integers(num_items, size=(13, 9)).tolist()
    scores = all_scores(ContentBaseline(vectors), cases_of(rows, [(user, 8) for user in range(13)], num_items))
    for text in range(num_unique):
        twins = scores[:, which == text]
        assert torch.equal(twins, twins[:, :1].expand_as(twins))


def test_a_twin_of_the_target_shares_its_place():
    vectors = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0]])
    cases = cases_of([[0, 2]], [(0, 1)], num_items=4)
    assert evaluate_system(ContentBaseline(vectors), cases, mask_seen=True).tolist() == [1.5]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0]), min_size=2, max_size=2), min_size=1, max_size=12))
def test_unique_rows_equal_looking_each_up(rows):
    vectors = np.array(rows)
    unique, inverse = unique_rows(vectors)
    seen = []
    for row in rows:
        if row not in seen:
            seen.append(row)
    assert unique.tolist() == seen
    assert inverse.tolist() == [seen.index(row) for row in rows]
    assert np.array_equal(unique[inverse], vectors)


def test_unique_rows_wants_a_table():
    with pytest.raises(ValueError, match="one row per item"):
        unique_rows(np.zeros(3))


@pytest.mark.parametrize("row", [[2.0, 0.0], [0.5, 0.5], [np.nan, 0.0], [np.inf, 0.0]])
def test_vectors_of_another_length_are_refused(row):
    with pytest.raises(ValueError, match="length one or be zero"):
        ContentBaseline(np.array([[1.0, 0.0], row]))


@pytest.mark.parametrize("decay", [0, -0.1, 1.1, float("nan")])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match="decay is"):
        ContentBaseline(np.eye(2), decay)
