"""The benchmarks: all ways do the same work and agree, and the token counts follow from arithmetic."""

from __future__ import annotations

import json
import sys

import benchmark_scoring
import pytest
from benchmark_items import synthetic_catalog
from run_scripts import run_script
from small_data import data_directory


@pytest.fixture(scope="module")
def rows(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    options = ["--base_model", str(checkpoints["bert"]), "--events", "3", "6", "--histories", "2", "--repeats", "1"]
    assert run_script("benchmark", ["training", "--output_dir", str(folder), *options]) == 0
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
    assert synthetic_catalog(2, 5).frame.equals(synthetic_catalog(2, 5).frame)


@pytest.mark.parametrize("words", [[], ["sorting"], ["--output_dir", "x"]])
def test_another_suite_is_refused(words, capsys):
    assert run_script("benchmark", words) == 2
    assert "give one of training" in capsys.readouterr().err


@pytest.fixture(scope="module", params=["bert", "llama"])
def scored(request, checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scoring")
    sizes = ["--history_tokens", "40", "--candidates", "6", "--repeats", "1", "--batch_size", "4"]
    options = ["--output_dir", str(folder), "--families", str(checkpoints[request.param]), *sizes]
    assert run_script("benchmark", ["scoring", *options]) == 0
    return {row["method"]: row for row in json.loads((folder / "scoring.json").read_text())}


def test_every_way_to_score_agrees_and_has_a_row(scored):
    assert {"naive", "packed", "cached", "reread", "append", "reread_merged", "append_merged"} <= set(scored)
    for method in ("naive", "packed", "cached", "append", "append_merged"):
        assert scored[method]["max_rel_diff"] <= 1e-4
    for row in scored.values():
        assert row["seconds"] > 0 and row["peak_mib"] > 0 and row["tokens"] > 0


def test_the_usual_way_reads_the_history_for_every_candidate(scored):
    naive, packed, cached = (scored[method]["tokens"] for method in ("naive", "packed", "cached"))
    history = scored["naive"]["history_tokens"]
    assert naive - packed == 5 * history  # six candidates, one reading
    assert cached == packed


def test_a_random_tenth_stands_for_all_where_naive_takes_too_long(checkpoints, tmp_path):
    sizes = ["--history_tokens", "40", "--candidates", "30", "--repeats", "1", "--max_seconds", "1e-9"]
    options = ["--output_dir", str(tmp_path), "--families", str(checkpoints["bert"]), *sizes]
    assert run_script("benchmark", ["scoring", *options]) == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "scoring.json").read_text())}
    assert rows["naive"]["timed_share"] == 0.1
    assert rows["packed"]["timed_share"] == 1.0
    assert rows["naive"]["max_rel_diff"] <= 1e-4


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_packed_histories_have_the_losses_of_padded_ones_and_no_padding(checkpoints, tmp_path, family):
    data = data_directory(tmp_path / "data")
    options = ["--base_model", str(checkpoints[family]), "--data_dir", str(data), "--repeats", "1"]
    assert run_script("benchmark", ["pretraining", "--output_dir", str(tmp_path / "out"), *options]) == 0
    rows = {row["method"]: row for row in json.loads((tmp_path / "out" / "pretraining.json").read_text())}
    assert set(rows) == {"packed", "padded, by length", "padded"}
    assert all(row["max_abs_diff"] <= 1e-5 and row["tokens"] > 0 for row in rows.values())
    padding = {name: row["tokens_with_padding"] - row["tokens"] for name, row in rows.items()}
    assert 0 <= padding["padded, by length"] <= padding["padded"]


def score(checkpoints, folder, *options: str) -> int:
    """Score 6 candidates of 40 tokens with the tiny BERT; return the exit code."""
    sizes = ["--history_tokens", "40", "--candidates", "6", "--repeats", "1", "--families", str(checkpoints["bert"])]
    return run_script("benchmark", ["scoring", "--output_dir", str(folder), *sizes, *options])


def rows_by_method(folder) -> dict[str, dict]:
    return {row["method"]: row for row in json.loads((folder / "scoring.json").read_text())}


def test_every_further_packed_pass_reads_the_history_again(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("llmrec.ranking.planning.pass_mebibytes", lambda *_: float("inf"))  # a candidate a pass
    assert score(checkpoints, tmp_path) == 0
    rows = rows_by_method(tmp_path)
    assert rows["packed"]["tokens"] == rows["naive"]["tokens"] == rows["cached"]["tokens"] + 5 * 40
    assert rows["packed"]["token_ratio"] == 1.0


def test_the_cross_encoder_reads_the_same_pairs_and_is_not_compared(checkpoints, tmp_path):
    pytest.importorskip("sentence_transformers")
    assert score(checkpoints, tmp_path) == 0
    rows = rows_by_method(tmp_path)
    per_pair = (rows["cross_encoder"]["tokens"] - rows["naive"]["tokens"]) / 6
    assert abs(per_pair) <= 3  # separators: the tiny tokenizer puts none around pairs
    assert rows["cross_encoder"]["max_abs_diff"] is None


def test_without_sentence_transformers_its_rows_are_left_out(checkpoints, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert score(checkpoints, tmp_path) == 0
    assert "cross_encoder" not in rows_by_method(tmp_path)
    assert 'pip install "llmrec[benchmark]"' in capsys.readouterr().out


def test_ways_that_differ_are_refused_after_the_rows_are_written(checkpoints, tmp_path, monkeypatch, capsys):
    original = benchmark_scoring.naive_scores
    monkeypatch.setattr(benchmark_scoring, "naive_scores", lambda *arguments: original(*arguments) + 0.1)
    assert score(checkpoints, tmp_path) == 2
    assert "differ by more than 1e-04 of their spread" in capsys.readouterr().err
    assert rows_by_method(tmp_path)["packed"]["max_abs_diff"] == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize(("option", "value"), [("candidates", "1"), ("batch_size", "0"), ("repeats", "0")])
def test_numbers_that_measure_nothing_are_refused(checkpoints, tmp_path, option, value, capsys):
    assert score(checkpoints, tmp_path, f"--{option}", value) == 2
    assert "give at least" in capsys.readouterr().err
