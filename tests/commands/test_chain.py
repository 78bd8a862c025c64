"""train, evaluate and recommend, one after the other, as the console command runs them."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from small_data import DAY, START, data_directory
from tiny_recommenders import randomise
from two_processes import ROOT, finish, launch, stop

from llmrec.commands.main import run
from llmrec.commands.recommend import as_record
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.ranking.recommendation import Recommendation
from llmrec.recommender import Recommender
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate

SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true --seed 3"
)
ASKED = ["--batch_size", "3", "--ablate", "reading,order"]
REPORT = {"results.json", "results.md", "results.html", "results.png", "per_user.parquet", "per_case.parquet"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16, irregular=True)


TWO_RANKS = """
import hashlib, os, sys
from pathlib import Path
from transformers import HfArgumentParser
from llmrec.commands.train import train
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate

parser = HfArgumentParser((DataArguments, ModelArguments, RecTrainingArguments))
recommender = train(*parser.parse_args_into_dataclasses())
digest = hashlib.sha256()
for name, weight in sorted(recommender.model.named_parameters()):
    digest.update(name.encode() + weight.detach().numpy().tobytes())
Path("weights-" + os.environ["RANK"]).write_text(digest.hexdigest() + " " + os.environ["WORLD_SIZE"])
"""
SAME_STEPS = shlex.split(
    "--num_train_epochs 1 --max_steps 3 --optim sgd --learning_rate 0.1 --item_learning_rate 0.1 "
    "--lr_scheduler_type constant --warmup_steps 0 --residual_dropout 0 --vector_dropout 0 --save_strategy no "
    "--eval_strategy epoch --load_best_model_at_end false --logging_steps 1"
)


@pytest.fixture(scope="module")
def two_trainers(tmp_path_factory, checkpoints, data):
    """A training by two processes of two windows each, started early and waited for late."""
    folder = tmp_path_factory.mktemp("two-trainers")
    (folder / "two_ranks.py").write_text(TWO_RANKS)
    options = ["--data_dir", str(data), "--base_model", str(checkpoints["llama"]), "--output_dir", str(folder / "run")]
    settings = [*SMALL, *SAME_STEPS, "--per_device_train_batch_size", "2"]
    process = launch(folder, folder / "two_ranks.py", *options, *settings)
    yield process, folder
    stop(process)


@pytest.fixture(scope="module")
def trained(two_trainers, tmp_path_factory, checkpoints, data) -> Path:
    """The folder of a trained adapter."""
    folder = tmp_path_factory.mktemp("trained")
    options = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(folder / "run")]
    assert run("train", [*options, *SMALL, "--num_train_epochs", "2"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def moved(trained, tmp_path_factory) -> Path:
    """The folder of that adapter with every weight far from where it starts, so that words, order and times matter."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    recommender = Recommender.from_pretrained(trained, device="cpu")
    for name, weight in recommender.model.named_parameters():
        weight.requires_grad_(any(part in name for part in ("lora_", "rec_head", "rec_items")))
    randomise(recommender).save_pretrained(folder)
    shutil.copy(trained / "train_results.json", folder)
    return folder


@pytest.fixture(scope="module")
def two_evaluators(moved, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("two-evaluators")
    options = ["--data_dir", str(data), "--model", str(moved), "--output_dir", str(folder / "results")]
    process = launch(folder, ROOT / "scripts" / "evaluate.py", *options, *ASKED)
    yield process, folder
    stop(process)


@pytest.fixture(scope="module")
def results(moved, two_evaluators, tmp_path_factory, data) -> Path:
    """The folder of an evaluation in one process."""
    folder = tmp_path_factory.mktemp("results") / "results"
    options = ["--data_dir", str(data), "--model", str(moved), "--output_dir", str(folder)]
    assert run("evaluate", [*options, *ASKED]) == 0
    return folder


def test_training_says_what_it_does(checkpoints, data, tmp_path, capsys):
    options = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "run")]
    assert run("train", [*options, *SMALL, "--max_steps", "1"]) == 0
    printed = capsys.readouterr().out
    for part in ("learning_rate", str(checkpoints["bert"]), "16 users", "24 items", "16 validation", "trainable:"):
        assert part in printed
    assert printed.index("trainable:") < printed.index("saved ")
    assert "best validation ndcg@10" in printed.splitlines()[-1] and "MiB" in printed.splitlines()[-1]
    assert "does not read" not in printed


def test_the_settings_say_whether_seen_items_are_masked(trained):
    for name in ("training_settings.json", "train_results.json"):
        told = json.loads((trained / name).read_text())
        assert told.get("settings", told)["mask_seen"] is True


def test_columns_that_no_template_names_are_told(checkpoints, data, tmp_path, capsys):
    PromptTemplate(event="{title}", item="{title}[ | {brand}]").save(tmp_path)
    options = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "run")]
    template = ["--template", str(tmp_path / TEMPLATE_NAME)]
    assert run("train", [*options, *SMALL, *template, "--max_steps", "1", "--eval_strategy", "no"]) == 0
    assert "item columns that the template does not read: genres\n" in capsys.readouterr().out


