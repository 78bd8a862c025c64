"""A verbalizer's scores are the logits of the checkpoint's own language model, whatever its head does to states."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import HIDDEN_SIZE, byte_pairs
from tiny_recommenders import head_settings, randomise, rec_model, tiny_recommender
from transformers import AutoConfig, AutoModelForCausalLM

from llmrec.checkpoints import resolve_checkpoint
from llmrec.models.backbone import load_backbone
from llmrec.models.candidate_heads import VerbalizerHead, answer_token, empty_candidate_head, verbalizer_head
from llmrec.recommender import Recommender

GPT = {"n_embd": HIDDEN_SIZE, "n_layer": 2, "n_head": 4, "n_positions": 1024}
GROUPED = {"num_key_value_heads": 2}
ARCHITECTURES: dict[str, dict] = {
    "llama": GROUPED,
    "llama, tied": {**GROUPED, "tie_word_embeddings": True},
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 4},  # a bias on the logits
    "codegen": {**GPT, "rotary_dim": 4},
    "phi": {"partial_rotary_factor": 0.5},  # likewise
    "granite": {**GROUPED, "logits_scaling": 8.0, "embedding_multiplier": 2.0},
    "cohere": {**GROUPED, "logit_scale": 0.0625},
    "cohere2": {**GROUPED, "logit_scale": 16.0},
    "gemma": {**GROUPED, "head_dim": 8},
    "gemma2": {**GROUPED, "head_dim": 8, "final_logit_softcapping": 3.0},
    "modernbert-decoder": {"decoder_bias": True, "layer_types": ["full_attention"] * 2},  # a transform of the states
    "gpt_neox": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": HIDDEN_SIZE},
    "mistral": GROUPED,
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "olmo2": GROUPED,
    "stablelm": GROUPED,
    "phi3": GROUPED,
    "smollm3": GROUPED,
}
SAVED = ["granite", "gemma2", "modernbert-decoder"]
HISTORY = [{"item_id": "i01", "timestamp": 1_000_000}, {"item_id": "i04", "timestamp": 2_000_000}]
CANDIDATES = ["i02", "i03", "i05", "i06", "i07"]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """Random language models with a tokenizer, by name."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = made[name] = tmp_path_factory.mktemp("decoder")
            tokenizer = byte_pairs("llama")
            tokenizer.save_pretrained(folder)
            shape = {"hidden_size": HIDDEN_SIZE, "num_hidden_layers": 2, "num_attention_heads": 4}
            given = ARCHITECTURES[name]
            if "n_embd" not in given:
                given = {"intermediate_size": 64, "max_position_embeddings": 1024, **shape, **given}
            special = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
            family = name.partition(",")[0]
            config = AutoConfig.for_model(family, vocab_size=len(tokenizer), initializer_range=0.2, **special, **given)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config)
            for weight in model.parameters():
                torch.nn.init.normal_(weight, std=0.2)  # biases too
            model.save_pretrained(folder)
        return made[name]

    return get


