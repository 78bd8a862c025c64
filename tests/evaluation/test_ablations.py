"""What an adapter loses without an input: the variants that there are, and what each of them reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_results import fake_results
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.evaluation.ablations import ablate, variants
from llmrec.evaluation.comparisons import Comparison
from llmrec.evaluation.evaluator import evaluate_system, user_metrics
from llmrec.evaluation.rankings import Questions
from llmrec.evaluation.reading import winner
from llmrec.evaluation.results import NOW_LAST, ablation_results, build_results
from llmrec.evaluation.table import results_table

CATALOG = Catalog(items_frame())
N = len(CATALOG)
DAY = 86_400
WORDS = {"event": "{title}[, {gap}]", "item": "{title}", "query": "now[: {gap}][, {weekday} {daypart}]"}
SILENT = {"event": "{title}", "item": "{title}"}


def cases(num_users: int = 12, length: int = 8) -> Cases:
    random = np.random.default_rng(0)
    return Cases(
        users=[f"u{user}" for user in range(num_users)],
        items=[random.permutation(N)[:length] for _ in range(num_users)],
        timestamps=[START + np.cumsum(random.integers(60, 30 * DAY, size=length)) for _ in range(num_users)],
        user=np.repeat(np.arange(num_users), 2),
        position=np.tile([length - 2, length - 1], num_users),
        num_items=N,
        split="test",
    )


@pytest.fixture(scope="module")
def make(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")

    def get(patterns: dict, *parts: str, **settings: str):
        path = folder / f"{len(list(folder.iterdir()))}.json"
        path.write_text(json.dumps(patterns))
        settings["template"] = str(path)
        return randomise(tiny_recommender(checkpoints["bert"], CATALOG, time_embedding=list(parts), **settings))

    return get


def scores_of(scorer, asked: Cases) -> torch.Tensor:
    scores = torch.full((len(asked), N), torch.nan)
    for numbers, part in scorer.catalogue_scores(asked):
        scores[numbers] = part
    return scores


def names(recommender, kinds) -> list[str]:
    questions = Questions.about(cases(), CATALOG, (), seed=0)
    return [one.name for one in variants(recommender, questions.firsts, kinds, seed=0)]


def test_only_what_there_is_can_be_taken_away(make):
    both, order = ("time", "order"), ["order shuffled"]
    whole = ["full", "no time words", "no time embedding", "no time", "now = last event", "times shuffled", *order]
    assert names(make(WORDS, "gap", "hour"), both) == whole
    assert names(make(WORDS), both) == ["full", "no time", "now = last event", "times shuffled", *order]
    assert names(make(SILENT, "gap"), ["time"]) == ["full", "no time", "now = last event", "times shuffled"]
    assert names(make({**WORDS, "query": ""}), ["time"]) == ["full", "no time", "times shuffled"]
    assert names(make(SILENT), ["order"]) == ["full", *order]
    assert names(make(SILENT), ["order", "reading"]) == ["full", "no reading", *order]
    with pytest.raises(ValueError, match="ablate='time': the adapter reads no time"):
        names(make(SILENT), both)
    with pytest.raises(ValueError, match="ablate='space' is not one of reading, memory, time, order"):
        names(make(WORDS), ["space"])


def test_what_was_taken_away_is_not_read(make):
    """Moved times change no score of a variant that reads none of them, and of those that do."""
    recommender = make(WORDS, "gap", "hour")
    history = [{"item_id": CATALOG.ids[item], "timestamp": START + item * item * DAY} for item in range(5)]
    moved = [{**event, "timestamp": 2 * event["timestamp"] - START + 40_000} for event in history]
    for words, embedding in ((False, False), (True, False), (False, True), (True, True)):
        reader = recommender.without_time(words=not words, embedding=not embedding)
        one, other = (np.array(reader.score(each, list(CATALOG.ids))) for each in (history, moved))
        assert (np.abs(one - other).max() > 1e-3) == (words or embedding)
    same = recommender.without_time(words=False, embedding=False)
    assert same.score(history, list(CATALOG.ids)) == recommender.score(history, list(CATALOG.ids))
    assert recommender.processor.asks_now  # nothing was taken from the recommender itself


@pytest.mark.parametrize("head", ["dual", "cross"])
def test_without_reading_a_closed_gate_is_the_whole_system(make, head):
    """Hand arithmetic: cosine of each item with the recency-weighted mean of the history, and the bias."""
    recommender = make(WORDS, "gap", head=head)
    model, asked = rec_model(recommender), cases()
    candidates = {"num_candidates": 5 if head == "cross" else 0}
    found = scores_of(recommender.scorer(**candidates, reading=False), asked)
    known, weights = model.rec_items(), model.rec_head
    embeddings = F.normalize(known.text @ weights.item_projection.T, dim=-1) + known.output_residual
    embeddings = F.normalize(embeddings, dim=-1).detach().double()
    decay, scale = torch.sigmoid(weights.decay_logit).item(), weights.log_scale.exp().clamp(max=100).item()
    for case, (user, end) in enumerate(zip(asked.user, asked.position, strict=True)):
        history = asked.items[user][:end]
        mean = sum(decay ** (end - 1 - place) * embeddings[item] for place, item in enumerate(history))
        expected = scale * embeddings @ F.normalize(mean, dim=0) + known.bias.detach()
        torch.testing.assert_close(found[case], expected.float(), atol=1e-4, rtol=0)
    read = scores_of(recommender.scorer(), asked)
    assert (read - found).abs().max() > 1e-2  # the gate is open
    with torch.no_grad():
        weights.state_gate.zero_()
    assert torch.equal(scores_of(recommender.scorer(), asked), found)
    if head == "dual":
        ranks = ablate(recommender, Questions.about(asked, CATALOG, (), seed=0), ["reading"], True, {"batch_size": 4})
        assert ranks["no reading"]["ranks"].tolist() == ranks["full"]["ranks"].tolist()
        assert [row["reading"] for row in ranks.values()] == [True, False]


def test_ranks_and_differences_are_those_of_each_variant(make):
    recommender = make(WORDS, "gap", "hour")
    questions = Questions.about(cases(), CATALOG, (), seed=0)
    kinds = ["time", "reading", "order"]
    ranks = ablate(recommender, questions, kinds, False, {"batch_size": 4})
    for one in variants(recommender, questions.firsts, kinds, 0):
        reader = recommender.without_time(words=not one.words, embedding=not one.embedding)
        scorer = reader.scorer(reading=one.name != "no reading")
        assert ranks[one.name]["ranks"].tolist() == evaluate_system(scorer, one.cases, False).tolist()
    protocol = {"cutoffs": [10], "bootstrap_draws": 50, "seed": 3}
    results = ablation_results(protocol, questions.firsts, ranks)
    assert [row["name"] for row in results["rows"]] == list(ranks) and results["num_cases"] == 12
    assert results["rows"][0]["difference"] is None
    tables = {name: user_metrics(row["ranks"], questions.firsts) for name, row in ranks.items()}
    for row in results["rows"][1:]:
        pair = {name: tables[name] for name in ("full", row["name"])}
        by_hand = Comparison.of(pair, ["ndcg@10", "recall@10"], 50, 3).difference(row["name"], "full")
        assert row["difference"]["ndcg@10"] == pytest.approx(by_hand["ndcg@10"])
        mean = float((tables[row["name"]]["ndcg@10"] - tables["full"]["ndcg@10"]).to_numpy().mean())
        assert row["difference"]["ndcg@10"]["value"] == pytest.approx(mean)
    assert any(row["difference"]["ndcg@10"]["value"] != 0 for row in results["rows"][1:])


def test_the_page_shows_the_table_and_leaves_it_out_where_there_is_none():
    results = fake_results()
    page = results_table(results)
    assert "Without reading, time or order" in page and "| no time words | yes | no | yes |" in page
    assert "| no reading | no | no | no |" in page and "No reading: the gate" in page
    assert "Without reading" not in results_table({**results, "ablations": None})
    rows = [row for row in results["ablations"]["rows"] if row["name"] != "no reading"]
    older = [{key: value for key, value in row.items() if key != "reading"} for row in rows]
    page = results_table({**results, "ablations": {**results["ablations"], "rows": older}})
    assert "| no time words | yes | no | yes |" in page and "No reading" not in page


def test_a_variant_is_nobodys_rival():
    ranks = {"llmrec": 1.0, NOW_LAST: 1.0, "content": 5.0}
    asked = cases()
    per_user = {name: user_metrics(np.full(len(asked), rank), asked) for name, rank in ranks.items()}
    protocol = {"cutoffs": [10], "bootstrap_draws": 20, "permutation_draws": 20, "seed": 0}
    results = build_results(protocol, per_user)
    assert results["best_baseline"] == "content" and results["variants"] == [NOW_LAST]
    assert winner(results, "ndcg@10") == "llmrec"
    assert winner({**results, "variants": []}, "ndcg@10") is None
