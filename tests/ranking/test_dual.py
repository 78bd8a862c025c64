from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import START, items_frame, random_histories
from tiny_recommenders import SEEN, randomise, rec_model, tiny_recommender

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.evaluation.evaluator import collect, evaluate_system, score_ranks
from llmrec.models.items import ItemTable
from llmrec.ranking.dual import catalogue_scoring
from llmrec.recommender import Recommender

DAY = 86_400
CATALOG = Catalog(items_frame())
N = len(CATALOG)


def cases_with_gaps(num_users: int = 17, length: int = 20) -> Cases:
    """Cases of every position from 1 of histories longer than a window, times in days."""
    rows = random_histories(num_users, N, length)
    return Cases(
        users=[f"u{user}" for user in range(num_users)],
        items=[np.array(row) for row in rows],
        timestamps=[START + DAY * 5 * np.arange(len(row)) for row in rows],
        user=np.concatenate([np.full(len(row) - 1, user) for user, row in enumerate(rows)]),
        position=np.concatenate([np.arange(1, len(row)) for row in rows]),
        num_items=N,
        split="test",
    )


@pytest.fixture(scope="module")
def recommenders(checkpoints) -> dict[str, Recommender]:
    settings = {"max_tokens": 40, "max_vector_events": 3}
    return {family: randomise(tiny_recommender(checkpoints[family], **settings)) for family in ("bert", "llama")}


def scores_of(recommender: Recommender, cases: Cases, batch_size: int, shards: int = 1) -> torch.Tensor:
    """Scores of all cases (number of cases, N), every shard read, every case seen exactly once."""
    scores = torch.full((len(cases), N), torch.nan)
    for index in range(shards):
        for numbers, part in recommender.scorer(batch_size, (index, shards)).catalogue_scores(cases):
            assert scores[numbers].isnan().all() and len(set(numbers.tolist())) == len(numbers)
            assert part.dtype == torch.float32
            scores[numbers] = part
    assert not scores.isnan().any()
    return scores


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_scores_do_not_depend_on_the_batch(recommenders, family, batch_size):
    cases = cases_with_gaps()
    recommender = recommenders[family]
    one = scores_of(recommender, cases, batch_size=7)
    torch.testing.assert_close(scores_of(recommender, cases, batch_size), one, rtol=0, atol=1e-4)
    ranks = [evaluate_system(recommender.scorer(size), cases, True).tolist() for size in (7, batch_size)]
    assert ranks[0] == ranks[1]


@pytest.mark.parametrize("shards", [2, 3, 50])
def test_any_number_of_processes_computes_the_very_same_numbers(recommenders, shards):
    cases = cases_with_gaps()
    whole = scores_of(recommenders["bert"], cases, batch_size=4)
    assert torch.equal(scores_of(recommenders["bert"], cases, batch_size=4, shards=shards), whole)
    parts = [score_ranks(recommenders["bert"].scorer(4, (index, shards)), cases, True) for index in range(shards)]
    ranks = collect(parts, len(cases)).ranks
    assert ranks.tolist() == evaluate_system(recommenders["bert"].scorer(4), cases, True).tolist()


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_case_scores_as_its_history_does_alone(recommenders, family):
    """The evaluator's shared passes against the recommender's own reading of each history, a request at a time."""
    cases = cases_with_gaps(num_users=5)
    recommender = recommenders[family]
    scores = scores_of(recommender, cases, batch_size=8)
    assert max(cases.position) > 12  # longer than a window
    for case in range(len(cases)):
        user, position = cases.user[case], cases.position[case]
        history = [
            {"item_id": CATALOG.ids[item], "timestamp": int(time)}
            for item, time in zip(cases.items[user][:position], cases.timestamps[user][:position], strict=True)
        ]
        alone = torch.tensor(recommender.score(history, CATALOG.ids))
        torch.testing.assert_close(alone, scores[case], rtol=0, atol=1e-4)


def test_nothing_from_the_target_on_is_read(recommenders):
    cases = cases_with_gaps(num_users=4, length=12)
    last = np.array([len(row) - 1 for row in cases.items])
    users = np.arange(4)

    def with_targets(items: list[np.ndarray]) -> torch.Tensor:
        asked = Cases(cases.users, items, cases.timestamps, users, last - 3, N, "test")
        scorer = recommenders["bert"].scorer()
        return torch.cat([part[np.argsort(numbers)] for numbers, part in scorer.catalogue_scores(asked)])

    changed = [
        np.concatenate([row[: end - 3], (row[end - 3 :] + 5) % N]) for row, end in zip(cases.items, last, strict=True)
    ]
    assert torch.equal(with_targets(cases.items), with_targets(changed))


@pytest.mark.parametrize("batch_size", [1, 8])
def test_scoring_leaves_the_model_in_training_or_not_as_it_was(recommenders, batch_size):
    recommender = recommenders["llama"]
    cases = cases_with_gaps(num_users=3)
    expected = scores_of(recommender, cases, batch_size)
    model = rec_model(recommender)
    model.rec_items.residual_dropout = 0.5
    recommender.model.train()
    try:
        assert torch.equal(scores_of(recommender, cases, batch_size), expected)
        assert model.training
    finally:
        recommender.model.eval()
        model.rec_items.residual_dropout = 0.0


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("num_items", [7, 37, 1023])
def test_items_of_equal_text_and_nothing_learned_tie_to_the_last_bit(checkpoints, num_items, hybrid):
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    torch.manual_seed(0)
    which = torch.randint(0, num_items // 3, (num_items,))
    model = rec_model(recommender)
    model.rec_items = ItemTable(F.normalize(torch.randn(num_items, 32), dim=-1)[which], hybrid)
    states = F.normalize(torch.randn(5, 32), dim=-1)
    scores = catalogue_scoring(model)(states)
    for item in which.unique():
        twins = scores[:, which == item]
        assert torch.equal(twins, twins[:, :1].expand_as(twins))
    assert len(scores[0].unique()) == len(which.unique())


def test_scores_are_the_formula(recommenders):
    model = rec_model(recommenders["bert"])
    states = F.normalize(torch.randn(3, 32), dim=-1)
    with torch.no_grad():
        items = model.rec_head.item_embeddings(model.rec_items.text, 0.5 * model.rec_items.output_residual)
        expected = states @ items.T * model.rec_head.scale + 0.5 * model.rec_items.bias + math.log(1 + SEEN / 10)
    torch.testing.assert_close(catalogue_scoring(model)(states), expected, rtol=0, atol=1e-4)
    rows = torch.tensor([5, 0, 5])
    torch.testing.assert_close(catalogue_scoring(model, rows)(states), expected[:, rows], rtol=0, atol=1e-4)
