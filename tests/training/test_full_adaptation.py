"""Adapted checkpoints to start from: all weights trained, or an adapter merged; and which loss the log means."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_data import data_directory
from tiny_recommenders import rec_model
from transformers import AutoModel

from llmrec.commands.main import run
from llmrec.commands.pretrain import assemble, pretrain_parser
from llmrec.configuration import RecommenderConfig
from llmrec.losses.catalogue import IGNORED
from llmrec.models.attention import attention_mask
from llmrec.models.capabilities import run_backbone
from llmrec.models.heads import DualHead
from llmrec.models.item_projection import learn_item_space, whiten_items
from llmrec.ranking.item_index import encode_texts
from llmrec.recommender import Recommender

ITEM_EPOCHS = 8
SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 2 --bf16 false "
    f"--disable_tqdm true --row_tokens 96 --mask_rate 0.4 --held_out 0.3 --item_epochs {ITEM_EPOCHS}"
)
STILL = ["--learning_rate", "0", "--weight_decay", "0", "--eval_strategy", "no", "--save_strategy", "no"]
TRAIN = ["--max_tokens", "64", "--max_vector_events", "4", "--lora_r", "2", "--lora_alpha", "4", "--bf16", "false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16, irregular=True)


@pytest.fixture(scope="module", params=["bert", "llama"])
def full(request, checkpoints, data, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint all of whose weights were adapted, and the one it was."""
    folder = tmp_path_factory.mktemp("full") / "adapted"
    files = ["--data_dir", str(data), "--base_model", str(checkpoints[request.param]), "--output_dir", str(folder)]
    options = ["--full", "true", "--num_train_epochs", "4", "--learning_rate", "3e-3", "--save_total_limit", "5"]
    assert run("pretrain", [*files, *SMALL, *options]) == 0
    return folder, checkpoints[request.param]


def texts_of(recommender: Recommender) -> list[str]:
    return [recommender.processor.item_text(recommender.items.attributes(row)) for row in range(len(recommender.items))]


def test_full_training_makes_a_checkpoint_that_reads_better(full) -> None:
    folder, base = full
    adapted, before = (AutoModel.from_pretrained(path) for path in (folder, base))
    tokens = [model.get_input_embeddings().weight for model in (adapted, before)]
    assert torch.equal(*tokens)
    own = dict(before.named_parameters())
    moved = [name for name, weight in adapted.named_parameters() if not torch.equal(weight, own[name])]
    assert len(moved) > 10
    results = json.loads((folder / "pretrain_results.json").read_text())
    assert results["held_out"]["margin"]["value"] > 0
    assert not (folder / "adapter_config.json").exists()


def test_its_item_texts_are_embedded_by_what_was_trained(full, data, tmp_path) -> None:
    folder, base = full
    recommender = Recommender.from_pretrained(folder)
    assert recommender.config.adapted_on["weights"] == "all but token embeddings"
    tokenizer, texts = recommender.processor.tokenizer, texts_of(recommender)
    table = rec_model(recommender).rec_items.text
    torch.testing.assert_close(table, encode_texts(AutoModel.from_pretrained(folder), tokenizer, texts, 64))
    assert (table - encode_texts(AutoModel.from_pretrained(base), tokenizer, texts, 64)).abs().max() > 1e-2
    files = ["--data_dir", str(data), "--base_model", str(base), "--output_dir", str(tmp_path)]
    histories = assemble(*pretrain_parser().parse_args_into_dataclasses([*files, *SMALL]))[0].item_histories
    head = DualHead(table.shape[1])
    learn_item_space(head, table, histories, ITEM_EPOCHS, 42)
    whiten_items(head, table)
    torch.testing.assert_close(rec_model(recommender).rec_head.item_projection, head.item_projection.data)
    new = {"title": "a purple anvil"}
    recommender.items.add([{"item_id": "new", **new}])
    [written] = encode_texts(AutoModel.from_pretrained(folder), tokenizer, [recommender.processor.item_text(new)], 64)
    torch.testing.assert_close(rec_model(recommender).rec_items.text[-1], written)


def test_the_base_is_read_as_it_was_while_all_is_trained(checkpoints, data, tmp_path) -> None:
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["llama"]), "--output_dir", str(tmp_path)]
    settings = pretrain_parser().parse_args_into_dataclasses([*files, *SMALL, "--full", "true", "--max_steps", "2"])
    trainer, _ = assemble(*settings)
    trainer.train()
    batch = trainer.collator([trainer.train_dataset[0]])
    del batch["labels"]
    language = trainer.language.eval()
    plain = AutoModel.from_pretrained(checkpoints["llama"])
    mask = attention_mask(batch["block"], True, sequence=batch["sequence"])
    with torch.no_grad():
        tokens = plain.get_input_embeddings()(batch["input_ids"])
        expected = run_backbone(plain, tokens, batch["position_ids"], mask)
        torch.testing.assert_close(language.base_hidden(**batch), expected)
        assert (language.hidden(**batch) - expected).abs().max() > 1e-2


