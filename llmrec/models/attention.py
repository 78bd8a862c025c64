"""Who sees whom: the one function that builds attention masks.

Blocks stand on a trunk (header, then events in order). A branch hangs on the trunk behind some block: it sees the
trunk up to there and itself, no other branch, and nothing on the trunk sees it. One pass over a history so gives the
state after every event, and any number of branches cost one history.
"""

from __future__ import annotations

import torch
from torch import Tensor

TRUNK = 0
"""Branch number of the trunk's tokens."""


def attention_mask(block: Tensor, causal: bool, branch: Tensor | None = None) -> Tensor:
    """Build the additive float32 mask of a batch.

    Args:
        block: (B, T) block of each token: negative for padding, 0 for the header, then one number per event, rising.
            A branch's tokens carry the number of the last trunk block they see.
        causal: also hide later tokens of the own block (decoders); encoders read a block in both directions.
        branch: (B, T) `TRUNK`, or the branch's number from 1; None when there are no branches.

    Returns:
        (B, 1, T, T): 0 where a query (row) sees a key (column), the least float32 elsewhere. Padding sees itself
        alone, which keeps its softmax finite.

    >>> (attention_mask(torch.tensor([[0, 1, 1, 2, -1]]), causal=False)[0, 0] == 0).int()
    tensor([[1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0],
            [0, 0, 0, 0, 1]], dtype=torch.int32)
    """
    query, key = block[:, :, None], block[:, None, :]
    visible = key <= query
    if branch is not None:
        own_branch = (branch[:, :, None] == branch[:, None, :]) & (branch != TRUNK)[:, :, None]
        visible = visible & (branch == TRUNK)[:, None, :] | own_branch
    if causal:
        order = torch.arange(block.shape[1], device=block.device)
        visible = visible & (order[None, :] <= order[:, None])
    real = block >= 0
    visible = visible & real[:, None, :] & real[:, :, None]
    visible = visible | torch.eye(block.shape[1], dtype=torch.bool, device=block.device)
    mask = torch.zeros(visible.shape, dtype=torch.float32, device=block.device)
    # float32 additive: a bool mask is silently wrong under eager attention, a bfloat16 one an error under sdpa.
    return mask.masked_fill_(~visible, torch.finfo(torch.float32).min)[:, None]
