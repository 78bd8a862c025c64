from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from llmrec.evaluation.comparisons import Comparison


def table(**columns) -> pl.DataFrame:
    num_users = len(next(iter(columns.values())))
    return pl.DataFrame({"user_id": [f"u{row}" for row in range(num_users)], "num_targets": [1] * num_users, **columns})


GENERATOR = np.random.default_rng(1)
NOISE = GENERATOR.random((3, 80))
PER_USER = {
    "best": table(ndcg=NOISE[0], mrr=NOISE[1]),
    "better": table(ndcg=NOISE[0] + 0.1, mrr=NOISE[1]),
    "noise": table(ndcg=NOISE[0] + (NOISE[2] - 0.5) / 10, mrr=NOISE[1][::-1]),
}


def comparison() -> Comparison:
    return Comparison.of(PER_USER, ["ndcg", "mrr"], draws=500, seed=0)


def test_a_difference_is_that_of_each_user_with_itself():
    """Against a loop over the same draws."""
    compared = comparison()
    drawn = np.random.default_rng(0).integers(80, size=(500, 80))
    differences = (PER_USER["noise"]["ndcg"] - PER_USER["best"]["ndcg"]).to_numpy()
    means = [differences[draw].mean() for draw in drawn]
    found = compared.difference("noise", "best")["ndcg"]
    assert found["value"] == pytest.approx(differences.mean())
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    own = [PER_USER["noise"]["ndcg"].to_numpy()[draw].mean() for draw in drawn]
    assert compared.intervals("noise")["ndcg"]["low"] == pytest.approx(np.quantile(own, 0.025))


def test_a_steady_gain_has_no_error_whatever_the_noise_of_the_users():
    difference = comparison().difference("better", "best")
    assert difference["ndcg"] == pytest.approx({"value": 0.1, "low": 0.1, "high": 0.1})
    assert difference["mrr"] == {"value": 0, "low": 0, "high": 0}


def test_tests_name_every_other_system_and_correct_for_their_number():
    tests = comparison().tests_against("best", ["ndcg", "mrr"], draws=999)
    assert sorted(tests["ndcg"]) == ["better", "noise"]
    better, noise = tests["ndcg"]["better"], tests["ndcg"]["noise"]
    assert better["p"] == pytest.approx(1 / 1000)  # no flip of signs gives such a mean
    assert better["p_holm"] == pytest.approx(2 / 1000) and noise["p_holm"] == noise["p"] > 0.05
    assert better["value"] == pytest.approx(0.1) and better["detectable"] == pytest.approx(0, abs=1e-9)
    spread = (PER_USER["noise"]["ndcg"] - PER_USER["best"]["ndcg"]).std(ddof=1)
    assert noise["detectable"] == pytest.approx((1.959964 + 0.841621) * spread / np.sqrt(80), rel=1e-5)
    assert tests["mrr"]["better"]["p"] == 1


def test_other_users_or_metrics_are_refused():
    other = PER_USER["noise"].with_columns(user_id=pl.lit("x"))
    with pytest.raises(ValueError, match="same users"):
        Comparison.of({"a": PER_USER["best"], "b": other}, ["ndcg"], 10, 0)
    with pytest.raises(ValueError, match="no system"):
        Comparison.of({}, ["ndcg"], 10, 0)
