"""The scorer of candidates: however it packs, caches and cuts, every candidate gets the score of a pass of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.ranking.candidates import CandidateScorer, Question
from llmrec.ranking.planning import chunk_candidates, pass_mebibytes
from llmrec.text.windows import Window

CATALOG = Catalog(items_frame())
N = len(CATALOG)


@pytest.fixture(scope="module", params=["bert", "llama"])
def recommender(request, checkpoints):
    return randomise(tiny_recommender(checkpoints[request.param], CATALOG, head="cross"))


def scorer(recommender, **settings) -> CandidateScorer:
    return CandidateScorer(recommender.model, recommender.processor, recommender.items, **settings)


def question(recommender, length: int, items: np.ndarray, events: np.ndarray | None = None, seed: int = 0) -> Question:
    random = np.random.default_rng(seed)
    history = random.integers(N, size=length)
    times = START + np.cumsum(random.integers(60, 800_000, size=length))
    blocks = recommender.processor.blocks(history, times, CATALOG)
    row = recommender.processor.read(history, blocks, Window(0, 0, length))
    return Question(row, items, np.full(len(items), length - 1) if events is None else events)


def one_by_one(recommender, asked: Question) -> torch.Tensor:
    alone = [Question(asked.row, asked.items[[c]], asked.events[[c]]) for c in range(len(asked.items))]
    return torch.cat([scorer(recommender, method="packed").scores([single])[0] for single in alone])


def test_packed_cached_small_chunks_and_one_by_one_agree(recommender):
    asked = [question(recommender, length, np.arange(N), seed=length) for length in (3, 9, 1)]
    expected = [one_by_one(recommender, single) for single in asked]
    tight = pass_mebibytes(rec_model(recommender).backbone, 60)
    for choice in ({}, {"method": "packed"}, {"method": "cached"}, {"max_pass_mib": tight}, {"max_pass_mib": 1e-9}):
        found = scorer(recommender, **choice).scores(asked)
        for one, other in zip(expected, found, strict=True):
            assert (one - other).abs().max() <= 1e-4 * one.std(), choice


def test_candidates_behind_different_events_share_a_pass(recommender):
    random = np.random.default_rng(3)
    asked = question(recommender, 9, random.integers(N, size=20), random.integers(9, size=20))
    for choice in ({}, {"max_pass_mib": 1e-9}):
        found = scorer(recommender, **choice).scores([asked])[0]
        assert (one_by_one(recommender, asked) - found).abs().max() <= 1e-4


def test_order_company_and_repetition_change_no_score(recommender):
    asked = question(recommender, 6, np.arange(N))
    scores = scorer(recommender).scores([asked])[0]
    order = np.random.default_rng(0).permutation(N)
    for choice in ({"method": "packed"}, {"method": "cached"}):
        here, moved = (
            scorer(recommender, **choice).scores([question(recommender, 6, which)])[0]
            for which in (np.arange(N), order)
        )
        assert torch.equal(here[order], moved)
    doubled = scorer(recommender).scores([question(recommender, 6, np.array([2, 2, 4]))])[0]
    assert doubled[0] == pytest.approx(doubled[1].item(), abs=1e-5)
    assert doubled[0] == pytest.approx(scores[2].item(), abs=1e-5)


def test_no_candidates_have_no_scores(recommender):
    empty = question(recommender, 3, np.empty(0, dtype=np.int64))
    some = question(recommender, 3, np.arange(2))
    found = scorer(recommender).scores([empty, some, empty])
    assert [len(scores) for scores in found] == [0, 2, 0]


def test_an_item_without_text_is_scored_as_an_unnamed_item(recommender):
    """A catalogue may hold one; a request that gives neither id nor text is refused elsewhere."""
    row = N  # of the item behind those of the catalogue
    model = rec_model(recommender)
    texts, known = [*(CATALOG.attributes(item) for item in range(N)), {}], model.rec_items

    class Texts:
        def attributes(self, item: int) -> dict[str, str]:
            return texts[item]

    model.rec_items = known.extend(known.text[:1])
    try:
        asked = question(recommender, 3, np.array([0, row]))
        named = CandidateScorer(recommender.model, recommender.processor, Texts())
        unnamed = named.scores([asked])[0][1]
        texts[row] = {"title": "unnamed item"}
        assert unnamed.isfinite() and named.scores([asked])[0][1] == unnamed
    finally:
        model.rec_items = known


def test_a_model_in_training_is_scored_without_dropout_and_stays_in_training(recommender):
    asked = question(recommender, 5, np.arange(N))
    expected = scorer(recommender).scores([asked])[0]
    model = rec_model(recommender)
    model.vector_dropout = 0.5
    recommender.model.train()
    try:
        assert torch.equal(scorer(recommender).scores([asked])[0], expected)
        assert model.training
    finally:
        model.vector_dropout = 0.0
        recommender.model.eval()


@settings(max_examples=60, deadline=None)
@given(
    history=st.integers(0, 60),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    budget=st.floats(1e-6, 1.0),
)
def test_chunks_cover_every_candidate_once_and_keep_to_the_budget(backbone, history, sizes, budget):
    chunks = chunk_candidates(backbone, history, sizes, budget)
    assert np.concatenate([np.arange(len(sizes))[chunk] for chunk in chunks]).tolist() == list(range(len(sizes)))
    fits = [pass_mebibytes(backbone, history + sum(sizes[chunk])) <= budget for chunk in chunks]
    assert all(fit or len(sizes[chunk]) == 1 for fit, chunk in zip(fits, chunks, strict=True))
    for chunk in chunks[:-1]:  # none could have taken one more
        assert pass_mebibytes(backbone, history + sum(sizes[chunk.start : chunk.stop + 1])) > budget


@pytest.fixture(scope="module")
def backbone(checkpoints):
    return rec_model(tiny_recommender(checkpoints["bert"], CATALOG)).backbone


def test_bad_arguments_are_refused(recommender, checkpoints):
    dual = tiny_recommender(checkpoints["bert"], CATALOG)
    with pytest.raises(ValueError, match="dual head alone: train with --head cross"):
        scorer(dual)
    with pytest.raises(ValueError, match="method='fast' is neither None nor one of packed, cached"):
        scorer(recommender, method="fast")
    with pytest.raises(ValueError, match="max_pass_mib=0: give more than 0"):
        scorer(recommender, max_pass_mib=0)
    with pytest.raises(ValueError, match="give one event per item"):
        question(recommender, 3, np.arange(2), np.arange(3))
