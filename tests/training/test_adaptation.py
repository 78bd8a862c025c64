"""Adapting a checkpoint to unlabelled histories: what is read, what is learned, what is saved."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_data import data_directory
from tiny_recommenders import tiny_recommender

from llmrec.commands.main import run
from llmrec.commands.pretrain import assemble, pretrain_parser
from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.losses.catalogue import IGNORED
from llmrec.models.language import LanguageModel, token_head
from llmrec.ranking.item_index import encode_texts
from llmrec.recommender import Recommender
from llmrec.training.adaptation_data import (
    HistoryPasses,
    MaskedEvents,
    NextTokens,
    PackedCollator,
    PackedDataset,
    ReadPass,
    history_passes,
    mixed,
)

SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 2 --bf16 false "
    "--disable_tqdm true --row_tokens 96 --mask_rate 0.4 --held_out 0.3 --item_epochs 8"
)
FAMILIES = ("bert", "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16, irregular=True)


def passes_of(recommender, folder, **settings):
    chosen = {
        "held_out": 0.25,
        "max_held_out": 100,
        "item_texts": True,
        "max_train_events": None,
        "seed": 0,
        **settings,
    }
    return history_passes(PreparedData.open(folder), recommender.processor, **chosen)


def language_of(recommender, checkpoint, causal) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(recommender.model, *token_head(recommender.checkpoint, causal)).eval()


def objective_of(recommender, family):
    tokenizer = recommender.processor.tokenizer
    if family in ("llama", "gpt2"):
        return NextTokens()
    return MaskedEvents(tokenizer.mask_token_id, tuple(tokenizer.all_special_ids), 0.4)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
def test_packed_and_single_histories_have_the_same_losses(checkpoints, data, family):
    recommender = tiny_recommender(checkpoints[family], Catalog(PreparedData.open(data).catalog.frame), hybrid=False)
    language = language_of(recommender, checkpoints[family], family in ("llama", "gpt2"))
    passes = passes_of(recommender, data).train
    objective = objective_of(recommender, family)
    collator = PackedCollator(recommender.processor, objective, 0)
    packed = PackedDataset(passes, recommender.processor, 200)
    assert len(packed) < len(passes)
    batch = collator([packed[index] for index in range(len(packed))])
    with torch.no_grad():
        losses = language(**batch)[0].losses
    where = torch.nonzero(batch["labels"] != IGNORED).tolist()
    assert len(where) == len(losses) > 50
    # each history alone, laid out as training to rank does, with the tokens that were masked in the packed row
    alone = []
    for row, rows in enumerate(packed[index] for index in range(len(packed))):
        for number, one in enumerate(rows):
            own = batch["sequence"][row] == number
            single = recommender.processor.batch([one.row])
            asked = {name: batch[name][row, own][None] for name in ("input_ids", "labels")}
            told = torch.where(asked["labels"] == IGNORED, asked["input_ids"], asked["labels"])
            assert family in ("llama", "gpt2") or torch.equal(told, single["input_ids"])
            placed = {name: single[name] for name in ("position_ids", "block")}
            with torch.no_grad():
                alone.append(language(**asked, **placed, sequence=torch.zeros_like(single["block"]))[0].losses)
    assert torch.allclose(losses, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_command_never_masks_special_tokens(checkpoints, data, tmp_path, family):
    files = ["--data_dir", str(data), "--base_model", str(checkpoints[family]), "--output_dir", str(tmp_path)]
    trainer, _ = assemble(*pretrain_parser().parse_args_into_dataclasses([*files, *SMALL, "--mask_rate", "0.9"]))
    tokenizer = trainer.recommender.processor.tokenizer
    batch = trainer.collator(trainer.train_dataset.rows)
    asked = batch["labels"] != IGNORED
    assert (batch["input_ids"][asked] == tokenizer.mask_token_id).all() and asked.sum() > 100
    assert not set(batch["labels"][asked].tolist()) & {*tokenizer.all_special_ids, tokenizer.sep_token_id}
    specials = torch.isin(batch["input_ids"], torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id]))
    assert (batch["block"][specials] >= 0).sum() > 100  # they are there, and stay


def test_only_training_events_are_read(checkpoints, tmp_path):
    """Changing every later event changes nothing of what is read."""
    folder = data_directory(tmp_path / "data", num_users=10)
    directory = PreparedData.open(folder)
    recommender = tiny_recommender(checkpoints["bert"], directory.catalog, hybrid=False)
    before = passes_of(recommender, folder)
    histories = directory.histories()
    trained = {
        (row["user_id"], row["item_id"][k]) for row in histories for k, s in enumerate(row["split"]) if s == "train"
    }
    later = [sum(split != "train" for split in row["split"]) for row in histories]
    assert min(later) > 0
    read = [one for one in [*before.train, *before.held_out] if one.user >= 0]
    assert sum(len(one.row.items) for one in read) == sum(
        split == "train" for row in histories for split in row["split"]
    )
    names = [row["user_id"] for row in histories]
    ids = directory.catalog.ids
    assert all((names[one.user], ids[item]) in trained for one in read for item in one.row.items)
    texts = [one for one in before.train if one.user < 0]
    seen = {ids.index(item) for _, item in trained}
    expected = {tuple(recommender.processor.item_block(directory.catalog.attributes(item))) for item in seen}
    assert {tuple(one.row.blocks[0]) for one in texts} == expected


def test_held_out_users_are_not_trained_on(checkpoints, data):
    recommender = tiny_recommender(checkpoints["bert"], PreparedData.open(data).catalog, hybrid=False)
    part = passes_of(recommender, data)
    away, read = ({one.user for one in some if one.user >= 0} for some in (part.held_out, part.train))
    assert len(away) == part.num_held_out == 4 and not away & read and len(away | read) == part.num_users == 16


def test_texts_are_embedded_as_the_catalogue_is(checkpoints, data):
    recommender = tiny_recommender(checkpoints["bert"], PreparedData.open(data).catalog, hybrid=False)
    language = language_of(recommender, checkpoints["bert"], causal=False)
    passes = [one for one in passes_of(recommender, data).train if one.user >= 0]
    collator = PackedCollator(recommender.processor, objective_of(recommender, "bert"), 0, [recommender.items])
    batch = collator([[one] for one in passes])
    texts = {name: batch[name] for name in ("text_ids", "text_positions", "text_sequence")}
    with torch.no_grad():
        found = language.embed_texts(**texts)
    assert len(found) == 2 * len({one.user for one in passes})
    names = [
        recommender.processor.item_text(recommender.items.attributes(row)) for row in range(len(recommender.items))
    ]
    table = encode_texts(inner_backbone(recommender), recommender.processor.tokenizer, names, 16)
    nearest = (found @ table.T).max(dim=1)
    assert torch.allclose(nearest.values, torch.ones(len(found)), atol=1e-5)
    for number, one in enumerate({one.user: one for one in passes}.values()):
        middle = len(one.row.items) // 2
        for side, half in enumerate((one.row.items[:middle], one.row.items[middle:])):
            assert names[int(nearest.indices[2 * number + side])] in {names[item] for item in half}


def test_a_user_in_several_rows_is_contrasted_with_others_alone(checkpoints, data):
    """Two texts of each user are drawn, of one of its rows; users of the same number in two directories are two."""
    items = PreparedData.open(data).catalog
    recommender = tiny_recommender(checkpoints["bert"], items, hybrid=False, max_tokens=32)
    passes = [one for one in passes_of(recommender, data).train if one.user >= 0]
    users = sorted({one.user for one in passes})
    several = [user for user in users if sum(one.user == user and len(one.row.items) > 1 for one in passes) > 1]
    assert len(several) > 3
    collator = PackedCollator(recommender.processor, objective_of(recommender, "bert"), 0, [items, items])
    elsewhere = [one._replace(source=1) for one in passes]
    for rows in ([[one] for one in passes], [passes]):  # in a row each, and all in one
        assert int(collator(rows)["text_sequence"].max()) + 1 == 2 * len(users)
    assert int(collator([passes, elsewhere])["text_sequence"].max()) + 1 == 4 * len(users)
    own = [one for one in passes if one.user == several[0]]
    assert "text_ids" not in collator([[one] for one in own])  # nobody to be told from


def inner_backbone(recommender):
    return recommender.model.get_base_model().backbone


@pytest.mark.parametrize(("family", "rate"), [("bert", "1e-2"), ("llama", "2e-2")])
def test_adapting_lowers_the_held_out_loss_and_training_goes_on_from_it(checkpoints, data, tmp_path, family, rate):
    files = ["--data_dir", str(data), "--base_model", str(checkpoints[family])]
    adapted = tmp_path / "adapted"
    options = ["--num_train_epochs", "20", "--learning_rate", rate, "--contrast_weight", "0.5"]
    assert run("pretrain", [*files, "--output_dir", str(adapted), *SMALL, *options]) == 0
    results = json.loads((adapted / "pretrain_results.json").read_text())
    held_out = results["held_out"]
    assert held_out["margin"]["value"] > 0
    difference = held_out["base"]["loss"]["value"] - held_out["adapted"]["loss"]["value"]
    assert held_out["margin"]["value"] == pytest.approx(difference)
    assert results["drawn"][0]["held_out_users"] == 5 >= held_out["users"] > 0  # of some no event is masked
    assert not list(adapted.glob("token_heads*"))  # no recommender needs them
    saved = Recommender.from_pretrained(adapted)
    assert saved.config.adapted_on["steps"] == results["log"][-1]["step"]

    rest = SMALL[: SMALL.index("--row_tokens")]
    continued = tmp_path / "continued"
    arguments = [*files, "--output_dir", str(continued), *rest, "--init_adapter", str(adapted), "--learning_rate", "0"]
    assert run("train", [*arguments, "--num_train_epochs", "1", "--weight_decay", "0"]) == 0
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (adapted, continued))
    lora = [name for name in one if "lora_" in name]
    assert lora and all(torch.equal(one[name], other[name]) for name in lora)  # at learning rate 0
    assert any(one[name].abs().sum() > 0 for name in lora if "lora_B" in name)
    assert RecommenderConfig.load(continued).adapted_on == saved.config.adapted_on


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_ends_as_the_uninterrupted_one(checkpoints, data, tmp_path, family):
    """With two directories drawn from by shares, and the heads that are learned beside."""
    small = data_directory(tmp_path / "small", num_users=4, length=6)
    files = ["--data_dir", str(data), str(small), "--base_model", str(checkpoints[family])]
    options = [*SMALL, "--num_train_epochs", "2", "--contrast_weight", "0.5", "--save_total_limit", "5"]
    options += ["--mixing_temperature", "2"]
    assert run("pretrain", [*files, "--output_dir", str(tmp_path / "whole"), *options]) == 0
    first, last = sorted((tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    resumed = ["--resume_from_checkpoint", str(first)]
    assert run("pretrain", [*files, "--output_dir", str(tmp_path / "again"), *options, *resumed]) == 0
    for name in ("adapter_model.safetensors", f"{last.name}/token_heads.safetensors"):
        one, other = (load_file(tmp_path / folder / name) for folder in ("whole", "again"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    before = load_file(first / "token_heads.safetensors")
    assert all(not torch.equal(one[key], before[key]) for key in one)  # of both heads, after the resumption
    results = [json.loads((tmp_path / name / "pretrain_results.json").read_text()) for name in ("whole", "again")]
    assert results[0]["held_out"] == results[1]["held_out"] and results[0]["drawn"] == results[1]["drawn"]


def test_the_share_of_each_data_directory(checkpoints, data, tmp_path):
    small = data_directory(tmp_path / "small", num_users=4, length=6)
    recommender = tiny_recommender(checkpoints["bert"], PreparedData.open(data).catalog, hybrid=False)
    parts = [passes_of(recommender, folder, item_texts=False) for folder in (data, small)]
    tokens = [sum(recommender.processor.num_tokens(one.row) for one in part.train) for part in parts]
    everything, report = mixed(parts, recommender.processor, 1.0, 0)
    assert [one["tokens"] for one in report] == tokens and len(everything) == sum(len(part.train) for part in parts)
    _, report = mixed(parts, recommender.processor, 2.0, 0)
    wanted = np.sqrt(tokens) / np.sqrt(tokens).sum()
    longest = max(recommender.processor.num_tokens(one.row) for part in parts for one in part.train)
    assert abs(report[0]["tokens"] - wanted[0] * sum(tokens)) <= longest
    assert abs(report[1]["tokens"] - wanted[1] * sum(tokens)) <= longest


SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(parts=st.lists(SIZES, min_size=1, max_size=4), temperature=st.sampled_from([1.0, 1.5, 2.0, 10.0]))
def test_what_is_drawn_is_what_is_reported(parts: list[list[int]], temperature: float) -> None:
    """Each pass is drawn as often as its directory's share asks, or once more; the report counts what was drawn."""

    def a_pass(size: int, source: int) -> ReadPass:
        row: Any = SimpleNamespace(items=[0] * (size % 3 + 1), size=size)
        return ReadPass(row, user=size % 2 - 1, source=source)  # every other one an item's text

    passes = [[a_pass(size, source) for size in sizes] for source, sizes in enumerate(parts)]
    processor: Any = SimpleNamespace(num_tokens=lambda row: row.size)
    drawn, report = mixed([HistoryPasses(some, [], 5, 1) for some in passes], processor, temperature, seed=3)
    whole = sum(map(sum, parts))
    asked = [sum(sizes) ** (1 / temperature) for sizes in parts]
    for source, (sizes, one) in enumerate(zip(parts, report, strict=True)):
        own = [each for each in drawn if each.source == source]
        times = [sum(each is known for each in own) for known in passes[source]]
        wanted = asked[source] / sum(asked) * whole
        assert one["tokens"] == sum(each.row.size for each in own)
        assert wanted - max(sizes) < one["tokens"] <= wanted + 1e-6
        assert one["tokens_there"] == sum(sizes)
        assert one["events_read"] == sum(len(each.row.items) for each in own if each.user >= 0)
        whole_times = int(wanted / sum(sizes) + 1e-9)
        assert set(times) <= {whole_times, whole_times + 1}
    assert sum(one["share"] for one in report) == pytest.approx(1)
    if temperature == 1:
        assert len(drawn) == sum(map(len, parts))