def test_a_full_run_that_is_resumed_ends_as_the_uninterrupted_one(full, data, tmp_path) -> None:
    folder, base = full
    first = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[0]
    files = ["--data_dir", str(data), "--base_model", str(base), "--output_dir", str(tmp_path / "again")]
    options = ["--full", "true", "--num_train_epochs", "4", "--learning_rate", "3e-3", "--save_total_limit", "5"]
    (tmp_path / "again").mkdir()
    assert run("pretrain", [*files, *SMALL, *options, "--resume_from_checkpoint", str(first)]) == 0
    for name in ("model.safetensors", "item_embeddings.safetensors"):
        one, other = load_file(folder / name), load_file(tmp_path / "again" / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_training_starts_from_a_full_checkpoint_and_knows_what_it_read(full, data, tmp_path, capsys) -> None:
    folder, base = full
    files = ["--data_dir", str(data), "--output_dir", str(tmp_path / "run"), *TRAIN, *STILL, "--max_steps", "1"]
    assert run("train", [*files, "--base_model", str(folder)]) == 0
    assert RecommenderConfig.load(tmp_path / "run").adapted_on == RecommenderConfig.load(folder).adapted_on
    texts = [load_file(path / "item_embeddings.safetensors")["text"] for path in (tmp_path / "run", folder)]
    torch.testing.assert_close(*texts)
    capsys.readouterr()
    files[3] = str(tmp_path / "other")
    assert run("train", [*files, "--base_model", str(base), "--init_adapter", str(folder)]) == 2
    assert "give it as --base_model" in capsys.readouterr().err


def test_an_exported_adapter_is_a_checkpoint_that_embeds_items_as_adapted(checkpoints, data, tmp_path) -> None:
    """Exported, an adapter embeds items by its base: it was trained to; given as the base, its own weights do."""
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"])]
    adapted, whole, started = tmp_path / "adapted", tmp_path / "whole", tmp_path / "run"
    options = ["--learning_rate", "1e-2", "--contrast_weight", "1"]
    assert run("pretrain", [*files, *SMALL, *options, "--output_dir", str(adapted)]) == 0
    assert run("export", ["--model", str(adapted), "--output_dir", str(whole)]) == 0
    again = ["--data_dir", str(data), "--base_model", str(whole), "--output_dir", str(started)]
    assert run("train", [*again, *TRAIN, *STILL, "--max_steps", "1"]) == 0
    recommender = Recommender.from_pretrained(adapted)
    backbone, tokenizer = rec_model(recommender).backbone, recommender.processor.tokenizer
    by_adapted = encode_texts(backbone, tokenizer, texts_of(recommender), 64)  # the adapter is on
    found = load_file(started / "item_embeddings.safetensors")["text"]
    torch.testing.assert_close(found, by_adapted, rtol=0, atol=1e-4)
    by_base = load_file(whole / "item_embeddings.safetensors")["text"]
    assert (found - by_base).abs().max() > 1e-2
    assert RecommenderConfig.load(started).adapted_on == recommender.config.adapted_on
    # A run on it can be exported in turn, and new items are still embedded as the first adaptation does.
    assert run("export", ["--model", str(started), "--output_dir", str(tmp_path / "final")]) == 0
    final = Recommender.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(final._encode(texts_of(recommender)), by_adapted, rtol=0, atol=1e-4)


def test_what_was_adapted_twice_says_so(full, data, tmp_path) -> None:
    folder, _ = full
    files = ["--data_dir", str(data), "--base_model", str(folder), "--output_dir", str(tmp_path)]
    assert run("pretrain", [*files, *SMALL, "--max_steps", "1"]) == 0
    told = RecommenderConfig.load(tmp_path).adapted_on
    assert told["weights"] == "LoRA" and told["after"] == RecommenderConfig.load(folder).adapted_on


def test_the_loss_is_the_adapted_models_and_its_gradient_that_of_all(checkpoints, data, tmp_path) -> None:
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["llama"]), "--output_dir", str(tmp_path)]
    options = [*SMALL, "--contrast_weight", "0.5"]
    trainer, _ = assemble(*pretrain_parser().parse_args_into_dataclasses([*files, *options]))
    language = trainer.language
    assert language.learned  # the tiny checkpoint has no head for tokens
    batch = trainer.collator([trainer.train_dataset[index] for index in range(3)])
    loss = trainer.compute_loss(language, dict(batch))
    loss.backward()
    output, texts = language(**batch)
    assert loss.item() == pytest.approx(output.losses.mean().item())
    gradient = {name: weight.grad for name, weight in language.named_parameters() if weight.requires_grad}
    language.zero_grad()
    logits = texts[0::2] @ texts[1::2].T / 0.05
    own = torch.arange(len(logits))
    told = (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
    (output.losses.mean() + output.base_losses.mean() + 0.5 * told).backward()
    for name, weight in language.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(gradient[name], weight.grad, msg=name)
    assert (batch["labels"] != IGNORED).sum() == len(output.losses)


def test_the_log_tells_the_losses_apart(checkpoints, data, tmp_path) -> None:
    """Where nothing is learned, the adapted model and the base say the same, and so do their lines."""
    files = ["--data_dir", str(data), "--base_model", str(checkpoints["llama"]), "--output_dir", str(tmp_path)]
    options = ["--contrast_weight", "1", "--max_steps", "3", "--logging_steps", "3", *STILL]
    assert run("pretrain", [*files, *SMALL, *options]) == 0
    results = json.loads((tmp_path / "pretrain_results.json").read_text())
    line = next(entry for entry in results["log"] if "loss" in entry)
    assert line["loss"] == pytest.approx(line["base_loss"], rel=0.02)  # means over steps, and over tokens
    assert line["contrast_loss"] > 0
    assert results["train_loss"] == pytest.approx(line["loss"], rel=1e-3)
