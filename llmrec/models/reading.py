"""`Reading`: a history that was read, kept so that candidates and new events cost their own tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from llmrec.models.attention import attention_mask
from llmrec.models.capabilities import capabilities, run_backbone
from llmrec.models.items import Items
from llmrec.models.modeling import RecModel
from llmrec.models.pooling import pool_blocks
from llmrec.text.batch import HEADER, TRUNK, Query

Block = Sequence[int]
"""Token ids of one event or candidate."""


class Reading:
    """Keys and values of a history's tokens, and what the head needs of its events.

    Exact, for encoders too, because no token of a history sees a later block: reading on changes nothing that was read.
    Holds (tokens x layers x 2 x key width) numbers; 256 tokens of MiniLM take 4.7 MB. A checkpoint without a cache has
    the history read again with whatever comes behind it, for the same numbers.

    Args:
        model: in evaluation mode; a reading is worthless once its weights change.
        header: token ids every history begins with.
    """

    def __init__(self, model: RecModel, header: Block) -> None:
        self.model = model
        self.device = model.device
        # Built without the configuration: one with it crops what layers with a window have, and branches move back.
        self._cache = DynamicCache() if capabilities(model.backbone).cache else None
        self._block = torch.empty(1, 0, dtype=torch.long, device=self.device)
        width = model.backbone.config.hidden_size
        self._tokens = torch.empty(1, 0, width, device=self.device)  # what entered the model, where there is no cache
        self._events = torch.empty(1, 0, width, device=self.device)  # c(i) of the events' items
        self._state = torch.empty(1, 0, width, device=self.device)  # pooled state of the newest event
        self._header = list(header)

    @property
    def num_tokens(self) -> int:
        """Tokens read so far; the header is read with the first events."""
        return self._block.shape[1]

    @property
    def num_events(self) -> int:
        """Events read so far."""
        return self._events.shape[1]

    @property
    def mebibytes(self) -> float:
        """Memory of the keys and values, or of the tokens' embeddings, and of the events'."""
        layers: Any = [] if self._cache is None else self._cache.layers
        kept = [self._events, self._tokens, *(each for layer in layers for each in (layer.keys, layer.values))]
        return sum(each.nbytes for each in kept) / 2**20

    @torch.inference_mode()
    def append(self, blocks: Sequence[Block], items: Items, times: np.ndarray | None = None) -> None:
        """Read L further events.

        Args:
            blocks: their tokens.
            items: their items, as `ItemTable` gives them (L, ...).
            times: (L, 2) seconds since the event before, and the moment, where the model embeds them.
        """
        first = self.num_events + 1
        header = [] if self.num_events else self._header  # alone it would cost a look at every weight
        numbers = [HEADER] * len(header)
        numbers += np.repeat(np.arange(first, first + len(blocks)), [len(block) for block in blocks]).tolist()
        hidden = self._run([*header, *(token for block in blocks for token in block)], numbers, items, times)
        head = self.model.rec_head
        embedded = head.item_embeddings(items.text, items.output_residual)[None]
        self._events = torch.cat([self._events, embedded], dim=1)
        last = torch.tensor([numbers], device=self.device) - (self.num_events - 1)  # the newest event becomes block 1
        self._state = pool_blocks(hidden, last, 1, self.model.config.pooling)

    @torch.inference_mode()
    def user_state(self, query: Query | None = None) -> Tensor:
        """Return c(u) after the newest event, (D,), as a query block behind it reads it if one is given."""
        state = self._state
        if query is not None:
            model, ids = self.model, torch.tensor([query.block], device=self.device)
            tokens = model.get_input_embeddings()(ids)
            if query.embedded:
                tokens = tokens + model.rec_time(torch.tensor(query.time, device=self.device))
            numbers = torch.full_like(ids, -1)
            state = pool_blocks(self._beside(tokens, numbers), -numbers, 1, model.config.pooling)
        states = state.expand(-1, self.num_events, -1)
        real = torch.ones(1, self.num_events, dtype=torch.bool, device=self.device)
        return self.model.rec_head.user_states(states, self._events, real)[0, -1]

    @torch.inference_mode()
    def candidate_scores(self, blocks: Sequence[Block], items: Items, query: Query | None = None) -> Tensor:
        """Score C candidates behind the newest event, in one pass over their tokens; the history is as it was after.

        Args:
            blocks: their tokens.
            items: their items (C, ...).
            query: when it is asked, for the dual head's share of a score; candidates themselves do not see it.

        Returns:
            (C,) scores of the candidate head.
        """
        model, sizes = self.model, torch.tensor([len(block) for block in blocks])
        branch = torch.repeat_interleave(torch.arange(1, len(blocks) + 1), sizes)[None].to(self.device)
        ids = torch.tensor([[token for block in blocks for token in block]], device=self.device)
        tokens = model.embed(ids, branch, model.entering(items.map(lambda each: each[None])))
        hidden = self._beside(tokens, branch)
        embedded = model.rec_head.item_embeddings(items.text, items.output_residual)
        dual = embedded @ self.user_state(query) * model.rec_head.scale
        dual = dual if items.bias is None else dual + items.bias
        return model.candidate_head(model.candidate_states(hidden, branch, len(blocks)), dual[None])[0]

    def _beside(self, tokens: Tensor, branch: Tensor) -> Tensor:
        """Read branches behind the newest event and forget them: tokens (1, T, D), branch after branch."""
        sizes = torch.unique_consecutive(branch[0], return_counts=True)[1].tolist()
        positions = torch.cat([torch.arange(size) for size in sizes])[None].to(self.device) + self.num_tokens
        beside = copy(self._cache)
        if beside is not None:
            beside.layers = [copy(layer) for layer in beside.layers]  # a cropped one would keep the branches' memory
        return self._read(tokens, positions, torch.full_like(branch, self.num_events), branch, beside)

    @torch.inference_mode()
    def _run(self, ids: list[int], numbers: list[int], items: Items, times: np.ndarray | None) -> Tensor:
        """Read tokens (T,) of events `numbers` (T,) behind those that were read and keep them; return (1, T, D)."""
        model = self.model
        new = torch.tensor([numbers], dtype=torch.long, device=self.device)
        input_ids = torch.tensor([ids], dtype=torch.long, device=self.device)
        when = None if times is None else torch.as_tensor(times, device=self.device)[None]
        entering = model.entering(items.map(lambda each: each[None]), when)
        tokens = model.embed(input_ids, new - self.num_events, entering)
        positions = torch.arange(new.shape[1], device=self.device)[None] + self.num_tokens
        hidden = self._read(tokens, positions, new, torch.full_like(new, TRUNK), self._cache)
        self._block = torch.cat([self._block, new], dim=1)
        if self._cache is None:
            self._tokens = torch.cat([self._tokens, tokens], dim=1)
        return hidden

    def _read(
        self, tokens: Tensor, positions: Tensor, block: Tensor, branch: Tensor, cache: DynamicCache | None
    ) -> Tensor:
        """Return the states (1, T, D) of tokens behind those that were read, which are read again without a cache."""
        model, before = self.model, self.num_tokens
        if cache is None:
            tokens = torch.cat([self._tokens, tokens], dim=1)
            positions = torch.cat([torch.arange(before, device=self.device)[None], positions], dim=1)
        trunk = torch.full_like(self._block, TRUNK)
        block, branch = torch.cat([self._block, block], dim=1), torch.cat([trunk, branch], dim=1)
        mask = attention_mask(block, model.causal, branch, 0 if cache is None else before)
        hidden = run_backbone(model.backbone, tokens, positions + model.position_offset, mask, cache)
        return hidden if cache is not None else hidden[:, before:]
