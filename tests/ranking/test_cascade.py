"""The cascade is the dual head's proposals in the order of the candidate head, and the dual head's order below them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import START, cases_of, items_frame, random_histories
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.ranking.candidates import CandidateScorer, Question
from llmrec.ranking.cascade import CascadeScorer, put_on_top
from llmrec.recommender import Recommender

DAY = 86_400
CATALOG = Catalog(items_frame())
N = len(CATALOG)
FAMILIES = ["bert", "llama"]


def cases_with_gaps(num_users: int = 9, length: int = 20) -> Cases:
    """Two cases of every user, the last one behind a history longer than a window; events five days apart."""
    rows = random_histories(num_users, N, length)
    targets = [(user, place) for user, row in enumerate(rows) for place in (2, len(row) - 1)]
    cases = cases_of(rows, targets, N)
    cases.timestamps[:] = [START + 5 * DAY * times for times in cases.timestamps]
    return cases


CASES = cases_with_gaps()


@pytest.fixture(scope="module")
def recommenders(checkpoints) -> dict[str, Recommender]:
    # The gate ends near zero, so that the candidate head disagrees with the dual one.
    settings = {"head": "cross", "dual_gate": -0.5, "max_tokens": 40, "max_vector_events": 3}
    return {family: randomise(tiny_recommender(checkpoints[family], CATALOG, **settings)) for family in FAMILIES}


def scores_by(scorers: Any, cases: Cases = CASES) -> torch.Tensor:
    """Scores of all cases (number of cases, N), of one scorer or of several shards, every case seen exactly once."""
    scores = torch.full((len(cases), cases.num_items), torch.nan)
    for scorer in scorers if isinstance(scorers, list) else [scorers]:
        for numbers, part in scorer.catalogue_scores(cases):
            assert scores[numbers].isnan().all() and part.dtype == torch.float32
            scores[numbers] = part
    assert not scores.isnan().any()
    return scores


@cache
def alone(recommender: Recommender, case: int) -> torch.Tensor:
    """(N,) candidate scores of a case, every item asked for on its own, by the face that users see."""
    user, end = CASES.user[case], CASES.position[case]
    history = [
        {"item_id": CATALOG.ids[item], "timestamp": int(time)}
        for item, time in zip(CASES.items[user][:end], CASES.timestamps[user][:end], strict=True)
    ]
    opened = recommender.open(history)
    return torch.tensor([recommender.score(opened, [item_id])[0] for item_id in CATALOG.ids])


def first_of(scores: torch.Tensor, num: int, left_out: np.ndarray) -> list[int]:
    order = sorted(set(range(len(scores))) - set(left_out.tolist()), key=lambda item: (-float(scores[item]), item))
    return order[:num]


def assert_same_order(scores: torch.Tensor, expected: torch.Tensor) -> None:
    """Every distance between two scores is that of the expected ones, up to rounding."""
    tolerance = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(scores - scores.min(), expected - expected.min(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_the_whole_catalogue_it_is_every_items_own_score(recommenders, family):
    scores = scores_by(recommenders[family].scorer(5, num_candidates=None))
    assert max(CASES.position) > 12  # longer than a window
    for case in range(len(CASES)):
        expected = alone(recommenders[family], case)
        assert expected.std() > 1e-2
        assert_same_order(scores[case], expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("num_candidates", [1, 5, N + 3])
def test_proposals_stand_on_top_in_their_own_order_and_the_rest_as_it_was(
    recommenders, family, mask_seen, num_candidates
):
    recommender = recommenders[family]
    dual = scores_by(recommender.scorer())
    scores = scores_by(recommender.scorer(num_candidates=num_candidates, mask_seen=mask_seen))
    reordered = 0
    for case in range(len(CASES)):
        left_out = CASES.seen(case) if mask_seen else np.empty(0, dtype=np.int64)
        proposed = first_of(dual[case], num_candidates, left_out)
        rest = sorted(set(range(N)) - set(proposed))
        assert torch.equal(scores[case, rest], dual[case, rest])
        assert scores[case, proposed].min() > max(dual[case, rest], default=-math.inf)
        expected = alone(recommender, case)[proposed]
        assert_same_order(scores[case, proposed], expected)
        reordered += proposed != [proposed[place] for place in expected.argsort(descending=True)]
    assert num_candidates == 1 or reordered > len(CASES) / 2


@pytest.mark.parametrize("num_candidates", [1, 3, 8, 15])
@pytest.mark.parametrize("mask_seen", [True, False])
def test_recall_at_the_number_of_proposals_is_that_of_the_proposer(recommenders, num_candidates, mask_seen):
    """The candidate head moves targets about among the proposals, in or out it cannot move them."""
    recommender = recommenders["bert"]
    dual = evaluate_system(recommender.scorer(), CASES, mask_seen)
    cascade = evaluate_system(recommender.scorer(num_candidates=num_candidates, mask_seen=mask_seen), CASES, mask_seen)
    inside = dual <= num_candidates
    assert np.array_equal(cascade <= num_candidates, inside)
    assert np.array_equal(cascade[~inside], dual[~inside])
    if num_candidates > 5:
        assert inside.any() and not np.array_equal(cascade[inside], dual[inside])


def test_another_adapter_may_propose(checkpoints, recommenders):
    ranker = recommenders["bert"].scorer(num_candidates=4)
    other = randomise(tiny_recommender(checkpoints["llama"], CATALOG, seed=3), seed=7).scorer()
    scores, proposals = scores_by(CascadeScorer(other, ranker.ranker, 4)), scores_by(other)
    own = scores_by(ranker)
    assert any(not torch.equal(scores[case].topk(4).indices, own[case].topk(4).indices) for case in range(len(CASES)))
    for case in range(len(CASES)):
        proposed = first_of(proposals[case], 4, CASES.seen(case))
        assert sorted(scores[case].topk(4).indices.tolist()) == sorted(proposed)
        assert_same_order(scores[case, proposed], alone(recommenders["bert"], case)[proposed])


@pytest.fixture(scope="module")
def proposer(checkpoints) -> Recommender:
    """Another adapter, with a dual head alone and a window of another length."""
    return randomise(tiny_recommender(checkpoints["llama"], CATALOG, seed=3), seed=7)


@pytest.mark.parametrize("opened", [False, True])
def test_two_adapters_recommend_the_ones_proposals_in_the_others_order(recommenders, proposer, opened):
    """By hand: the first four of the proposer, scored by the ranker one at a time, sorted."""
    ranker, others = recommenders["bert"], 0
    for length in (1, 3, 14):
        history = [{"item_id": CATALOG.ids[7 * n % N], "timestamp": START + n * DAY} for n in range(length)]
        history[0] = {"title": "green ladder", "timestamp": START}  # one that neither catalogue has
        proposed = [entry.item_id for entry in proposer.recommend(history, k=4)]
        scores = {item_id: ranker.score(history, [item_id])[0] for item_id in proposed}
        asked = ranker.open(history) if opened else history
        found = ranker.recommend(asked, k=3, num_candidates=4, proposer=proposer)
        assert [entry.item_id for entry in found] == sorted(proposed, key=lambda item_id: -scores[item_id])[:3]
        assert [entry.score for entry in found] == pytest.approx([scores[entry.item_id] for entry in found], abs=1e-4)
        others += {entry.item_id for entry in ranker.recommend(asked, k=4, num_candidates=4)} != set(proposed)
    assert others


def test_a_scorer_of_two_adapters_is_the_cascade_of_their_parts(recommenders, proposer):
    ranker = recommenders["bert"]
    by_hand = CascadeScorer(proposer.scorer(), ranker.scorer(num_candidates=4).ranker, 4)
    assert torch.equal(scores_by(ranker.scorer(num_candidates=4, proposer=proposer)), scores_by(by_hand))


def test_a_proposer_of_other_items_or_for_no_candidate_head_is_refused(checkpoints, recommenders, proposer):
    ranker, history = recommenders["bert"], [{"item_id": CATALOG.ids[0], "timestamp": START}]
    fewer = randomise(tiny_recommender(checkpoints["llama"], Catalog(items_frame().head(20))))
    for asked in (history, ranker.open(history)):
        with pytest.raises(ValueError, match=r"another catalogue \(20 items\) than this adapter \(24\)"):
            ranker.recommend(asked, k=3, proposer=fewer)
    with pytest.raises(ValueError, match="another catalogue"):
        ranker.scorer(num_candidates=4, proposer=fewer)
    fewer.replace_items(ranker.items)  # the remedy that the message names
    assert len(ranker.recommend(history, k=3, proposer=fewer)) == 3
    with pytest.raises(ValueError, match="has a dual head alone"):
        proposer.recommend(history, k=3, proposer=ranker)


@pytest.mark.parametrize("num_candidates", [5, None])
@pytest.mark.parametrize("shards", [2, 3])
def test_any_number_of_processes_computes_the_very_same_numbers(recommenders, num_candidates, shards):
    def scorer(index: int, count: int) -> Any:
        return recommenders["bert"].scorer(4, (index, count), num_candidates=num_candidates)

    whole = scores_by(scorer(0, 1))
    assert torch.equal(scores_by([scorer(index, shards) for index in range(shards)]), whole)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_scores_do_not_depend_on_the_batch(recommenders, batch_size):
    one, other = (scores_by(recommenders["llama"].scorer(size, num_candidates=6)) for size in (7, batch_size))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(one.abs().max()))


@pytest.fixture(scope="module")
def doubled(checkpoints) -> Iterator[tuple[Recommender, Cases]]:
    """Every item twice, under two ids; the first third of them without a training event."""
    frame = items_frame()
    catalog = Catalog(pl.concat([frame, frame.with_columns(item_id="t" + pl.col("item_id"))]))
    recommender = randomise(tiny_recommender(checkpoints["bert"], catalog, head="cross"))
    cold = [index for index, item_id in enumerate(catalog.ids) if int(item_id[-2:]) < N // 3]
    rec_model(recommender).rec_items.counts[cold] = 0
    rows = random_histories(60, 2 * N, 8)
    yield recommender, cases_of(rows, [(user, len(row) - 1) for user, row in enumerate(rows)], 2 * N)


def pairs(recommender: Recommender, cold: bool) -> tuple[list[int], list[int]]:
    names = [f"i{number:02}" for number in range(N) if (number < N // 3) == cold]
    index = recommender.items.index
    return [index(name) for name in names], [index(f"t{name}") for name in names]


class Noisy(CandidateScorer):
    """What it computes of a candidate depends a little on what stands before it, as on hardware, only more."""

    def scores(self, questions: Sequence[Question]) -> list[torch.Tensor]:
        return [found + 1e-3 * torch.arange(len(found)) for found in super().scores(questions)]


def test_twins_tie_unless_something_was_learned_of_them(doubled):
    recommender, cases = doubled
    noisy = Noisy(recommender.model, recommender.processor, recommender.items)
    scores = scores_by(CascadeScorer(recommender.scorer(), noisy, None), cases)
    one, other = pairs(recommender, cold=True)
    assert torch.equal(scores[:, one], scores[:, other])
    assert len(scores[0, one].unique()) == len(one) - 1  # i02 and i03 are twins themselves
    one, other = pairs(recommender, cold=False)
    assert ((scores[:, one] - scores[:, other]).abs() > 0.1).float().mean() > 0.9


def test_proposed_twins_tie_and_one_left_out_stays_below(doubled):
    recommender, cases = doubled
    dual, scores = (scores_by(recommender.scorer(num_candidates=num), cases) for num in (0, 11))
    one, other = pairs(recommender, cold=True)
    num_pairs = num_split = 0
    for case in range(len(cases)):
        proposed = set(first_of(dual[case], 11, cases.seen(case)))
        for pair in zip(one, other, strict=True):
            if proposed >= set(pair):
                assert scores[case, pair[0]] == scores[case, pair[1]]
                num_pairs += 1
            elif inside := proposed & set(pair):
                (outside,) = set(pair) - inside
                assert scores[case, outside] == dual[case, outside] < scores[case, list(proposed)].min()
                num_split += 1
    assert num_pairs > 20 and num_split > 0


def test_scoring_leaves_the_model_in_training_or_not_as_it_was(recommenders):
    recommender = recommenders["bert"]
    model = rec_model(recommender)
    expected = scores_by(recommender.scorer(num_candidates=6))
    model.rec_items.residual_dropout = model.vector_dropout = 0.5
    recommender.model.train()
    try:
        assert torch.equal(scores_by(recommender.scorer(num_candidates=6)), expected)
        assert model.training and model.rec_items.training and model.candidate_head.training
    finally:
        recommender.model.eval()
        model.rec_items.residual_dropout = model.vector_dropout = 0.0


@pytest.mark.parametrize("num_candidates", [0, -1])
def test_a_cascade_of_nothing_is_refused(recommenders, num_candidates):
    scorer = recommenders["bert"].scorer(num_candidates=3)
    with pytest.raises(ValueError, match=f"num_candidates={num_candidates}: give at least 1"):
        CascadeScorer(scorer.proposer, scorer.ranker, num_candidates)


NUMBERS = st.floats(-200, 200, width=32)


@given(st.lists(st.tuples(NUMBERS, st.none() | NUMBERS), min_size=1, max_size=12))
def test_on_top_keeps_order_ties_and_distances(rows):
    """Some items of a row were found anew; they end above the others, which stay as they are."""
    before = torch.tensor([score for score, _ in rows])
    items = torch.tensor([place for place, (_, found) in enumerate(rows) if found is not None], dtype=torch.long)
    found = torch.tensor([rows[place][1] for place in items.tolist()])
    after = before.clone()
    put_on_top(after, items, found)
    others = [place for place in range(len(rows)) if place not in items.tolist()]
    assert torch.equal(after[others], before[others])
    for one, score in zip(items.tolist(), found.tolist(), strict=True):
        assert all(after[one] > after[other] for other in others)
        for another, reference in zip(items.tolist(), found.tolist(), strict=True):
            assert float(after[one] - after[another]) == pytest.approx(score - reference, abs=1e-3)
            assert score != reference or after[one] == after[another]


def on_top(scores: list[float], items: list[int], found: list[float]) -> list[float]:
    row = torch.tensor(scores)
    put_on_top(row, torch.tensor(items, dtype=torch.long), torch.tensor(found))
    return row.tolist()


def test_on_top_of_odd_rows():
    inf = math.inf
    assert on_top([1.0, 2.0], [], []) == [1.0, 2.0]
    assert on_top([1.0, 2.0], [0, 1], [-30.0, -31.0]) == [2.0, 1.0]  # no others: above nothing
    assert on_top([7.0, -inf, 3.0, 1.0], [0, 3], [5.0, 6.0]) == [4.0, -inf, 3.0, 5.0]
    assert on_top([7.0, -inf], [0], [5.0]) == [1.0, -inf]
    assert np.isnan(on_top([7.0, math.nan, 2.0], [0], [5.0])[1])
    assert on_top([7.0, math.nan, 2.0], [0], [5.0])[::2] == [3.0, 2.0]


def test_on_top_one_broken_score_breaks_no_other():
    inf, nan = math.inf, math.nan
    assert on_top([0.0, 0.0, 0.0, 4.0], [0, 1, 2], [-inf, 8.0, 9.0]) == [-inf, 5.0, 6.0, 4.0]
    assert on_top([0.0, 0.0, 0.0, 4.0], [0, 1, 2], [inf, 8.0, 9.0]) == [inf, 5.0, 6.0, 4.0]
    row = on_top([0.0, 0.0, 0.0, 4.0], [0, 1, 2], [nan, 8.0, 9.0])
    assert math.isnan(row[0]) and row[1:] == [5.0, 6.0, 4.0]
    assert all(map(math.isnan, on_top([0.0, 4.0], [0, 1], [nan, nan])))
