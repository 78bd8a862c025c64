"""`RecModel` joins backbone, item table and head: one pass over histories gives a user state after every event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from llmrec.models.attention import attention_mask
from llmrec.models.candidate_heads import CandidateHead, VerbalizerHead
from llmrec.models.capabilities import capabilities, run_backbone
from llmrec.models.heads import DualHead
from llmrec.models.item_encoder import ItemTextHead
from llmrec.models.items import Items, ItemTable
from llmrec.models.passes import position_offset
from llmrec.models.pooling import pool_blocks, state_blocks
from llmrec.models.time import TimeEmbedding
from llmrec.text.batch import PADDING


class RecModelConfig(PreTrainedConfig):
    """Hugging Face configuration of `RecModel`; `RecommenderConfig` is what users and saved folders see."""

    model_type = "llmrec"
    sub_configs_defaults: ClassVar = {"backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")}
    backbone_config: dict | PreTrainedConfig | None = None
    pooling: str = "mean"


class RecModelOutput(NamedTuple):
    """What one pass gives.

    Attributes:
        states: (B, L, D) unit user states c(u) after each event, read from the query block behind it where there is
            one; rubbish where an event is padding.
        embeddings: (N, D) unit item embeddings c(i) of all items, or of those that were asked for (`forward`).
        scale: () 1 / tau.
        bias: (N,) what those items add to their scores, or None.
        candidate_scores: (B, C) scores of the branches' candidates, rubbish where one is padding; None without.
    """

    states: Tensor
    embeddings: Tensor
    scale: Tensor
    bias: Tensor | None
    candidate_scores: Tensor | None = None


class RecModel(PreTrainedModel):
    """A backbone that reads histories, and a head that scores items.

    Args:
        config: its `backbone_config` says how to build the backbone where none is given.
        backbone: a loaded checkpoint.
        items: the known items.
        candidate_head: scores candidates that stand in branches; None leaves that to the dual head alone.
        time_embedding: enters the tokens of events and queries; None leaves time to the words.

    Attributes:
        vector_dropout: share of values that a training step leaves out of the vectors that enter the tokens, of the
            states that come out and of the item embeddings that the content path averages.
        rec_texts: makes the frozen embeddings of item texts of their token states.
        adaptation: what was merged into the backbone's weights (`models.merging`); nothing where peft adapts it.
    """

    config_class = RecModelConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = _supports_sdpa = _supports_attention_backend = True
    _keep_in_fp32_modules_strict = {"rec_head", "rec_items", "rec_texts", "rec_time", "candidate_head"}  # noqa: RUF012 (set by the base class)

    def __init__(
        self,
        config: RecModelConfig,
        backbone: nn.Module | None = None,
        items: ItemTable | None = None,
        candidate_head: CandidateHead | VerbalizerHead | None = None,
        time_embedding: TimeEmbedding | None = None,
    ) -> None:
        super().__init__(config)
        reader: Any = backbone if backbone is not None else AutoModel.from_config(config.backbone_config)
        self.backbone = reader
        hidden_size = reader.config.hidden_size
        self.rec_head = DualHead(hidden_size)
        self.rec_texts = ItemTextHead()
        self.rec_items = items if items is not None else ItemTable(torch.zeros(0, hidden_size), hybrid=False)
        if candidate_head is not None:
            self.candidate_head = candidate_head
        if time_embedding is not None:
            self.rec_time = time_embedding
        self.verbalizes = isinstance(candidate_head, VerbalizerHead)
        self.vector_dropout = 0.0
        self.adaptation: Mapping[str, tuple[Tensor, Tensor]] = {}
        self.causal = capabilities(self.backbone).causal
        self.position_offset = position_offset(self.backbone)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave everything as built: the backbone is pretrained, and zeros and identities elsewhere are meant."""

    @classmethod
    def from_backbone(
        cls,
        backbone: Any,
        pooling: str,
        items: ItemTable,
        candidate_head: CandidateHead | VerbalizerHead | None = None,
        time_parts: Sequence[str] = (),
    ) -> RecModel:
        """Join a loaded backbone and an item table with a fresh head, and an embedding of time that has some parts."""
        config = RecModelConfig(  # type: ignore[call-arg]
            backbone_config=backbone.config,
            pooling=pooling,
            # Without it the setter resets the backbone's own choice, recursively.
            attn_implementation=backbone.config._attn_implementation,
        )
        time_embedding = TimeEmbedding(backbone.config.hidden_size, time_parts) if time_parts else None
        return cls(config, backbone, items, candidate_head, time_embedding)

    def _dropout(self, vectors: Tensor) -> Tensor:
        return F.dropout(vectors, self.vector_dropout, self.training)

    def get_input_embeddings(self) -> nn.Module:
        """Return the backbone's token embeddings."""
        return self.backbone.get_input_embeddings()

    def entering(self, items: Items, times: Tensor | None = None) -> Tensor:
        """Return what enters the tokens of K events or candidates, (B, K, D): item vectors and, of events, their time.

        Args:
            items: (B, K) of each row, as `ItemTable` gives them.
            times: (B, K, 2) seconds since the event before, and the moment; None of candidates, and where none is read.
        """
        vectors = self._dropout(self.rec_head.input_vectors(items.text, items.input_residual))
        return vectors if times is None else vectors + self.rec_time(times)

    def embed(self, input_ids: Tensor, owner: Tensor, entering: Tensor) -> Tensor:
        """Return token embeddings (B, T, D) with what enters them.

        Args:
            input_ids: (B, T).
            owner: (B, T) 1 + number of the event or candidate that a token belongs to; 0 or less for none.
            entering: (B, K, D) what enters the tokens of each.
        """
        entering = torch.cat([torch.zeros_like(entering[:, :1]), entering], dim=1)  # nothing enters the header
        index = owner.clamp(min=0)[..., None].expand(-1, -1, entering.shape[-1])
        return self.get_input_embeddings()(input_ids) + entering.gather(1, index)

    def content_states(self, items: Tensor) -> Tensor:
        """Return c(u) (B, L, D) after each event with the gate of the language model's share closed; it reads nothing.

        Args:
            items: (B, L) rows of the events' items, `PADDING` behind them.
        """
        with _float32(items.device):
            _, embeddings, (rows,) = self._items_at([items.clamp(min=0)], catalogue=False)
            events = embeddings[rows]
            return self.rec_head.user_states(torch.zeros_like(events), events, items != PADDING)

    def _items_at(self, rows: Sequence[Tensor], catalogue: bool | Tensor) -> tuple[Items, Tensor, list[Tensor]]:
        """Return the items that a `catalogue` stands for, their embeddings, and where each row is among them."""
        places, used = list(rows), None
        if catalogue is not True:
            wanted = torch.cat([each.flatten() for each in rows])
            first = wanted[:0] if catalogue is False else catalogue
            place = torch.full((len(self.rec_items),), PADDING, device=wanted.device)
            place[first] = torch.arange(len(first), device=wanted.device)
            used = torch.cat([first, torch.unique(wanted[place[wanted] < 0])])
            place[used] = torch.arange(len(used), device=wanted.device)
            places = [place[each] for each in rows]
        known = self.rec_items(used)
        return known, self.rec_head.item_embeddings(known.text, known.output_residual), places

    def candidate_states(self, hidden: Tensor, branch: Tensor, num_candidates: int) -> Tensor:
        """Pool the blocks of branches 1 to C of hidden (B, T, D) to (B, C, D); a verbalizer reads their last tokens."""
        pooling = "last" if self.verbalizes else self.config.pooling
        return pool_blocks(hidden, branch, num_candidates, pooling)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        block: Tensor,
        items: Tensor,
        branch: Tensor | None = None,
        candidates: Tensor | None = None,
        candidate_events: Tensor | None = None,
        times: Tensor | None = None,
        query_times: Tensor | None = None,
        catalogue: bool | Tensor = True,
    ) -> RecModelOutput:
        """Read a batch of histories; the arguments but the last are those of `llmrec.text.batch.Batch`.

        `catalogue` says which items to embed. True takes all; False those of the batch alone, the cheaper way to its
        states and candidate scores where a catalogue is large; distinct rows (M,) of the table come first, as a softmax
        over some items wants them, and what else the batch holds behind them.
        """
        num_events = items.shape[1]
        with _float32(input_ids.device):
            wanted = [each.clamp(min=0) for each in (items, candidates) if each is not None]
            known, embeddings, (rows, *others) = self._items_at(wanted, catalogue)
            parts = [self.entering(known.map(lambda each: each[rows]), times)]  # (B, L, D) each, but candidates
            owner = pooled = block
            if branch is not None:
                pooled = state_blocks(block, branch, num_events)
                parts.append(torch.zeros_like(parts[0]) if query_times is None else self.rec_time(query_times))
                owner = torch.where(branch < 0, num_events - branch, block)
            if branch is not None and candidates is not None:
                asked = others[0]
                parts.append(self.entering(known.map(lambda each: each[asked])))
                owner = torch.where(branch > 0, 2 * num_events + branch, owner)
            tokens = self.embed(input_ids, owner, torch.cat(parts, dim=1))
        mask = attention_mask(block, self.causal, branch)
        hidden = run_backbone(self.backbone, tokens, position_ids + self.position_offset, mask)
        with _float32(input_ids.device):
            read = pool_blocks(hidden, pooled, num_events, self.config.pooling)
            events, real = embeddings[rows], items != PADDING
            states = self.rec_head.user_states(self._dropout(read), self._dropout(events), real)
            output = RecModelOutput(states, embeddings, self.rec_head.scale, known.bias)
            if branch is None or candidates is None or candidate_events is None:
                return output
            index = candidate_events[..., None].expand(-1, -1, states.shape[-1])
            dual = (states.gather(1, index) * embeddings[asked]).sum(-1) * output.scale
            dual = dual if known.bias is None else dual + known.bias[asked]
            scores = self.candidate_head(self.candidate_states(hidden, branch, candidates.shape[1]), dual)
        return output._replace(candidate_scores=scores)


def _float32(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


AutoConfig.register("llmrec", RecModelConfig, exist_ok=True)
AutoModel.register(RecModelConfig, RecModel, exist_ok=True)
