"""The benchmark of worlds: what is attainable on the test's targets, and two trainings that differ in one option."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_worlds import BenchmarkArguments, Forecaster, ndcg_of_users, settings_of
from run_scripts import run_script
from tiny_worlds import joint, tiny_world
from world_odds import draw, make_world
from worlds import World

from llmrec.data.cases import Cases


def cases_in(world: World, num_users: int, only: int | None = None) -> Cases:
    """Every event but the first, or only that at one position, of people drawn in the world."""
    random = np.random.default_rng(1)
    histories = [draw(world, random) for _ in range(num_users)]
    positions = np.arange(1, len(world.moments)) if only is None else np.array([only])
    return Cases(
        users=[str(user) for user in range(num_users)],
        items=[items for items, _ in histories],
        timestamps=[times for _, times in histories],
        user=np.repeat(np.arange(num_users), len(positions)),
        position=np.tile(positions, num_users),
        num_items=len(world.titles),
        split="test",
    )


def test_what_can_be_expected_is_what_is_measured() -> None:
    """Of eight intervals one is due: known, its item stands first; unknown, eight items share eight places."""
    world = make_world("replenishment")
    cases = cases_in(world, 1_500, only=14)  # by then the taste is plain
    gains = 1 / np.log2(1 + np.arange(1, 11))
    by_noise = 0.1 / len(world.titles)
    expected = {True: 0.9 * gains[0] + by_noise * gains.sum(), False: 0.9 * gains[:8].mean() + by_noise * gains.sum()}
    for reads_times, value in expected.items():
        found = ndcg_of_users(Forecaster(world, reads_times), cases)
        assert abs(found.mean() - value) < 4 * found.std() / np.sqrt(len(found))


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_no_ranking_does_better_than_what_is_called_attainable(seed: int, place: int) -> None:
    """Of all that can happen, weighted by how likely it is: the gain of the best of 24 orders in every situation."""
    world = tiny_world(seed)
    happened = [
        (sum(joint(world, taste, moments, items) for taste in range(2)), moments, items)
        for moments in itertools.product(range(3), repeat=place + 1)
        for items in itertools.product(range(4), repeat=place + 1)
    ]
    chances = np.array([chance for chance, _, _ in happened])
    assert chances.sum() == pytest.approx(1)
    cases = Cases(
        users=[str(number) for number in range(len(happened))],
        items=[np.array(items) for _, _, items in happened],
        timestamps=[np.array(moments) for _, moments, _ in happened],
        user=np.arange(len(happened)),
        position=np.full(len(happened), place),
        num_items=4,
        split="test",
    )
    gains = 1 / np.log2(1 + np.arange(1, 5))
    for reads_times in (True, False):
        known: dict[tuple, np.ndarray] = {}
        for chance, moments, items in happened:
            situation = (items[:-1], moments if reads_times else ())
            known.setdefault(situation, np.zeros(4))[items[-1]] += chance
        best = sum(
            max(row[list(order)] @ gains for order in itertools.permutations(range(4))) for row in known.values()
        )
        assert chances @ ndcg_of_users(Forecaster(world, reads_times), cases) == pytest.approx(best, abs=1e-6)


def test_a_case_is_forecast_from_what_precedes_it_alone() -> None:
    world = make_world("sessions")
    cases = cases_in(world, 3)
    changed = cases_in(world, 3)
    for items in changed.items:
        items[10:] = 0
    for reads_times in (True, False):
        for (numbers, scores), (_, others) in zip(
            Forecaster(world, reads_times).catalogue_scores(cases),
            Forecaster(world, reads_times).catalogue_scores(changed),
            strict=True,
        ):
            early = cases.position[numbers] <= 10
            assert scores[early].equal(others[early]) and not scores[~early].equal(others[~early])


def test_both_models_are_trained_and_stand_between_what_is_known(checkpoints, tmp_path: Path) -> None:
    both = f"base_model={checkpoints['bert']},num_train_epochs=1,learning_rate=1e-2"
    options = ["worlds", "--output_dir", str(tmp_path), "--worlds", "weekly", "--num_users", "60", "--both", both]
    assert run_script("benchmark", options) == 0
    (row,) = json.loads((tmp_path / "worlds.json").read_text())
    assert row["world"] == "weekly" and row["targets"] == 12 * 14
    assert row["oracle"] > row["blind_ceiling"] > row["time_blind"] > 0
    assert row["share_of_oracle"] == pytest.approx(row["time_reading"] / row["oracle"], abs=1e-3)
    assert row["gain_low"] <= row["gain"] <= row["gain_high"]
    assert "share_of_oracle" in (tmp_path / "worlds.md").read_text()
    templates = [
        json.loads((tmp_path / "weekly" / model / "prompt.json").read_text())["event"]
        for model in ("time_reading", "time_blind")
    ]
    assert templates == ["", ""]
    timed, blind = (
        json.loads((tmp_path / "weekly" / model / "llmrec_config.json").read_text())["time_embedding"]
        for model in ("time_reading", "time_blind")
    )
    assert len(timed) == 4 and not blind


def test_repeats_are_trained_and_the_last_of_an_option_counts(tmp_path: Path) -> None:
    arguments = BenchmarkArguments(str(tmp_path), both="template=default,num_train_epochs=2", seed=7)
    arguments.time_blind = "template=vectors,time_embedding=gap hour"
    data, model, training = settings_of(arguments, tmp_path, "time_blind")
    assert training.mask_seen is False
    assert model.time_embedding == ["gap", "hour"]
    assert (model.template, training.num_train_epochs, training.seed) == ("vectors", 2, 7)
    assert data.data_dir == str(tmp_path / "data") and training.output_dir == str(tmp_path / "time_blind")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--worlds", "weekly", "monthly"], "world 'monthly' is not one of weekly"),
        (["--worlds", "drift", "--num_users", "20", "--both", "epochs"], "option 'epochs' is not name=value"),
        (["--worlds", "drift", "--num_users", "20", "--both", "epochs=3"], "'--epochs' is none of `llmrec train`"),
    ],
)
def test_unknown_worlds_and_options_are_refused(options: list[str], message: str, tmp_path: Path, capsys) -> None:
    assert run_script("benchmark", ["worlds", "--output_dir", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
