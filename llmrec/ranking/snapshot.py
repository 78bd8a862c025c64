"""`Snapshot`: weights, adapter, item table, catalogue and template of one moment; a request computes with one alone.

Its modules are its own and its tensors are the recommender's (`shared_copy`): a change of the catalogue, the popularity
weight or the adapter makes another snapshot, and whoever computes with the old one goes on undisturbed.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.data.processes import Lock
from llmrec.models.merging import base_backbone
from llmrec.models.modeling import RecModel
from llmrec.models.sharing import shared_copy
from llmrec.ranking.dual import CatalogueScoring, catalogue_scoring
from llmrec.ranking.item_index import encode_texts
from llmrec.ranking.last_states import last_states
from llmrec.text.processor import Processor
from llmrec.text.request import NewItems, Request

os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))  # others, which a child lacks, would be waited for


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a request computes with.

    Attributes:
        model: in evaluation mode, a copy that shares the recommender's tensors.
        processor: turns events and candidates into tokens.
        catalog: the items of its table.
        config: of the recommender.
        reads: compares unequal once what histories are read with has changed: weights, adapter, table, template.
        popularity_weight: how much of an item's popularity is in its score.
        version: another object for each snapshot.
    """

    model: RecModel
    processor: Processor
    catalog: Catalog
    config: RecommenderConfig
    reads: Hashable
    popularity_weight: float
    version: object = field(default_factory=object)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def of(
        cls, model: RecModel, processor: Processor, catalog: Catalog, config: RecommenderConfig, reads: Hashable
    ) -> Snapshot:
        """Take one of a model as it is now."""
        return cls(shared_copy(model).eval(), processor, catalog, config, reads, model.rec_items.popularity_weight)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the frozen embeddings (M, D) of M items' own texts, by the base model."""
        with torch.inference_mode(mode=False):
            backbone = base_backbone(self.model)
            limit, head = self.config.max_item_tokens, self.model.rec_texts
            return encode_texts(backbone, self.processor.tokenizer, texts, limit, head=head)

    def encode_items(self, new: NewItems, places: Sequence[int]) -> Tensor:
        """Return those of some of the items that the catalogue lacks."""
        return self.encode([self.processor.item_text(new[place]) for place in places])

    def scores(self, states: Tensor, histories: Sequence[np.ndarray]) -> Tensor:
        """Return the scores (B, N) of all items for user states (B, D), with the memory of their histories (L,)."""
        with self._lock:  # computed once, whoever asks first
            scoring = self._scoring
        memory = self.model.rec_items.memory
        return scoring(states) if memory is None else scoring(states) + memory.scores(histories)

    @cached_property
    def _scoring(self) -> CatalogueScoring:
        return catalogue_scoring(self.model)

    def states(self, requests: Sequence[Request], new: NewItems) -> Tensor:
        """Return the user states (B, D) after the histories of B requests, which share their new items."""
        return last_states(self.model, self.processor, requests, partial(self.encode_items, new))
