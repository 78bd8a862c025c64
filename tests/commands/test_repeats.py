"""Data in which people come back to the same items: whether these are ranked is the adapter's choice, and is said."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_data import DAY, START, items_frame, prepared
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.recommender import Recommender
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten users, each with three items of their own again and again."""
    events = [
        (f"u{user}", f"i{(user + place % 3) % 12:02}", START + DAY * place + user)
        for user in range(10)
        for place in range(9 + user % 2)
    ]
    return prepared(tmp_path_factory.mktemp("data") / "data", events, items_frame(12))


@pytest.fixture(scope="module")
def folders(checkpoints, data, tmp_path_factory) -> dict[bool, Path]:
    """An adapter for rankings with seen items masked, and one for rankings with them kept."""
    root, catalog = tmp_path_factory.mktemp("adapters"), PreparedData.open(data).catalog
    PromptTemplate(event="{title}", item="{title}").save(root)
    template = str(root / TEMPLATE_NAME)
    recommender = randomise(tiny_recommender(checkpoints["bert"], catalog, template=template))
    for masked in (True, False):
        recommender.config = replace(recommender.config, mask_seen=masked)
        recommender.save_pretrained(root / str(masked))
    return {masked: root / str(masked) for masked in (True, False)}


def evaluated(data: Path, model: Path, output: Path, *options: str) -> dict:
    files = ["--data_dir", str(data), "--model", str(model), "--output_dir", str(output), "--shuffles", "false"]
    assert run("evaluate", [*files, *options]) == 0
    return json.loads((output / "results.json").read_text())


@pytest.mark.parametrize("masked", [True, False])
def test_an_adapter_is_evaluated_as_it_was_trained(data, folders, tmp_path, capsys, masked):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluated(data, folders[masked], tmp_path)
    assert found["protocol"]["mask_seen"] is found["subject"]["mask_seen"] is masked
    told = "100% of the targets, seen before, cannot be hit" in capsys.readouterr().out
    assert told is masked
    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    ranks = evaluate_system(Recommender.from_pretrained(folders[masked], device="cpu").scorer(), cases, masked)
    assert np.array_equal(pl.read_parquet(tmp_path / "per_case.parquet")["rank_llmrec"].to_numpy(), ranks)
    own = {"own_items"} if not masked else set()
    assert set(found["systems"]) == {"llmrec", "popularity", "item_knn", "content"} | own
    assert set(found["searches"]) == {"item_knn"} | own
    assert found["searches"]["item_knn"]["num_cases"] == 10
    values = {name: system["mrr"]["value"] for name, system in found["systems"].items()}
    assert masked or values["own_items"] > values["popularity"]
    assert "Fitted for this report" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize("masked", [True, False])
def test_a_contradiction_is_said(data, folders, tmp_path, capsys, masked):
    with pytest.warns(UserWarning, match=rf"mask_seen is {not masked} here, but {masked} in the training .* of llmrec"):
        evaluated(data, folders[masked], tmp_path, "--mask_seen", str(not masked))
    here, there = ("kept", "masked") if masked else ("masked", "kept")
    said = f"Seen items are {here} here, but llmrec was trained or chosen for rankings with seen items {there}."
    assert said in capsys.readouterr().out
    for page in ("results.md", "results.html"):
        assert said in (tmp_path / page).read_text()


def test_baselines_alone_are_ranked_as_they_were_chosen(data, folders, tmp_path, checkpoints):
    options = ["--systems", "own_items", "popularity", "--mask_seen", "false", "--base_model", str(checkpoints["bert"])]
    assert run("baselines", ["--data_dir", str(data), "--output_dir", str(tmp_path / "fitted"), *options]) == 0
    files = ["--data_dir", str(data), "--baselines", str(tmp_path / "fitted"), "--output_dir"]
    assert run("evaluate", [*files, str(tmp_path / "alone")]) == 0
    found = json.loads((tmp_path / "alone" / "results.json").read_text())
    assert found["protocol"]["mask_seen"] is False and set(found["systems"]) == {"popularity", "own_items", "item_knn"}
    assert "num_cases" not in found["searches"]["own_items"] and "num_cases" in found["searches"]["item_knn"]
    with pytest.warns(UserWarning, match="False in the training or search of popularity, own_items"):
        evaluated(data, folders[True], tmp_path / "masked", "--baselines", str(tmp_path / "fitted"))


def test_where_seen_items_are_masked_own_items_is_refused_by_name(data, tmp_path, capsys):
    options = ["--data_dir", str(data), "--output_dir", str(tmp_path / "fitted"), "--systems", "own_items"]
    assert run("baselines", [*options, "--mask_seen", "true"]) == 2
    assert "system 'own_items' ranks the items of the history" in capsys.readouterr().err


def test_without_a_word_the_data_decide(tmp_path):
    """Half of the events repeat an item: baselines and prepare keep what was seen, and say so."""
    places = [(user, place) for user in range(9) for place in range(8)]
    events = [(f"u{user}", f"i{(place // 2 + user) % 9:02}", START + place * DAY) for user, place in places]
    folder = prepared(tmp_path / "data", events, items_frame(9))
    assert PreparedData.open(folder).mask_seen is False
    options = ["--data_dir", str(folder), "--output_dir", str(tmp_path / "fitted"), "--systems", "own_items"]
    assert run("baselines", options) == 0
    entry = json.loads((tmp_path / "fitted" / "baselines.json").read_text())["systems"]["own_items"]
    assert entry["run"]["arguments"]["mask_seen"] is False


@pytest.mark.parametrize("masked", [True, False])
def test_recommend_does_as_the_adapter_was_trained_and_says_a_contradiction(folders, tmp_path, masked):
    (tmp_path / "in.jsonl").write_text(json.dumps({"history": [{"item_id": "i01"}, {"item_id": "i02"}]}) + "\n")
    files = ["--model", str(folders[masked]), "--input", str(tmp_path / "in.jsonl"), "--k", "99"]

    def recommended(*options: str) -> int:
        assert run("recommend", [*files, "--output", str(tmp_path / "out.jsonl"), *options]) == 0
        return len(json.loads((tmp_path / "out.jsonl").read_text())["recommendations"])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recommended() == recommended("--exclude_seen", str(masked)) == (10 if masked else 12)
    with pytest.warns(UserWarning, match=f"exclude_seen is {not masked}, but the adapter was trained with mask_seen"):
        assert recommended("--exclude_seen", str(not masked)) == (12 if masked else 10)


def test_twins_are_those_of_what_the_template_reads(data, folders, tmp_path, checkpoints):
    """The template reads titles alone: i02 and i03 share theirs, and by all columns too; brands part no others."""
    found = evaluated(data, folders[True], tmp_path)["near_duplicates"]
    assert found["columns"] == ["title"] and found["template"] is True
    assert "the columns that the adapter's template reads: title." in (tmp_path / "results.md").read_text()
