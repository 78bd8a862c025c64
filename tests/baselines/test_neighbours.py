from __future__ import annotations

import numpy as np
import pytest
import torch
from small_data import cases_of, random_histories

from llmrec.baselines.neighbours import ItemKNN
from llmrec.data.item_neighbours import Neighbours, item_neighbours
from llmrec.data.training_events import TrainingEvents


def events_of(rows: list[list[int]], num_items: int) -> TrainingEvents:
    return TrainingEvents([np.array(row) for row in rows], [np.arange(len(row)) for row in rows], num_items)


def random_events(num_users: int = 30, num_items: int = 25, seed: int = 0) -> TrainingEvents:
    """Items 0 to 22 at random with repeats; two are cold."""
    random = np.random.default_rng(seed)
    rows = [random.integers(num_items - 2, size=random.integers(1, 12)).tolist() for _ in range(num_users)]
    return events_of(rows, num_items)


def cosines(events: TrainingEvents) -> np.ndarray:
    """The cosine of every pair of items, (N, N), zero on the diagonal; dense and by the formula."""
    met = np.zeros((len(events.items), events.num_items))
    for user, items in enumerate(events.items):
        met[user, items] = 1
    norms = np.sqrt((met**2).sum(0))
    with np.errstate(invalid="ignore"):
        found = np.nan_to_num(met.T @ met / np.outer(norms, norms))
    np.fill_diagonal(found, 0)
    return found


def dense(neighbours: Neighbours, num_items: int) -> np.ndarray:
    matrix = np.zeros((num_items, num_items))
    for item in range(num_items):
        row = slice(neighbours.ends[item], neighbours.ends[item + 1])
        matrix[item, neighbours.items[row]] = neighbours.similarities[row]
    return matrix


def all_scores(baseline: ItemKNN, cases) -> torch.Tensor:
    batches = list(baseline.catalogue_scores(cases))
    assert np.concatenate([numbers for numbers, _ in batches]).tolist() == list(range(len(cases)))
    scores = torch.cat([scores for _, scores in batches])
    assert scores.dtype == torch.float32
    return scores


def test_similarities_and_scores_by_hand():
    # Item 0 was met by three users, 1 by two of them, 2 by one of them, once again; 3 alone; 4 by nobody.
    events = events_of([[0, 1], [1, 0], [0, 2, 2], [3]], num_items=5)
    similar = dense(item_neighbours(events, 10), 5)
    half, third = 2 / 6**0.5, 1 / 3**0.5
    expected = [[0, half, third, 0, 0], [half, 0, 0, 0, 0], [third, 0, 0, 0, 0], [0] * 5, [0] * 5]
    np.testing.assert_allclose(similar, expected, rtol=1e-6)
    baseline = ItemKNN.from_events(events, num_neighbours=10, decay=0.5)
    scores = all_scores(baseline, cases_of([[1, 2, 0, 0]], [(0, 1), (0, 2), (0, 3)], num_items=5))
    cold = -np.inf
    expected = [
        [half, 0, 0, 0, cold],
        [half / 2 + third, 0, 0, 0, cold],
        [half / 4 + third / 2, half, third, 0, cold],
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_neighbours", [1, 2, 5, 100])
def test_neighbours_are_the_nearest_by_brute_force(seed, num_neighbours):
    events = random_events(seed=seed)
    found, expected = dense(item_neighbours(events, num_neighbours), 25), cosines(events)
    for item in range(25):
        kept = np.flatnonzero(found[item])
        np.testing.assert_allclose(found[item, kept], expected[item, kept], rtol=1e-6)
        nearest = np.sort(expected[item])[::-1][:num_neighbours]
        np.testing.assert_allclose(np.sort(found[item, kept])[::-1], nearest[nearest > 0], rtol=1e-6)


def test_fewer_neighbours_are_the_first_of_many():
    events = random_events(num_items=40)
    many = item_neighbours(events, 30)
    for number in (1, 3, 30):
        for one, other in zip(item_neighbours(events, number), many.nearest(number), strict=True):
            assert np.array_equal(one, other)


def test_ties_at_the_cut_do_not_follow_the_item_id():
    """One user met everything, so every pair is equally near: kept neighbours must not be the highest or lowest ids."""
    neighbours = item_neighbours(events_of([list(range(100))], num_items=100), 10)
    assert np.diff(neighbours.ends).tolist() == [10] * 100
    assert 30 < neighbours.items.mean() < 70 and len(set(neighbours.items.tolist())) <= 11


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.3])
def test_scores_equal_the_formula_over_every_event(decay):
    events = random_events()
    baseline = ItemKNN.from_events(events, num_neighbours=7, decay=decay)
    similar = dense(baseline.neighbours, 25)
    row = np.random.default_rng(1).integers(25, size=41)
    found = all_scores(baseline, cases_of([row.tolist()], [(0, place) for place in range(1, 41)], num_items=25))
    for place, scores in enumerate(found, start=1):
        expected = sum(decay ** (place - 1 - event) * similar[row[event]] for event in range(place))
        np.testing.assert_allclose(scores, np.where(events.known, expected, -np.inf), rtol=1e-5, atol=1e-12)


def test_weights_of_a_very_long_history_do_not_overflow():
    events = random_events()
    baseline = ItemKNN.from_events(events, num_neighbours=7, decay=0.5)
    row = np.random.default_rng(2).integers(23, size=4000)
    long = all_scores(baseline, cases_of([row.tolist()], [(0, 3999)], num_items=25))
    short = all_scores(baseline, cases_of([row[3800:].tolist()], [(0, 199)], num_items=25))
    assert long[:, events.known].isfinite().all()
    torch.testing.assert_close(long, short, rtol=1e-6, atol=1e-9)


def test_a_case_scores_the_same_alone_and_among_many_in_any_order():
    events = random_events()
    baseline = ItemKNN.from_events(events, num_neighbours=7, decay=0.7)
    rows = random_histories(num_users=9, num_items=25, length=12)
    targets = [(user, place) for user, row in enumerate(rows) for place in range(1, len(row))]
    shuffled = [targets[place] for place in np.random.default_rng(3).permutation(len(targets))]
    many = all_scores(baseline, cases_of(rows, shuffled, num_items=25))
    for scores, (user, place) in zip(many, shuffled, strict=True):
        alone = all_scores(baseline, cases_of([rows[user][: place + 1]], [(0, place)], num_items=25))
        assert torch.equal(alone[0], scores)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_no_number(monkeypatch, threads):
    from implicit import nearest_neighbours

    class Threaded(nearest_neighbours.ItemItemRecommender):
        def __init__(self, K, num_threads):
            super().__init__(K, num_threads=threads)

    events = random_events(num_users=200, num_items=120)
    expected = item_neighbours(events, 20)
    monkeypatch.setattr(nearest_neighbours, "ItemItemRecommender", Threaded)
    for one, other in zip(item_neighbours(events, 20), expected, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("decay", [0, 1.1, float("nan")])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match="decay is"):
        ItemKNN.from_events(random_events(), 5, decay)


def test_the_number_of_neighbours_is_checked():
    with pytest.raises(ValueError, match="num_neighbours is 0"):
        item_neighbours(random_events(), 0)
