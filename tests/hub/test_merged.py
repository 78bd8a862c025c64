"""A merged model: plain files for stock transformers, and the scores of the adapter for llmrec."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_data import START
from tiny_recommenders import head_settings, randomise, rec_model, tiny_recommender
from transformers import AutoModel

from llmrec import Recommender
from llmrec.commands.main import run
from llmrec.hub.inspection import inspect

HISTORIES = [
    [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + 300_000}],
    [{"item_id": f"i{item:02}", "timestamp": START + 90_000 * item} for item in range(20)],
    [{"title": "green ladder", "brand": "acme"}, {"item_id": "i07"}],
]
NEW = {"title": "blue saw", "brand": "bosch"}
WEIGHTS = {"model.safetensors", "head.safetensors", "adaptation.safetensors"}
KINDS = [
    ("bert", "dual", True),
    ("bert", "dual", False),
    ("bert", "cross", True),
    ("llama", "dual", True),
    ("llama", "cross", False),
    ("llama", "verbalizer", True),
    ("gpt2", "verbalizer", False),
]


def all_scores(recommender: Recommender) -> torch.Tensor:
    return torch.tensor([recommender.score(history, [*recommender.items.ids, NEW]) for history in HISTORIES])


def tied(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint whose output vectors are its tokens', so that a verbalizer can ask it."""
    shutil.copytree(checkpoint, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": True}))
    return folder


@torch.no_grad()
def calm(recommender: Recommender) -> Recommender:
    """Make the adapter's part as small as a trained one's: random models this sharp amplify every rounding error."""
    for name, weight in recommender.model.named_parameters():
        if "lora_B" in name:
            weight *= 0.1
    return recommender


@pytest.mark.parametrize(("family", "head", "hybrid"), KINDS)
def test_exported_and_loaded_the_scores_are_the_same(checkpoints, tmp_path, family, head, hybrid):
    base = tied(checkpoints[family], tmp_path / "base")
    recommender = calm(randomise(tiny_recommender(base, hybrid=hybrid, **head_settings(head, tmp_path))))
    expected = all_scores(recommender)
    with recommender.model.disable_adapter():
        assert (all_scores(recommender) - expected).abs().max() > 1e-2  # the adapter matters
    recommender.merge().save_pretrained(tmp_path / "merged")
    shutil.rmtree(base)  # no base model is needed
    assert "not loaded" in inspect(str(tmp_path / "merged")).facts["base model"]
    loaded = Recommender.from_pretrained(tmp_path / "merged")
    # A score of 25 has no more than six digits to lose.
    torch.testing.assert_close(all_scores(loaded), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(all_scores(recommender), expected, rtol=0, atol=0)
    for history in HISTORIES:
        first, second = ([one.item_id for one in each.recommend(history, k=5)] for each in (recommender, loaded))
        assert first == second
    assert not loaded.model.training and not any(weight.requires_grad for weight in loaded.model.parameters())
    assert not any("lora" in name for name, _ in loaded.model.named_modules())


@pytest.fixture(scope="module")
def recommender(checkpoints) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"]))


@pytest.fixture(scope="module")
def merged(recommender, tmp_path_factory) -> Path:
    """A folder that tests read."""
    folder = tmp_path_factory.mktemp("merged") / "whole"
    recommender.merge().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(merged, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(merged, tmp_path / "copy")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_stock_transformers_loads_the_adapted_backbone(checkpoints, tmp_path, family):
    recommender = randomise(tiny_recommender(checkpoints[family]))
    recommender.merge().save_pretrained(tmp_path)
    stock = AutoModel.from_pretrained(tmp_path).eval()
    assert stock.config.model_type == family and type(stock).__module__.startswith("transformers.")
    ids = torch.tensor([[5, 9, 30, 31]])
    with torch.no_grad():
        expected = rec_model(recommender).backbone(input_ids=ids).last_hidden_state
        torch.testing.assert_close(stock(input_ids=ids).last_hidden_state, expected, rtol=0, atol=1e-5)
        base = AutoModel.from_pretrained(checkpoints[family]).eval()
        assert (base(input_ids=ids).last_hidden_state - expected).abs().max() > 1e-2


def test_the_files_are_what_they_say(merged):
    names = {path.name for path in merged.iterdir()}
    assert WEIGHTS | {"config.json", "llmrec_config.json", "items.parquet", "item_tables.safetensors"} < names
    assert not {"adapter_config.json", "adapter_model.safetensors"} & names
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in merged.iterdir())
    assert json.loads((merged / "config.json").read_text())["model_type"] == "bert"
    config = json.loads((merged / "llmrec_config.json").read_text())
    assert config["merged"] is True and config["base_model"] == "./bert"
    for path in merged.iterdir():
        assert str(merged.parents[2]).encode() not in path.read_bytes(), path.name


def test_a_merged_model_is_saved_again_as_it_was(merged, tmp_path):
    Recommender.from_pretrained(merged).save_pretrained(tmp_path / "again")
    assert {path.name: path.read_bytes() for path in merged.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }


def test_its_items_change_as_those_of_an_adapter(merged, recommender):
    loaded = Recommender.from_pretrained(merged)
    expected = recommender.score(HISTORIES[0], [NEW])
    loaded.items.add([{"item_id": "new", **NEW}])
    assert loaded.score(HISTORIES[0], ["new"]) == pytest.approx(expected, abs=1e-4)


def test_without_saved_embeddings_the_items_are_read_by_the_base_model(folder, recommender):
    (folder / "item_embeddings.safetensors").unlink()
    found = all_scores(Recommender.from_pretrained(folder))
    torch.testing.assert_close(found, all_scores(recommender), rtol=0, atol=1e-4)


def test_adapter_and_merged_model_do_not_share_a_folder(merged, recommender, tmp_path):
    with pytest.raises(FileExistsError, match="holds a merged model; save an adapter to another folder"):
        recommender.save_pretrained(merged)
    recommender.save_pretrained(tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds an adapter; save a merged model to another folder"):
        recommender.merge().save_pretrained(tmp_path / "run")
    with pytest.raises(ValueError, match="merged already"):
        Recommender.from_pretrained(merged).merge()
    with pytest.raises(ValueError, match="base_model='other' goes with an adapter"):
        Recommender.from_pretrained(merged, base_model="other")


@pytest.mark.parametrize("name", [*sorted(WEIGHTS), "config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}"):
        Recommender.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("head", lambda tensors: {key: value for key, value in tensors.items() if key != "rec_head.log_scale"}),
        ("head", lambda tensors: {**tensors, "candidate_head.bias": torch.tensor(0.0)}),
        ("head", lambda tensors: {**tensors, "rec_head.enter": torch.zeros(2, 2)}),
        ("adaptation", lambda tensors: {key: value for key, value in tensors.items() if "left" not in key}),
        ("adaptation", lambda tensors: {key: value[:-1] for key, value in tensors.items()}),
        ("adaptation", lambda tensors: {f"no.{key}": value for key, value in tensors.items()}),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, name, change):
    path = folder / f"{name}.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(ValueError, match=rf"{name}.safetensors does not fit .*Export it again"):
        Recommender.from_pretrained(folder)


def test_the_command_exports(checkpoints, recommender, tmp_path, capsys):
    recommender.save_pretrained(tmp_path / "run")
    options = ["--model", str(tmp_path / "run"), "--output_dir", str(tmp_path / "whole")]
    assert run("export", options) == 0
    assert "saved" in capsys.readouterr().out
    loaded = Recommender.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(all_scores(loaded), all_scores(recommender), rtol=1e-5, atol=1e-4)
    assert run("export", options) == 2
    assert "holds files already; give a new or an empty folder" in capsys.readouterr().err
