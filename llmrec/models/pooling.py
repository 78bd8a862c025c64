"""Token states to event states."""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.text.batch import TRUNK


def pool_blocks(hidden: Tensor, block: Tensor, num_events: int, pooling: str) -> Tensor:
    """Pool every event's tokens to one state, in float32.

    Args:
        hidden: (B, T, D) token states.
        block: (B, T) 1 + index of the event a token belongs to; 0 or less for other tokens.
        num_events: L.
        pooling: `mean` of the block's tokens, or the state of its `last` token.

    Returns:
        (B, L, D); zero where a row has no such event.

    >>> hidden = torch.tensor([[[9.0], [1.0], [3.0], [5.0]]])
    >>> block = torch.tensor([[0, 1, 1, 2]])
    >>> [pool_blocks(hidden, block, 2, pooling).flatten().tolist() for pooling in ("mean", "last")]
    [[2.0, 5.0], [3.0, 5.0]]
    """
    events = torch.arange(1, num_events + 1, device=block.device)
    belongs = block[:, None, :] == events[None, :, None]  # (B, L, T)
    if pooling == "last":
        order = torch.arange(block.shape[1], device=block.device)
        last = torch.where(belongs, order, -1).amax(-1)  # (B, L); -1 where there is none
        states = hidden.float().gather(1, last.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1]))
        return states * (last >= 0)[..., None]
    weights = belongs.float()
    return (weights / weights.sum(-1, keepdim=True).clamp(min=1)) @ hidden.float()


def state_blocks(block: Tensor, branch: Tensor, num_events: int) -> Tensor:
    """Say into the state of which event a token is pooled: a query block's where one hangs on it, else its own.

    Args:
        block: (B, T) as `llmrec.text.batch.Batch` has it.
        branch: (B, T) likewise.
        num_events: L.

    Returns:
        (B, T) 1 + index of the event; 0 or less for tokens of no state.

    >>> block = torch.tensor([[0, 1, 1, 2, 1, 2, 1, -1]])
    >>> branch = torch.tensor([[0, 0, 0, 0, 1, 1, -1, 0]])  # two candidates' tokens, and a query behind the first event
    >>> state_blocks(block, branch, num_events=2).tolist()
    [[0, 0, 0, 2, 0, 0, 1, 0]]
    """
    event = torch.where(branch == TRUNK, block, -branch).clamp(min=0)  # a candidate's tokens are of none
    asked = torch.zeros(len(block), num_events + 1, dtype=torch.bool, device=block.device)
    asked.scatter_(1, (-branch).clamp(min=0), True)
    return event.masked_fill((branch == TRUNK) & asked.gather(1, event), 0)
