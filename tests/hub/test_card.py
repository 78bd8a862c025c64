"""The card tells the truth: each number is looked up, the example runs, and what is missing is said to be missing."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_results import fake_results
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from small_data import data_directory
from tiny_recommenders import randomise, tiny_recommender

from llmrec import Recommender
from llmrec.commands.card import read_data
from llmrec.commands.main import run
from llmrec.configuration import RecommenderConfig
from llmrec.data.labelled_cases import LabelledCases
from llmrec.evaluation.pair_results import pair_results
from llmrec.hub.card import card_text, renewed_card
from llmrec.hub.eval_results import condense, describe_model
from llmrec.text.template import PromptTemplate

BASE = "sentence-transformers/all-MiniLM-L6-v2"
TRAINING = {
    "settings": {"learning_rate": 0.0003, "num_train_epochs": 3.0, "seed": 0, "lora_target_modules": None},
    "environment": {"python": "3.11.7", "torch": "2.13.0", "device": "cpu"},
    **{"epoch": 3.0, "steps": 412, "best_validation": 0.0914805, "train_loss": 6.7987},
    "log": [{"epoch": 1.0, "loss": 8.1, "user_id": "u07"}],
}


@pytest.fixture(scope="module")
def saved(checkpoints, tmp_path_factory) -> Path:
    """A saved folder that says its base is one of the Hub's; copy it before changing it."""
    folder = tmp_path_factory.mktemp("card") / "run"
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    recommender.save_pretrained(folder)
    for name, key in (("llmrec_config.json", "base_model"), ("adapter_config.json", "base_model_name_or_path")):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), key: BASE}, indent=2, sort_keys=True))
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "run")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data")


def results_of(folder: Path, data: Path) -> dict:
    """Made-up results that say they are of this folder's weights and this data."""
    results = fake_results()
    results["subject"]["model_sha256"] = describe_model(folder)["model_sha256"]
    results["protocol"]["manifest_sha256"] = read_data(str(data))[0]["sha256"]
    return results


@pytest.fixture
def record(folder, data) -> dict:
    manifest, _ = read_data(str(data))
    return condense(folder, results_of(folder, data), manifest, None, TRAINING)


def front_matter(card: str) -> dict:
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def leaves(record) -> list:
    if isinstance(record, dict):
        return [leaf for key, value in record.items() for leaf in [str(key), *leaves(value)]]
    return [leaf for value in record for leaf in leaves(value)] if isinstance(record, list) else [record]


def unaccounted(text: str, record: dict) -> list[str]:
    """The numbers of a text that are none of the record's, as precisely as they are written.

    A word with a digit in it (a name, a hash, a version) has to stand in one of the record's texts.
    """
    found = leaves(record)
    texts = " ".join(leaf for leaf in found if isinstance(leaf, str)).lower()
    numbers = [float(leaf) for leaf in found if isinstance(leaf, (int, float)) and not isinstance(leaf, bool)]

    def known(token: str) -> bool:
        name = token.lower().replace("_at_", "@")
        if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", texts):
            return True
        plain = token.replace(",", "").replace("−", "-")
        match = re.fullmatch(r"([+-]?\d+(?:\.(\d+))?(?:e-?\d+)?)(%?)", plain)
        if not match:
            return False
        value, scale = float(match[1]), 100 if match[3] else 1
        decimals = max(len(match[2] or ""), bool(match[3]))  # 31% may be 31.04%
        exact = [number for number in numbers if math.isclose(number * scale, value, rel_tol=1e-12)]
        return bool(
            exact or [number for number in numbers if round(number * scale, decimals) == value and decimals > 0]
        )

    tokens = (token.strip(".,;:") for token in re.findall(r"[\w.,+−%@-]*\d[\w.,%@-]*", text))
    return [token for token in tokens if not known(token)]


def without_code(card: str) -> str:
    return re.sub(r"```.*?```", "", card, flags=re.DOTALL)


def test_every_number_is_in_eval_results(folder, record):
    card = card_text(folder, record)
    assert len(re.findall(r"\d\.\d{4}", card)) > 100
    assert unaccounted(without_code(card), record) == []


def test_the_test_of_numbers_can_fail():
    record = {"a": 0.12345, "b": "all-MiniLM-L6-v2 of 2,000", "c": 1234, "share": 0.0222}
    text = "0.1235, +0.1235 [−0.1235], 1,234 and 2.2% of all-MiniLM-L6-v2; 0.1236, 1,235, 2.3%, L7-v2, 12"
    assert unaccounted(text, record) == ["−0.1235", "0.1236", "1,235", "2.3%", "L7-v2", "12"]


