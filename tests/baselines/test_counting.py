from __future__ import annotations

import numpy as np
import pytest
import torch
from small_data import cases_of, catalog_of, histories_of

from llmrec.baselines.counting import Popularity
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import evaluate_system

CATALOG = catalog_of("abcdef")


def test_only_training_events_count_and_each_of_them():
    histories = histories_of(ann=("aabf", "tttx"), ben=("acc", "tvx"), cat=("dd", "xx"))
    assert Popularity.from_histories(histories, CATALOG).counts.tolist() == [3, 1, 0, 0, 0, 0]


def test_what_is_held_out_does_not_move_a_score():
    one = Popularity.from_histories(histories_of(ann=("abc", "ttx")), CATALOG)
    other = Popularity.from_histories(histories_of(ann=("abf", "ttx")), CATALOG)
    assert one.counts.tolist() == other.counts.tolist()


def test_every_case_gets_the_counts():
    cases = cases_of([[0, 1, 2], [0, 1]], [(0, 1), (0, 2), (1, 1)], num_items=3)
    batches = list(Popularity(np.array([5, 0, 7])).catalogue_scores(cases))
    assert np.concatenate([numbers for numbers, _ in batches]).tolist() == [0, 1, 2]
    scores = torch.cat([scores for _, scores in batches])
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[5, 0, 7]] * 3


def test_ranks_by_hand_with_equal_counts_sharing_their_places():
    histories = histories_of(ann=("aab", "ttx"), ben=("bcd", "ttx"), cat=("ca", "tx"))
    cases = Cases.from_histories(histories, CATALOG, "test")
    # Counts a 2, c 2, b 1, the rest 0: b stands third, d among the places 4 to 6, a in 1 to 2.
    ranks = evaluate_system(Popularity.from_histories(histories, CATALOG), cases, mask_seen=False)
    assert ranks.tolist() == [3, 5, 1.5]
    ranks = evaluate_system(Popularity.from_histories(histories, CATALOG), cases, mask_seen=True)
    assert ranks.tolist() == [2, 3, 1]


def test_an_unknown_item_is_refused():
    with pytest.raises(ValueError, match="'z'"):
        Popularity.from_histories(histories_of(ann=("az", "tt")), CATALOG)


@pytest.mark.parametrize("counts", [[[1, 2]], [1, -1]])
def test_counts_are_checked(counts):
    with pytest.raises(ValueError, match="one number of events per item"):
        Popularity(np.array(counts))
