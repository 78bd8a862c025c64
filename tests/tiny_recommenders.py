"""Recommenders on tiny checkpoints, and a stand-in for training that leaves nothing at its starting value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_data import items_frame

from llmrec.data.catalog import Catalog
from llmrec.models.adapter import inner
from llmrec.models.modeling import RecModel
from llmrec.recommender import Recommender
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

SEEN = 5
"""Training events of every item: equal popularity ranks nobody, and half of what is learned of an item counts."""


def tiny_recommender(checkpoint: Path, catalog: Catalog | None = None, seed: int = 0, **settings: Any) -> Recommender:
    """Assemble a fresh recommender; `settings` are those of `ModelArguments`."""
    torch.manual_seed(seed)
    lengths = {"max_tokens": 64, "max_vector_events": 8, "max_item_tokens": 16, "lora_r": 4, "lora_alpha": 8}
    arguments = ModelArguments(base_model=str(checkpoint), **{**lengths, **settings})
    items = catalog or Catalog(items_frame())
    recommender = new_recommender(arguments, items, has_clock=True, counts=np.full(len(items), SEEN))
    recommender.model.eval()
    return recommender


def head_settings(head: str, folder: Path) -> dict[str, str]:
    """Settings of a head; a verbalizer's answers are letters, in a template in the folder."""
    if head != "verbalizer":
        return {"head": head}
    template = PromptTemplate(event="{title}[, {gap}]", item="{title}", answers=("a", "b"))
    template.save(folder)
    return {"head": head, "template": str(folder / TEMPLATE_NAME)}


@torch.no_grad()
def randomise(recommender: Recommender, seed: int = 1) -> Recommender:
    """Move every trainable weight far from where it starts, gates and residuals included."""
    random = torch.Generator().manual_seed(seed)
    for weight in recommender.model.parameters():
        if weight.requires_grad:
            noise = torch.randn(weight.shape, generator=random)
            weight += 0.3 * noise if weight.ndim else 0.5 + 0.2 * noise.tanh()
    return recommender


def rec_model(recommender: Recommender) -> RecModel:
    """The `RecModel` inside."""
    return inner(recommender.model)