def test_the_card_shows_what_was_measured(folder, record):
    card = card_text(folder, record)
    llmrec = record["results"]["systems"]["llmrec"]["ndcg@10"]
    assert f"| llmrec | {llmrec['value']:.4f} [{llmrec['low']:.4f}, {llmrec['high']:.4f}] |" in card
    for name in record["results"]["systems"]:
        assert f"| {name} |" in card
    assert "Against the best baseline, content, the paired difference in NDCG@10 is +0.0100 [" in card
    for stratum in record["results"]["strata"]:
        assert stratum["title"] in card
        for group in stratum["groups"]:
            assert (f"| {group['label']} | {group['num_cases']:,} | " in card) == (group["num_cases"] > 0)
    for finding in record["audit"]["findings"]:
        assert finding["title"] in card and finding["effect"] in card
    assert "72 events kept" not in card and record["data"]["citation"] in card
    assert "| learning_rate | 0.0003 |" in card and "torch 2.13.0" in card and "| lora_r | 4 |" in card
    assert card.count("| lora_alpha |") == 1
    assert "not stated" not in card.lower() and "not evaluated" not in card.lower()


def test_the_results_begin_with_what_a_mask_makes_impossible(folder, record):
    protocol = record["results"]["protocol"]
    protocol |= {"mask_seen": True, "repeated_target_share": 0.43, "mask_seen_of": {"llmrec": False}}
    text = card_text(folder, record)
    first = text.split("## Results\n\n")[1].split("\n\n")[0]
    assert "Seen items masked: 43% of the targets, seen before, cannot be hit." in first
    assert "Seen items are masked here, but llmrec was trained or chosen for rankings with seen items kept." in text


def test_a_difference_is_read_by_its_interval(folder, record):
    differences = record["results"]["differences"]["content"]["ndcg@10"]
    for low, high, reading in ((0.001, 0.02, "above"), (-0.02, -0.001, "below"), (-0.01, 0.01, "not larger than")):
        differences.update(low=low, high=high)
        assert f"]: {reading}" in card_text(folder, record)


def test_where_it_is_worse_is_a_limit(folder, record):
    group = record["results"]["strata"][0]["groups"][1]
    for low, high, worse in ((-0.03, -0.01, True), (-0.03, 0.01, False)):
        group["difference"]["ndcg@10"] = {"value": -0.02, "low": low, "high": high}
        limit = "Below content where Training events of the target: 1–5; NDCG@10 −0.0200 [−0.0300, −0.0100]."
        assert (limit in card_text(folder, record)) == worse


def test_no_user_is_in_the_record(folder, data, record):
    text = json.dumps(record)
    assert fake_results()["audit"]["findings"][2]["examples"][0]["user_id"] == "A1"
    assert '"A1"' not in text and "examples" not in text and '"log"' not in text
    assert not re.search(r'"u\d\d"', text) and str(data) not in text
    assert all("users" not in results or isinstance(results["users"], int) for results in [record["data"]["counts"]])


@pytest.mark.parametrize("kind", ["with", "without"])
def test_the_metadata_is_what_the_hub_accepts(folder, record, kind):
    card = card_text(folder, record if kind == "with" else None, "someone/films", {"license": "apache-2.0"})
    metadata = front_matter(card)
    assert metadata == ModelCard(card).data.to_dict()
    assert metadata["library_name"] == "peft" and metadata["pipeline_tag"] == "text-ranking"
    assert metadata["base_model"] == BASE and metadata["base_model_relation"] == "adapter"
    assert metadata["license"] == "apache-2.0"
    assert {"llmrec", "lora", "sequential-recommendation", f"base_model:adapter:{BASE}"} <= set(metadata["tags"])
    assert ("model-index" in metadata) == (kind == "with")
    if kind == "with":
        name, results = model_index_to_eval_results(metadata["model-index"])
        assert name == "someone/films" and len(results) == 3
        measured = record["results"]["systems"]["llmrec"]
        assert {one.metric_type: one.metric_value for one in results} == {
            f"{metric.replace('@', '_at_')}": measured[metric]["value"] for metric in ("ndcg@10", "recall@10", "mrr")
        }
        assert all(one.dataset_split == "test" and one.dataset_name == "amazon-industrial" for one in results)
        assert all(re.fullmatch(r"[\w.-]+", one.dataset_type) for one in results)


