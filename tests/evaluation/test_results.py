from __future__ import annotations

from hashlib import sha256
from math import inf, log2
from types import SimpleNamespace

import numpy as np
import pytest
from small_data import cases_of, data_directory

from llmrec.baselines.counting import Popularity
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import Ranking, evaluate_system, metric_columns, user_metrics
from llmrec.evaluation.intervals import bootstrap_means, percentile_interval
from llmrec.evaluation.results import (
    build_results,
    describe_protocol,
    near_duplicate_results,
    shuffle_results,
    stratified_results,
)
from llmrec.evaluation.strata import Stratum, strata_of

NUM_USERS = 60
CASES = cases_of(
    [[user % 7, user % 5, user % 11] for user in range(NUM_USERS)],
    [(user, 2) for user in range(NUM_USERS)],
    num_items=50,
)
CUTOFFS = [5, 10]
COUNTS = np.arange(50)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return SimpleNamespace(path=folder, manifest={"source": "files", "split": {"kind": "leave_one_out"}})


@pytest.fixture
def rankings():
    """llmrec above popularity for almost every user, content beside llmrec but for the noise."""
    generator = np.random.default_rng(0)
    ranks = {
        "llmrec": generator.integers(1, 20, NUM_USERS).astype(float),
        "content": generator.integers(1, 20, NUM_USERS).astype(float),
        "popularity": np.where(np.arange(NUM_USERS) % 10 == 0, 8.5, inf),
    }
    return {name: Ranking(values, values, np.empty((NUM_USERS, 0))) for name, values in ranks.items()}


@pytest.fixture
def per_user(rankings):
    return {name: user_metrics(ranking.ranks, CASES, CUTOFFS) for name, ranking in rankings.items()}


@pytest.fixture
def results(data, per_user):
    return build_results(describe_protocol(data, CASES, True, COUNTS, cutoffs=CUTOFFS), per_user)


def test_protocol_says_what_the_numbers_depend_on(data):
    protocol = describe_protocol(
        data, CASES, True, COUNTS, cutoffs=CUTOFFS, draws=99, seed=7, targets="first", reads_now=True
    )
    rows = [items.tolist() for items in CASES.items]
    assert protocol == {
        "source": "files",
        "split_kind": "leave_one_out",
        "split": "test",
        "num_items": 50,
        "num_cold_items": 1,
        "num_users": 60,
        "num_users_drawn_from": None,
        "num_cases": 60,
        "num_cases_without_history": 0,
        "targets": "first",
        "mask_seen": True,
        "mask_seen_of": {},
        "repeated_target_share": pytest.approx(sum(row[2] in row[:2] for row in rows) / NUM_USERS),
        "cold_target_share": pytest.approx(sum(row[2] == 0 for row in rows) / NUM_USERS),
        "tied_event_share": 0.0,
        "tie_rule": "1 + items above + tied others / 2, among float32 scores; NaN counts against the target",
        "cutoffs": [5, 10],
        "confidence": 0.95,
        "bootstrap_draws": 99,
        "permutation_draws": 99,
        "now": "target",
        "seed": 7,
        "manifest_sha256": sha256(b"{}").hexdigest(),
    }


def test_systems_equal_their_own_intervals_and_comparisons_those_of_paired_differences(results, per_user):
    metrics = metric_columns(per_user["llmrec"])
    values = {name: table.select(metrics).to_numpy() for name, table in per_user.items()}
    found = (results["systems"]["llmrec"], results["comparisons"]["llmrec"]["popularity"])
    for shown, own in zip(found, (values["llmrec"], values["llmrec"] - values["popularity"]), strict=True):
        low, high = percentile_interval(bootstrap_means(own))
        for column, metric in enumerate(metrics):
            expected = {"value": own[:, column].mean(), "low": low[column], "high": high[column]}
            assert shown[metric] == pytest.approx(expected, abs=1e-12)
    assert sorted(results["comparisons"]["content"]) == ["llmrec", "popularity"]


def test_the_best_baseline_is_the_hardest_and_never_the_model(results, data, per_user):
    assert results["best_baseline"] == "content"
    assert sorted(results["tests"]) == ["mrr", "ndcg@10", "recall@10"]
    assert sorted(results["tests"]["mrr"]) == ["llmrec", "popularity"]
    tested = results["tests"]["ndcg@10"]["llmrec"]
    assert tested["value"] == results["comparisons"]["llmrec"]["content"]["ndcg@10"]["value"]
    alone = build_results(results["protocol"], {"llmrec": per_user["llmrec"]})
    assert alone["best_baseline"] is None and alone["tests"] == {}
    alone = build_results(results["protocol"], {"popularity": per_user["popularity"]})
    assert alone["best_baseline"] == "popularity" and alone["tests"] == {}


