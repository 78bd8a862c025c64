from __future__ import annotations

import pytest
import torch
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.models.merging import adaptation_of, base_backbone, merge_adapter

FAMILIES = ("bert", "llama", "gpt2")  # GPT-2's weights are transposed
TEXTS = ["red hammer", "heat alien", "green ladder acme"]


@pytest.fixture(scope="module", params=FAMILIES)
def recommender(request, checkpoints):
    return randomise(tiny_recommender(checkpoints[request.param], lora_target_modules=["all-linear"]))


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_what_is_added_is_what_peft_adds(recommender):
    backbone = rec_model(recommender).backbone
    added = adaptation_of(recommender.model)
    layers = {name: layer for name, layer in backbone.named_modules() if hasattr(layer, "get_delta_weight")}
    assert set(added) == set(layers) and len(added) >= 8
    for name, (left, right) in added.items():
        torch.testing.assert_close(left @ right, layers[name].get_delta_weight("default"), rtol=0, atol=1e-6)
        assert left.shape[1] == 4  # the rank: what is kept is small
        assert (left @ right).abs().max() > 0.1


def test_the_merged_backbone_is_base_plus_what_is_added(recommender):
    base = {
        name: layer.base_layer.weight
        for name, layer in rec_model(recommender).backbone.named_modules()
        if hasattr(layer, "base_layer")
    }
    before = weights_of(recommender.model)
    merged = merge_adapter(recommender.model)
    assert not any("lora" in name or "base_layer" in name for name, _ in merged.named_modules())
    for name, (left, right) in merged.adaptation.items():
        weight = merged.backbone.get_submodule(name).weight
        torch.testing.assert_close(weight, base[name] + left @ right, rtol=0, atol=1e-5)
    after = weights_of(recommender.model)
    assert all(torch.equal(before[name], after[name]) for name in before)  # the original is as it was
    assert not merged.training and not any(weight.requires_grad for weight in merged.parameters())


def test_the_base_model_can_be_asked_and_nothing_of_the_adapted_one_moves(recommender):
    merged = merge_adapter(recommender.model)
    adapted = rec_model(recommender)
    for model in (merged, adapted):
        before = weights_of(model)
        asked = base_backbone(model)
        for name, (left, right) in merged.adaptation.items():
            base = adapted.backbone.get_submodule(name).base_layer.weight
            torch.testing.assert_close(asked.get_submodule(name).weight, base, rtol=0, atol=1e-5)
            assert (left @ right).abs().max() > 0.1
        assert not any("lora" in name for name, _ in asked.named_parameters())
        after = weights_of(model)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_peft_merged_in_place_is_taken_away(recommender):
    expected = recommender._encode(TEXTS)
    recommender.model.merge_adapter()
    try:
        torch.testing.assert_close(recommender._encode(TEXTS), expected, rtol=0, atol=1e-5)
    finally:
        recommender.model.unmerge_adapter()


def test_texts_are_embedded_by_the_base_model(recommender):
    expected = recommender._encode(TEXTS)
    merged = recommender.merge()
    torch.testing.assert_close(merged._encode(TEXTS), expected, rtol=0, atol=1e-5)
    merged = recommender.merge()
    merged.model.adaptation = {}
    assert (merged._encode(TEXTS) - expected).abs().max() > 1e-2  # what it would be by the adapted one


def test_half_precision_is_refused(checkpoints):
    recommender = tiny_recommender(checkpoints["bert"])
    rec_model(recommender).backbone.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"weights are in torch.bfloat16: load the adapter again"):
        recommender.merge()