@pytest.mark.parametrize("base", ["../bert", "./bert", "/models/bert", "../some/where"])
def test_a_local_base_is_no_hub_name(folder, record, base):
    path = folder / "llmrec_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model": base}))
    card = card_text(folder, {**record, "model": {**record["model"], "base_model": base}})
    assert "base_model" not in front_matter(card) and not any("base_model" in tag for tag in front_matter(card)["tags"])
    assert base not in card and "not on the Hub" in card


def test_what_is_missing_is_said_and_no_number_stands_there(saved):
    card = (saved / "README.md").read_text()
    assert card.count("Not evaluated yet") == 2 and card.count("Not stated") == 3
    words = re.sub(r"---.*?---", "", without_code(card), count=1, flags=re.DOTALL)
    assert not re.search(r"\d", words), re.findall(r".*\d.*", words)


def test_results_of_other_weights_are_not_repeated(folder, record):
    record["model"]["model_sha256"] = "0" * 64
    card = card_text(folder, record)
    assert card.count("was measured on another model than this") == 2 and "0.1040" not in card
    assert "model-index" not in card


def test_the_example_runs(checkpoints, tmp_path):
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    recommender.save_pretrained(tmp_path / "run")
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "run" / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) - 1 == 5
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "run",
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = done.stdout.strip().splitlines()
    history = [{"item_id": "i00"}, {"item_id": "i01"}, {"title": "an item in words, known or not"}]
    assert [row.split()[1] for row in rows] == [one.item_id for one in recommender.recommend(history, k=5)]


def test_the_example_loads_the_hub_name_that_it_is_given(folder):
    (folder / "README.md").write_text(renewed_card(folder, None, folder / "README.md", "someone/films"))
    assert 'from_pretrained("someone/films")' in (folder / "README.md").read_text()
    assert run("card", options(folder)) == 0  # the name stays
    assert 'from_pretrained("someone/films")' in (folder / "README.md").read_text()


def test_what_people_write_stays(folder, checkpoints):
    base = str(checkpoints["bert"])
    path = folder / "README.md"
    text = path.read_text()
    path.write_text(text.replace("library_name: peft", "library_name: peft\nlicense: mit\nlanguage:\n- en"))
    assert run("card", options(folder)) == 0
    assert front_matter(path.read_text())["license"] == "mit" and front_matter(path.read_text())["language"] == ["en"]
    path.write_text("# Mine\n")
    assert renewed_card(folder, None, path) is None
    Recommender.from_pretrained(folder, base_model=base).save_pretrained(folder)
    assert path.read_text() == "# Mine\n"


def test_saving_again_keeps_results_while_they_hold(checkpoints, data, tmp_path):
    folder = tmp_path / "run"
    recommender = randomise(tiny_recommender(checkpoints["bert"]))
    recommender.save_pretrained(folder)
    record = condense(folder, results_of(folder, data))
    (folder / "eval_results.json").write_text(json.dumps(record))
    Recommender.from_pretrained(folder).save_pretrained(folder)
    assert "| llmrec | 0.1040" in (folder / "README.md").read_text()
    with pytest.warns(UserWarning, match="eval_results.json is left out"):
        randomise(recommender, seed=5).save_pretrained(folder)
    assert not (folder / "eval_results.json").exists()  # of weights that are gone
    assert "0.1040" not in (folder / "README.md").read_text()


def test_likes_and_dislikes_have_a_card_of_their_own(folder, data):
    cases = LabelledCases(
        users=["ann", "bob"],
        items=[np.arange(9), np.arange(9)],
        timestamps=[np.arange(9)] * 2,
        user=np.repeat([0, 1], 8),
        position=np.tile(np.arange(1, 9), 2),
        num_items=24,
        split="test",
        liked=[np.arange(9) % 2 == 0, np.ones(9, dtype=bool)],
    )
    random = np.random.default_rng(0)
    systems = {name: random.normal(size=16).astype(np.float32) for name in ("llmrec", "item_popularity")}
    results = pair_results(systems, cases, draws=50)
    results["subject"] = results_of(folder, data)["subject"]
    record = json.loads(json.dumps(condense(folder, results)))
    card = card_text(folder, record)
    assert unaccounted(without_code(card), record) == []
    assert "| AUC | AUC per user | Log-loss | llmrec − system, AUC |" in card
    assert f"| llmrec | {record['results']['systems']['llmrec']['auc']['value']:.4f} [" in card
    _, found = model_index_to_eval_results(front_matter(card)["model-index"])
    assert [one.metric_type for one in found] == ["auc", "user_auc", "log_loss"]


def test_texts_of_strangers_are_text(folder, record):
    record["data"]["source"] = "<script>alert(1)</script>\n# Title | x"
    card = card_text(folder, record)
    assert "<script>" not in card and "\n# Title" not in card


