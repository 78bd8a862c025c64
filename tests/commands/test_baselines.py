"""`llmrec baselines` on a tiny data directory, with a short grid for what is trained."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import START, data_directory

from llmrec.baselines import systems
from llmrec.baselines.baseline import validation_quality
from llmrec.baselines.content import spread
from llmrec.baselines.folder import RECORD, read_baselines
from llmrec.baselines.systems import choose_systems
from llmrec.commands.evaluate_systems import ORDERLESS
from llmrec.commands.main import run
from llmrec.data.cases import Cases
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.evaluation.shuffles import first_targets, shuffle_order
from llmrec.models.adapter import inner
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

SYSTEMS = choose_systems(["all"])
"""Those of rankings with seen items masked."""
SHORT = {"num_epochs": 2, "hidden_size": 8, "num_layers": 1, "max_length": 6}
GRIDS = {
    "lstm": [{**SHORT, "encoder": "lstm"}],
    "sasrec": [SHORT, {**SHORT, "dropout": 0.5}],
    "gsasrec": [{**SHORT, "loss": "gbce", "num_negatives": 4}],
}


@pytest.fixture(autouse=True)
def short_grids(monkeypatch):
    monkeypatch.setattr(systems, "SEQUENCE_GRIDS", GRIDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=14)


def options(data: Path, output: Path, base: Path, *more: str) -> list[str]:
    return ["--data_dir", str(data), "--output_dir", str(output), "--base_model", str(base), *more]


def without_seconds(folder: Path) -> dict:
    record = json.loads((folder / RECORD).read_text())
    for entry in record["systems"].values():
        for trial in entry["search"]["trials"]:
            assert trial.pop("seconds") > 0
        assert set(entry.pop("run")) == {"arguments", "versions"}
    return record


def test_all_at_once_and_one_by_one_are_the_same_and_it_says_what_it_does(data, checkpoints, tmp_path, capsys):
    assert run("baselines", options(data, tmp_path / "all", checkpoints["bert"])) == 0
    printed = capsys.readouterr().out
    places = [printed.index(part) for part in ("max_eval_users", "24 items", "\nsasrec\n", "wrote baselines.json")]
    assert places == sorted(places)
    for name in reversed(SYSTEMS):
        assert run("baselines", options(data, tmp_path / "one", checkpoints["bert"], "--systems", name)) == 0
    record = without_seconds(tmp_path / "all")
    assert record == without_seconds(tmp_path / "one")
    assert set(record["systems"]) == set(SYSTEMS)
    assert record["manifest_sha256"] == hashlib.sha256((data / MANIFEST).read_bytes()).hexdigest()

    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "validation")
    for name, system in read_baselines(tmp_path / "all")[0].items():
        ranks = evaluate_system(system, cases, mask_seen=True)  # one case per user, so the mean is that over users
        value = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean()
        found = record["systems"][name]["search"]
        assert found["metric"] == "ndcg@10"
        best = max(trial["value"] for trial in found["trials"])
        assert best == pytest.approx(value, abs=1e-9)
        assert found["chosen"] == next(trial["settings"] for trial in found["trials"] if trial["value"] == best)
        if name in GRIDS:
            assert [row["epoch"] for row in found["trials"][0]["curve"]] == [1, 2]
            assert max(row["value"] for row in found["trials"][0]["curve"]) == found["trials"][0]["value"]


def test_no_baseline_reads_the_times_of_a_history(data, checkpoints, tmp_path, monkeypatch):
    """So that the report need not shuffle them; order is read by all but those that count."""
    monkeypatch.setattr(systems.neighbours, "DECAYS", (0.7,))
    monkeypatch.setattr(systems.content, "DECAYS", (0.7,))  # where nothing fades there is no order
    assert run("baselines", options(data, tmp_path / "all", checkpoints["bert"])) == 0
    directory = PreparedData.open(data)
    firsts = first_targets(Cases.from_histories(directory.histories(), directory.catalog, "test"))
    firsts.timestamps[:] = [START + 1000 * np.arange(len(times)) ** 2 for times in firsts.timestamps]  # uneven gaps
    # Now stays, which recent popularity counts back from.
    timed = replace(firsts, timestamps=[np.append(np.sqrt(row[:-1]).astype(int), row[-1]) for row in firsts.timestamps])
    turned = shuffle_order(firsts, seed=3)

    def scores(system, cases):
        numbers, parts = zip(*system.catalogue_scores(cases), strict=True)
        return torch.cat(parts)[np.argsort(np.concatenate(numbers))]

    for name, system in read_baselines(tmp_path / "all")[0].items():
        as_is = scores(system, firsts)
        assert torch.equal(scores(system, timed), as_is), name
        assert torch.equal(scores(system, turned), as_is) == (name in ORDERLESS), name


def test_the_item_vectors_are_those_that_training_starts_from(data, checkpoints, tmp_path):
    """The default settings of both commands; the twins i02 and i03 tie."""
    assert run("baselines", options(data, tmp_path / "run", checkpoints["llama"], "--systems", "content")) == 0
    directory = PreparedData.open(data)
    settings, catalog = ModelArguments(base_model=str(checkpoints["llama"])), directory.catalog
    recommender = new_recommender(settings, catalog, has_clock=True, counts=np.ones(len(catalog), dtype=np.int64))
    text = inner(recommender.model).rec_items.text.numpy()
    found, record = read_baselines(tmp_path / "run")
    assert {trial["settings"]["whiten"] for trial in record["systems"]["content"]["search"]["trials"]} == {False, True}
    text = spread(text) if record["systems"]["content"]["search"]["chosen"]["whiten"] else text
    system = found["content"]
    assert np.array_equal(system.unique_vectors[system.inverse].astype(np.float32), text)
    assert system.inverse[2] == system.inverse[3]


@pytest.mark.parametrize("target", ["validation", "test"])
def test_what_is_learnt_does_not_hang_on_held_out_events(data, checkpoints, tmp_path, target, monkeypatch):
    """With the held-out items of a split replaced, systems fitted with the same setting are the same."""
    monkeypatch.setattr(systems.neighbours, "NUM_NEIGHBOURS", (5,))
    monkeypatch.setattr(systems.neighbours, "DECAYS", (0.7,))
    monkeypatch.setattr(systems.counting, "WINDOWS", (None,))
    monkeypatch.setattr(
        systems, "SEQUENCE_GRIDS", {name: [{**grid[0], "num_epochs": 1}] for name, grid in GRIDS.items()}
    )
    names = ["popularity", "recent_popularity", "item_knn", "sasrec", "lstm"]
    assert run("baselines", options(data, tmp_path / "run", checkpoints["bert"], "--systems", *names)) == 0
    histories = PreparedData.histories

    def replaced(self):
        def replace(row):
            pairs = zip(row["item_id"], row["split"], strict=True)
            return {"item_id": ["i00" if split == target else item for item, split in pairs]}

        return histories(self).map(replace)

    monkeypatch.setattr(PreparedData, "histories", replaced)
    assert run("baselines", options(data, tmp_path / "other", checkpoints["bert"], "--systems", *names)) == 0
    for name in names:
        one, other = ((tmp_path / folder / f"{name}.safetensors").read_bytes() for folder in ("run", "other"))
        assert one == other
    if target == "test":
        assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "other")


def test_few_events_reach_sequence_systems_only_and_a_seed_reaches_them(data, checkpoints, tmp_path):
    names = ["--systems", "popularity", "item_knn", "sasrec"]
    for folder, more in (("all", []), ("few", ["--max_train_events", "2"]), ("seed", ["--seed", "1"])):
        assert run("baselines", options(data, tmp_path / folder, checkpoints["bert"], *names, *more)) == 0
    for name, same in (("popularity", True), ("item_knn", True), ("sasrec", False)):
        content = [(tmp_path / folder / f"{name}.safetensors").read_bytes() for folder in ("all", "few", "seed")]
        assert (content[0] == content[1]) is same and (content[0] == content[2]) is same
    state = read_baselines(tmp_path / "few")[0]["sasrec"].state()[1]
    assert state["counts"].sum() == 2 * 14


def test_settings_are_chosen_for_the_rankings_that_are_asked_for(data, checkpoints, tmp_path, monkeypatch):
    """The value on record is that of the fitted system on validation, masked or not."""
    monkeypatch.setitem(systems.SEQUENCE_GRIDS, "sasrec", [{**SHORT, "mask_seen": True}])
    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "validation")
    for masked in (True, False):
        folder = tmp_path / str(masked)
        more = ["--systems", "item_knn", "sasrec", "--mask_seen", str(masked)]
        assert run("baselines", options(data, folder, checkpoints["bert"], *more)) == 0
        record = json.loads((folder / RECORD).read_text())["systems"]
        for name, system in read_baselines(folder)[0].items():
            best = max(trial["value"] for trial in record[name]["search"]["trials"])
            assert validation_quality(system, cases, masked) == pytest.approx(best)
        assert ("mask_seen" in record["sasrec"]["search"]["chosen"]) is masked


def test_a_few_validation_users_on_request(data, checkpoints, tmp_path, capsys):
    more = ["--systems", "popularity", "--max_eval_users", "5"]
    assert run("baselines", options(data, tmp_path / "run", checkpoints["bert"], *more)) == 0
    assert "5 validation targets of 5 users" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--systems", "svd"], "system 'svd' is unknown"),
        (["--max_train_events", "0"], "max_train_events is 0"),
        (["--max_eval_users", "0"], "max_users is 0"),
        (["--systems", "content", "--template", "no-such"], "no template 'no-such'"),
        (["--systems", "content", "--base_model", "no-such"], "no checkpoint 'no-such'"),
        (["--data_dir", "no-such"], "'no-such' does not exist"),
        (["--typo", "1"], "--typo"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(data, checkpoints, tmp_path, capsys, more, message):
    assert run("baselines", options(data, tmp_path / "run", checkpoints["bert"], *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("llmrec baselines: error: ") or "\nllmrec baselines: error: " in error
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_data_is_refused(data, checkpoints, tmp_path, capsys):
    other = data_directory(tmp_path / "other", num_users=10)
    for place, code in ((data, 0), (other, 2)):
        argv = options(place, tmp_path / "run", checkpoints["bert"], "--systems", "popularity")
        assert run("baselines", argv) == code
    assert "fitted to other data" in capsys.readouterr().err


def test_evaluate_reports_them_without_a_model_and_the_same_numbers_twice(data, checkpoints, tmp_path, capsys):
    assert run("baselines", options(data, tmp_path / "fitted", checkpoints["bert"])) == 0
    asked = ["--data_dir", str(data), "--baselines", str(tmp_path / "fitted"), "--output_dir"]
    assert run("evaluate", [*asked, str(tmp_path / "first")]) == 0
    assert run("evaluate", [*asked, str(tmp_path / "second")]) == 0
    for name in ("results.json", "results.md", "results.html", "per_user.parquet", "per_case.parquet"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    assert set(results["systems"]) == set(results["searches"]) == set(results["lists"]) == set(SYSTEMS)
    assert set(results["shuffles"]["systems"]) == set(SYSTEMS) - {"popularity", "recent_popularity"}
    assert results["best_baseline"] in SYSTEMS and results["subject"] is None
    assert len(results["tests"]["ndcg@10"]) == len(SYSTEMS) - 1
    for stratum in results["strata"]:
        assert sum(group["num_cases"] for group in stratum["groups"]) == results["protocol"]["num_cases"]


def test_evaluate_refuses_baselines_of_other_data_and_nothing_at_all(data, checkpoints, tmp_path, capsys):
    few = options(data, tmp_path / "fitted", checkpoints["bert"], "--systems", "popularity")
    assert run("baselines", few) == 0
    other = data_directory(tmp_path / "other", num_users=9)
    refused = ["--data_dir", str(other), "--output_dir", str(tmp_path / "results")]
    assert run("evaluate", [*refused, "--baselines", str(tmp_path / "fitted")]) == 2
    assert "fitted to other data" in capsys.readouterr().err
    assert run("evaluate", refused) == 2
    assert "neither --model nor --baselines" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
