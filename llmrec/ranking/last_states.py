"""User states after many histories at once: the last window of each is read, in batches sorted by length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.models.items import WithNewItems
from llmrec.models.modeling import RecModel
from llmrec.models.sharing import with_items
from llmrec.text.processor import Processor
from llmrec.text.request import Request

READ_AT_ONCE = 32
"""Histories in a batch."""


@torch.inference_mode()
def last_states(
    model: RecModel, processor: Processor, requests: Sequence[Request], encode: Callable[[list[int]], Tensor]
) -> Tensor:
    """Return the user states (B, D) after the histories of B requests.

    Args:
        model: in evaluation mode.
        processor: turns histories into batches.
        requests: histories that share their new items.
        encode: places of new items to the frozen embeddings (M, D) of their texts; asked for those that are read.
    """
    passes = []
    for request in requests:
        blocks = processor.blocks(request.items, request.timestamps, request)
        window = processor.windows(blocks)[-1]
        row = processor.read(request.items, blocks, window, request.timestamps)
        event, now = np.array([len(row.items) - 1]), np.array([request.now])
        passes.append(processor.ask(row, request.timestamps, event, now))
    rows, known = np.unique(np.concatenate([each.items for each in passes])), len(model.rec_items)
    if len(new := rows[rows >= known] - known):
        text = torch.zeros(int(new[-1]) + 1, model.backbone.config.hidden_size, device=model.device)
        text[torch.from_numpy(new).to(text.device)] = encode(new.tolist()).to(text)
        model = with_items(model, WithNewItems(model.rec_items, text))
    states = torch.empty(len(passes), model.backbone.config.hidden_size, device=model.device)
    order = sorted(range(len(passes)), key=lambda index: processor.num_tokens(passes[index]))
    for begin in range(0, len(order), READ_AT_ONCE):
        chosen = order[begin : begin + READ_AT_ONCE]
        batch: dict[str, Any] = dict(processor.batch([passes[row] for row in chosen]))
        output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, catalogue=False)
        last = torch.tensor([len(passes[row].items) - 1 for row in chosen], device=model.device)
        states[chosen] = output.states[torch.arange(len(chosen), device=model.device), last]
    return states
