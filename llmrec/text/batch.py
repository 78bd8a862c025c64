"""The one tensor contract between text and models: what a batch of passes holds.

A pass is one row: the header, then one block of tokens per event. `block` says which token belongs to which event, so
masks, pooling and item vectors need nothing else, and padding may stand on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

PADDING = -1
"""Block of a padding token, and item of a padding event."""
HEADER = 0
"""Block of the header's tokens; event l of a pass is block l + 1."""


@dataclass(frozen=True)
class Pass:
    """One row of a batch, before padding.

    Attributes:
        items: (L,) row of each event's item in the item table.
        blocks: L lists of token ids, one per event.
        offset: position in the whole history of the first event here.
        first: index of the first event whose state this pass is for; earlier ones are context.
    """

    items: np.ndarray
    blocks: Sequence[Sequence[int]]
    offset: int = 0
    first: int = 0


class Batch(TypedDict):
    """Tensors of a batch; all int64.

    input_ids: (B, T) token ids.
    position_ids: (B, T) position of each token in its row, counted from its first real token.
    block: (B, T) `PADDING`, `HEADER`, or 1 + index of the event.
    items: (B, L) row of each event's item in the item table, or `PADDING`.
    """

    input_ids: Tensor
    position_ids: Tensor
    block: Tensor
    items: Tensor


def collate(passes: Sequence[Pass], header: Sequence[int], pad_token_id: int, padding_side: str = "right") -> Batch:
    """Pad passes to one batch.

    Args:
        passes: B passes.
        header: token ids every row begins with.
        pad_token_id: what fills the shorter rows.
        padding_side: `right` or `left`.

    >>> batch = collate([Pass(np.array([7]), [[11, 12]]), Pass(np.array([7, 8]), [[11], [13]])], [1], pad_token_id=0)
    >>> batch["input_ids"].tolist(), batch["block"].tolist(), batch["items"].tolist()
    ([[1, 11, 12], [1, 11, 13]], [[0, 1, 1], [0, 1, 2]], [[7, -1], [7, 8]])
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side={padding_side!r} is neither 'left' nor 'right'.")
    widths = [len(header) + sum(map(len, row.blocks)) for row in passes]
    num_tokens, num_events = max(widths), max(len(row.blocks) for row in passes)
    shape = (len(passes), num_tokens)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    block = np.full(shape, PADDING, dtype=np.int64)
    items = np.full((len(passes), num_events), PADDING, dtype=np.int64)
    for index, (row, width) in enumerate(zip(passes, widths, strict=True)):
        real = slice(0, width) if padding_side == "right" else slice(num_tokens - width, num_tokens)
        input_ids[index, real] = np.concatenate([header, *row.blocks]) if width else []
        position_ids[index, real] = np.arange(width)
        sizes = [len(header), *map(len, row.blocks)]
        block[index, real] = np.repeat(np.arange(len(sizes)), sizes)
        items[index, : len(row.blocks)] = row.items
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        block=torch.from_numpy(block),
        items=torch.from_numpy(items),
    )