def test_strata_hold_the_means_of_their_own_cases(results, rankings):
    parted = Stratum("kind", "Kind", ("even", "odd", "none"), np.arange(NUM_USERS) % 2)
    (stratum,) = stratified_results(results, CASES, rankings, [parted])
    assert [group["num_cases"] for group in stratum["groups"]] == [30, 30, 0]
    assert stratum["groups"][2]["systems"] == stratum["groups"][2]["differences"] == {}
    for start, group in enumerate(stratum["groups"][:2]):
        ranks = rankings["llmrec"].ranks[start::2]
        expected = np.mean([1 / log2(1 + rank) if rank <= 10 else 0 for rank in ranks])
        assert group["systems"]["llmrec"]["ndcg@10"]["value"] == pytest.approx(expected)
        assert sorted(group["differences"]) == ["llmrec", "popularity"]
        difference = expected - group["systems"]["content"]["ndcg@10"]["value"]
        assert group["differences"]["llmrec"]["ndcg@10"]["value"] == pytest.approx(difference)


def test_in_a_stratum_a_user_counts_once_however_many_targets(results):
    cases = cases_of([[0, 1, 2, 3], [4, 5]], [(0, 1), (0, 2), (0, 3), (1, 1)], num_items=50)
    ranks = np.array([1.0, inf, inf, 1.0])
    parted = Stratum("all", "All", ("all",), np.zeros(4, dtype=np.int64))
    ranking = {"content": Ranking(ranks, ranks, np.empty((4, 0)))}
    (stratum,) = stratified_results(results, cases, ranking, [parted])
    assert stratum["groups"][0]["systems"]["content"]["recall@10"]["value"] == pytest.approx((1 / 3 + 1) / 2)
    assert (stratum["groups"][0]["num_cases"], stratum["groups"][0]["num_users"]) == (4, 2)


def test_near_duplicates_compare_a_system_with_itself(results):
    groups = np.arange(50)
    groups[1] = groups[2] = 0  # three twins
    with_twins = np.full(NUM_USERS, 3.0)
    ranking = {"content": Ranking(with_twins, np.where(CASES.targets < 3, 1.0, 3.0), np.empty((NUM_USERS, 0)))}
    found = near_duplicate_results(results, CASES, ranking, groups)
    share = np.mean(CASES.targets < 3)
    assert (found["num_groups"], found["num_items"], found["target_share"]) == (1, 3, pytest.approx(share))
    assert found["differences"]["content"]["ndcg@10"]["value"] == pytest.approx(share * (1 - 0.5))
    assert found["systems"]["content"]["ndcg@10"]["value"] == pytest.approx(0.5 + share * 0.5)


def test_shuffles_compare_a_system_with_itself(results):
    plain, worse = np.ones(NUM_USERS), np.full(NUM_USERS, 3.0)
    found = shuffle_results(
        results["protocol"],
        CASES,
        {"llmrec": {"as_is": plain, "order": worse, "time": plain}, "content": {"as_is": plain, "order": plain}},
    )
    assert found["num_cases"] == NUM_USERS
    model, content = found["systems"]["llmrec"], found["systems"]["content"]
    assert model["as_is"]["ndcg@10"]["value"] == 1 and model["order"]["ndcg@10"]["value"] == 0.5
    assert model["order_difference"]["ndcg@10"] == {"value": -0.5, "low": -0.5, "high": -0.5}
    assert model["time_difference"]["recall@10"]["value"] == 0
    assert "time" not in content and content["order_difference"]["ndcg@10"]["value"] == 0


def test_systems_evaluated_on_other_users_are_refused(results, per_user):
    per_user["content"] = per_user["content"].head(59)
    with pytest.raises(ValueError, match="'llmrec' and 'content' were not evaluated on the same users"):
        build_results(results["protocol"], per_user)
    with pytest.raises(ValueError, match="no system"):
        build_results(results["protocol"], {})


def test_from_a_data_directory(tmp_path):
    directory = PreparedData.open(data_directory(tmp_path / "data"))
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    popularity = Popularity.from_events(TrainingEvents.from_histories(directory.histories(), directory.catalog))
    tables = {"popularity": user_metrics(evaluate_system(popularity, cases, mask_seen=True), cases)}
    protocol = build_results(describe_protocol(directory, cases, True, popularity.counts), tables)["protocol"]
    assert (protocol["split_kind"], protocol["num_users"], protocol["num_items"]) == ("leave_one_out", 12, 24)
    assert protocol["manifest_sha256"] == sha256((directory.path / "manifest.json").read_bytes()).hexdigest()
    assert [stratum.name for stratum in strata_of(cases, popularity.counts, has_clock=True)] == [
        *("target_training_count", "history_length", "time_since_last_event", "user")
    ]
