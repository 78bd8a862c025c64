"""Several histories in one row of tokens: nothing is padded but what no history fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from llmrec.text.batch import HEADER, PADDING, Pass


class PackedBatch(TypedDict):
    """Tensors of a batch of packed rows, all (B, T) int64.

    input_ids: token ids.
    position_ids: position of each token in its own history.
    block: `PADDING`, `HEADER`, or 1 + index of the event in its own history.
    sequence: number of the history in its row.
    """

    input_ids: Tensor
    position_ids: Tensor
    block: Tensor
    sequence: Tensor


def pack(lengths: Sequence[int] | np.ndarray, budget: int) -> list[list[int]]:
    """Share rows of at most `budget` tokens among histories: the longest first, each into the first row with room.

    References:
        First-fit decreasing: at most 11/9 of the fewest rows, and 6/9 of a row (Dósa 2007).

    Raises:
        ValueError: if a history alone is longer than a row.

    >>> pack([3, 9, 5, 2], budget=10)
    [[1], [2, 0, 3]]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and sizes.max() > budget:
        raise ValueError(
            f"a history of {int(sizes.max())} tokens does not fit a row of {budget!r}: give longer rows (row_tokens)."
        )
    rows: list[list[int]] = []
    room = np.empty(0, dtype=np.int64)
    for index in np.argsort(-sizes, kind="stable").tolist():
        fits = np.flatnonzero(room >= sizes[index])
        if len(fits):
            rows[fits[0]].append(index)
            room[fits[0]] -= sizes[index]
        else:
            rows.append([index])
            room = np.append(room, budget - sizes[index])
    return rows


def collate_packed(rows: Sequence[Sequence[Pass]], header: Sequence[int], pad_token_id: int) -> PackedBatch:
    """Lay the passes of each row one behind another, and pad the rows on the right.

    Args:
        rows: B rows of passes without branches; one pass in each is the usual padded batch.
        header: token ids that every history begins with.
        pad_token_id: what fills the shorter rows.

    >>> batch = collate_packed([[Pass(np.array([7]), [[11, 12]]), Pass(np.array([8]), [[13]])]], [1], pad_token_id=0)
    >>> batch["input_ids"].tolist(), batch["position_ids"].tolist(), batch["sequence"].tolist()
    ([[1, 11, 12, 1, 13]], [[0, 1, 2, 0, 1]], [[0, 0, 0, 1, 1]])
    """
    width = max(sum(len(header) + sum(map(len, one.blocks)) for one in row) for row in rows)
    filled = {"input_ids": pad_token_id, "position_ids": 0, "block": PADDING, "sequence": PADDING}
    arrays = {name: np.full((len(rows), width), value, dtype=np.int64) for name, value in filled.items()}
    for index, row in enumerate(rows):
        begin = 0
        for number, one in enumerate(row):
            sizes = [len(header), *map(len, one.blocks)]
            here = slice(begin, begin := begin + sum(sizes))
            arrays["input_ids"][index, here] = [*header, *(token for block in one.blocks for token in block)]
            arrays["position_ids"][index, here] = np.arange(sum(sizes))
            arrays["block"][index, here] = np.repeat(np.arange(HEADER, len(sizes)), sizes)
            arrays["sequence"][index, here] = number
    return PackedBatch(**{name: torch.from_numpy(array) for name, array in arrays.items()})  # type: ignore[typeddict-item]
