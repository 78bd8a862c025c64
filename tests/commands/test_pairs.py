"""Labelled pairs as the console command runs them: prepare, train and evaluate --task pointwise, few_shot."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from run_scripts import run_script
from sklearn.metrics import roc_auc_score
from small_data import items_frame
from tiny_recommenders import rec_model

from llmrec.commands.main import run
from llmrec.commands.train import train_parser
from llmrec.commands.train_pairs import pair_trainer
from llmrec.data.directory import PreparedData
from llmrec.data.labelled_cases import LabelledCases
from llmrec.ranking.candidates import CandidateScorer, Question
from llmrec.ranking.pairs import pair_scores
from llmrec.recommender import Recommender

HEAD = shlex.split("--head cross --dual_gate 0 --template likes --hybrid false")
SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true"
)


@pytest.fixture(scope="module")
def likes(tmp_path_factory) -> Path:
    """A data directory of 20 users who like the even items and dislike the odd ones, each of 6 items at random."""
    folder = tmp_path_factory.mktemp("likes")
    random = np.random.default_rng(0)
    rows = [
        (f"u{user:02}", f"i{item:02}", 1_600_000_000 + user * 1_000 + place, 5.0 - 4.0 * (item % 2))
        for user in range(20)
        for place, item in enumerate(random.permutation(24)[:6].tolist())
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row").write_csv(folder / "e.csv")
    items_frame().write_csv(folder / "i.csv")
    options = "--split users --like_at_least 4 --dislike_at_most 3"
    files = ["--interactions", str(folder / "e.csv"), "--items", str(folder / "i.csv")]
    assert run("prepare", [*files, *shlex.split(options), "--output_dir", str(folder / "data")]) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def judge(checkpoints, likes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("judge") / "run"
    files = ["--data_dir", str(likes), "--base_model", str(checkpoints["bert"]), "--output_dir", str(folder)]
    assert run("train", [*files, "--task", "pointwise", *HEAD, *SMALL, "--num_train_epochs", "1"]) == 0
    return folder


def test_the_report_judges_as_the_saved_adapter_does(judge, likes, tmp_path):
    files = ["--data_dir", str(likes), "--model", str(judge), "--output_dir", str(tmp_path)]
    assert run("evaluate", ["--task", "pointwise", *files]) == 0
    results = json.loads((tmp_path / "pair_results.json").read_text())
    assert set(results["systems"]) == {"llmrec", "item_popularity", "like_rates", "frozen_text"}
    recommender, directory = Recommender.from_pretrained(judge), PreparedData.open(likes)
    cases = LabelledCases.from_directory(directory, "test")
    logits = []
    for user, position in zip(cases.user, cases.position, strict=True):  # one pass per pair, through the public face
        row = directory.histories().filter(lambda row, name=cases.users[user]: row["user_id"] == name)[0]
        history = [
            {"item_id": item, "timestamp": time, "liked": liked}
            for item, time, liked in zip(row["item_id"], row["timestamp"], row["liked"], strict=True)
        ]
        logits.append(one_by_one(recommender, history[: position + 1]))
    starts = starts_by_hand(directory, cases)
    assert starts.std() > 0.1
    expected = roc_auc_score(cases.labels, np.array(logits) + starts)
    assert results["systems"]["llmrec"]["auc"]["value"] == pytest.approx(expected, abs=1e-9)
    alone = results["systems"]["like_rates"]["auc"]["value"]
    assert alone == pytest.approx(roc_auc_score(cases.labels, starts), abs=1e-9)


def starts_by_hand(directory: PreparedData, cases: LabelledCases) -> np.ndarray:
    """Log-odds by the user's share of likes so far and the item's in training, both drawn to the overall one."""
    rows = [row for row in directory.histories() if row["split"][0] == "train"]
    shown = [pair for row in rows for pair in zip(row["item_id"], row["liked"], strict=True)]
    overall = (sum(liked for _, liked in shown) + 1) / (len(shown) + 2)

    def odds(liked: list[bool]) -> float:
        rate = (sum(liked) + 5 * overall) / (len(liked) + 5)
        return np.log(rate / (1 - rate))

    found = []
    for user, position, target in zip(cases.user, cases.position, cases.targets, strict=True):
        item_id = directory.catalog.ids[target]
        item = odds([liked for one, liked in shown if one == item_id])
        found.append(odds(cases.liked[user][:position].tolist()) + item - np.log(overall / (1 - overall)))
    return np.array(found)


@pytest.mark.parametrize("hybrid", ["true", "false"])
def test_a_judge_starts_at_the_like_rates_and_keeps_them_when_saved(checkpoints, likes, tmp_path, hybrid):
    """One step of no length: what it says is where it starts, after a new item came and another left, too."""
    files = ["--data_dir", str(likes), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    still = shlex.split(f"--max_steps 1 --learning_rate 0 --item_learning_rate 0 --hybrid {hybrid}")
    assert run("train", [*files, "--task", "pointwise", *HEAD, *SMALL, *still]) == 0
    directory = PreparedData.open(likes)
    cases = LabelledCases.from_directory(directory, "test")
    recommender = Recommender.from_pretrained(tmp_path)
    scorer = CandidateScorer(recommender.model, recommender.processor, recommender.items)
    expected = starts_by_hand(directory, cases)
    assert pair_scores(scorer, cases) == pytest.approx(expected, abs=1e-5)
    before = rec_model(recommender).rec_items.like_odds.clone()
    recommender.items.add([{"item_id": "new", "title": "green ladder"}])
    recommender.items.remove(["i00"])
    assert torch.equal(rec_model(recommender).rec_items.like_odds, torch.cat([before[1:], torch.zeros(1)]))


def test_a_judge_may_start_from_nothing(checkpoints, likes, tmp_path):
    files = ["--data_dir", str(likes), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    still = shlex.split("--max_steps 1 --learning_rate 0 --like_prior false")
    assert run("train", [*files, "--task", "pointwise", *HEAD, *SMALL, *still]) == 0
    recommender = Recommender.from_pretrained(tmp_path)
    scorer = CandidateScorer(recommender.model, recommender.processor, recommender.items)
    cases = LabelledCases.from_directory(PreparedData.open(likes), "test")
    assert not pair_scores(scorer, cases).any() and recommender.config.like_rate is None


def one_by_one(recommender: Recommender, events: list[dict]) -> float:
    """Score the last of a user's events in a pass of its own."""
    items = np.array([recommender.items.index(event["item_id"]) for event in events])
    times = np.array([event["timestamp"] for event in events])
    liked = np.array([event["liked"] for event in events])
    processor = recommender.processor
    blocks = processor.blocks(items[:-1], times[:-1], recommender.items, liked[:-1])
    row = processor.read(items[:-1], blocks, processor.windows(blocks)[-1])
    scorer = CandidateScorer(recommender.model, processor, recommender.items)
    return scorer.scores([Question(row, items[-1:], np.array([len(row.items) - 1]))])[0].item()


