from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_checkpoints import HIDDEN_SIZE, byte_pairs
from tiny_recommenders import randomise, rec_model, tiny_recommender
from transformers.models.gemma3n import Gemma3nTextConfig, Gemma3nTextModel

from llmrec.checkpoints import Checkpoint
from llmrec.models.adapter import add_adapter, inner, linear_names, load_adapter, target_modules
from llmrec.models.backbone import load_backbone
from llmrec.models.items import ItemTable
from llmrec.models.modeling import RecModel
from llmrec.recommender import Recommender

BERT = ["dense", "key", "query", "value"]
LLAMA = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
GPT2 = ["c_attn", "c_fc", "c_proj"]


@pytest.fixture(scope="module")
def backbones(checkpoints):
    return {family: load_backbone(Checkpoint(family, folder, None, "folder")) for family, folder in checkpoints.items()}


@pytest.mark.parametrize(("family", "names"), [("bert", BERT), ("roberta", BERT), ("llama", LLAMA), ("gpt2", GPT2)])
def test_linear_layers_are_found_by_name(backbones, family, names):
    assert linear_names(backbones[family]) == names
    assert target_modules(backbones[family], ["all-linear"]) == names
    for name in names:
        assert target_modules(backbones[family], [name]) == [name]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("bert", ["query", "value"]),
        ("llama", ["q_proj", "v_proj"]),
        ("gpt2", ["c_attn"]),
        ("roberta", ["query", "value"]),
    ],
)
def test_the_usual_layers_are_the_default(backbones, family, names):
    assert target_modules(backbones[family], None) == names


def test_an_architecture_peft_does_not_know_gets_all_linear_layers(backbones, monkeypatch):
    monkeypatch.setattr(backbones["bert"].config, "model_type", "brand-new")
    assert target_modules(backbones["bert"], None) == BERT


def test_the_order_asked_for_does_not_matter(backbones):
    assert target_modules(backbones["bert"], ["value", "key"]) == ["key", "value"]


@pytest.mark.parametrize("asked", [["q_proj"], ["query", "typo"], ["all-linear", "query"], ["rec_head"]])
def test_unknown_layers_are_refused_and_the_known_ones_named(backbones, asked):
    with pytest.raises(ValueError, match=r"lora_target_modules .*linear layers are dense, key, query, value"):
        target_modules(backbones["bert"], asked)


@pytest.mark.parametrize("asked", ["q_proj(", ["key", "(.*"]])
def test_what_is_no_expression_is_refused(backbones, asked):
    with pytest.raises(ValueError, match=r"neither the name of a layer nor a regular expression: .*\nGive names"):
        target_modules(backbones["bert"], asked)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("query", ["query"]),
        ("all-linear", BERT),
        (r".*\.(query|key)", ["key", "query"]),
        ([r".*\.(query|key)", "value"], ["key", "query", "value"]),
        ([r".*self\.query", "attention.output.dense"], ["attention.output.dense", "query"]),
        (r"encoder\.layer\.1\..*key", ["encoder.layer.1.attention.self.key"]),
    ],
)
def test_an_expression_becomes_the_names_of_the_layers_that_peft_would_match(backbones, asked, names):
    assert target_modules(backbones["bert"], asked) == names


def adapted_layers(model: torch.nn.Module) -> set[str]:
    return {name.split(".backbone.")[1].split(".lora_A")[0] for name, _ in model.named_parameters() if "lora_A" in name}


@pytest.mark.parametrize("asked", [r"backbone\..*\.1\..*(key|value)", "all-linear", {"query", "key"}])
def test_targets_of_a_caller_are_saved_as_plain_names_of_the_same_layers(checkpoints, tmp_path, asked):
    """peft takes a string as an expression; a folder's is refused, for peft would run it on loading."""
    model = tiny_recommender(checkpoints["bert"])
    bare = model.model.unload()
    bare.rec_items.requires_grad_(False)
    config = LoraConfig(r=4, target_modules=asked, modules_to_save=["rec_head"])
    recommender = Recommender(
        get_peft_model(bare, config), model.processor, model.items, model.config, model.checkpoint
    )
    randomise(recommender).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert isinstance(saved, list) and saved == sorted(saved)
    loaded = Recommender.from_pretrained(tmp_path)
    assert adapted_layers(loaded.model) == adapted_layers(recommender.model)
    history = [{"item_id": "i01"}, {"item_id": "i02"}]
    assert loaded.score(history, ["i03", "i04"]) == recommender.score(history, ["i03", "i04"])


