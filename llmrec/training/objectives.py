"""What a model is asked of unlabelled histories: which tokens it has to tell, and from what."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmrec.losses.catalogue import IGNORED
from llmrec.text.packing import PackedBatch


def masked_events(
    batch: PackedBatch, mask_token: int, kept: Sequence[int], rate: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mask whole events, each with probability `rate`; of a history of one event, single tokens instead.

    All of them become the mask token: an event that kept some of its words would be told by them. Header, padding and
    the tokens `kept` are never masked nor asked.

    Args:
        batch: packed histories.
        mask_token: what stands for a masked token.
        kept: special tokens, such as the separator that ends an event.
        rate: share of the events, in (0, 1).
        generator: source of randomness, on the CPU.

    Returns:
        (B, T) input ids, and (B, T) labels: the token where it was masked, `IGNORED` elsewhere.

    References:
        Masked language modelling: Devlin et al. 2019 (BERT), arXiv:1810.04805, section 3.1; whole items instead of
        word pieces as in BERT4Rec (Sun et al. 2019), arXiv:1904.06690.
    """
    input_ids, block, sequence = batch["input_ids"], batch["block"], batch["sequence"].clamp(min=0)
    allowed = (block > 0) & ~torch.isin(input_ids, torch.tensor(list(kept), dtype=torch.long))
    num_sequences, num_blocks = int(sequence.max()) + 1, int(block.max()) + 1
    event = sequence * num_blocks + block.clamp(min=0)
    by_event = torch.rand(len(block), num_sequences * num_blocks, generator=generator).gather(1, event)
    by_token = torch.rand(block.shape, generator=generator)
    longest = torch.zeros(len(block), num_sequences, dtype=torch.long)
    longest.scatter_reduce_(1, sequence, block, "amax")
    alone = longest.gather(1, sequence) <= 1
    chosen = allowed & (torch.where(alone, by_token, by_event) < rate)
    return input_ids.masked_fill(chosen, mask_token), torch.where(chosen, input_ids, IGNORED)


def next_tokens(batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Ask for the token that comes next in the same history, header tokens excepted.

    Returns:
        (B, T) input ids as they are, and (B, T) labels.

    >>> batch = {"input_ids": torch.tensor([[1, 5, 6, 1, 7]]), "block": torch.tensor([[0, 1, 1, 0, 1]])}
    >>> next_tokens({**batch, "sequence": torch.tensor([[0, 0, 0, 1, 1]])})[1].tolist()
    [[5, 6, -100, 7, -100]]
    """
    input_ids, block, sequence = batch["input_ids"], batch["block"], batch["sequence"]
    labels = torch.full_like(input_ids, IGNORED)
    follows = (sequence[:, 1:] == sequence[:, :-1]) & (block[:, 1:] > 0)
    labels[:, :-1] = torch.where(follows, input_ids[:, 1:], IGNORED)
    return input_ids, labels
