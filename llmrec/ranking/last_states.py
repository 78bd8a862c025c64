"""User states after many histories at once: the last window of each is read, in batches sorted by length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.models.modeling import RecModel
from llmrec.text.processor import Processor
from llmrec.text.request import Request

READ_AT_ONCE = 32
"""Histories in a batch."""


@torch.inference_mode()
def last_states(model: RecModel, processor: Processor, requests: Sequence[Request]) -> Tensor:
    """Return the user states (B, D) after the histories of B requests; the model stops training."""
    passes = []
    for request in requests:
        blocks = processor.blocks(request.items, request.timestamps, request)
        window = processor.windows(blocks)[-1]
        row = processor.read(request.items, blocks, window, request.timestamps)
        event, now = np.array([len(row.items) - 1]), np.array([request.now])
        passes.append(processor.ask(row, request.timestamps, event, now))
    model.eval()  # it may come from training, where things are dropped at random
    states = torch.empty(len(passes), model.rec_items.text.shape[1], device=model.device)
    order = sorted(range(len(passes)), key=lambda index: processor.num_tokens(passes[index]))
    for begin in range(0, len(order), READ_AT_ONCE):
        rows = order[begin : begin + READ_AT_ONCE]
        batch: dict[str, Any] = dict(processor.batch([passes[row] for row in rows]))
        output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, catalogue=False)
        last = torch.tensor([len(passes[row].items) - 1 for row in rows], device=model.device)
        states[rows] = output.states[torch.arange(len(rows), device=model.device), last]
    return states
