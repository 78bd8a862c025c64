"""Who sees whom: the one function that builds attention masks.

Blocks stand on a trunk (header, then events in order). A branch hangs on the trunk behind some block: it sees the
trunk up to there and itself, no other branch, and nothing on the trunk sees it. One pass over a history so gives the
state after every event, and any number of branches cost one history.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.text.batch import TRUNK


def attention_mask(
    block: Tensor, causal: bool, branch: Tensor | None = None, num_cached: int = 0, sequence: Tensor | None = None
) -> Tensor:
    """Build the additive float32 mask of a batch.

    Args:
        block: (B, T) block of each token: negative for padding, 0 for the header, then one number per event, rising.
            A branch's tokens carry the number of the last trunk block they see.
        causal: also hide later tokens of the own block (decoders); encoders read a block in both directions.
        branch: (B, T) `TRUNK`, or the branch's number from 1; None when there are no branches.
        num_cached: S, tokens at the front whose keys and values are cached: they are seen, and ask nothing.
        sequence: (B, T) number of the history that a token belongs to, where several are packed into one row; they do
            not see each other. None where a row is one history.

    Returns:
        (B, 1, T - S, T): 0 where a query (row) sees a key (column), the least float32 elsewhere. Padding sees itself
        alone, which keeps its softmax finite.

    >>> (attention_mask(torch.tensor([[0, 1, 1, 2, -1]]), causal=False)[0, 0] == 0).int()
    tensor([[1, 0, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0],
            [0, 0, 0, 0, 1]], dtype=torch.int32)
    """
    order = torch.arange(block.shape[1], device=block.device)
    query, key = (block[:, num_cached:, None], block[:, None, :])
    visible = key <= query
    if branch is not None:
        asking, asked = branch[:, num_cached:, None], branch[:, None, :]
        visible = visible & (asked == TRUNK) | (asking == asked) & (asking != TRUNK)
    if sequence is not None:
        visible = visible & (sequence[:, num_cached:, None] == sequence[:, None, :])
    if causal:
        visible = visible & (order <= order[num_cached:, None])
    visible = visible & (key >= 0) & (query >= 0)
    visible = visible | (order == order[num_cached:, None])
    mask = torch.zeros(visible.shape, dtype=torch.float32, device=block.device)
    # float32 additive: a bool mask is silently wrong under eager attention, a bfloat16 one an error under sdpa.
    return mask.masked_fill_(~visible, torch.finfo(torch.float32).min)[:, None]
