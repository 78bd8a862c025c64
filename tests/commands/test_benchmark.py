"""The training benchmark: both ways see the same targets, and the token counts follow from arithmetic."""

from __future__ import annotations

import json

import pytest

from llmrec.commands.benchmark import synthetic_catalog
from llmrec.commands.main import run


@pytest.fixture(scope="module")
def rows(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    options = ["--base_model", str(checkpoints["bert"]), "--events", "3", "6", "--histories", "2", "--repeats", "1"]
    assert run("benchmark", ["training", "--output_dir", str(folder), *options]) == 0
    assert "pass_per_target" in (folder / "training.md").read_text()
    return json.loads((folder / "training.json").read_text())


def test_every_method_has_a_row_for_every_length(rows):
    found = [(row["method"], row["events"]) for row in rows]
    assert found == [(method, events) for events in (3, 6) for method in ("one_pass", "pass_per_target")]


def test_both_ways_train_the_same_targets_and_agree(rows):
    for row in rows:
        assert row["targets"] == 2 * row["events"]
        assert row["max_abs_diff"] <= 1e-4
        assert row["targets_per_second"] > 0 and row["tokens_per_second"] > 0 and row["peak_mib"] > 0


def test_the_usual_way_reads_a_history_again_for_every_target(rows):
    once = {row["events"]: row["tokens"] for row in rows if row["method"] == "one_pass"}
    again = {row["events"]: row["tokens"] for row in rows if row["method"] == "pass_per_target"}
    for events, tokens in once.items():
        assert tokens < again[events] < events * tokens


def test_synthetic_items_are_the_same_every_time():
    assert synthetic_catalog().frame.equals(synthetic_catalog().frame)


@pytest.mark.parametrize("words", [[], ["scoring"], ["--output_dir", "x"]])
def test_another_suite_is_refused(words, capsys):
    assert run("benchmark", words) == 2
    assert "give `training`" in capsys.readouterr().err
