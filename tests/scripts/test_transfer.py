"""The table of transfer: what stands in a cell, that a column is fair, and that a second call goes on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from run_scripts import run_script
from safetensors.torch import load_file
from small_data import data_directory
from transfer_table import Cell, page, summary

from llmrec.baselines.content import ContentBaseline, spread
from llmrec.commands.train import ranking_trainer, train_parser
from llmrec.configuration import RecommenderConfig
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system, user_metrics
from llmrec.models.adapter import inner
from llmrec.ranking.item_index import encode_texts
from llmrec.recommender import Recommender
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

SMALL = "max_tokens=64,max_vector_events=4,max_item_tokens=16,lora_r=2,lora_alpha=4,bf16=false,disable_tqdm=true"
PRETRAIN = (
    f"{SMALL},row_tokens=96,mask_rate=0.4,held_out=0.3,contrast_weight=1,max_steps=4,learning_rate=2e-2,item_epochs=8"
)
OPTIONS = shlex.split(f"--start merged --pretrain {PRETRAIN} --train {SMALL},num_train_epochs=1 --users 8 4")
FEW = "max_steps=3,hybrid=false,eval_strategy=no,save_strategy=no"


@pytest.fixture(scope="module")
def made(checkpoints, tmp_path_factory) -> tuple[Path, list[str]]:
    """A whole table of tiny runs, and the options that made it."""
    folder = tmp_path_factory.mktemp("transfer")
    data_directory(folder / "data", num_users=16, irregular=True)
    data_directory(folder / "more", num_users=12, length=6)
    options = ["--data_dir", str(folder / "data"), "--other_data_dir", str(folder / "more"), *OPTIONS]
    options += ["--base_model", str(checkpoints["bert"]), "--few_shot", FEW, "--output_dir", str(folder / "out")]
    assert run_script("transfer", options) == 0
    return folder, options


def cells_of(folder: Path) -> dict[tuple[str, str], dict]:
    cells = json.loads((folder / "out" / "transfer.json").read_text())["cells"]
    return {(cell["adapted_on"], cell["learned_from"]): cell for cell in cells}


def ndcg_of(system, folder: Path) -> np.ndarray:
    directory = PreparedData.open(folder / "data")
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    return user_metrics(evaluate_system(system, cases, mask_seen=True), cases, [10])["ndcg@10"].to_numpy()


def test_every_cell_is_there_and_paired_with_the_checkpoint_as_it_was(made, checkpoints) -> None:
    folder, _ = made
    cells = cells_of(folder)
    rows, columns = ("none", "same domain", "other domain", "both"), ("zero-shot", "4", "8", "full")
    assert set(cells) == {(row, column) for row in rows for column in columns}
    users = pl.read_parquet(folder / "out" / "users.parquet")
    for (row, column), cell in cells.items():
        values = users[f"{row}, {column}"].to_numpy()
        assert cell["ndcg@10"]["value"] == pytest.approx(values.mean())
        assert cell["ndcg@10"]["low"] <= values.mean() <= cell["ndcg@10"]["high"]
        if row != "none":
            difference = (values - users[f"none, {column}"].to_numpy()).mean()
            assert cell["minus_none"]["value"] == pytest.approx(difference, abs=1e-12)
        assert cell["steps"] == {"zero-shot": 0, "4": 3, "8": 3}.get(column, cells["none", "full"]["steps"])
    assert len({cell["ndcg@10"]["value"] for cell in cells.values()}) > 4
    printed = (folder / "out" / "transfer.md").read_text()
    assert printed.count("| same domain |") == 2 and printed.count("| none |") == 1
    written = (folder / "out" / "transfer.json").read_text()
    assert str(folder) not in written and str(checkpoints["bert"].parent) not in written


def test_what_was_read_is_what_the_row_says(made) -> None:
    folder, _ = made
    sources = {
        row: len(RecommenderConfig.load(folder / "out" / row / "adapted").adapted_on["data"])
        for row in ("same", "other", "both")
    }
    assert sources == {"same": 1, "other": 1, "both": 2}
    digests = [
        RecommenderConfig.load(folder / "out" / row / "full").adapted_on["data"][0]["manifest_sha256"]
        for row in ("same", "other")
    ]
    assert digests[0] != digests[1]
    assert RecommenderConfig.load(folder / "out" / "none" / "full").adapted_on is None


def fresh_recommender(folder: Path, base_model: Path) -> Recommender:
    """As training would start it from a bare checkpoint."""
    items = PreparedData.open(folder / "data").catalog
    small = {"max_tokens": 64, "max_vector_events": 4, "max_item_tokens": 16, "lora_r": 2, "lora_alpha": 4}
    arguments = ModelArguments(base_model=str(base_model), hybrid=False, **small)
    return new_recommender(arguments, items, True, np.zeros(len(items), dtype=np.int64))


def head_of(adapted: Path) -> tuple[torch.Tensor, float]:
    """The item projection that an adapter starts training with, and its decay."""
    head = inner(Recommender.from_pretrained(adapted).model).rec_head
    return head.item_projection.data, torch.sigmoid(head.decay_logit).item()


def test_zero_shot_of_merged_ranks_by_texts_as_the_adapted_model_embeds_them(made, checkpoints) -> None:
    """As an untrained recommender does; of the adapted one the adapter is left on while texts are read."""
    folder, _ = made
    cells = cells_of(folder)
    fresh = fresh_recommender(folder, checkpoints["bert"])
    text = inner(fresh.model).rec_items.text
    expected = ndcg_of(ContentBaseline(spread(text.numpy())), folder).mean()
    assert cells["none", "zero-shot"]["ndcg@10"]["value"] == pytest.approx(expected)
    adapted = Recommender.from_pretrained(folder / "out" / "same" / "adapted")
    texts = [fresh.processor.item_text(fresh.items.attributes(row)) for row in range(len(fresh.items))]
    vectors = encode_texts(inner(adapted.model).backbone, fresh.processor.tokenizer, texts, 16)
    assert (vectors - text).abs().max() > 1e-2
    found = cells["same domain", "zero-shot"]["ndcg@10"]["value"]
    assert found == pytest.approx(ndcg_of(ContentBaseline(spread(vectors.numpy())), folder).mean())
    assert found != pytest.approx(cells["none", "zero-shot"]["ndcg@10"]["value"], abs=1e-3)


def test_training_of_merged_starts_from_the_texts_as_adapted(made) -> None:
    folder, _ = made
    tables = [
        load_file(folder / "out" / row / "full" / "item_embeddings.safetensors")["text"] for row in ("none", "same")
    ]
    assert (tables[0] - tables[1]).abs().max() > 1e-2


def test_a_second_call_trains_nothing_and_other_settings_are_refused(made, capsys) -> None:
    folder, options = made
    runs = sorted((folder / "out").rglob("*_results.json"))
    assert len(runs) == 3 + 12
    times, cells = [path.stat().st_mtime_ns for path in runs], cells_of(folder)
    assert run_script("transfer", options) == 0
    assert [path.stat().st_mtime_ns for path in runs] == times
    assert cells_of(folder) == cells
    (folder / "out" / "both" / "full" / "train_results.json").unlink()  # as if it had been stopped there
    capsys.readouterr()
    assert run_script("transfer", [*options, "--few_shot", FEW.replace("=3", "=2")]) == 2
    assert "holds a run with other max_steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--train", f"{SMALL},num_train_epochs=1,weight_decay=0.1"], "4' holds a run with other weight_decay:"),
        (["--base_model", "roberta"], "4' holds a run with other base_model:"),
        (["--data_dir", "more"], "4' holds a run with other data_dir:"),
        (["--pretrain", f"{PRETRAIN},warmup_steps=2"], "adapted' holds a run with other warmup_steps:"),
        (["--same", "out/other/adapted"], "whole' holds a run with other adapter:"),
    ],
)
def test_what_was_made_otherwise_is_not_taken_for_the_same(made, checkpoints, capsys, changed, message) -> None:
    """Of other data, checkpoints or adapters in folders of any name, or by any other setting."""
    folder, options = made
    name, value = changed
    places = {"roberta": checkpoints["roberta"], "more": folder / "more", "out/other/adapted": folder / changed[1]}
    assert run_script("transfer", [*options, name, str(places.get(value, value))]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_nothing_is_known_of_is_not_taken(made, tmp_path, capsys) -> None:
    _, options = made
    (tmp_path / "none" / "4").mkdir(parents=True)
    assert run_script("transfer", [*options, "--output_dir", str(tmp_path)]) == 2
    assert "no 4.json beside it says what it was made of" in capsys.readouterr().err


def test_adapters_can_be_given_and_their_lora_goes_on(made, checkpoints, tmp_path) -> None:
    folder, options = made
    adapted = folder / "out" / "same" / "adapted"
    more = ["--start", "continued", "--same", str(adapted), "--users", "4", "--output_dir", str(tmp_path / "out")]
    still = f"{SMALL},max_steps=1,learning_rate=0,item_learning_rate=0,weight_decay=0,eval_strategy=no,save_strategy=no"
    index = options.index("--other_data_dir")
    alone = [*options[:index], *options[index + 2 :]]
    assert run_script("transfer", [*alone, *more, "--train", still]) == 0
    assert {row for row, _ in cells_of(tmp_path)} == {"none", "same domain"}
    assert not (tmp_path / "out" / "same" / "adapted").exists()
    one, other = (load_file(path / "adapter_model.safetensors") for path in (adapted, tmp_path / "out" / "same" / "4"))
    lora = [name for name in one if "lora_" in name]
    assert lora and all(torch.equal(one[name], other[name]) for name in lora)
    # with no label: the base's texts, where the adapter lets them lie
    text = inner(fresh_recommender(folder, checkpoints["bert"]).model).rec_items.text
    projection, decay = head_of(adapted)
    places = F.normalize(text @ projection.T, dim=-1).numpy()
    expected = ndcg_of(ContentBaseline(places, decay), folder).mean()
    assert cells_of(tmp_path)["same domain", "zero-shot"]["ndcg@10"]["value"] == pytest.approx(expected)


def test_few_users_are_learned_from_and_counted(made, checkpoints) -> None:
    """Of 16 users 4 are read, whoever else is ranked for; an item counts once for each of them that had it."""
    given = ["--data_dir", str(made[0] / "data"), "--output_dir", "x", "--base_model", str(checkpoints["bert"])]
    small = [f"--{pair}" for pair in SMALL.split(",")]
    trainers = []
    for number in ("4", "8"):
        argv = [*given, *small, "--max_train_users", number]
        trainers.append(ranking_trainer(*train_parser().parse_args_into_dataclasses(argv)))
    four, eight = ([tuple(items) for items in trainer.train_dataset.items] for trainer in trainers)
    assert len(four) == 4 and len(eight) == 8 and set(four) <= set(eight)
    assert len(trainers[0].cases.users) == 16
    counts = inner(trainers[0].recommender.model).rec_items.counts.numpy()
    assert [int(count) for count in counts] == [sum(item in items for items in four) for item in range(len(counts))]


def test_the_summary_by_hand() -> None:
    values = np.array([0.0, 1.0, 0.5])
    cells = [
        Cell("none", "full", values, None, 9, 1.0),
        Cell("same", "zero-shot", values, 0, 0, 0.0),
        Cell("same", "full", values + np.array([0.25, -0.25, 0.3]), None, 9, 1.0),
    ]
    rows = summary(cells)
    assert [row["minus_none"] and round(row["minus_none"]["value"], 9) for row in rows] == [None, None, 0.1]
    assert "| none | 0.5000" in page(rows) and "**+0.1" not in page(rows)  # the interval holds zero


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "anew"], "start='anew' is not one of continued, merged"),
        (["--train", "base_model=x"], "option 'base_model' is set here"),
        (["--pretrain", f"{PRETRAIN},full=true"], "same domain: whole weights have no LoRA to go on with"),
        (["--pretrain", f"{PRETRAIN},lora_r=4"], "lora_r is 4 in --pretrain and 2 in --train"),
        (["--pretrain", "epochs=3"], "'--epochs' is none of `llmrec pretrain`"),
        (["--train", "popularity_weight=0.5"], "popularity_weight=0.5 goes with a hybrid"),
        (["--train", "head=cross"], "the table ranks by the dual head"),
        (["--train", "max_train_users=3", "--users", "99999"], "99999 users are to be drawn"),
    ],
)
def test_what_cannot_be_is_refused(options, message, checkpoints, made, tmp_path, capsys) -> None:
    given = ["--data_dir", str(made[0] / "data"), "--base_model", str(checkpoints["bert"])]
    given += ["--pretrain", PRETRAIN, "--train", SMALL, "--output_dir", str(tmp_path)]
    if "--users" in options:
        options = [options[0], f"{SMALL}", *options[2:]]
    assert run_script("transfer", [*given, *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # nothing was adapted before it was seen
