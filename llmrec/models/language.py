"""Words from states: the head that predicts tokens, and the model that is adapted by it."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from llmrec.checkpoints import Checkpoint
from llmrec.models.adapter import inner
from llmrec.models.attention import attention_mask
from llmrec.models.backbone import load_with_head
from llmrec.models.capabilities import capabilities, is_causal, run_backbone
from llmrec.models.modeling import RecModel


def token_head(checkpoint: Checkpoint, causal: bool) -> tuple[nn.Module, bool]:
    """Return the checkpoint's module from states to the logits of tokens, and whether it has to be learned.

    A sentence encoder was saved without one. Its architecture's is then built fresh, over the checkpoint's own token
    embeddings, which stay as they are.

    Raises:
        ValueError: if the architecture's head is not a single module.
    """
    kind: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    whole, report = load_with_head(kind, checkpoint)
    heads = [module for name, module in whole.named_children() if name != whole.base_model_prefix]
    if len(heads) != 1:
        raise ValueError(f"{checkpoint.name!r} ({whole.config.model_type}) predicts tokens by {len(heads)} modules.")
    missing = [name for name in report["missing_keys"] if not name.startswith(f"{whole.base_model_prefix}.")]
    head = heads[0].eval().requires_grad_(bool(missing))
    for output in (whole.get_output_embeddings(), *[m for m in head.modules() if isinstance(m, nn.Embedding)]):
        output.weight.requires_grad_(False)  # tied to the token embeddings
    return head, bool(missing)


class LanguageOutput(NamedTuple):
    """What a batch of packed histories gives.

    Attributes:
        losses: (M,) cross-entropy of every token asked for, in nats, in the order of the batch.
        base_losses: (M,) those of the checkpoint without its adapter, or None.
    """

    losses: Tensor
    base_losses: Tensor | None


class LanguageModel(nn.Module):
    """An adapted checkpoint that predicts the words of histories, and beside it the checkpoint as it was.

    Both have a head of the same kind. Where heads have to be learned, each is learned on the same batches, so that what
    the two differ in is the adaptation alone.

    Args:
        model: the adapted `RecModel`; its token embeddings are read bare, since an item vector would tell the item.
        head: from states to logits.
        learned: whether the head is trained.
        base: the checkpoint as it was, where its own weights are trained; with LoRA the model holds both.
    """

    def __init__(
        self, model: PeftModel | RecModel, head: nn.Module, learned: bool, base: PreTrainedModel | None = None
    ) -> None:
        super().__init__()
        assert isinstance(model, PeftModel) != (base is not None)
        self.model = model
        can = capabilities(self.backbone)
        if not can.branches:
            raise ValueError(
                f"{self.backbone.config.model_type} reads no packed histories, for {can.lacks}.\n"
                "Continued pretraining packs histories: give another checkpoint, or train without it."
            )
        self.base = None if base is None else base.requires_grad_(False)
        self.heads = nn.ModuleDict({"adapted": head, "base": copy.deepcopy(head)})
        self.learned = learned
        self.compares = learned
        """Whether a pass also gives the losses of the base."""

    @property
    def backbone(self) -> PreTrainedModel:
        """The checkpoint's model, adapted: LoRA in its layers, or its own weights trained."""
        return inner(self.model).backbone

    def hidden(self, input_ids: Tensor, position_ids: Tensor, block: Tensor, sequence: Tensor) -> Tensor:
        """Return the last hidden states (B, T, D) of packed histories; see `PackedBatch`."""
        return self._read(self.backbone, input_ids, position_ids, block, sequence)

    @torch.no_grad()
    def base_hidden(self, input_ids: Tensor, position_ids: Tensor, block: Tensor, sequence: Tensor) -> Tensor:
        """Return those of the checkpoint as it was."""
        if self.base is not None:
            return self._read(self.base, input_ids, position_ids, block, sequence)
        assert isinstance(self.model, PeftModel)
        with self.model.disable_adapter():
            return self.hidden(input_ids, position_ids, block, sequence)

    def _read(
        self, backbone: PreTrainedModel, input_ids: Tensor, position_ids: Tensor, block: Tensor, sequence: Tensor
    ) -> Tensor:
        mask = attention_mask(block, is_causal(backbone), sequence=sequence)
        embed: Any = backbone.get_input_embeddings()
        return run_backbone(backbone, embed(input_ids), position_ids + inner(self.model).position_offset, mask)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, block: Tensor, sequence: Tensor, labels: Tensor, **texts: Tensor
    ) -> tuple[LanguageOutput, Tensor | None]:
        """Return the losses of the tokens asked for, and the embeddings (S, D) of `texts`, packed texts, if given."""
        packed = (input_ids, position_ids, block, sequence)
        losses = self._losses("adapted", self.hidden(*packed), labels)
        base = None
        if self.compares:
            with torch.set_grad_enabled(self.training and self.learned):
                base = self._losses("base", self.base_hidden(*packed), labels)
        return LanguageOutput(losses, base), self.embed_texts(**texts) if texts else None

    def _losses(self, head: str, hidden: Tensor, labels: Tensor) -> Tensor:
        asked = labels >= 0
        logits = self.heads[head](hidden[asked])
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(logits.float(), labels[asked], reduction="none")

    def embed_texts(self, text_ids: Tensor, text_positions: Tensor, text_sequence: Tensor) -> Tensor:
        """Return the unit embeddings (S, D) of packed texts, as the catalogue's are made (`encode_texts`).

        Args:
            text_ids: (B, T) token ids.
            text_positions: (B, T) position in its text.
            text_sequence: (B, T) number of the text among the S of the batch, negative for padding.
        """
        real = text_sequence >= 0
        hidden = self.hidden(text_ids, text_positions, torch.where(real, 0, -1), text_sequence).float()
        place = text_sequence[real], text_positions[real]
        size = int(place[0].max()) + 1, int(place[1].max()) + 1
        states = hidden.new_zeros(*size, hidden.shape[-1]).index_put(place, hidden[real])
        there = torch.zeros(size, dtype=torch.bool, device=hidden.device).index_put(place, real[real])
        return F.normalize(inner(self.model).rec_texts(states, there), dim=-1)
