"""Where the dual head of a saved folder lets items lie, read without loading its model: a training may start there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.hub.folder import read_item_embeddings
from llmrec.hub.merged import HEAD_WEIGHTS
from llmrec.hub.names import ADAPTER_WEIGHTS, ITEMS
from llmrec.models.heads import DualHead

TOLERANCE = 1e-3
"""Texts whose embeddings differ by no more are the same, embedded by the same weights."""


class SavedItemSpace(NamedTuple):
    """Where items lie, and how fast the past fades."""

    projection: Tensor
    """(D, D) P of the dual head."""
    decay_logit: Tensor
    """()"""
    text: Tensor | None
    """(N, D) frozen embeddings of the folder's own items, None where it holds none."""

    def start(self, head: DualHead) -> None:
        """Let a head start there.

        Raises:
            ValueError: if it is of another width, or not finite.
        """
        for name, own in (("item_projection", self.projection), ("decay_logit", self.decay_logit)):
            wanted = tuple(getattr(head, name).shape)
            if tuple(own.shape) != wanted or not own.isfinite().all():
                raise ValueError(
                    f"the head that training would start from is damaged: {name} should be finite, {wanted}, found "
                    f"{tuple(own.shape)}.\nGive another checkpoint or adapter."
                )
        head.start_from(self.projection)
        head.decay_logit.data.copy_(self.decay_logit)

    def is_of(self, text: Tensor) -> bool:
        """Tell whether the folder's items are those whose embeddings (N, D) are given."""
        return (
            self.text is not None
            and self.text.shape == text.shape
            and torch.allclose(self.text, text.to(self.text), rtol=0, atol=TOLERANCE)
        )


def read_item_space(folder: Path, config: RecommenderConfig) -> SavedItemSpace:
    """Read the item space of a saved folder.

    Raises:
        ValueError: if it has no dual head, or its item embeddings were made of other files than it has.
    """
    with safe_open(folder / (HEAD_WEIGHTS if config.merged else ADAPTER_WEIGHTS), framework="pt") as file:
        names = {name.rpartition("rec_head.")[2]: name for name in file.keys() if "rec_head." in name}  # noqa: SIM118 (no dict)
        if missing := sorted({"item_projection", "decay_logit"} - names.keys()):
            raise ValueError(f"{str(folder)!r} has no {missing[0]} of a dual head: save or download it again.")
        projection, decay_logit = (file.get_tensor(names[name]) for name in ("item_projection", "decay_logit"))
    text = None
    if (folder / ITEMS).is_file():
        text = read_item_embeddings(folder, len(Catalog.read(folder / ITEMS)), len(projection), config)
    return SavedItemSpace(projection, decay_logit, text)