@pytest.mark.parametrize(
    ("adapted_on", "expected"),
    [
        (None, None),
        ({"objective": "masked events", "data": [{"source": "a"}, {"source": "b | <c>"}]}, "(masked events) of a, b"),
        ({"objective": ["?"], "data": "?"}, "of data that are not named."),  # a stranger's
    ],
)
def test_what_was_read_before_ranking_is_told(folder, adapted_on, expected):
    replace(RecommenderConfig.load(folder), adapted_on=adapted_on).save(folder)
    card = card_text(folder, None)
    assert ("went on reading unlabelled histories" in card) == (expected is not None)
    assert expected is None or (expected in card and "<c>" not in card)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"event": "{title}"}, "what a person did is written as text and read by"),
        ({"event": "{title}[, {gap}]"}, "what a person did, and when, is written as text and read by"),
        ({"event": ""}, "what a person did enters, an item's vector for each event,"),
        ({"event": "", "query": "now[: {weekday}]"}, "what a person did, and when, enters, an item's vector"),
    ],
)
def test_how_a_history_is_read_is_told(folder, tmp_path, patterns, expected):
    shutil.copytree(folder, tmp_path / "copy")
    PromptTemplate(**patterns).save(tmp_path / "copy")
    assert expected in card_text(tmp_path / "copy", None)


