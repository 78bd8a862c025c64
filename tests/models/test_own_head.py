from __future__ import annotations

import pytest
import torch
from small_data import items_frame
from tiny_recommenders import randomise
from torch import nn

from llmrec import Recommender
from llmrec.models.candidate_heads import CandidateHead

SETTINGS = {"max_tokens": 64, "max_item_tokens": 16}


class Scaled(CandidateHead):
    """The dual score times one number, and a projection of the state."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size)
        self.projection = nn.Linear(hidden_size, 1)

    def forward(self, states, dual):
        return 3 * dual + self.projection(states).squeeze(-1)


@pytest.fixture
def model(checkpoints) -> Recommender:
    items = items_frame().select("item_id", "title")
    return randomise(Recommender.from_backbone(checkpoints["bert"], items, head=Scaled, device="cpu", **SETTINGS))


HISTORY = [{"item_id": "i01", "timestamp": 1_600_000_000}, {"item_id": "i04", "timestamp": 1_600_086_400}]


def test_saved_under_the_name_of_its_class_it_scores_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = Recommender.from_pretrained(tmp_path, device="cpu", heads=[Scaled])
    assert again.config.head == "Scaled"
    assert again.score(HISTORY, ["i02", "i09"]) == model.score(HISTORY, ["i02", "i09"])


def test_it_decides_the_score(model):
    before = model.score(HISTORY, ["i02", "i09"])
    heads = [part for part in model.model.modules() if isinstance(part, Scaled)]
    head = next(part for part in heads if part.projection.weight.requires_grad)
    with torch.no_grad():
        head.projection.bias += 5
    assert model.score(HISTORY, ["i02", "i09"]) == pytest.approx([score + 5 for score in before], abs=1e-4)


def test_without_its_class_it_is_refused_with_the_way_out(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"class 'Scaled'(.|\n)*heads=\[Scaled\]"):
        Recommender.from_pretrained(tmp_path, device="cpu")


@pytest.mark.parametrize("head", [nn.Linear, CandidateHead(3)])
def test_what_is_no_head_is_refused(checkpoints, head):
    with pytest.raises((TypeError, AttributeError)):
        Recommender.from_backbone(checkpoints["bert"], items_frame(), head=head, device="cpu", **SETTINGS)


def test_a_misspelt_head_is_refused(checkpoints):
    with pytest.raises(ValueError, match="head='crss' is not one of dual, cross, verbalizer"):
        Recommender.from_backbone(checkpoints["bert"], items_frame(), head="crss", device="cpu", **SETTINGS)
