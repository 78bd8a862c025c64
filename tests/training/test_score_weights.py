from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_data import cases_of
from tiny_recommenders import rec_model, tiny_recommender

from llmrec.training.score_weights import POPULARITY_WEIGHTS, best_popularity_weight

NUM_ITEMS = 24


@pytest.mark.parametrize(
    ("target", "weight", "rank"),
    [
        (NUM_ITEMS - 1, 0.25, 1),  # any weight puts the most popular item first; the first of equals is taken
        (0, 0.0, (1 + NUM_ITEMS) / 2),  # the least popular one is best off among equals
    ],
)
@pytest.mark.parametrize("own", [0.0, 1.0])
def test_the_best_weight_by_hand(checkpoints, target, weight, rank, own):
    """A state of zeros has nothing to say, so that popularity alone ranks; item n was seen n times."""
    model = rec_model(tiny_recommender(checkpoints["bert"]))
    model.rec_items.counts, model.rec_items.popularity_weight = torch.arange(NUM_ITEMS), own
    cases = cases_of([[5, target], [6, target]], [(0, 1), (1, 1)], NUM_ITEMS)
    states = [(np.array([number]), torch.zeros(1, model.rec_items.text.shape[1])) for number in (1, 0)]
    chosen, per_user, _ = best_popularity_weight(states, model, cases, POPULARITY_WEIGHTS, False, cutoff=NUM_ITEMS)
    assert chosen == weight
    assert per_user[f"ndcg@{NUM_ITEMS}"].to_list() == pytest.approx([1 / math.log2(1 + rank)] * 2)
    assert model.rec_items.popularity_weight == own


def test_without_item_tables_weights_are_alike(checkpoints):
    model = rec_model(tiny_recommender(checkpoints["bert"], hybrid=False))
    model.rec_items.counts = torch.arange(NUM_ITEMS)
    states = [(np.array([0]), torch.zeros(1, model.rec_items.text.shape[1]))]
    cases = cases_of([[5, 23]], [(0, 1)], NUM_ITEMS)
    for weights in ((0.0, 1.0), (1.0, 0.0)):
        chosen, per_user, _ = best_popularity_weight(states, model, cases, weights, False, cutoff=10)
        assert chosen == weights[0] and per_user["mrr"].to_list() == [2 / (1 + NUM_ITEMS)]