def test_the_trainer_judges_the_pairs_that_are_given(checkpoints, likes, tmp_path):
    files = ["--data_dir", str(likes), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    trainer = pair_trainer(*train_parser().parse_args_into_dataclasses([*files, "--task", "pointwise", *HEAD, *SMALL]))
    assert (trainer.args.metric_for_best_model, trainer.args.greater_is_better) == ("auc", True)
    own = trainer.evaluate()
    cases = LabelledCases.from_directory(PreparedData.open(likes), "test")
    recommender = trainer.recommender
    scores = pair_scores(CandidateScorer(recommender.model, recommender.processor, recommender.items), cases)
    metrics = trainer.evaluate(cases, metric_key_prefix="test")
    assert metrics["test_auc"] == pytest.approx(roc_auc_score(cases.labels, scores))
    assert {name.removeprefix("test_") for name in metrics} == {name.removeprefix("eval_") for name in own}
    assert {name.removeprefix("eval_") for name in own} >= set(trainer.metrics)
    assert metrics["test_log_loss"] != own["eval_log_loss"]
    with pytest.raises(TypeError, match="PairTrainer evaluates LabelledCases"):
        trainer.evaluate(trainer.train_dataset)


def test_few_shot_tells_sizes_and_seeds_apart(checkpoints, likes, tmp_path):
    files = ["--data_dir", str(likes), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    sizes = shlex.split("--sizes 12 24 --seeds 2 --max_steps 2")
    assert run_script("few_shot", [*files, *HEAD, *SMALL, *sizes]) == 0
    runs = json.loads((tmp_path / "few_shot_runs.json").read_text())
    own = {(one["examples"], one["seed"]): one["auc"] for one in runs if one["system"] == "llmrec"}
    assert set(own) == {(size, seed) for size in (12, 24) for seed in (0, 1)}
    rows = json.loads((tmp_path / "few_shot.json").read_text())
    mean = next(row for row in rows if (row["system"], row["examples"]) == ("llmrec", 24))
    assert mean["auc"] == pytest.approx((own[24, 0] + own[24, 1]) / 2, abs=1e-4)
    assert mean["seeds"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--head", "dual"], "reads no candidate"),
        (["--head", "cross", "--max_train_examples", "100000"], "100000"),
        (["--head", "cross", "--last_positions", "3"], "last_positions=3 is of --task ranking"),
        (["--head", "cross", "--recency_half_life", "3"], "recency_half_life=3.0 is of --task ranking"),
    ],
)
def test_what_cannot_be_trained_on_pairs_is_refused(checkpoints, likes, tmp_path, options, message, capsys):
    files = ["--data_dir", str(likes), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "run")]
    assert run("train", [*files, "--task", "pointwise", *SMALL, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_judging_without_an_adapter_is_refused(likes, tmp_path, capsys):
    assert run("evaluate", ["--task", "pointwise", "--data_dir", str(likes), "--output_dir", str(tmp_path)]) == 2
    assert "give an adapter" in capsys.readouterr().err
