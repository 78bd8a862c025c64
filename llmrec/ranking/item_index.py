"""The catalogue as vectors: frozen embeddings of item texts, each distinct text encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from llmrec.data.catalog import Catalog
from llmrec.models.attention import attention_mask
from llmrec.models.capabilities import is_causal, run_backbone
from llmrec.models.item_encoder import ItemTextHead
from llmrec.models.passes import max_positions, position_offset
from llmrec.text.processor import MAX_QUERY_TOKENS, Processor, tokenized

TOKENS_PER_BATCH = 4096


@torch.no_grad()
def encode_texts(
    backbone: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[str],
    max_tokens: int,
    progress: bool = False,
    head: ItemTextHead | None = None,
) -> Tensor:
    """Embed texts by the backbone's last hidden states.

    Args:
        backbone: the checkpoint; its adapter, if any, must be switched off by the caller.
        tokenizer: its tokenizer; special tokens are added as it adds them.
        texts: N texts; equal texts get equal vectors, to the last bit.
        max_tokens: where a text is cut.
        progress: whether to show a progress bar.
        head: from states to vectors; None takes their mean.

    Returns:
        (N, D) unit rows, float32, on the CPU.
    """
    unique = sorted(set(texts))
    head = ItemTextHead() if head is None else head
    written = [head.encoding.written(text) for text in unique]
    encoded = tokenized(tokenizer, written, truncation=True, max_length=max_tokens, split_special_tokens=True)
    order = sorted(range(len(unique)), key=lambda index: len(encoded[index]))
    device = next(backbone.parameters()).device
    offset, causal = position_offset(backbone), is_causal(backbone)
    training = backbone.training
    backbone.eval()
    vectors = torch.empty(len(unique), backbone.config.hidden_size)
    batches = _batches([len(encoded[index]) for index in order])
    for begin, end in tqdm(batches, desc="encoding items", unit="batch", disable=not progress, leave=False):
        rows = order[begin:end]
        width = max(len(encoded[index]) for index in rows)
        input_ids = torch.zeros(len(rows), width, dtype=torch.long)
        real = torch.zeros(len(rows), width, dtype=torch.bool)
        for row, index in enumerate(rows):
            input_ids[row, : len(encoded[index])] = torch.tensor(encoded[index])
            real[row, : len(encoded[index])] = True
        input_ids, real = input_ids.to(device), real.to(device)
        block = torch.where(real, 0, -1)
        positions = torch.arange(width, device=device).expand(len(rows), -1) * real + offset
        embeddings = backbone.get_input_embeddings()(input_ids)
        hidden = run_backbone(backbone, embeddings, positions, attention_mask(block, causal)).float()
        vectors[rows] = head(hidden, real).cpu()
    backbone.train(training)
    lookup = {text: index for index, text in enumerate(unique)}
    return F.normalize(vectors[[lookup[text] for text in texts]], dim=-1)


def check_window(backbone: PreTrainedModel, processor: Processor) -> None:
    """Raise ValueError unless a full window fits the checkpoint's positions."""
    config = processor.config
    queried = MAX_QUERY_TOKENS if processor.asks_now else 0
    if config.max_tokens + config.max_vector_events + queried > max_positions(backbone):
        behind = f" + {queried} of a query" if queried else ""
        raise ValueError(
            f"max_tokens={config.max_tokens!r} + max_vector_events={config.max_vector_events!r}{behind} exceed the "
            f"{max_positions(backbone)} positions of the checkpoint: lower one of them."
        )


def encode_catalog(
    backbone: PreTrainedModel, processor: Processor, catalog: Catalog, head: ItemTextHead, progress: bool = False
) -> Tensor:
    """Return the frozen text embeddings (N, D) of a catalogue, which a head makes of states.

    Raises:
        ValueError: if a full window does not fit the checkpoint's positions.
    """
    check_window(backbone, processor)
    texts = [processor.item_text(catalog.attributes(index)) for index in range(len(catalog))]
    limit = min(processor.config.max_item_tokens, max_positions(backbone))
    return encode_texts(backbone, processor.tokenizer, texts, limit, progress, head)


def _batches(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Group rising lengths into runs of at most `TOKENS_PER_BATCH` padded tokens."""
    batches, begin = [], 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or lengths[end] * (end + 1 - begin) > TOKENS_PER_BATCH:
            batches.append((begin, end))
            begin = end
    return batches