def test_a_linear_layer_in_a_list_is_not_taken_for_a_decoder_layer(checkpoints, tmp_path):
    """Gemma 3n has lists of linear layers, whose names end in a number, as those of its decoder layers do."""
    base = tmp_path / "gemma3n"
    tokenizer = byte_pairs("llama")
    tokenizer.save_pretrained(base)
    size = {"vocab_size": len(tokenizer), "vocab_size_per_layer_input": len(tokenizer), "hidden_size": HIDDEN_SIZE}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "laurel_rank": 4}
    layers = {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3, "activation_sparsity_pattern": [0.0] * 3}
    config = Gemma3nTextConfig(
        **size, **heads, **layers, intermediate_size=64, hidden_size_per_layer_input=8, num_kv_shared_layers=0
    )
    model = Gemma3nTextModel(config)
    model.save_pretrained(base)
    names = target_modules(model, None)
    assert {"q_proj", "down_proj", "altup_projections.0"} < set(names) and not {"0", "1", "2"} & set(names)
    linear = {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    recommender = tiny_recommender(base)
    assert adapted_layers(recommender.model) == linear
    recommender.save_pretrained(tmp_path / "run")
    loaded = Recommender.from_pretrained(tmp_path / "run")
    assert adapted_layers(loaded.model) == linear


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_lora_head_and_tables_are_trained_and_nothing_of_the_base(checkpoints, family, hybrid):
    recommender = tiny_recommender(checkpoints[family], hybrid=hybrid)
    trained = {name for name, weight in recommender.model.named_parameters() if weight.requires_grad}
    of_lora = {name for name in trained if ".lora_" in name}
    of_head = {name for name in trained if ".rec_head.modules_to_save.default." in name}
    of_tables = {name for name in trained if ".rec_items." in name}
    assert of_lora and len(of_head) == len(list(rec_model(recommender).rec_head.original_module.parameters()))
    assert {name.rsplit(".", 1)[-1] for name in of_tables} == (
        {"input_residual", "output_residual", "bias"} if hybrid else set()
    )
    assert trained == of_lora | of_head | of_tables


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_a_fresh_adapter_changes_no_state(checkpoints, family):
    recommender = tiny_recommender(checkpoints[family])
    model, backbone = recommender.model, rec_model(recommender).backbone
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        adapted = backbone(input_ids=tokens).last_hidden_state
        with model.disable_adapter():
            base = backbone(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(adapted, base, rtol=0, atol=1e-5)


def test_inner_finds_the_model_in_or_out_of_peft(backbones):
    bare = RecModel.from_backbone(backbones["roberta"], "mean", ItemTable(torch.eye(32), False))
    assert inner(bare) is bare
    assert inner(add_adapter(bare, rank=2, alpha=2, dropout=0.0)) is bare


def test_what_is_saved_is_what_is_loaded(checkpoints, tmp_path):
    recommender = randomise(tiny_recommender(checkpoints["bert"], lora_target_modules=["query", "dense"]))
    recommender.save_pretrained(tmp_path)
    fresh = RecModel.from_backbone(
        load_backbone(Checkpoint("bert", checkpoints["bert"], None, "folder")), "mean", rec_model(recommender).rec_items
    )
    loaded = dict(load_adapter(fresh, tmp_path).named_parameters())
    compared = 0
    for name, weight in recommender.model.named_parameters():
        if "lora_" in name or "rec_head.modules_to_save" in name:
            assert torch.equal(loaded[name], weight), name
            assert not loaded[name].requires_grad
            compared += 1
    assert compared > 10
    assert not any(weight.requires_grad for weight in loaded.values())


@pytest.mark.parametrize("part", ["lora_A", "rec_head"])
def test_an_adapter_that_lacks_weights_is_refused(checkpoints, tmp_path, part):
    tiny_recommender(checkpoints["bert"]).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    weights = load_file(path)
    dropped = next(name for name in sorted(weights) if part in name)
    save_file({name: weight for name, weight in weights.items() if name != dropped}, path)
    backbone = load_backbone(Checkpoint("bert", checkpoints["bert"], None, "folder"))
    model = RecModel.from_backbone(backbone, "mean", ItemTable(torch.eye(32), False))
    with pytest.raises(ValueError, match="incomplete"):
        load_adapter(model, tmp_path)


def test_adapter_settings_are_written_as_asked(checkpoints, tmp_path):
    settings = {"lora_r": 3, "lora_alpha": 7, "lora_dropout": 0.25, "lora_target_modules": ["value", "key"]}
    tiny_recommender(checkpoints["bert"], **settings).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["r"], saved["lora_alpha"], saved["lora_dropout"]) == (3, 7, 0.25)
    assert saved["target_modules"] == ["key", "value"]
    assert saved["modules_to_save"] == ["rec_head"]
