"""`RecModel` joins backbone, item table and head: one pass over histories gives a user state after every event."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from llmrec.models.attention import attention_mask
from llmrec.models.backbone import is_causal, position_offset, run_backbone
from llmrec.models.heads import DualHead
from llmrec.models.items import ItemTable
from llmrec.models.pooling import pool_blocks
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
        states: (B, L, D) unit user states c(u) after each event; rubbish where an event is padding.
        embeddings: (N, D) unit item embeddings c(i).
        scale: () 1 / tau.
        bias: (N,) what items add to their scores, or None.
    """

    states: Tensor
    embeddings: Tensor
    scale: Tensor
    bias: Tensor | None


class RecModel(PreTrainedModel):
    """A backbone that reads histories, and a head that scores items.

    Args:
        config: its `backbone_config` says how to build the backbone where none is given.
        backbone: a loaded checkpoint.
        items: the known items.

    Attributes:
        vector_dropout: share of values that a training step leaves out of the vectors that enter the tokens, of the
            states that come out and of the item embeddings that the content path averages.
    """

    config_class = RecModelConfig
    base_model_prefix = "backbone"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = _supports_sdpa = _supports_attention_backend = True
    _keep_in_fp32_modules_strict = {"rec_head", "rec_items"}  # noqa: RUF012 (set by the base class)

    def __init__(
        self, config: RecModelConfig, backbone: nn.Module | None = None, items: ItemTable | None = None
    ) -> None:
        super().__init__(config)
        reader: Any = backbone if backbone is not None else AutoModel.from_config(config.backbone_config)
        self.backbone = reader
        hidden_size = reader.config.hidden_size
        self.rec_head = DualHead(hidden_size)
        self.rec_items = items if items is not None else ItemTable(torch.zeros(0, hidden_size), hybrid=False)
        self.vector_dropout = 0.0
        self.causal = is_causal(self.backbone.config)
        self.position_offset = position_offset(self.backbone)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave everything as built: the backbone is pretrained, and zeros and identities elsewhere are meant."""

    @classmethod
    def from_backbone(cls, backbone: Any, pooling: str, items: ItemTable) -> RecModel:
        """Join a loaded backbone and an item table with a fresh head."""
        config = RecModelConfig(  # type: ignore[call-arg]
            backbone_config=backbone.config,
            pooling=pooling,
            # Without it the setter resets the backbone's own choice, recursively.
            attn_implementation=backbone.config._attn_implementation,
        )
        return cls(config, backbone=backbone, items=items)

    def _dropout(self, vectors: Tensor) -> Tensor:
        return F.dropout(vectors, self.vector_dropout, self.training)

    def get_input_embeddings(self) -> nn.Module:
        """Return the backbone's token embeddings."""
        return self.backbone.get_input_embeddings()

    def forward(self, input_ids: Tensor, position_ids: Tensor, block: Tensor, items: Tensor) -> RecModelOutput:
        """Read a batch of histories; the arguments are those of `llmrec.text.batch.Batch`."""
        with _float32(input_ids.device):
            known = self.rec_items()
            embeddings = self.rec_head.item_embeddings(known.text, known.output_residual)  # (N, D)
            rows, real = items.clamp(min=0), items != PADDING  # (B, L)
            residual = None if known.input_residual is None else known.input_residual[rows]
            entering = self._dropout(self.rec_head.input_vectors(known.text[rows], residual)) * real[..., None]
            entering = torch.cat([torch.zeros_like(entering[:, :1]), entering], dim=1)  # nothing enters the header
            index = block.clamp(min=0)[..., None].expand(-1, -1, entering.shape[-1])
            tokens = self.get_input_embeddings()(input_ids) + entering.gather(1, index)
        mask = attention_mask(block, self.causal)
        hidden = run_backbone(self.backbone, tokens, position_ids + self.position_offset, mask)
        with _float32(input_ids.device):
            read = pool_blocks(hidden, block, items.shape[1], self.config.pooling)
            states = self.rec_head.user_states(self._dropout(read), self._dropout(embeddings[rows]), real)
        return RecModelOutput(states=states, embeddings=embeddings, scale=self.rec_head.scale, bias=known.bias)


def _float32(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


AutoConfig.register("llmrec", RecModelConfig, exist_ok=True)
AutoModel.register(RecModelConfig, RecModel, exist_ok=True)