def stock_difference(folder: Path, tokens: torch.Tensor, answers: list[int]) -> torch.Tensor:
    """logit(yes) - logit(no) behind every token, as transformers computes them."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(tokens).logits[0]
    return logits[:, answers[0]] - logits[:, answers[1]]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_are_the_language_models_logits(decoders, name):
    folder, answers = decoders(name), [40, 7]
    backbone = load_backbone(resolve_checkpoint(str(folder)))
    head = verbalizer_head(backbone, resolve_checkpoint(str(folder)), answers)
    tokens = torch.randint(0, 100, (1, 24), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        states = backbone.eval()(tokens).last_hidden_state
        found = head(states, states[..., 0])
    wanted = stock_difference(folder, tokens, answers)
    assert found.shape == states.shape[:-1]
    assert wanted.std() > 1e-2
    assert (found[0] - wanted).abs().max() <= 1e-5 * wanted.std()
    assert not list(head.parameters()) and not list(head.children())  # nothing to train, nothing for peft to match


@pytest.mark.parametrize("name", SAVED)
def test_a_recommender_scores_by_them_and_keeps_them(decoders, name, tmp_path):
    """Through assembly, saving, loading, merging and saving again."""
    recommender = tiny_recommender(decoders(name), **head_settings("verbalizer", tmp_path), hybrid=False)
    processor, model = recommender.processor, rec_model(recommender)
    items = recommender.items
    scores = recommender.score(HISTORY, CANDIDATES)  # a fresh adapter changes nothing, and item vectors enter at zero
    rows = np.array([items.index(event["item_id"]) for event in HISTORY])
    blocks = processor.blocks(rows, np.array([event["timestamp"] for event in HISTORY]), items)
    answers = [answer_token(processor.tokenizer, word) for word in ("a", "b")]
    wanted = []
    for candidate in CANDIDATES:
        read = [processor.header, *blocks, processor.candidate_block(items.attributes(items.index(candidate)))]
        tokens = torch.tensor([[token for block in read for token in block]])
        wanted.append(stock_difference(decoders(name), tokens, answers)[-1].item())
    spread = torch.tensor(wanted).std().item()
    assert scores == pytest.approx(wanted, abs=1e-5 * spread + 1e-6)
    randomise(recommender)
    scores = recommender.score(HISTORY, CANDIDATES)
    assert scores != pytest.approx(wanted, abs=1e-2 * spread)
    recommender.save_pretrained(tmp_path / "adapter")
    loaded = Recommender.from_pretrained(tmp_path / "adapter")
    assert loaded.score(HISTORY, CANDIDATES) == scores
    merged = loaded.merge()
    assert merged.score(HISTORY, CANDIDATES) == pytest.approx(scores, abs=1e-4 * spread)
    if name != "modernbert-decoder":  # one saved merged model is enough
        return
    merged.save_pretrained(tmp_path / "merged")
    merged = Recommender.from_pretrained(tmp_path / "merged")
    assert merged.score(HISTORY, CANDIDATES) == pytest.approx(scores, abs=1e-4 * spread)
    assert isinstance(rec_model(merged).candidate_head, VerbalizerHead) and model.verbalizes


def one_vector(folder: Path) -> None:
    """Rewrite a saved verbalizer as folders of format 4 hold it: the difference of two output vectors."""
    name = "base_model.model.candidate_head."
    weights = load_file(folder / "adapter_model.safetensors")
    yes, no = weights.pop(f"{name}lm_head_weight")
    save_file({**weights, f"{name}direction": yes - no}, folder / "adapter_model.safetensors")
    (folder / "item_embeddings.safetensors").unlink()  # made with the file as it was


def test_a_saved_vector_is_read_where_it_says_the_same(decoders, tmp_path):
    recommender = randomise(tiny_recommender(decoders("llama"), **head_settings("verbalizer", tmp_path), hybrid=False))
    recommender.save_pretrained(tmp_path / "run")
    one_vector(tmp_path / "run")
    loaded = Recommender.from_pretrained(tmp_path / "run")
    scores = recommender.score(HISTORY, CANDIDATES)
    spread = torch.tensor(scores).std().item()
    assert loaded.score(HISTORY, CANDIDATES) == pytest.approx(scores, abs=1e-5 * spread)
    loaded.save_pretrained(tmp_path / "again")
    assert Recommender.from_pretrained(tmp_path / "again").score(HISTORY, CANDIDATES) == loaded.score(
        HISTORY, CANDIDATES
    )


@pytest.mark.parametrize("name", ["granite", "gemma2", "modernbert-decoder", "phi"])
def test_a_saved_vector_is_refused_where_logits_are_more_than_its_product(decoders, name):
    config = AutoConfig.from_pretrained(decoders(name))
    with pytest.raises(ValueError, match=r"the saved verbalizer is one vector.*\n?.*Train it again"):
        empty_candidate_head("verbalizer", config, {"direction"}, {})


def test_a_checkpoint_without_its_head_is_refused(decoders, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(decoders("modernbert-decoder"), folder)
    weights = load_file(folder / "model.safetensors")
    save_file({n: w for n, w in weights.items() if "lm_head" not in n}, folder / "model.safetensors", {"format": "pt"})
    checkpoint = resolve_checkpoint(str(folder))
    with pytest.raises(ValueError, match=r"saved without .*lm_head.dense.weight.*predicts no token.\nUse"):
        verbalizer_head(load_backbone(checkpoint), checkpoint, [40, 7])


def test_scores_that_cannot_be_made_equal_are_refused(decoders, monkeypatch):
    """An architecture whose language model looks at more than the last hidden states."""
    checkpoint = resolve_checkpoint(str(decoders("llama")))
    kind = type(AutoModelForCausalLM.from_pretrained(checkpoint.path))
    forward = kind.forward

    def changed(self, input_ids=None, **given):
        found = forward(self, input_ids=input_ids, **given)
        if input_ids is not None:
            found.logits = found.logits * (1 + input_ids[..., None])
        return found

    monkeypatch.setattr(kind, "forward", changed)
    with pytest.raises(ValueError, match=r"\(llama\): the scores of .* would not be.* differ by .*\nUse the cross"):
        verbalizer_head(load_backbone(checkpoint), checkpoint, [40, 7])


def test_the_language_model_is_not_saved_with_the_adapter(decoders, tmp_path):
    recommender = tiny_recommender(decoders("gemma2"), **head_settings("verbalizer", tmp_path))
    recommender.save_pretrained(tmp_path / "run")
    saved = load_file(tmp_path / "run" / "adapter_model.safetensors")
    shapes = {name: tuple(weight.shape) for name, weight in saved.items() if "candidate_head" in name}
    assert shapes == {"base_model.model.candidate_head.lm_head_weight": (2, HIDDEN_SIZE)}
    assert json.loads((tmp_path / "run" / "adapter_config.json").read_text())["modules_to_save"]
