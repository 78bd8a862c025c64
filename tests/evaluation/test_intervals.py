from __future__ import annotations

import itertools
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.evaluation.intervals import (
    bootstrap_means,
    detectable_difference,
    holm,
    paired_permutation_test,
    percentile_interval,
    user_means,
)


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def mean_intervals(values: np.ndarray, seed: int = 0) -> list[Interval]:
    """Mean over users of every column, with its interval."""
    ends = (user_means(values), *percentile_interval(bootstrap_means(values, seed=seed)))
    return [Interval(*row) for row in np.stack(ends, axis=1).tolist()]


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean over users, (number of users,), with its interval."""
    return mean_intervals(values[:, None], seed)[0]


def test_one_user_has_no_width():
    assert interval(np.array([0.3])) == (0.3, 0.3, 0.3)


def test_equal_users_have_no_width():
    assert interval(np.full(7, 0.1)) == (0.1, 0.1, 0.1)
    assert interval(np.full(7, 0.1) - np.full(7, 0.1)) == (0, 0, 0)


def test_two_users_are_drawn_as_a_fair_coin_says():
    means = bootstrap_means(np.array([[0.0], [1.0]]), draws=20_000, seed=1)[:, 0]
    shares = [(means == value).mean() for value in (0.0, 0.5, 1.0)]
    assert sum(shares) == 1
    np.testing.assert_allclose(shares, [1 / 4, 1 / 2, 1 / 4], atol=0.015)
    assert interval(np.array([0.0, 1.0])) == (0.5, 0.0, 1.0)


def test_each_draw_is_a_mean_of_drawn_users():
    values = np.random.default_rng(0).random((11, 2))
    drawn = np.random.default_rng(5).integers(11, size=(40, 11))
    np.testing.assert_allclose(bootstrap_means(values, draws=40, seed=5), values[drawn].mean(axis=1), rtol=1e-12)


@settings(max_examples=40)
@given(st.integers(1, 20), st.integers(1, 60), st.integers(1, 2000), st.integers(0, 100))
def test_memory_chunks_change_nothing(num_users, draws, max_chunk_entries, seed):
    values = np.random.default_rng(seed).normal(size=(num_users, 3))
    chunked, whole = (
        bootstrap_means(values, draws, seed, max_chunk_entries=size) for size in (max_chunk_entries, 10**9)
    )
    np.testing.assert_allclose(chunked, whole, rtol=1e-12, atol=1e-15)
    chunked, whole = (
        paired_permutation_test(values, draws, seed, max_chunk_entries=size) for size in (max_chunk_entries, 10**9)
    )
    assert chunked.tolist() == whole.tolist()


def test_the_seed_is_the_only_chance():
    values = np.random.default_rng(0).random(50)
    assert interval(values) == interval(values)
    assert interval(values)[1] != interval(values, seed=1)[1]
    p = [paired_permutation_test(values - 0.4, seed=seed) for seed in (0, 0, 1)]
    assert p[0] == p[1] != p[2]


def test_columns_are_drawn_together_and_alone_alike():
    values = np.random.default_rng(0).normal(0.2, 1, (50, 3))
    together, p = mean_intervals(values), paired_permutation_test(values)
    for column in range(3):
        np.testing.assert_allclose(together[column], interval(values[:, column]), rtol=1e-12)
        assert paired_permutation_test(values[:, column]) == p[column]


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
    assert interval(a)[1] < interval(b)[2]
    value, low, high = interval(a - b)
    assert 0 < low < value < high < 0.02
    np.testing.assert_allclose(interval(b - a), (-value, -high, -low), rtol=1e-9)
    assert paired_permutation_test(a - b) == paired_permutation_test(b - a) == 1 / 2001


def test_equal_systems_are_told_apart_one_time_in_twenty():
    generator = np.random.default_rng(4)
    differences = generator.random((100, 400)) - generator.random((100, 400))
    low, high = percentile_interval(bootstrap_means(differences, draws=1000))
    assert 0.02 < ((low > 0) | (high < 0)).mean() < 0.09
    assert 0.02 < (paired_permutation_test(differences, draws=1000) <= 0.05).mean() < 0.09


def test_p_values_approach_those_of_all_sign_patterns():
    differences = np.array([0.5, -0.1, 0.3, 0.2, -0.2, 0.4, 0.1, 0.0, 0.3])
    patterns = np.array(list(itertools.product([-1, 1], repeat=9)))
    exact = (np.abs(patterns @ differences) >= differences.sum() - 1e-9).mean()
    assert exact == 48 / 2**9
    assert paired_permutation_test(differences, draws=20_000).item() == pytest.approx(exact, abs=0.006)


def test_one_user_and_equal_systems_have_no_evidence():
    assert paired_permutation_test(np.array([0.7])) == 1
    assert paired_permutation_test(np.zeros((5, 2))).tolist() == [1, 1]


def test_a_p_value_is_never_zero():
    # No draw reaches the mean of 60 equal differences but the pattern that was seen, which counts as a draw.
    assert paired_permutation_test(np.full(60, 0.01), draws=99) == 1 / 100


def test_rounding_does_not_move_a_p_value():
    """The unit of the differences is of no account, though their sums round otherwise."""
    differences = np.array([0.1, 0.2, 0.3] * 5)
    p = paired_permutation_test(np.stack([differences, differences * 3, differences / 7], axis=1), draws=5000)
    assert p[0] == p[1] == p[2]


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [3 * 0.01, 2 * 0.03, 2 * 0.03, 4 * 0.005]),  # .04 alone is below the .06 before it
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.6, 0.7], [1, 1]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, expected):
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values, level):
    adjusted = holm(p_values)
    for number, (p, value) in enumerate(sorted(zip(p_values, adjusted, strict=True))):
        if p * (len(p_values) - number) > level:
            assert value > level
            break
        assert value <= level
    assert (adjusted >= p_values).all()


def test_detectable_difference_by_hand():
    differences = np.array([0.0, 0.2, 0.1, 0.1])  # variance 2 * 0.01 / 3
    expected = (1.959964 + 0.841621) * (0.02 / 3) ** 0.5 / 2
    assert detectable_difference(differences).item() == pytest.approx(expected, rel=1e-6)
    assert detectable_difference(np.stack([differences, 2 * differences], axis=1)).tolist() == pytest.approx(
        [expected, 2 * expected], rel=1e-6
    )
    assert detectable_difference(np.zeros(3)) == 0


def test_a_difference_of_that_size_is_found_four_times_in_five():
    generator = np.random.default_rng(0)
    users, trials = 200, 1000
    truth = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) / users**0.5  # for a standard deviation of 1
    samples = generator.normal(truth, 1, (users, trials))
    assert detectable_difference(samples).mean() == pytest.approx(truth, rel=0.01)
    found = np.abs(samples.mean(axis=0)) > 1.96 * samples.std(axis=0, ddof=1) / users**0.5
    assert 0.77 < found.mean() < 0.83


def test_one_user_could_show_no_difference():
    assert detectable_difference(np.array([0.4])) == np.inf
    assert detectable_difference(np.array([[0.4, 0.2]])).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.empty((0, 1)), "at least one"), (np.zeros((2, 2, 2)), "one row per user"), ([[np.nan]], "not finite")],
)
@pytest.mark.parametrize("function", [bootstrap_means, paired_permutation_test, detectable_difference])
def test_values_are_checked(function, values, message):
    with pytest.raises(ValueError, match=message):
        function(values)


def test_settings_are_checked():
    for function in (bootstrap_means, paired_permutation_test):
        with pytest.raises(ValueError, match="draws is 0"):
            function(np.zeros((2, 1)), draws=0)
    for wrong in ({"power": 1.0}, {"confidence": 0.0}):
        with pytest.raises(ValueError, match="between 0 and 1"):
            detectable_difference(np.zeros(2), **wrong)
    for p_values in ([0.5, 1.1], [-0.1], [np.nan], [[0.5]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm(p_values)


def test_a_mean_lies_among_the_values():
    """Rounding must not make the least precision negative."""
    for seed in range(40):
        values = np.random.default_rng(seed).permutation([0.2] * 2 + [0.0] * 14)[:, None]
        means = bootstrap_means(values, seed=seed)
        assert means.min() >= 0 and means.max() <= 0.2