def test_training_leaves_an_adapter_and_its_results(trained, data):
    values = json.loads((trained / "train_results.json").read_text())
    logged = [entry["eval_ndcg@10"] for entry in values["log"] if "eval_ndcg@10" in entry]
    assert len(logged) == 2 and values["best_validation"] == max(logged)
    assert values["peak_memory_mib"] > 50
    recommender = Recommender.from_pretrained(trained)
    assert recommender.items.ids == PreparedData.open(data).catalog.ids
    assert recommender.config.max_tokens == 64 and recommender.config.has_clock


def test_a_run_goes_on_from_its_newest_checkpoint(trained, data, checkpoints, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    options = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(folder), *SMALL]
    assert run("train", [*options, "--num_train_epochs", "3"]) == 2
    assert "--resume_from_checkpoint true" in capsys.readouterr().err
    assert run("train", [*options, "--num_train_epochs", "3", "--resume_from_checkpoint", "true"]) == 0
    log = json.loads((folder / "train_results.json").read_text())["log"]
    done = int(newest.name.split("-")[1])
    assert [entry["step"] for entry in log if "eval_mrr" in entry] == [done // 2, done, done // 2 * 3]


def test_results_have_the_shape_that_others_read(results):
    found = json.loads((results / "results.json").read_text())
    assert {"protocol", "systems"} <= set(found)
    assert set(found["systems"]) == {"llmrec", "item_knn", "content", "popularity"}
    for metrics in found["systems"].values():
        assert {"ndcg@10", "recall@10", "hit@10", "precision@10", "f1@10", "mrr"} <= set(metrics)
        for interval in metrics.values():
            assert set(interval) == {"value", "low", "high"}
            assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    assert found["protocol"]["split"] == "test" and found["protocol"]["mask_seen"] is True
    assert {path.name for path in results.iterdir()} == REPORT


def test_the_card_joins_training_data_and_results(trained, data, tmp_path):
    folder, results = tmp_path / "run", tmp_path / "results"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    evaluated = ["--data_dir", str(data), "--model", str(folder), "--output_dir", str(results), "--shuffles", "false"]
    assert run("evaluate", evaluated) == 0
    assert run("card", ["--model", str(folder), "--results", str(results), "--data_dir", str(data)]) == 0
    record, card = json.loads((folder / "eval_results.json").read_text()), (folder / "README.md").read_text()
    measured = json.loads((results / "results.json").read_text())
    assert record["results"]["systems"] == measured["systems"]
    assert record["training"]["settings"]["lora_r"] == 2 and record["training"]["settings"]["seed"] == 3
    assert record["training"]["environment"]["torch"] in card
    assert "Not evaluated" not in card and "Not stated" not in card
    places = [str(path).encode() for path in (tmp_path, data.parent, trained.parent)]
    for path in (path for path in folder.iterdir() if path.is_file()):
        assert not any(place in path.read_bytes() for place in places), path.name
    users = {*PreparedData.open(data).interactions["user_id"]}
    assert not [user for user in users if f'"{user}"' in (folder / "eval_results.json").read_text()]


def test_an_adapter_of_other_data_is_measured_with_a_warning_that_stays(trained, data, results, tmp_path, recwarn):
    other = data_directory(tmp_path / "other", num_users=15, irregular=True)
    asked = ["--model", str(trained), "--shuffles", "false"]
    assert run("evaluate", ["--data_dir", str(data), *asked, "--output_dir", str(tmp_path / "own")]) == 0
    assert not [one for one in recwarn if "other data" in str(one.message)]
    with pytest.warns(UserWarning, match="the adapter was trained on other data"):
        assert run("evaluate", ["--data_dir", str(other), *asked, "--output_dir", str(tmp_path / "foreign")]) == 0
    for folder, told in (("own", False), ("foreign", True)):
        for page in ("results.md", "results.html"):
            assert ("may have learned the very targets" in (tmp_path / folder / page).read_text()) is told


def test_results_are_what_the_recommender_itself_ranks(results, moved, data):
    """Hand-made metrics from the ranks of a recommender that was loaded anew and asked in other batches."""
    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    ranks = evaluate_system(Recommender.from_pretrained(moved).scorer(32), cases, True)
    assert len(ranks) == 16  # one target each, so means over users are means over cases
    found = json.loads((results / "results.json").read_text())["systems"]["llmrec"]
    gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0)
    assert found["ndcg@10"]["value"] == pytest.approx(gains.mean(), abs=1e-9)
    assert found["hit@10"]["value"] == pytest.approx((ranks <= 10).mean(), abs=1e-9)
    assert found["mrr"]["value"] == pytest.approx((1 / ranks).mean(), abs=1e-9)
    table = pl.read_parquet(results / "per_user.parquet")
    assert table.filter(pl.col("system") == "llmrec")["ndcg@10"].mean() == pytest.approx(gains.mean(), abs=1e-9)


