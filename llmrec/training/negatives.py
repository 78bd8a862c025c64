"""Which items a positive is scored against in training a candidate head: drawn anew at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec.text.batch import PADDING

KINDS = ("proposed", "popular", "text", "history", "uniform")


def draw_negatives(
    kinds: Sequence[str],
    num_negatives: int,
    labels: Tensor,
    scores: Tensor,
    counts: Tensor,
    text: Tensor,
    seen: Tensor,
    mask_seen: bool,
    num_proposed: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw negatives for every position, the kinds in equal shares, no item twice and never the positive.

    Args:
        kinds: some of `KINDS`: `proposed`, among the items that the dual head puts first, as the cascade does;
            `popular`, as often as items are chosen; `text`, among the nearest to the positive by text; `history`, from
            the items seen before, where those may come again; `uniform`, any.
        num_negatives: K; where the catalogue or a kind has no more, fewer are drawn.
        labels: (P,) row of the positive.
        scores: (P, N) of the dual head.
        counts: (N,) training targets of each item; one without any is no negative.
        text: (N, D) unit text embeddings.
        seen: (P, N) bool, what the history holds.
        mask_seen: whether items seen cannot be candidates.
        num_proposed: items that `proposed` and `text` draw from.
        generator: source of randomness, on the CPU.

    Returns:
        (P, K) rows of items, `PADDING` where one is missing.
    """
    allowed = (counts > 0).expand(len(labels), -1).clone()
    allowed.scatter_(1, labels[:, None], False)
    if mask_seen:
        allowed &= ~seen
    drawn = []
    for number, kind in enumerate(kinds):
        share = num_negatives // len(kinds) + (number < num_negatives % len(kinds))
        if not share:
            continue
        if kind == "popular":
            weights = counts.float().expand_as(allowed)
        elif kind == "uniform":
            weights = torch.ones_like(scores)
        elif kind == "history":
            weights = seen.float()
        else:
            near = scores if kind == "proposed" else text[labels] @ text.T
            first = near.masked_fill(~allowed, -torch.inf).topk(min(num_proposed, near.shape[1])).indices
            weights = torch.zeros_like(scores).scatter_(1, first, 1.0)
        weights = (weights * allowed).cpu()
        none = weights.sum(1) == 0
        weights[none] = 1.0  # multinomial wants something to draw; it is thrown away
        items = torch.multinomial(weights, min(share, weights.shape[1]), replacement=False, generator=generator)
        items = items.masked_fill((weights.gather(1, items) == 0) | none[:, None], PADDING).to(labels.device)
        allowed.scatter_(1, torch.where(items == PADDING, labels[:, None], items), False)
        drawn.append(F.pad(items, (0, share - items.shape[1]), value=PADDING))
    return torch.cat(drawn, dim=1)
