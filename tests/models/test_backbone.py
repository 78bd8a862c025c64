from __future__ import annotations

import pytest
import torch
from tiny_architectures import ALL
from tiny_checkpoints import HIDDEN_SIZE, MAX_POSITIONS, random_model
from torch import nn
from transformers import AutoModel, BertConfig, BertModel, ElectraConfig, ElectraModel, T5Config

from llmrec.checkpoints import Checkpoint
from llmrec.models.attention import attention_mask
from llmrec.models.backbone import load_backbone, load_tokenizer
from llmrec.models.capabilities import check_backbone, is_causal, run_backbone
from llmrec.models.passes import max_positions, position_offset

FAMILIES = ["bert", "llama", "roberta", "gpt2"]


def checkpoint(folder) -> Checkpoint:
    return Checkpoint("tiny", folder, None, "folder")


class DeafBert(BertModel):
    """Takes a mask and does not listen."""

    def forward(self, input_ids=None, inputs_embeds=None, position_ids=None, attention_mask=None, **_):
        return super().forward(input_ids, inputs_embeds=inputs_embeds, position_ids=position_ids)


class FlatBert(BertModel):
    """Knows masks of two dimensions only."""

    def forward(self, input_ids=None, inputs_embeds=None, position_ids=None, attention_mask=None, **_):
        if attention_mask is not None:
            _, _ = attention_mask.shape
        return super().forward(input_ids, inputs_embeds=inputs_embeds, position_ids=position_ids)


class Unplaced(nn.Module):
    """Takes no positions."""

    config = BertConfig()

    def forward(self, inputs_embeds, attention_mask):
        raise AssertionError("not asked")


def tiny_bert(kind: type = BertModel) -> BertModel:
    return kind(random_model("bert", 100).config)


def test_a_model_that_ignores_masks_is_refused():
    with pytest.raises(ValueError, match=r"'deaf' \(bert\) does not honour attention masks: a later event changed"):
        check_backbone(tiny_bert(DeafBert), "deaf")


def test_a_model_that_cannot_take_the_mask_is_refused():
    with pytest.raises(
        ValueError, match=r"'flat' \(bert\) does not read a plain row .*: ValueError: too many values to unpack"
    ):
        check_backbone(tiny_bert(FlatBert), "flat")


def test_a_model_without_positions_is_refused():
    with pytest.raises(ValueError, match="takes no position_ids; llmrec cannot use it"):
        check_backbone(Unplaced(), "unplaced")


def test_token_embeddings_of_another_width_are_refused():
    config = ElectraConfig(vocab_size=50, embedding_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    with pytest.raises(ValueError, match="token embeddings of 16 numbers and states of 32"):
        check_backbone(ElectraModel(config), "narrow")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [BertModel, DeafBert, FlatBert])
def test_the_check_leaves_the_model_as_it_was(kind, training):
    backbone = tiny_bert(kind).train(training)
    try:
        check_backbone(backbone, "x")
    except ValueError:
        assert kind is not BertModel
    assert backbone.training == training
    assert all(module.training == training for module in backbone.modules())


def test_an_encoder_decoder_is_refused_before_its_weights_are_read(tmp_path):
    T5Config(vocab_size=50, d_model=16, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'tiny' is an encoder-decoder \(t5\)"):
        load_backbone(checkpoint(tmp_path))


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention", "SDPA", ""])
def test_other_attention_is_refused(checkpoints, attention):
    with pytest.raises(ValueError, match=r"attn_implementation=.* is not one of sdpa, eager"):
        load_backbone(checkpoint(checkpoints["bert"]), attention)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager", None])
def test_the_loaded_model_is_the_saved_one_in_float32(checkpoints, family, attention):
    backbone = load_backbone(checkpoint(checkpoints[family]), attention)
    assert backbone.config._attn_implementation == (attention or "sdpa")
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}
    assert not backbone.training
    saved = AutoModel.from_pretrained(checkpoints[family]).state_dict()
    own = backbone.state_dict()
    assert own and all(torch.equal(weight, saved[name]) for name, weight in own.items())
    assert not any("pooler" in name for name in own)


def test_low_precision_weights_are_loaded_in_float32(tmp_path, checkpoints):
    AutoModel.from_pretrained(checkpoints["llama"], dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert {weight.dtype for weight in load_backbone(checkpoint(tmp_path)).parameters()} == {torch.float32}


def test_decoders_and_encoders_are_told_apart(checkpoints):
    kinds = {family: is_causal(load_backbone(checkpoint(folder))) for family, folder in checkpoints.items()}
    assert kinds == {"bert": False, "llama": True, "roberta": False, "gpt2": True}
    assert is_causal(BertModel(BertConfig(**random_model("bert", 100).config.to_dict() | {"is_decoder": True})))


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_those_the_model_counts_by_itself(checkpoints, family):
    """Without position_ids a model counts as it was pretrained: ours must give the same states."""
    backbone = load_backbone(checkpoint(checkpoints[family]))
    ids = torch.arange(5, 17)[None]
    positions = torch.arange(12)[None] + position_offset(backbone)
    mask = attention_mask(torch.zeros(1, 12, dtype=torch.long), is_causal(backbone))
    with torch.no_grad():
        ours = run_backbone(backbone, backbone.get_input_embeddings()(ids), positions, mask)
        theirs = backbone(input_ids=ids).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6 * theirs.abs().max().item())
    assert ours.shape == (1, 12, HIDDEN_SIZE)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_position_works_and_the_next_does_not_exist(checkpoints, family):
    backbone = load_backbone(checkpoint(checkpoints[family]))
    assert position_offset(backbone) == (2 if family == "roberta" else 0)
    assert max_positions(backbone) == MAX_POSITIONS
    length = MAX_POSITIONS
    ids = torch.full((1, length), 7)
    positions = torch.arange(length)[None] + position_offset(backbone)
    mask = attention_mask(torch.zeros(1, length, dtype=torch.long), is_causal(backbone))
    with torch.no_grad():
        assert run_backbone(backbone, backbone.get_input_embeddings()(ids), positions, mask).isfinite().all()


def test_rows_end_where_longrope_would_turn_cached_tokens_otherwise():
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 64}
    rotation = {"rope_type": "longrope", "rope_theta": 10_000.0, **factors}
    phi = ALL["Phi-3"]
    config = phi.config(rope_parameters=rotation, original_max_position_embeddings=64, max_position_embeddings=256)
    assert max_positions(AutoModel.from_config(config)) == 64
    assert max_positions(phi.build()) == 512


def test_a_slow_tokenizer_is_refused(tmp_path, monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr("llmrec.models.backbone.AutoTokenizer.from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(ValueError, match="no fast tokenizer"):
        load_tokenizer(tmp_path)
