"""`evaluate` by hand: functions, lists of others, baselines and recommenders on the same cases."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from small_data import cases_of, catalog_of, data_directory, histories_of
from tiny_recommenders import tiny_recommender

from llmrec import Cases, PreparedData, evaluate
from llmrec.baselines.counting import Popularity
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import evaluate_system, user_metrics

N = 5
CASES = cases_of(
    [[0, 1, 2], [3, 4]], [(0, 1), (0, 2), (1, 1)], num_items=N
)  # targets 1, 2 of one user and 4 of another
IDS = list("abcde")


def descending(cases: Cases, numbers: np.ndarray) -> np.ndarray:
    """Item 4 first, item 0 last."""
    return np.tile(np.arange(N, dtype=np.float32), (len(numbers), 1))


def half_rank(ranks: np.ndarray, num_items: int) -> np.ndarray:
    """The share of the catalogue that stands behind the target."""
    return 1 - ranks / num_items


def test_means_are_by_user_and_as_by_hand():
    found = evaluate({"mine": descending}, CASES, ["ndcg@2", half_rank, "mrr"], mask_seen=False)
    # Ranks: 4 and 3 of user 0, 1 of user 1.
    assert found.interval("mine", "mrr").value == pytest.approx(((1 / 4 + 1 / 3) / 2 + 1) / 2)
    assert found.interval("mine", "ndcg@2").value == pytest.approx((0 + 1) / 2)
    assert found.interval("mine", "half_rank").value == pytest.approx(((1 / 5 + 2 / 5) / 2 + 4 / 5) / 2)
    assert found.interval("mine") == found.interval("mine", "ndcg@2") and found.systems == ["mine"]
    assert found.per_case["rank_mine"].to_list() == [4, 3, 1]
    masked = evaluate({"mine": descending}, CASES, ["mrr"], mask_seen=True)
    assert masked.per_case["rank_mine"].to_list() == [4, 3, 1]  # what is seen stands behind the targets anyway


def test_lists_of_others_are_ranked_with_what_they_lack_behind():
    lists = pl.DataFrame({"user_id": ["user 0", "user 0", "user 1"], "item_id": ["c", "a", "b"], "rank": [1, 2, 1]})
    scores = lists.with_columns(score=-pl.col("rank") * 1e9).drop("rank")
    for frame in (lists, scores, scores.to_pandas(), lists.sample(fraction=1, shuffle=True, seed=1)):
        found = evaluate({"theirs": frame}, CASES, ["mrr"], mask_seen=False, items=IDS)
        # Item 1 is one of three behind a list of two: (3 + 5) / 2; item 4 one of four behind one: (2 + 5) / 2.
        assert found.per_case["rank_theirs"].to_list() == [4, 1, 3.5]


def test_a_difference_is_paired_and_the_table_shows_what_was_asked():
    found = evaluate({"a": descending, "b": lambda cases, numbers: -descending(cases, numbers)}, CASES, mask_seen=False)
    value = found.interval("a", "mrr").value - found.interval("b", "mrr").value
    assert found.difference("a", "b", "mrr").value == pytest.approx(value)
    lines = str(found).splitlines()
    assert lines[0].split() == ["system", "ndcg@10", "recall@10", "mrr"] and len(lines) == 3
    assert found.to_frame().columns == ["system", "metric", "value", "low", "high"] and found.to_frame().height == 6
    at_10 = 1 / math.log2(5), 1 / math.log2(4), 1
    assert found.interval("a").value == pytest.approx(((at_10[0] + at_10[1]) / 2 + at_10[2]) / 2)


def test_recommenders_and_baselines_are_ranked_as_the_evaluator_ranks_them(checkpoints, tmp_path):
    data = PreparedData.open(data_directory(tmp_path / "data", num_users=8))
    model = tiny_recommender(checkpoints["bert"], data.items)
    popularity = Popularity.from_events(TrainingEvents.from_histories(data.histories(), data.items))
    found = evaluate({"llmrec": model, "popularity": popularity}, data.test, data=data)
    for name, scorer in (("llmrec", model.scorer()), ("popularity", popularity)):
        expected = user_metrics(evaluate_system(scorer, data.test, True), data.test)
        assert found.interval(name, "mrr").value == pytest.approx(expected["mrr"].mean())
    assert found.content["protocol"]["source"] == "tests" and found.content["best_baseline"] == "popularity"
    found.save(tmp_path / "report")
    assert json.loads((tmp_path / "report" / "results.json").read_text())["systems"].keys() == {"llmrec", "popularity"}
    for name in ("results.md", "results.html", "results.png", "per_user.parquet", "per_case.parquet"):
        assert (tmp_path / "report" / name).stat().st_size > 0


def test_cases_of_ones_own_make_a_report_too(tmp_path):
    cases = Cases.from_histories(histories_of(ann=("abc", "ttx"), bob=("bca", "ttx")), catalog_of("abc"), "test")
    frame = pl.DataFrame({"user_id": ["ann", "bob"], "item_id": ["c", "b"], "rank": [1, 1]})
    found = evaluate({"lists": frame, "mine": lambda cases, numbers: np.zeros((len(numbers), 3))}, cases)
    assert found.per_case["rank_lists"].to_list()[0] == 1
    found.save(tmp_path)
    assert "lists" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("system", "error", "words"),
    [
        (3, TypeError, "system 'x' is 'int': give a Recommender"),
        (pl.DataFrame({"user_id": ["user 0"], "item_id": ["a"]}), ValueError, "and score or rank"),
        (pl.DataFrame({"user_id": ["user 0"], "item_id": ["z"], "rank": [1]}), ValueError, "lists item 'z'"),
        (pl.DataFrame({"user_id": ["user 0"], "item_id": ["a"], "rank": [1]}), ValueError, "no list for user 'user 1'"),
        (
            pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "a"], "rank": [1, 2]}),
            ValueError,
            "'a' twice for user",
        ),
        (lambda cases, numbers: np.zeros((1, 2)), ValueError, "scores of shape"),
    ],
)
def test_what_does_not_score_is_refused(system, error, words):
    with pytest.raises(error, match=words):
        evaluate({"x": system}, CASES, mask_seen=False, items=IDS)


def test_unknown_metrics_and_missing_ids_are_refused():
    with pytest.raises(ValueError, match=r"metric 'ndgc@10' is unknown: give one of .*ndcg"):
        evaluate({"mine": descending}, CASES, ["ndgc@10"])
    with pytest.raises(ValueError, match="give items= the ids"):
        evaluate({"x": pl.DataFrame({"user_id": [], "item_id": [], "rank": []})}, CASES)
    with pytest.raises(ValueError, match="metric 'wrong': give one finite value per case"):
        wrong = lambda ranks, num_items: ranks[:1]  # noqa: E731
        wrong.__name__ = "wrong"
        evaluate({"mine": descending}, CASES, [wrong])
    with pytest.raises(ValueError, match="at least one system"):
        evaluate({}, CASES)
