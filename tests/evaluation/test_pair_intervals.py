from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from llmrec.evaluation.intervals import bootstrap_means, drawn_users
from llmrec.evaluation.pair_intervals import METRICS, interval_of, resampled_metrics
from llmrec.evaluation.pair_metrics import pair_metrics, user_auc


def pairs(num_users: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, logits with ties, and users of two to seven pairs each, in mixed order."""
    random = np.random.default_rng(seed)
    users = random.permutation(np.repeat(np.arange(num_users), random.integers(2, 8, size=num_users)))
    logits = random.integers(-3, 4, size=len(users)) / 2
    return random.random(len(users)) < 1 / (1 + np.exp(-logits)), logits, users


def test_against_brute_force() -> None:
    labels, logits, users = pairs()
    drawn = resampled_metrics(labels, logits, users, draws=50, seed=4, max_chunk_entries=7 * len(labels))
    assert tuple(drawn) == METRICS
    all_times = np.concatenate(list(drawn_users(6, 50, 4, 6)))
    for draw, times in enumerate(all_times):
        rows = np.concatenate([np.tile(np.flatnonzero(users == user), count) for user, count in enumerate(times)])
        # Each copy of a user is a user of its own, so that the mean over users counts it as often.
        copies = np.concatenate(
            [np.repeat(10 * user + np.arange(count), (users == user).sum()) for user, count in enumerate(times)]
        )
        expected = pair_metrics(labels[rows], logits[rows]) | {
            "user_auc": user_auc(labels[rows], logits[rows], copies).value
        }
        assert {name: drawn[name][draw] for name in METRICS} == pytest.approx(expected)


def test_auc_against_scikit_learn() -> None:
    labels, logits, users = pairs(num_users=40, seed=1)
    times = next(drawn_users(40, 1, 0, 40))[0]
    drawn = resampled_metrics(labels, logits, users, draws=1)
    weights = times[users]
    assert drawn["auc"][0] == pytest.approx(sklearn_metrics.roc_auc_score(labels, logits, sample_weight=weights))
    likely = 1 / (1 + np.exp(-logits))
    assert drawn["log_loss"][0] == pytest.approx(sklearn_metrics.log_loss(labels, likely, sample_weight=weights))
    assert drawn["f1"][0] == pytest.approx(sklearn_metrics.f1_score(labels, logits > 0, sample_weight=weights))
    assert pair_metrics(labels, logits)["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, logits))


def test_the_same_draws_whatever_the_memory_and_the_system() -> None:
    labels, logits, users = pairs()
    whole = resampled_metrics(labels, logits, users, draws=30)
    parts = resampled_metrics(labels, logits, users, draws=30, max_chunk_entries=1)
    for name in METRICS:
        assert parts[name] == pytest.approx(whole[name])
    # One pair per user: accuracy is a mean over users, and the users drawn are those of `bootstrap_means`.
    single = resampled_metrics(np.array([True, False, True, True]), np.array([1.0, 1, -1, 2]), np.arange(4), draws=30)
    assert single["accuracy"] == pytest.approx(bootstrap_means(np.array([[1.0], [0], [0], [1]]), draws=30)[:, 0])


def test_users_are_drawn_whole_so_their_pairs_do_not_count_as_many() -> None:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(20), 50)
    labels = random.random(1000) < 0.5
    right = random.random(20) < 0.5  # a user's pairs are all predicted right or all wrong
    logits = np.where(labels == right[users], 1.0, -1.0)

    def width(groups: np.ndarray) -> float:
        low, high = interval_of(resampled_metrics(labels, logits, groups, draws=500)["accuracy"])
        return high - low

    assert width(users) > 4 * width(np.arange(1000))  # √50 = 7 times


def test_draws_without_a_value_are_nan_and_left_out() -> None:
    drawn = resampled_metrics(np.array([True, False]), np.array([1.0, 0.5]), np.array([0, 1]), draws=200)
    has_both = ~np.isnan(drawn["auc"])
    assert 70 < has_both.sum() < 130  # half of the draws
    assert (drawn["auc"][has_both] == 1).all() and np.isnan(drawn["user_auc"]).all()
    assert np.isnan(drawn["recall"]).sum() == np.isnan(drawn["f1"]).sum() > 20  # only the user without a like
    assert interval_of(drawn["auc"]) == (1, 1)
    assert np.isnan(interval_of(drawn["user_auc"])).all()