@pytest.fixture
def results_dir(folder, data, tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text(json.dumps(results_of(folder, data)))
    return tmp_path / "results"


def options(folder: Path, **named: Path) -> list[str]:
    return [text for name, value in {"model": folder, **named}.items() for text in (f"--{name}", str(value))]


def test_the_command_writes_both_files(folder, data, results_dir, capsys):
    (folder / "train_results.json").write_text(json.dumps(TRAINING))
    given = options(folder, results=results_dir, data_dir=data, license="mit", repo_id="someone/films")
    assert run("card", given) == 0
    assert "missing" not in capsys.readouterr().out
    record, card = json.loads((folder / "eval_results.json").read_text()), (folder / "README.md").read_text()
    assert unaccounted(without_code(card), record) == []
    assert record["training"]["end"]["steps"] == 412 and record["data"]["source"] == "tests"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("card", given) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (folder / "README.md").stat().st_mode & 0o777 == 0o644


def test_the_command_says_what_is_missing(folder, capsys):
    assert run("card", options(folder)) == 0
    assert "missing: results, data, audit, training" in capsys.readouterr().out
    assert json.loads((folder / "eval_results.json").read_text())["results"] is None


def test_what_an_earlier_card_held_of_the_same_model_stays(folder, data, results_dir, tmp_path, capsys):
    assert run("card", options(folder, results=results_dir, data_dir=data)) == 0
    before = json.loads((folder / "eval_results.json").read_text())
    capsys.readouterr()
    assert run("card", options(folder)) == 0
    assert "missing: training" in capsys.readouterr().out
    assert json.loads((folder / "eval_results.json").read_text()) == before
    other = data_directory(tmp_path / "other", num_users=13)
    assert run("card", options(folder, data_dir=other)) == 0  # the results were of other data
    assert json.loads((folder / "eval_results.json").read_text())["results"] is None


def test_the_card_says_that_other_data_were_trained_on(folder, data, results_dir):
    results = json.loads((results_dir / "results.json").read_text())
    own = results["protocol"]["manifest_sha256"]
    for digest in (own, "0" * 64):
        results["subject"]["trained_on"] = {"source": "films", "manifest_sha256": digest}
        (results_dir / "results.json").write_text(json.dumps(results))
        assert run("card", options(folder, results=results_dir, data_dir=data)) == 0
        told = "measured on other data than it was trained on (films)" in (folder / "README.md").read_text()
        assert told is (digest != own)


def test_the_command_refuses_what_does_not_belong_together(folder, data, results_dir, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(message: str, **named: Path) -> None:
        assert run("card", options(folder, **named)) == 2
        assert re.search(message, capsys.readouterr().err)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    other = data_directory(tmp_path / "other", num_users=13)
    refused("those of other data than", results=results_dir, data_dir=other)
    results = json.loads((results_dir / "results.json").read_text())
    for subject, message in (
        ({**results["subject"], "model_sha256": "1" * 64}, "those of another model"),
        (None, "the results name no adapter"),
    ):
        (results_dir / "results.json").write_text(json.dumps({**results, "subject": subject}))
        refused(message, results=results_dir)
    refused("holds no results.json", results=tmp_path)
    (folder / "README.md").write_text("# Mine\n")
    before["README.md"] = b"# Mine\n"
    refused("was not written by llmrec; move it away first")


def test_a_merged_model_has_a_card_of_its_kind(checkpoints, tmp_path):
    randomise(tiny_recommender(checkpoints["bert"])).merge().save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert front_matter(card)["library_name"] == "transformers" and "lora" not in front_matter(card)["tags"]
    assert "`AutoModel.from_pretrained` loads the backbone alone" in card


def changed_weight(recommender: Recommender) -> None:
    recommender.popularity_weight = 0.5


CHANGES = {
    "popularity weight": changed_weight,
    "an item more": lambda one: one.items.add([{"item_id": "new", "title": "green ladder"}]),
    "other words": lambda one: one.items.update([{"item_id": "i05", "title": "red tape"}]),
    "an item less": lambda one: one.items.remove(["i05"]),
    "more training": lambda one: randomise(one, seed=5),
}


@pytest.fixture
def evaluated(checkpoints, data, tmp_path) -> Path:
    """A saved hybrid with results."""
    folder = tmp_path / "evaluated"
    randomise(tiny_recommender(checkpoints["bert"])).save_pretrained(folder)
    record = condense(folder, results_of(folder, data), read_data(str(data))[0])
    (folder / "eval_results.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_results_of_what_has_changed_since_leave_and_are_refused(evaluated, data, tmp_path, capsys, change):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "results.json").write_text(json.dumps(results_of(evaluated, data)))
    recommender = Recommender.from_pretrained(evaluated)
    for weight in recommender.model.parameters():
        weight.requires_grad_(True)
    CHANGES[change](recommender)
    with pytest.warns(UserWarning, match=r"eval_results.json is left out: .*Evaluate what was saved"):
        recommender.save_pretrained(evaluated)
    assert not (evaluated / "eval_results.json").exists()
    assert "0.1040" not in (evaluated / "README.md").read_text()
    assert run("card", options(evaluated, results=tmp_path / "results")) == 2
    assert "those of another model" in capsys.readouterr().err
    assert not (evaluated / "eval_results.json").exists()


def test_results_travel_with_what_has_not_changed(evaluated, tmp_path, recwarn):
    """To another folder, from which the base lies elsewhere."""
    Recommender.from_pretrained(evaluated).save_pretrained(tmp_path / "far" / "away")
    assert "| llmrec | 0.1040" in (tmp_path / "far" / "away" / "README.md").read_text()
    assert not [one for one in recwarn if "left out" in str(one.message)]


@pytest.mark.parametrize("hybrid", [True, False])
def test_without_its_items_results_are_those_of_a_model_without_residuals_alone(checkpoints, data, tmp_path, hybrid):
    folder = tmp_path / "run"
    recommender = randomise(tiny_recommender(checkpoints["bert"], hybrid=hybrid))
    recommender.save_pretrained(folder)
    recommender.records["eval_results.json"] = condense(folder, results_of(folder, data))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recommender.save_pretrained(tmp_path / "light", catalog=False)
    card = (tmp_path / "light" / "README.md").read_text()
    assert ("0.1040" in card) == (not hybrid) == (tmp_path / "light" / "eval_results.json").exists()
    why = [str(one.message) for one in caught if "is left out" in str(one.message)]
    assert bool(why) == hybrid
    assert all("stays behind with the items" in one for one in why)


def test_an_adapter_without_items_has_a_card_whose_example_runs(checkpoints, data, tmp_path, capsys):
    folder, results = tmp_path / "light", tmp_path / "results"
    randomise(tiny_recommender(checkpoints["bert"])).save_pretrained(folder, catalog=False)
    assert {path.name for path in folder.iterdir()} & {"items.parquet", "item_tables.safetensors"} == set()
    written = (folder / "README.md").read_text()
    assert run("card", options(folder)) == 0
    assert (folder / "README.md").read_text() == written
    [code] = re.findall(r"```python\n(.*?)```", written, re.DOTALL)
    assert len(code.strip().splitlines()) - 1 == 5
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {row.split()[1] for row in done.stdout.splitlines()} == {"3"}  # the one that the history lacks
    # It can be measured, with the items of data, and then has numbers of its own.
    asked = ["--data_dir", str(data), "--model", str(folder), "--output_dir", str(results), "--shuffles", "false"]
    assert run("evaluate", asked) == 0
    assert run("card", [*options(folder, results=results), "--data_dir", str(data)]) == 0
    record, card = json.loads((folder / "eval_results.json").read_text()), (folder / "README.md").read_text()
    assert record["results"]["systems"]["llmrec"] and record["model"]["num_items"] is None
    assert unaccounted(without_code(card), record) == []
