from __future__ import annotations

import json

import numpy as np
import pytest

from llmrec.data.labelled_cases import LabelledCases
from llmrec.evaluation.pair_intervals import METRICS
from llmrec.evaluation.pair_metrics import pair_metrics, user_auc
from llmrec.evaluation.pair_results import pair_results
from llmrec.evaluation.pair_table import pair_table

MANIFEST = {
    "source": "movielens-small",
    "split": {"kind": "users"},
    "labels": {"like_at_least": 4.0, "dislike_at_most": 3.0, "cases": "all", "counts": {}},
}


def labelled(num_users: int = 30, length: int = 9, seed: int = 0) -> LabelledCases:
    random = np.random.default_rng(seed)
    liked = [random.random(length) < 0.6 for _ in range(num_users)]
    liked[0][:] = True  # a user of one label
    return LabelledCases(
        users=[f"user {user}" for user in range(num_users)],
        items=[random.integers(0, 50, size=length) for _ in range(num_users)],
        timestamps=[np.arange(length)] * num_users,
        user=np.repeat(np.arange(num_users), length - 1),
        position=np.tile(np.arange(1, length), num_users),
        num_items=50,
        split="test",
        liked=liked,
    )


def scores(cases: LabelledCases, strength: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(cases))
    return (strength * (cases.labels - 0.5) + noise).astype(np.float32)


CASES = labelled()
SYSTEMS = {
    "llmrec": scores(CASES, 2.0, 1),
    "item_popularity": scores(CASES, 0.5, 2),
    "frozen_text": np.zeros(len(CASES), dtype=np.float32),
}
RESULTS = pair_results(SYSTEMS, CASES, MANIFEST, draws=300)


def test_values_are_those_of_the_metrics() -> None:
    for name, system in SYSTEMS.items():
        expected = pair_metrics(CASES.labels, system)
        expected["user_auc"] = user_auc(CASES.labels, system, CASES.user).value
        measured = RESULTS["systems"][name]
        assert {metric: measured[metric]["value"] for metric in METRICS} == pytest.approx(expected)
        for interval in measured.values():
            assert interval["low"] <= interval["value"] <= interval["high"]
    assert RESULTS["systems"]["frozen_text"]["auc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert RESULTS["systems"]["frozen_text"]["log_loss"]["value"] == pytest.approx(np.log(2))


def test_the_protocol_says_what_the_numbers_depend_on() -> None:
    protocol = RESULTS["protocol"]
    assert (protocol["num_users"], protocol["num_cases"], protocol["num_users_of_one_label"]) == (30, 240, 1)
    assert protocol["like_share"] == pytest.approx(CASES.labels.mean())
    assert protocol["labels"] == {"like_at_least": 4.0, "dislike_at_most": 3.0, "cases": "all"}
    assert (protocol["source"], protocol["split_kind"], protocol["split"]) == ("movielens-small", "users", "test")
    assert "logits" in protocol["scores"] and protocol["draws_without_value"] == {}
    assert json.loads(json.dumps(RESULTS, allow_nan=False)) == RESULTS


def test_differences_are_paired_and_held_against_the_best_baseline() -> None:
    assert RESULTS["best_baseline"] == "item_popularity"
    difference = RESULTS["comparisons"]["llmrec"]["item_popularity"]["auc"]
    back = RESULTS["comparisons"]["item_popularity"]["llmrec"]["auc"]
    values = [RESULTS["systems"][name]["auc"]["value"] for name in ("llmrec", "item_popularity")]
    assert difference["value"] == pytest.approx(values[0] - values[1]) and difference["low"] > 0
    assert (back["value"], back["low"], back["high"]) == pytest.approx(
        (-difference["value"], -difference["high"], -difference["low"])
    )
    # A system that is another one plus a constant orders alike: the paired difference is exactly nothing.
    twins = pair_results({"a": SYSTEMS["llmrec"], "b": SYSTEMS["llmrec"] + 1}, CASES, draws=50)
    assert twins["comparisons"]["a"]["b"]["user_auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_where_every_user_has_one_case_no_user_has_an_auc() -> None:
    cases = CASES.take(np.arange(0, len(CASES), 8))
    one_each = {name: system[::8] for name, system in SYSTEMS.items()}
    results = pair_results(one_each, cases, draws=50)
    assert results["protocol"]["num_users_of_one_label"] == 30
    assert results["protocol"]["draws_without_value"]["user_auc"] == 50
    assert all(measured["user_auc"] is None for measured in results["systems"].values())
    json.dumps(results, allow_nan=False)
    assert "| – |" in pair_table(results)


def test_the_page() -> None:
    page = pair_table(RESULTS)
    header, *_ = (line for line in page.splitlines() if line.startswith("| system"))
    assert header == "| system | AUC | AUC per user | Log-loss | Accuracy | Precision | Recall | F1 |"
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith(("| llmrec", "| item", "| frozen"))]
    assert rows == ["| llmrec", "| item_popularity", "| frozen_text", "| llmrec", "| frozen_text"]
    assert f"**{RESULTS['systems']['llmrec']['auc']['value']:.4f}** [" in page
    assert "## Difference to item_popularity" in page
    assert "movielens-small, test split (users): 240 cases of 30 users" in page
    assert "1 user with one label only" in page


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ({}, "no system"),
        ({"a": np.zeros(3)}, "one of each per pair"),
        ({"a": np.full(len(CASES), np.nan)}, "score 0 is NaN"),
    ],
)
def test_bad_scores_are_refused(systems: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_results(systems, CASES)
