"""Worlds: their events follow the stated odds, and both forecasts are those of a sum over everything that is hidden."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tiny_worlds import joint, tiny_world
from world_odds import draw, forecasts, make_world, world_tables
from worlds import DAY, INTERVALS, WORLDS, World, spread, weekdays

from llmrec.data.directory import TABLES, staged_directory
from llmrec.data.preparation import SplitSettings, prepare

NAMES = list(WORLDS)


def histories_of(world: World, number: int, seed: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [draw(world, random) for _ in range(number)]


def gains(world: World, histories: list, timed: bool) -> np.ndarray:
    """Mean gain at cutoff 10 of every history, the first event left out."""
    found = []
    for items, times in histories:
        odds = np.round(forecasts(world, items, times if timed else None)[1:], 12)
        order = np.argsort(-odds, axis=1, kind="stable")
        places = 1 + (order == items[1:, None]).argmax(axis=1)
        found.append(np.where(places <= 10, 1 / np.log2(1 + places), 0).mean())
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_forecasts_are_the_sums_over_everything_hidden(seed: int) -> None:
    world = tiny_world(seed)
    items, times = np.random.default_rng(seed).integers(4, size=4), np.array([2, 0, 1, 1])
    with_times, without = forecasts(world, items, times), forecasts(world, items)
    for place in range(4):
        past = tuple(items[:place])
        expected_with, expected_without = np.zeros(4), np.zeros(4)
        for item, taste in itertools.product(range(4), range(2)):
            expected_with[item] += joint(world, taste, tuple(times[: place + 1]), (*past, item))
            for moments in itertools.product(range(3), repeat=place + 1):
                expected_without[item] += joint(world, taste, moments, (*past, item))
        np.testing.assert_allclose(with_times[place], expected_with / expected_with.sum(), rtol=1e-12)
        np.testing.assert_allclose(without[place], expected_without / expected_without.sum(), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_clock_is_worth_much_and_the_order_something(name: str) -> None:
    world = make_world(name)
    histories = histories_of(world, 200)
    oracle, blind = gains(world, histories, timed=True), gains(world, histories, timed=False)
    num_items = len(world.titles)
    chance = (1 / np.log2(1 + np.arange(1, 11))).sum() / num_items
    assert oracle.mean() >= 0.8
    assert blind.mean() <= 0.75 * oracle.mean() + 0.05
    assert blind.mean() >= 2 * chance


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("timed", [True, False])
def test_what_is_forecast_with_a_chance_happens_that_often(name: str, timed: bool) -> None:
    """Sum of (1 - p) over what happened has mean 0 and a known variance, item by item, if p is the true chance."""
    world = make_world(name)
    excess, variance = np.zeros(len(world.titles)), np.zeros(len(world.titles))
    for items, times in histories_of(world, 400, seed=11):
        odds = forecasts(world, items, times if timed else None)
        excess += np.eye(len(world.titles))[items].sum(axis=0) - odds.sum(axis=0)
        variance += (odds * (1 - odds)).sum(axis=0)
    chi_square = (excess**2 / variance).sum()  # about one per item
    freedom = len(world.titles)
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("name", NAMES)
def test_moments_come_as_often_as_stated_and_are_read_back_from_the_times(name: str) -> None:
    world = make_world(name)
    length, num_moments = world.moments.shape[:2]
    counts = np.zeros((length, num_moments))
    for _, times in histories_of(world, 500, seed=3):
        assert (np.diff(times) > 0).all()
        counts[np.arange(length), world.moment_of(times)] += 1
    expected, odds = np.zeros_like(counts), world.moments[0, 0]
    for place in range(length):
        odds = odds if place == 0 else odds @ world.moments[place]
        expected[place] = 500 * odds
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - length
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("name", NAMES)
def test_odds_are_odds(name: str) -> None:
    world = make_world(name)
    np.testing.assert_allclose(world.first.sum(axis=-1), 1)
    np.testing.assert_allclose(world.wants.sum(axis=-1), 1)
    assert len(set(world.titles)) == len(world.titles) > 30
    assert world.wants.shape[0] in (1, len(world.titles)) and world.wants.shape[-1] == len(world.titles)


def test_a_week_later_the_same_is_wanted_and_a_day_later_something_else() -> None:
    world = make_world("weekly")
    items, times = histories_of(world, 1)[0]
    now = np.append(times[:-1], times[-1] + 7 * DAY)
    np.testing.assert_array_equal(forecasts(world, items, now)[-1], forecasts(world, items, times)[-1])
    later = np.append(times[:-1], times[-1] + DAY)
    assert forecasts(world, items, later)[-1].argmax() != forecasts(world, items, times)[-1].argmax()


def test_an_item_returns_after_its_own_interval_but_for_noise() -> None:
    world = make_world("replenishment")
    gaps: dict[int, list[float]] = {}
    for items, times in histories_of(world, 300):
        for item, gap in zip(items[1:], np.diff(times) / DAY, strict=True):
            gaps.setdefault(int(item), []).append(gap)
    shares = []
    for found in gaps.values():
        intervals = np.searchsorted(INTERVALS, found, side="right") - 1
        shares.append(np.bincount(intervals).max() / len(found))
    assert min(shares) >= 0.7 and np.mean(shares) == pytest.approx(0.9 + 0.1 / len(INTERVALS), abs=0.02)


def test_what_a_month_wanted_is_not_wanted_in_another() -> None:
    world = make_world("drift")
    best = world.wants[0].argmax(axis=-1)  # (tastes, months)
    assert len(np.unique(best)) == best.size == len(world.titles)
    for _, times in histories_of(world, 50):
        assert (np.diff(world.moment_of(times)) > 0).all()


def test_sessions_go_on_take_up_again_or_start_anew() -> None:
    world = make_world("sessions")
    start, minutes, hours, days = 1_700_000_000, 300, 5 * 3_600, 4 * DAY
    home = int(world.first[2, 0].argmax())
    second = int(world.wants[home, 2, 0].argmax())
    items = np.array([home, second, home])
    for gap, wanted in ((minutes, int(world.wants[second, 2, 0].argmax())), (hours, second), (days, home)):
        times = np.array([start, start + minutes, start + minutes + gap])
        assert forecasts(world, items, times)[-1].argmax() == wanted
    assert len({home, second, int(world.wants[second, 2, 0].argmax())}) == 3


def test_noise_is_spread_over_all_items() -> None:
    assert spread([0, 2], [0.75, 0.25], 4).tolist() == pytest.approx([0.7, 0.025, 0.25, 0.025])
    assert weekdays(1_704_067_200) == 0  # Monday, 1 January 2024


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        with staged_directory(tmp_path / folder) as staging:
            prepare(world_tables("drift", seed), staging, SplitSettings(kind="users"))
    for name in (*TABLES, "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for name in TABLES:
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_tables_number_items_as_the_world_does() -> None:
    raw = world_tables("weekly", num_users=3)
    assert raw.interactions.height == 3 * 15
    assert raw.items["title"].to_list() == make_world("weekly").titles
    assert raw.items["item_id"].is_sorted()