def test_what_was_drawn_of_several_directories_is_printed(checkpoints, data, tmp_path, capsys) -> None:
    small = data_directory(tmp_path / "small", num_users=4, length=6)
    files = ["--data_dir", str(data), str(small), "--base_model", str(checkpoints["bert"])]
    options = [*SMALL, "--max_steps", "1", "--mixing_temperature", "2", "--output_dir", str(tmp_path / "adapted")]
    assert run("pretrain", [*files, *options]) == 0
    printed = capsys.readouterr().out
    drawn = json.loads((tmp_path / "adapted" / "pretrain_results.json").read_text())["drawn"]
    assert len(drawn) == 2 and drawn[1]["tokens"] > drawn[1]["tokens_there"] > 0
    for one in drawn:
        assert f"{one['tokens']} tokens of {one['tokens_there']}, {one['share']:.1%} of all" in printed


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("pretrain", ["--mask_rate", "1"], "mask_rate=1.0 is not in"),
        ("pretrain", ["--mixing_temperature", "0.5"], "mixing_temperature=0.5"),
        ("pretrain", ["--max_train_events", "0"], "max_train_events=0: give at least 2"),
        ("pretrain", ["--max_held_out", "0"], "max_held_out=0: give at least 1"),
        ("pretrain", ["--row_tokens", "8"], "does not fit a row of 8"),
        ("pretrain", ["--head", "cross"], "leave --head"),
        ("pretrain", ["--full", "true", "--init_adapter", "x"], "--full trains a checkpoint"),
        ("train", ["--init_adapter", "nowhere"], "nowhere"),
    ],
)
def test_bad_settings_are_refused(checkpoints, data, tmp_path, capsys, verb, options, message):
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "out")]
    small = ["--max_tokens", "64", "--max_vector_events", "4"]
    assert run(verb, [*files, *small, *options]) == 2
    assert message in capsys.readouterr().err


