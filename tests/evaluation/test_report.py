from __future__ import annotations

import copy
import json
import re
from hashlib import sha256
from math import inf
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import polars as pl
import pytest
from small_data import cases_of, data_directory

from llmrec.baselines.counting import Popularity
from llmrec.data.directory import DataDirectory
from llmrec.evaluation import report
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import evaluate_system, summarise, user_metrics
from llmrec.evaluation.intervals import paired_difference
from llmrec.evaluation.report import (
    build_results,
    check_report_folder,
    describe_protocol,
    read_results,
    write_report,
    write_views,
)
from llmrec.evaluation.table import results_table, winner

NUM_USERS = 60
CASES = cases_of(
    [[user % 7, user % 5, user % 11] for user in range(NUM_USERS)],
    [(user, 2) for user in range(NUM_USERS)],
    num_items=50,
)
CUTOFFS = [5, 10]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"split": {"kind": "leave_one_out"}}')
    return SimpleNamespace(path=folder, manifest={"split": {"kind": "leave_one_out"}})


@pytest.fixture
def per_user():
    """llmrec above popularity for almost every user, content beside llmrec but for the noise."""
    generator = np.random.default_rng(0)
    ranks = {
        "llmrec": generator.integers(1, 20, NUM_USERS).astype(float),
        "content": generator.integers(1, 20, NUM_USERS).astype(float),
        "popularity": np.where(np.arange(NUM_USERS) % 10 == 0, 8.5, inf),
    }
    return {name: user_metrics(values, CASES, CUTOFFS) for name, values in ranks.items()}


@pytest.fixture
def results(data, per_user):
    return build_results(describe_protocol(data, CASES, mask_seen=True, cutoffs=CUTOFFS), per_user)


def test_protocol_says_what_the_numbers_depend_on(data):
    protocol = describe_protocol(data, CASES, mask_seen=True, cutoffs=CUTOFFS)
    repeated = sum(row[2] in row[:2] for row in (items.tolist() for items in CASES.items)) / NUM_USERS
    assert protocol == {
        "split_kind": "leave_one_out",
        "split": "test",
        "num_items": 50,
        "num_users": 60,
        "num_users_drawn_from": None,
        "num_cases": 60,
        "num_cases_without_history": 0,
        "mask_seen": True,
        "repeated_target_share": pytest.approx(repeated),
        "tied_event_share": 0.0,
        "tie_rule": "1 + items above + tied others / 2, among float32 scores; NaN counts against the target",
        "cutoffs": [5, 10],
        "confidence": 0.95,
        "bootstrap_draws": 2000,
        "bootstrap_seed": 0,
        "manifest_sha256": sha256(b'{"split": {"kind": "leave_one_out"}}').hexdigest(),
    }


def test_a_sample_of_users_is_called_one(results):
    protocol = {**results["protocol"], "num_users_drawn_from": 1_234}
    assert "users (a sample of 1,234)" in results_table({**results, "protocol": protocol})
    assert "sample" not in results_table(results)


def test_systems_equal_their_summaries_and_comparisons_their_paired_differences(results, per_user):
    ranks = np.random.default_rng(0).integers(1, 20, NUM_USERS).astype(float)
    _, summary = summarise(ranks, CASES, CUTOFFS)
    for metric, interval in summary.items():
        assert results["systems"]["llmrec"][metric] == pytest.approx(interval)
    difference = paired_difference(per_user["llmrec"]["ndcg@10"], per_user["popularity"]["ndcg@10"])
    assert results["comparisons"]["llmrec"]["popularity"]["ndcg@10"] == pytest.approx(difference._asdict())
    assert sorted(results["comparisons"]["content"]) == ["llmrec", "popularity"]


def test_the_four_files(results, per_user, tmp_path):
    output_dir = tmp_path / "deep" / "results"
    write_report(results, per_user, output_dir)
    assert sorted(path.name for path in output_dir.iterdir()) == [
        *("per_user.parquet", "results.json", "results.md", "results.png")
    ]
    text = (output_dir / "results.json").read_text()
    assert json.loads(text) == results == read_results(output_dir)
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert str(tmp_path) not in text
    table = pl.read_parquet(output_dir / "per_user.parquet")
    assert table.columns[:3] == ["system", "user_id", "num_targets"]
    assert table.group_by("system").len().sort("system").rows() == [("content", 60), ("llmrec", 60), ("popularity", 60)]
    for name, systems in results["systems"].items():
        mean = table.filter(pl.col("system") == name)["ndcg@10"].mean()
        assert systems["ndcg@10"]["value"] == pytest.approx(mean, abs=1e-12)


