from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from fake_results import fake_results
from small_data import cases_of

from llmrec.commands.main import run
from llmrec.evaluation import report
from llmrec.evaluation.evaluator import Ranking, user_metrics
from llmrec.evaluation.report import case_table, check_report_folder, read_results, write_report, write_views
from llmrec.evaluation.strata import Stratum

CASES = cases_of([[3, 1, 2], [0, 4]], [(0, 1), (0, 2), (1, 1)], num_items=5)
RANKS = {"llmrec": np.array([1.0, 2.5, np.inf]), "content": np.array([4.0, 1.0, 3.0])}
RANKINGS = {name: Ranking(ranks, ranks, np.empty((3, 0))) for name, ranks in RANKS.items()}
PER_USER = {name: user_metrics(ranks, CASES) for name, ranks in RANKS.items()}
PER_CASE = case_table(CASES, RANKINGS, [Stratum("kind", "Kind", ("odd", "even"), np.array([0, 1, 0]))], list("abcde"))
FILES = ["per_case.parquet", "per_user.parquet", "results.html", "results.json", "results.md", "results.png"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_row_per_case():
    assert PER_CASE.columns == ["user_id", "position", "item_id", "kind", "rank_llmrec", "rank_content"]
    assert PER_CASE.rows() == [
        ("user 0", 1, "b", "odd", 1.0, 4.0),
        ("user 0", 2, "c", "even", 2.5, 1.0),
        ("user 1", 1, "e", "odd", np.inf, 3.0),
    ]


def test_the_files(tmp_path):
    results = fake_results()
    output_dir = tmp_path / "deep" / "results"
    write_report(results, PER_USER, PER_CASE, output_dir)
    assert sorted(contents(output_dir)) == FILES
    text = (output_dir / "results.json").read_text()
    assert json.loads(text) == read_results(output_dir) == json.loads(json.dumps(results))
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    table = pl.read_parquet(output_dir / "per_user.parquet")
    assert table.columns[:3] == ["system", "user_id", "num_targets"]
    assert table.group_by("system").len().sort("system").rows() == [("content", 2), ("llmrec", 2)]
    assert table["mrr"].to_list() == pytest.approx([(1 / 4 + 1) / 2, 1 / 3, (1 + 1 / 2.5) / 2, 0])
    assert pl.read_parquet(output_dir / "per_case.parquet").equals(PER_CASE)


def test_views_are_drawn_again_from_the_json_alone(tmp_path, capsys):
    write_report(fake_results(), PER_USER, PER_CASE, tmp_path / "first")
    write_views(read_results(tmp_path / "first"), tmp_path / "second")
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert sorted(second) == ["results.html", "results.md", "results.png"]
    assert {name: first[name] for name in second} == second
    for view in second:
        (tmp_path / "first" / view).write_text("older")
    assert run("redraw", ["--results", str(tmp_path / "first")]) == 0
    assert contents(tmp_path / "first") == first  # all but the views untouched
    assert run("redraw", ["--results", str(tmp_path / "first"), "--output_dir", str(tmp_path / "third")]) == 0
    assert contents(tmp_path / "third") == second
    assert run("redraw", ["--results", str(tmp_path / "nowhere")]) == 2
    assert "evaluate a model into this folder first" in capsys.readouterr().err


def test_damaged_results_are_refused_and_the_views_stay(tmp_path, capsys):
    write_report(fake_results(), PER_USER, PER_CASE, tmp_path)
    del (results := read_results(tmp_path))["systems"]["content"]["mrr"]["low"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    before = contents(tmp_path)
    assert run("redraw", ["--results", str(tmp_path)]) == 2
    assert f"report {str(tmp_path)!r} cannot be used: KeyError: 'low'" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_the_same_numbers_write_the_same_files(tmp_path):
    write_report(fake_results(), PER_USER, PER_CASE, tmp_path / "first")
    write_report(fake_results(), dict(reversed(PER_USER.items())), PER_CASE, tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_failure_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    write_report(fake_results(), PER_USER, PER_CASE, tmp_path)
    before = contents(tmp_path)

    def no_disk(results, path):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(report, "draw_chart", no_disk)
    with pytest.raises(OSError, match="disk full"):
        write_report({**fake_results(), "best_baseline": None}, PER_USER, PER_CASE, tmp_path)
    assert contents(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_is_named_beforehand(tmp_path):
    (tmp_path / "file").touch()
    for output_dir in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(PermissionError, match=r"file.* cannot be written .*choose a folder"):
            check_report_folder(output_dir)
    check_report_folder(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_numbers_that_json_cannot_hold_are_refused(tmp_path):
    results = fake_results()
    next(iter(results["systems"].values()))["mrr"]["value"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_report(results, PER_USER, PER_CASE, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        read_results(tmp_path)
