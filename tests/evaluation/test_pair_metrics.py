from __future__ import annotations

import itertools
from functools import partial
from math import inf, log, nan

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.evaluation.pair_metrics import (
    PAIR_METRICS,
    accuracy,
    auc,
    f1,
    log_loss,
    pair_metrics,
    precision,
    recall,
    user_auc,
)

GENERATOR = np.random.default_rng(5)
LABELS = GENERATOR.integers(2, size=1000)
LOGITS = (GENERATOR.integers(-6, 7, size=1000) + LABELS) / 2  # 14 values: most pairs tie with others
USERS = GENERATOR.integers(60, size=1000)
PROBABILITIES = 1 / (1 + np.exp(-LOGITS))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 2.5, 100.0])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (accuracy, sklearn.metrics.accuracy_score),
        (precision, partial(sklearn.metrics.precision_score, zero_division=0)),
        (recall, sklearn.metrics.recall_score),
        (f1, sklearn.metrics.f1_score),
    ],
)
def test_threshold_metrics_equal_scikit_learn(ours, theirs, threshold):
    predicted = np.greater(LOGITS, threshold)
    assert abs(ours(LABELS, LOGITS, threshold) - theirs(LABELS, predicted)) < 1e-9


def test_auc_and_log_loss_equal_scikit_learn_with_ties():
    assert abs(auc(LABELS, LOGITS) - sklearn.metrics.roc_auc_score(LABELS, LOGITS)) < 1e-9
    assert abs(log_loss(LABELS, LOGITS) - sklearn.metrics.log_loss(LABELS, PROBABILITIES)) < 1e-9


def test_user_auc_equals_scikit_learn_user_by_user():
    labels = np.where(USERS < 7, 1, LABELS)  # seven users took everything
    pairs_of = [np.flatnonzero(np.equal(USERS, user)) for user in np.unique(USERS)]
    own = [
        sklearn.metrics.roc_auc_score(labels[pairs], LOGITS[pairs])
        for pairs in pairs_of
        if len(set(labels[pairs])) == 2
    ]
    value, num_users, num_left_out = user_auc(labels, LOGITS, USERS)
    assert abs(value - np.mean(own)) < 1e-9
    assert (num_users, num_left_out) == (len(own), len(np.unique(USERS)) - len(own))
    assert num_left_out >= 7
    assert user_auc(labels, LOGITS, np.char.add("user ", USERS.astype(str))) == (value, num_users, num_left_out)


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([-inf, -1.0, 0.0, 0.5, inf])), min_size=2, max_size=15))
def test_auc_counts_every_comparison_a_tie_half(pairs):
    positive = [score for label, score in pairs if label]
    negative = [score for label, score in pairs if not label]
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    if not positive or not negative:
        with pytest.raises(ValueError, match="all labels are"):
            auc(labels, scores)
        return
    won = sum((a > b) + (a == b) / 2 for a, b in itertools.product(positive, negative))
    assert auc(labels, scores) == pytest.approx(won / (len(positive) * len(negative)), abs=1e-12)
    assert auc(labels, scores) == user_auc(labels, scores, np.full(len(labels), "one user")).value


def test_auc_of_all_pairs_rewards_knowing_who_takes_much_and_that_of_users_does_not():
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0])
    users = np.repeat(["eager", "choosy"], 4)
    scores = np.where(users == "eager", 1.0, -1.0)
    assert auc(labels, scores) == (3 * 3 + (3 * 1 + 1 * 3) / 2 + 0) / 16
    assert user_auc(labels, scores, users).value == 1 / 2


def test_a_constant_scorer_gets_chance():
    assert auc(LABELS, np.zeros(1000)) == user_auc(LABELS, np.zeros(1000), USERS).value == 1 / 2
    assert log_loss(LABELS, np.zeros(1000)) == pytest.approx(log(2), rel=1e-15)


def test_probabilities_with_their_threshold_and_float32_tensors_give_the_same():
    for metric in (accuracy, precision, recall, f1):
        assert metric(LABELS, PROBABILITIES, threshold=0.5) == metric(LABELS, LOGITS)
    for metric in PAIR_METRICS.values():
        assert metric(torch.from_numpy(LABELS), torch.from_numpy(LOGITS).float()) == metric(LABELS == 1, LOGITS)


def test_log_loss_is_stable_far_from_zero():
    assert log_loss(np.array([0, 1]), np.array([800.0, -900.0])) == 850
    assert log_loss(np.array([1, 0]), np.array([800.0, -900.0])) == pytest.approx(0, abs=1e-300)
    assert log_loss(np.array([1]), np.array([40.0])) == pytest.approx(np.exp(-40.0), rel=1e-12)
    assert log_loss(np.array([0]), np.array([inf])) == inf


def test_a_score_at_the_threshold_is_no_positive_prediction():
    assert accuracy(np.array([0, 1]), np.array([0.0, 0.0])) == 1 / 2
    assert precision(np.array([0, 1]), np.array([0.0, 0.0])) == f1(np.array([0, 1]), np.array([0.0, 0.0])) == 0


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_pairs_changes_nothing(seed):
    order = np.random.default_rng(seed).permutation(1000)
    again = pair_metrics(LABELS[order], LOGITS[order], USERS[order])
    assert again == pytest.approx(pair_metrics(LABELS, LOGITS, USERS), rel=1e-12)


def test_pair_metrics_names_and_values():
    values = pair_metrics(LABELS, LOGITS, USERS)
    assert list(values) == [*PAIR_METRICS, "user_auc", "num_users_left_out"]
    assert list(pair_metrics(LABELS, LOGITS)) == ["accuracy", "precision", "recall", "f1", "auc", "log_loss"]
    assert values["auc"] == auc(LABELS, LOGITS)
    assert values["user_auc"] == user_auc(LABELS, LOGITS, USERS).value


@pytest.mark.parametrize("metric", [*PAIR_METRICS.values(), partial(user_auc, users=np.zeros(2))])
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "one of each per pair"),
        ([0, 1], [0.5], "one of each per pair"),
        ([[0, 1]], [[0.5, 1]], "one of each per pair"),
        ([0, 2], [0.5, 1], "label 2"),
        ([0, 0.5], [0.5, 1], r"label 0\.5"),
        ([0, nan], [0.5, 1], "label nan"),
        ([0, 1], [0.5, nan], "score 1 is NaN"),
    ],
)
def test_pairs_are_checked(metric, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metric(np.array(labels), np.array(scores))


def test_what_needs_both_labels_says_so():
    scores = np.array([1.0, 2.0])
    for metric in (recall, f1):
        with pytest.raises(ValueError, match="no label is 1"):
            metric(np.array([0, 0]), scores)
    with pytest.raises(ValueError, match="all labels are 1"):
        auc(np.array([1, 1]), scores)
    with pytest.raises(ValueError, match="none of 2 users has both labels"):
        user_auc(np.array([0, 1]), scores, np.array(["a", "b"]))
    with pytest.raises(ValueError, match="users of shape"):
        user_auc(np.array([0, 1]), scores, np.array(["a"]))
