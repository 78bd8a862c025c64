from __future__ import annotations

import pytest

from llmrec.baselines.search import search
from llmrec.baselines.systems import SYSTEMS, choose_systems, grid


class Valued:
    def __init__(self, settings):
        self.settings = settings


def fit(settings):
    return Valued(settings), [{"epoch": 1, "loss": 0.5, "value": settings["value"]}]


def quality(system):
    return system.settings["value"]


def test_every_setting_is_tried_in_order_and_the_best_is_kept():
    values, seen = [0.2, 0.5, 0.1], []
    system, found = search(fit, [{"value": value} for value in values], quality, "recall@10", seen.append)
    assert system.settings == found.chosen == {"value": 0.5}
    assert [trial.value for trial in found.trials] == values and found.trials == seen
    assert found.best is found.trials[1] and found.best.curve == [{"epoch": 1, "loss": 0.5, "value": 0.5}]
    assert found.metric == "recall@10" and all(trial.seconds >= 0 for trial in found.trials)


def test_the_first_of_equals_wins():
    system, found = search(fit, [{"value": 1, "name": name} for name in "abc"], quality)
    assert system.settings["name"] == found.chosen["name"] == "a"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_quality_is_finite(value):
    with pytest.raises(ValueError, match="finite"):
        search(fit, [{"value": 0}, {"value": value}], quality)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="grid is empty"):
        search(fit, [], quality)


def test_names_come_in_one_order_and_once():
    assert choose_systems(["all", "content"]) == [name for name in SYSTEMS if name != "own_items"]
    assert choose_systems(["sasrec", "popularity", "sasrec"]) == ["popularity", "sasrec"]
    with pytest.raises(ValueError, match="'bert4rec' is unknown"):
        choose_systems(["popularity", "bert4rec"])


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_grid_tries_a_setting_twice(name):
    for has_clock in (True, False):
        settings = grid(name, has_clock)
        assert settings and all(settings.count(entry) == 1 for entry in settings)