def test_an_adapter_of_another_rank_is_refused(checkpoints, data, tmp_path, capsys):
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"])]
    adapted = tmp_path / "adapted"
    assert run("pretrain", [*files, "--output_dir", str(adapted), *SMALL, "--max_steps", "1"]) == 0
    options = ["--max_tokens", "64", "--max_vector_events", "4", "--lora_r", "4", "--init_adapter", str(adapted)]
    assert run("train", [*files, *options, "--output_dir", str(tmp_path / "run")]) == 2
    assert "has r 2, this run 4" in capsys.readouterr().err


def test_a_planted_test_event_cannot_reach_the_loss(checkpoints, data):
    """Histories whose later events are all replaced by one item give the same batches."""
    directory = PreparedData.open(data)
    recommender = tiny_recommender(checkpoints["bert"], directory.catalog, hybrid=False)
    planted = directory.catalog.ids[0]

    def plant(row):
        pairs = zip(row["item_id"], row["split"], strict=True)
        return {"item_id": [item if split == "train" else planted for item, split in pairs]}

    changed = directory.histories().map(plant, load_from_cache_file=False)
    assert changed["item_id"] != directory.histories()["item_id"]
    collator = PackedCollator(recommender.processor, objective_of(recommender, "bert"), 0, [directory.catalog])
    batches = []
    for histories in (directory.histories(), changed):
        source: Any = SimpleNamespace(catalog=directory.catalog, histories=lambda rows=histories: rows, path=data)
        passes = history_passes(source, recommender.processor, 0.2, 100, True, None, 0)
        batches.append(collator([[one] for one in [*passes.train, *passes.held_out]]))
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])
