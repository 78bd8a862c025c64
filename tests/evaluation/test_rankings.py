"""What systems are asked, and how their answers are kept, with a system whose scores can be read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_data import catalog_of, histories_of

from llmrec.data.cases import Cases
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.evaluation.rankings import Questions, Rankings, rank_together
from llmrec.evaluation.shuffles import shuffle_order, shuffle_times

CATALOG = catalog_of("abcdefgh")
HISTORIES = histories_of(ann=("abcdefg", "tttttxx"), ben=("hgfedcba", "ttttttxx"), eve=("cab", "ttt"))


class LaterIsBetter:
    """Scores an item by its place in the history, and by the time since the event before it."""

    asked = 0

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        self.asked += 1
        for case in reversed(range(len(cases))):
            history = cases.history(case)
            times = cases.timestamps[cases.user[case]][: len(history)]
            scores = torch.zeros(1, cases.num_items)
            scores[0, history] = torch.arange(1.0, 1 + len(history)) + torch.from_numpy(times % 7).float() / 10
            yield np.array([case]), scores


def questions(*kinds: str) -> Questions:
    cases = Cases.from_histories(HISTORIES, CATALOG, "test")
    return Questions.about(cases, CATALOG, kinds, seed=4)


def test_the_questions_are_the_cases_and_the_first_of_each_user_shuffled():
    asked = questions("order", "time")
    assert len(asked.cases) == 4 and asked.details.listed.tolist() == [True, False, True, False]
    assert [len(items) for items in asked.firsts.items] == [6, 7]
    for kind, shuffle in (("order", shuffle_order), ("time", shuffle_times)):
        expected = shuffle(asked.firsts, 4)
        assert all(map(np.array_equal, asked.shuffled[kind].items, expected.items))
        assert all(map(np.array_equal, asked.shuffled[kind].timestamps, expected.timestamps))
    assert list(questions("order").shuffled) == ["order"] and questions().shuffled == {}


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_answers_are_those_of_the_evaluator(mask_seen, shared):
    asked = questions("order", "time")
    rankings = Rankings(asked, mask_seen)
    rankings.add("late", LaterIsBetter(), ("order", "time"), shared)
    ranks = evaluate_system(LaterIsBetter(), asked.cases, mask_seen)
    assert np.array_equal(rankings.whole["late"].ranks, ranks)
    assert rankings.whole["late"].lists.shape == (4, 10)
    found = rankings.of_firsts["late"]
    assert found["as_is"].tolist() == [ranks[0], ranks[2]]
    for kind in ("order", "time"):
        assert np.array_equal(found[kind], evaluate_system(LaterIsBetter(), asked.shuffled[kind], mask_seen))


def test_only_shuffles_that_are_asked_for_and_can_change_a_system_are_ranked():
    for kinds, can_change, expected in (
        (("order",), ("order", "time"), {"as_is", "order"}),
        (("order", "time"), ("order",), {"as_is", "order"}),
        (("order", "time"), (), set()),
        ((), ("order", "time"), set()),
    ):
        system, rankings = LaterIsBetter(), Rankings(questions(*kinds), mask_seen=True)
        rankings.add("late", system, can_change)
        assert set(rankings.of_firsts.get("late", ())) == expected
        assert system.asked == max(1, len(expected))


def test_a_system_that_forgets_a_case_is_refused():
    class Forgetful(LaterIsBetter):
        def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
            yield from list(super().catalogue_scores(cases))[1:]

    with pytest.raises(ValueError, match="1 of 4 cases were not scored"):
        rank_together(Forgetful(), questions().cases, mask_seen=True)
