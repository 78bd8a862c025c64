from __future__ import annotations

import numpy as np
import pytest

from llmrec.evaluation.intervals import (
    Interval,
    bootstrap_means,
    mean_interval,
    mean_intervals,
    paired_difference,
    percentile_interval,
)


def test_one_user_has_no_width():
    assert mean_interval(np.array([0.3])) == Interval(0.3, 0.3, 0.3)


def test_equal_users_have_no_width():
    assert mean_interval(np.full(7, 0.1)) == Interval(0.1, 0.1, 0.1)
    assert paired_difference(np.full(7, 0.1), np.full(7, 0.1)) == Interval(0.0, 0.0, 0.0)


def test_two_users_are_drawn_as_a_fair_coin_says():
    means = bootstrap_means(np.array([[0.0], [1.0]]), draws=20_000, seed=1)[:, 0]
    shares = [(means == value).mean() for value in (0.0, 0.5, 1.0)]
    assert sum(shares) == 1
    np.testing.assert_allclose(shares, [1 / 4, 1 / 2, 1 / 4], atol=0.015)
    assert mean_interval(np.array([0.0, 1.0])) == Interval(0.5, 0.0, 1.0)


def test_each_draw_is_a_mean_of_drawn_users():
    values = np.random.default_rng(0).random((11, 2))
    drawn = np.random.default_rng(5).integers(11, size=(40, 11))
    np.testing.assert_allclose(bootstrap_means(values, draws=40, seed=5), values[drawn].mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("max_chunk_entries", [1, 13, 130, 10_000])
def test_memory_chunks_change_nothing(max_chunk_entries):
    values = np.random.default_rng(0).random((13, 3))
    whole = bootstrap_means(values, draws=101)
    np.testing.assert_allclose(bootstrap_means(values, 101, max_chunk_entries=max_chunk_entries), whole, rtol=1e-12)


def test_the_seed_is_the_only_chance():
    values = np.random.default_rng(0).random(50)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values).low != mean_interval(values, seed=1).low


def test_columns_are_drawn_together_and_alone_alike():
    values = np.random.default_rng(0).random((50, 3))
    together = mean_intervals(values)
    for column in range(3):
        np.testing.assert_allclose(together[column], mean_interval(values[:, column]), rtol=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Rewards as NDCG gives them: mostly zero, else skewed; their true mean is 0.15 * 0.5.
    generator = np.random.default_rng(7)
    trials, users = 400, 150
    rewards = (generator.random((users, trials)) < 0.15) * generator.random((users, trials))
    low, high = percentile_interval(bootstrap_means(rewards, draws=1000))
    covered = ((low <= 0.075) & (high >= 0.075)).mean()
    assert 0.91 < covered < 0.98


def test_pairing_finds_a_small_difference_that_the_systems_own_intervals_hide():
    generator = np.random.default_rng(2)
    a = generator.random(300)
    b = a - 0.01 + generator.normal(0, 0.02, 300)
    assert mean_interval(a).low < mean_interval(b).high
    difference = paired_difference(a, b)
    assert 0 < difference.low < difference.value < difference.high < 0.02
    reverse = paired_difference(b, a)
    np.testing.assert_allclose(reverse, (-difference.value, -difference.high, -difference.low), rtol=1e-9)


def test_equal_systems_are_told_apart_one_time_in_twenty():
    generator = np.random.default_rng(4)
    differences = generator.random((100, 400)) - generator.random((100, 400))
    low, high = percentile_interval(bootstrap_means(differences, draws=1000))
    assert 0.02 < ((low > 0) | (high < 0)).mean() < 0.09


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.empty((0, 1)), "at least one"), (np.zeros(3), "one row per user"), (np.array([[np.nan]]), "not finite")],
)
def test_values_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_means(values)


def test_draws_and_pairs_are_checked():
    with pytest.raises(ValueError, match="draws is 0"):
        bootstrap_means(np.zeros((2, 1)), draws=0)
    with pytest.raises(ValueError, match="the same users"):
        paired_difference(np.zeros(2), np.zeros(3))


def test_a_mean_lies_among_the_values():
    """Rounding must not make the least precision negative."""
    for seed in range(40):
        values = np.random.default_rng(seed).permutation([0.2] * 2 + [0.0] * 14)[:, None]
        means = bootstrap_means(values, seed=seed)
        assert means.min() >= 0 and means.max() <= 0.2
