"""Where items lie, learned without labels: what the loss is, what is learned from, where training starts afterwards."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from small_data import data_directory, prepared
from tiny_recommenders import rec_model, tiny_recommender

from llmrec.commands.main import run
from llmrec.commands.pretrain import assemble, pretrain_parser
from llmrec.commands.train import ranking_trainer, train_parser
from llmrec.configuration import RecommenderConfig
from llmrec.data.directory import PreparedData
from llmrec.hub.item_space import SavedItemSpace
from llmrec.models.heads import DualHead
from llmrec.models.item_projection import (
    TEMPERATURE,
    ItemHistories,
    learn_item_space,
    next_items,
    sequence_item_contrast,
    whiten_items,
)
from llmrec.models.whitening import whitening
from llmrec.recommender import Recommender

D = 6
SMALL = shlex.split("--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --bf16 false --disable_tqdm true")
PRETRAIN = [*SMALL, *shlex.split("--row_tokens 96 --mask_rate 0.4 --held_out 0.3 --max_steps 1 --item_epochs 8")]


def texts(number: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(number, D, generator=torch.Generator().manual_seed(seed)) + 1.0, dim=-1)


def moved_head(seed: int = 1) -> DualHead:
    head = DualHead(D)
    random = torch.Generator().manual_seed(seed)
    head.start_from(torch.randn(D, D, generator=random))
    head.decay_logit.data.fill_(0.3)
    return head


@pytest.mark.parametrize("mask_seen", [True, False])
def test_the_loss_is_that_of_every_item_one_by_one(mask_seen):
    """Each history and position alone, by the formula; masked, repeats are no targets, items held no negatives."""
    head, text = moved_head(), texts(12)
    rows = [np.array(row) for row in ([0, 1, 2, 1, 3], [4, 4, 5], [6, 7])]
    negatives = torch.tensor([1, 3, 5, 8, 9, 8, 0, 7])
    found = sequence_item_contrast(head, text, *next_items(rows, mask_seen), negatives, mask_seen)
    decay = 1 / (1 + np.exp(-0.3))
    places = F.normalize(text @ head.item_projection.T, dim=-1).detach().double()
    expected = []
    for row in rows:
        for end in range(1, len(row)):
            held = row[:end] if mask_seen else []
            if row[end] in held:
                continue
            user = sum(decay ** (end - 1 - k) * places[row[k]] for k in range(end))
            user = user / user.norm()
            others = [item for item in negatives.tolist() if item != row[end] and item not in held]
            logits = torch.stack([user @ places[item] for item in (row[end], *others)]) / TEMPERATURE
            expected.append(logits.logsumexp(0) - logits[0])
    assert len(expected) == (5 if mask_seen else 7)
    torch.testing.assert_close(found.double(), torch.stack(expected).mean())


def test_items_that_follow_each_other_come_to_lie_together_and_the_rest_of_the_head_stays():
    """Neighbours share one direction of six; the others say nothing, and hide it before anything is learned."""
    random = np.random.default_rng(0)
    text = F.normalize(torch.randn(40, D, generator=torch.Generator().manual_seed(0)), dim=-1)
    order = np.argsort(text[:, 0].numpy())
    starts = random.integers(0, 34, size=200)
    histories = ItemHistories.of([order[start : start + 6] for start in starts])
    head = DualHead(D)
    before = {name: weight.clone() for name, weight in head.state_dict().items()}
    head.requires_grad_(False)
    batch = (*next_items(histories.rows), torch.arange(40))
    first = sequence_item_contrast(head, text, *batch).item()
    learn_item_space(head, text, histories, 20, 0)
    assert sequence_item_contrast(head, text, *batch).item() < first - 0.5
    moved = [name for name, weight in head.state_dict().items() if not torch.equal(weight, before[name])]
    assert sorted(moved) == ["decay_logit", "item_projection"]
    assert not any(weight.requires_grad for weight in head.parameters())
    again = DualHead(D)
    learn_item_space(again, text, histories, 20, 0)
    assert torch.equal(again.item_projection, head.item_projection)
    learn_item_space(again, text, histories, 20, 1)
    assert not torch.equal(again.item_projection, head.item_projection)


def test_items_of_no_history_say_nothing():
    text = texts(10).requires_grad_(True)
    learn_item_space(moved_head(), text, ItemHistories.of([np.array([0, 1, 2])]), 1500, 0)
    assert (text.grad[3:] == 0).all() and (text.grad[:3] != 0).any()


@pytest.mark.parametrize(
    ("rows", "enough"), [([], False), ([[1, 1, 1]], False), ([[1, 2], [2, 1], [3, 3]], False), ([[1, 2], [3, 1]], True)]
)
def test_what_does_not_suffice(rows, enough):
    assert ItemHistories.of([np.array(row) for row in rows]).suffice == enough


def test_whitening_goes_on_from_what_was_learned():
    text, head = texts(50), moved_head()
    places = F.normalize(text @ head.item_projection.T, dim=-1)
    expected = places @ whitening(places).T
    whiten_items(head, text)
    torch.testing.assert_close(head.item_embeddings(text, None), F.normalize(expected, dim=-1))
    fresh = DualHead(D)
    whiten_items(fresh, text)
    torch.testing.assert_close(fresh.item_projection.data, whitening(text))


@pytest.fixture(scope="module")
def adapted(checkpoints, tmp_path_factory) -> tuple[Path, list[str]]:
    """An adapter that knows where items lie, and the options that name its data and base."""
    folder = tmp_path_factory.mktemp("items")
    data = data_directory(folder / "data", num_users=16, irregular=True)
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"])]
    assert run("pretrain", [*files, *PRETRAIN, "--output_dir", str(folder / "adapted")]) == 0
    return folder / "adapted", files


def head_of(folder: Path) -> dict[str, torch.Tensor]:
    weights = load_file(folder / "adapter_model.safetensors")
    return {name.rpartition("rec_head.")[2]: weight for name, weight in weights.items() if "rec_head." in name}


def test_the_command_learns_from_training_events_of_users_that_are_not_held_out(adapted, checkpoints):
    folder, files = adapted
    directory = PreparedData.open(files[1])
    settings = pretrain_parser().parse_args_into_dataclasses([*files, *PRETRAIN, "--output_dir", str(folder) + "_"])
    trainer, _ = assemble(*settings)
    away = {one.user for row in trainer.cases for one in row}
    ids = directory.catalog.ids
    expected = [
        [item for item, split in zip(row["item_id"], row["split"], strict=True) if split == "train"]
        for user, row in enumerate(directory.histories())
        if user not in away
    ]
    dataset = trainer.train_dataset
    read: dict[int, list[str]] = {}
    for one in (one for row in dataset.rows for one in row if one.user >= 0):
        read.setdefault(one.user, []).extend(ids[item] for item in one.row.items)
    assert sorted(map(sorted, read.values())) == sorted(map(sorted, expected)) and len(away) == 5
    assert sum(map(len, dataset.histories(0))) == sum(map(len, expected)) and not dataset.histories(1)

    text = rec_model(trainer.recommender).rec_items.text
    head = DualHead(text.shape[1])
    learn_item_space(head, text, ItemHistories.of(dataset.histories(0)), 8, 42)
    whiten_items(head, text)
    saved = head_of(folder)
    torch.testing.assert_close(saved["item_projection"], head.item_projection.data)
    torch.testing.assert_close(saved["decay_logit"], head.decay_logit.data)
    assert json.loads((folder / "pretrain_results.json").read_text())["item_loss"] > 0
    assert RecommenderConfig.load(folder).adapted_on["item_epochs"] == 8


def test_training_starts_there_and_other_items_as_with_no_adapter(adapted, checkpoints):
    folder, files = adapted
    saved = head_of(folder)
    items = PreparedData.open(files[1]).catalog
    small = {"max_tokens": 64, "max_vector_events": 4, "max_item_tokens": 64, "lora_r": 2, "lora_alpha": 4}
    started = rec_model(tiny_recommender(checkpoints["bert"], items, init_adapter=str(folder), **small))
    assert torch.equal(started.rec_head.item_projection, saved["item_projection"])
    assert torch.equal(started.rec_head.decay_logit, saved["decay_logit"])
    assert torch.equal(started.rec_head.state_projection, torch.eye(len(saved["item_projection"])))
    fresh = rec_model(tiny_recommender(checkpoints["bert"], items, **small))
    assert not torch.allclose(fresh.rec_head.item_projection, saved["item_projection"], atol=1e-3)
    fewer = type(items)(items.frame.head(len(items) - 2))
    other = rec_model(tiny_recommender(checkpoints["bert"], fewer, init_adapter=str(folder), **small))
    torch.testing.assert_close(other.rec_head.item_projection.data, whitening(other.rec_items.text))
    assert other.rec_head.decay_logit.item() == pytest.approx(np.log(0.7 / 0.3))
    plain = rec_model(tiny_recommender(checkpoints["bert"], fewer, init_adapter=str(folder), whiten=False, **small))
    assert torch.equal(plain.rec_head.item_projection, torch.eye(len(saved["item_projection"])))


def test_without_steps_items_lie_as_training_would_start(adapted, tmp_path):
    _, files = adapted
    options = [*PRETRAIN[:-2], "--item_epochs", "0", "--output_dir", str(tmp_path / "none")]
    assert run("pretrain", [*files, *options]) == 0
    text = load_file(tmp_path / "none" / "item_embeddings.safetensors")["text"]
    head = head_of(tmp_path / "none")
    torch.testing.assert_close(head["item_projection"], whitening(text))
    assert head["decay_logit"].item() == pytest.approx(np.log(0.7 / 0.3))


def test_what_is_exported_embeds_items_anew_and_starts_as_a_bare_checkpoint(checkpoints, tmp_path):
    """Of texts as its own weights embed them nothing was learned."""
    data = data_directory(tmp_path / "data", num_users=16, irregular=True)
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "run")]
    assert run("pretrain", [*files, *PRETRAIN, "--max_steps", "4", "--learning_rate", "1e-1"]) == 0
    Recommender.from_pretrained(tmp_path / "run").merge().save_pretrained(tmp_path / "whole")
    small = {"max_tokens": 64, "max_vector_events": 4, "max_item_tokens": 64, "lora_r": 2, "lora_alpha": 4}
    started = rec_model(tiny_recommender(tmp_path / "whole", PreparedData.open(data).catalog, **small))
    before = load_file(tmp_path / "run" / "item_embeddings.safetensors")["text"]
    assert (started.rec_items.text - before).abs().max() > 1e-2
    torch.testing.assert_close(started.rec_head.item_projection.data, whitening(started.rec_items.text))


def lettered(folder: Path, titles: list[str]) -> Path:
    """Data whose users all had the same items in the same order; the last two are for validation and test."""
    ids = [f"x{place}" for place in range(len(titles))]
    events = [(f"u{user}", item, (user + place) * 86_400) for user in range(6) for place, item in enumerate(ids)]
    return prepared(folder, events, pl.DataFrame({"item_id": ids, "title": titles}))


def test_where_nothing_can_be_told_apart_adapting_refuses_first_and_training_goes_on(checkpoints, tmp_path, capsys):
    data = lettered(tmp_path / "data", ["wine", "fork", "cheese", "anvil"])
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"])]
    out = ["--output_dir", str(tmp_path / "out")]
    assert run("pretrain", [*files, *PRETRAIN, *out]) == 2
    assert "hold 2 in all" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run("pretrain", [*files, *PRETRAIN[:-1], "-1", *out]) == 2
    assert "item_epochs=-1" in capsys.readouterr().err
    assert run("train", [*files, *SMALL, *out, "--num_train_epochs", "1", "--learning_rate", "0"]) == 0
    text = load_file(tmp_path / "out" / "item_embeddings.safetensors")["text"]
    torch.testing.assert_close(head_of(tmp_path / "out")["item_projection"], whitening(text), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("projection", "decay"),
    [(torch.ones(1, 1), 0.0), (torch.full((D, D), float("nan")), 0.0), (torch.eye(D), float("inf"))],
)
def test_a_damaged_head_is_no_start(projection, decay):
    head = DualHead(D)
    with pytest.raises(ValueError, match=r"damaged: (item_projection|decay_logit) should be"):
        SavedItemSpace(projection, torch.tensor(decay), None).start(head)


def test_a_training_starts_where_its_training_events_put_items_and_goes_on_from_an_adapters_own(adapted):
    folder, files = adapted
    directory = PreparedData.open(files[1])
    index = directory.catalog.index
    histories = [
        np.array([index(item) for item, split in zip(row["item_id"], row["split"], strict=True) if split == "train"])
        for row in directory.histories()
    ]

    def head_at_start(*options: str) -> tuple[DualHead, torch.Tensor]:
        argv = [*files, *SMALL, "--output_dir", str(folder) + "_", *options]
        model = rec_model(ranking_trainer(*train_parser().parse_args_into_dataclasses(argv)).recommender)
        return model.rec_head, model.rec_items.text

    found, text = head_at_start()
    expected = DualHead(text.shape[1])
    learn_item_space(expected, text, ItemHistories.of(histories), 8, 42)
    whiten_items(expected, text)
    torch.testing.assert_close(found.item_projection.data, expected.item_projection.data)
    torch.testing.assert_close(found.decay_logit.data, expected.decay_logit.data)
    assert found.item_projection.requires_grad and found.decay_logit.requires_grad  # training goes on with both
    still, _ = head_at_start("--item_epochs", "0")
    torch.testing.assert_close(still.item_projection.data, whitening(text))
    going_on, _ = head_at_start("--init_adapter", str(folder))
    assert torch.equal(going_on.item_projection, head_of(folder)["item_projection"])
    # An adapter that knows other items, or has not learned where they lie, leaves that to the training.
    other = lettered(folder.parent / "other", ["heat", "alien", "fargo", "brazil", "gravity", "speed"])
    for name, data, epochs in (("of_other", other, "8"), ("unlearned", files[1], "0")):
        made = [*files[2:], "--data_dir", str(data), *PRETRAIN[:-1], epochs, "--output_dir", str(folder.parent / name)]
        assert run("pretrain", made) == 0
        anew, _ = head_at_start("--init_adapter", str(folder.parent / name))
        torch.testing.assert_close(anew.item_projection.data, expected.item_projection.data)
        torch.testing.assert_close(anew.decay_logit.data, expected.decay_logit.data)