def test_validation_unmasked_and_few_users_on_request(trained, data, tmp_path):
    options = ["--data_dir", str(data), "--model", str(trained), "--output_dir", str(tmp_path / "results")]
    assert run("evaluate", [*options, "--split", "validation", "--mask_seen", "false", "--max_users", "5"]) == 0
    protocol = json.loads((tmp_path / "results" / "results.json").read_text())["protocol"]
    assert (protocol["split"], protocol["mask_seen"], protocol["num_users"]) == ("validation", False, 5)


def test_evaluation_takes_another_popularity_weight(trained, data, tmp_path):
    """As the recommender does when it is given one."""
    options = ["--data_dir", str(data), "--model", str(trained), "--output_dir", str(tmp_path / "results")]
    assert run("evaluate", [*options, "--popularity_weight", "0.5", "--shuffles", "false"]) == 0
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    saved = Recommender.from_pretrained(trained).popularity_weight
    assert (found["subject"]["popularity_weight"], found["subject"]["saved_popularity_weight"]) == (0.5, saved)
    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    recommender = Recommender.from_pretrained(trained)
    recommender.popularity_weight = 0.5
    ranks = evaluate_system(recommender.scorer(32), cases, True)
    assert found["systems"]["llmrec"]["mrr"]["value"] == pytest.approx((1 / ranks).mean(), abs=1e-9)


def test_a_text_field_named_score_poses_as_none():
    entry = Recommendation("i00", score=1.5, rank=2, text={"title": "Heat", "score": "9", "item_id": "x"})
    assert as_record(entry) == {"item_id": "i00", "rank": 2, "score": 1.5, "title": "Heat"}


LINES = [
    {
        "user_id": "ann",
        "history": [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + DAY}],
    },
    {"user_id": "ben", "note": "kept", "history": [{"title": "green ladder", "brand": "acme"}]},
    {"history": [{"item_id": "i07"}]},
]


def test_recommendations_are_written_line_by_line(trained, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, LINES)) + "\n\n")
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert run("recommend", ["--model", str(trained), *files, "--k", "5"]) == 0
    assert "wrote 3 lines" in capsys.readouterr().out.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl"}
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    recommender = Recommender.from_pretrained(trained)
    for line, record in zip(LINES, written, strict=True):
        assert {name: value for name, value in record.items() if name != "recommendations"} == {
            name: value for name, value in line.items() if name != "history"
        }
        expected = recommender.recommend(line["history"], k=5)
        assert [entry["item_id"] for entry in record["recommendations"]] == [entry.item_id for entry in expected]
        for found, entry in zip(record["recommendations"], expected, strict=True):
            assert found["score"] == pytest.approx(entry.score, abs=1e-5)
            assert (found["rank"], found["title"]) == (entry.rank, entry.text["title"])
        assert not {event.get("item_id") for event in line["history"]} & {
            entry["item_id"] for entry in record["recommendations"]
        }


def test_two_evaluating_processes_give_the_results_of_one(results, two_evaluators):
    process, folder = two_evaluators
    finish(process, folder)
    one, two = (json.loads((place / "results.json").read_text()) for place in (results, folder / "results"))
    assert two["systems"] == one["systems"]
    shuffled = two["shuffles"]["systems"]["llmrec"]
    assert shuffled["order"] != shuffled["as_is"] != shuffled["time"] != shuffled["order"]  # three readings, not one
    assert two["shuffles"] == one["shuffles"]
    full, *others = (row["metrics"] for row in two["ablations"]["rows"])
    assert len(others) == 2 and full not in others and others[0] != others[1]
    assert two == one
    for table in ("per_user.parquet", "per_case.parquet"):
        tables = [pl.read_parquet(place / table) for place in (results, folder / "results")]
        assert tables[0].equals(tables[1])


def test_two_training_processes_end_with_the_same_weights_and_those_of_one(two_trainers, checkpoints, data, tmp_path):
    """Two windows in each of two processes are one step of two accumulated batches of two; nothing is dropped here."""
    options = ["--data_dir", str(data), "--base_model", str(checkpoints["llama"]), "--output_dir", f"{tmp_path}/run"]
    accumulated = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"]
    assert run("train", [*options, *SMALL, *SAME_STEPS, *accumulated]) == 0
    process, folder = two_trainers
    finish(process, folder)
    first, second = ((folder / f"weights-{rank}").read_text().split() for rank in (0, 1))
    assert first == second and first[1] == "2"
    for name in ("adapter_model.safetensors", "item_tables.safetensors"):
        one, two = (load_file(place / "run" / name) for place in (tmp_path, folder))
        assert one.keys() == two.keys()
        for key, weight in one.items():
            torch.testing.assert_close(two[key], weight, rtol=0, atol=1e-5, msg=key)
    values = [json.loads((place / "run" / "train_results.json").read_text()) for place in (tmp_path, folder)]
    losses = [[entry["loss"] for entry in value["log"] if "loss" in entry] for value in values]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    scores = [[entry["eval_mrr"] for entry in value["log"] if "eval_mrr" in entry] for value in values]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6) and len(scores[0]) == 1