def test_page_and_chart_are_drawn_again_from_the_json_alone(results, per_user, tmp_path):
    write_report(results, per_user, tmp_path / "first")
    write_views(read_results(tmp_path / "first"), tmp_path / "second")
    for name in ("results.md", "results.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_same_numbers_write_the_same_files(results, per_user, tmp_path):
    shuffled = dict(reversed(per_user.items()))
    again = build_results(results["protocol"], shuffled)
    write_report(results, per_user, tmp_path / "first")
    write_report(again, shuffled, tmp_path / "second")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_the_chart_is_a_picture_with_bars(results, per_user, tmp_path):
    write_report(results, per_user, tmp_path)
    picture = matplotlib.image.imread(tmp_path / "results.png")
    assert picture.shape[1] > 1000
    subject = np.abs(picture[..., :3] - np.array([0x1F, 0x6F, 0x8B]) / 255).max(axis=-1) < 0.02
    assert subject.sum() > 1000


def test_table_shows_values_intervals_and_paired_differences(results):
    page = results_table(results)
    assert "| system | NDCG@10 | Recall@10 | Precision@10 | F1@10 | MRR |" in page
    interval = results["systems"]["popularity"]["recall@10"]
    assert f"{interval['value']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}]" in page
    row = next(line for line in page.splitlines() if line.startswith("| llmrec − popularity"))
    assert re.search(r"\| \+0\.\d{4} \[\+0\.\d{4}, \+0\.\d{4}\]", row)
    assert page.index("## First 10 items") < page.index("## First 5 items")


def test_a_winner_must_be_above_every_other_outside_the_interval(results):
    assert winner(results, "ndcg@10") is None  # llmrec and content differ by noise
    assert "**0." not in results_table(results)
    clear = copy.deepcopy(results)
    clear["comparisons"]["llmrec"]["content"]["ndcg@10"]["low"] = 0.001
    assert winner(clear, "ndcg@10") == "llmrec"
    bold = [line for line in results_table(clear).splitlines() if "**0." in line]
    assert len(bold) == 1
    assert bold[0].startswith("| llmrec | **0.")
    clear["comparisons"]["llmrec"]["content"]["ndcg@10"]["low"] = 0.0
    assert winner(clear, "ndcg@10") is None


def test_one_system_is_reported_without_a_winner(results, per_user, tmp_path):
    alone = {"popularity": per_user["popularity"]}
    alone_results = build_results(results["protocol"], alone)
    write_report(alone_results, alone, tmp_path)
    assert winner(alone_results, "ndcg@10") is None
    assert "Paired differences" not in (tmp_path / "results.md").read_text()


def test_systems_without_a_hit_are_drawn(results, tmp_path):
    nothing = {"llmrec": user_metrics(np.full(NUM_USERS, inf), CASES, CUTOFFS)}
    write_report(build_results(results["protocol"], nothing), nothing, tmp_path)
    assert (tmp_path / "results.png").stat().st_size > 0


def test_a_failure_leaves_the_folder_as_it_was(results, per_user, tmp_path, monkeypatch):
    write_report(results, per_user, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def no_disk(results, path):
        path.write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(report, "draw_chart", no_disk)
    with pytest.raises(OSError, match="disk full"):
        write_report(build_results({**results["protocol"], "bootstrap_seed": 1}, per_user), per_user, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".report-")]


def test_a_folder_that_cannot_be_written_is_named_beforehand(tmp_path):
    (tmp_path / "file").touch()
    for output_dir in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(PermissionError, match=r"file.* cannot be written .*choose a folder"):
            check_report_folder(output_dir)
    check_report_folder(tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_numbers_that_json_cannot_hold_are_refused(results, per_user, tmp_path):
    results["systems"]["llmrec"]["mrr"]["value"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_report(results, per_user, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_systems_evaluated_on_other_users_are_refused(results, per_user):
    per_user["content"] = per_user["content"].head(59)
    with pytest.raises(ValueError, match="'llmrec' and 'content' were not evaluated on the same users"):
        build_results(results["protocol"], per_user)
    with pytest.raises(ValueError, match="no system"):
        build_results(results["protocol"], {})


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        read_results(tmp_path)


def test_from_a_data_directory_to_the_page(tmp_path):
    directory = DataDirectory.open(data_directory(tmp_path / "data"))
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    popularity = Popularity.from_histories(directory.histories(), directory.catalog)
    tables = {"popularity": user_metrics(evaluate_system(popularity, cases, mask_seen=True), cases)}
    write_report(build_results(describe_protocol(directory, cases, mask_seen=True), tables), tables, tmp_path / "out")
    protocol = read_results(tmp_path / "out")["protocol"]
    assert (protocol["split_kind"], protocol["num_users"], protocol["num_items"]) == ("leave_one_out", 12, 24)
    assert protocol["manifest_sha256"] == sha256((directory.path / "manifest.json").read_bytes()).hexdigest()
    assert "12 of 12 users, test split (leave-one-out)" in (tmp_path / "out" / "results.md").read_text()
