"""Losses as functions of tensors, with no model inside."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec.baselines.softmax import catalogue_softmax, seen_before

IGNORED = -100
"""Label of a position that is not trained."""


def full_softmax(
    states: Tensor,
    items: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    seen: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum the cross-entropy of the next item over all positions, against all given items (`catalogue_softmax`).

    A sum, not a mean: dividing by the number of labels of the whole step makes the gradient independent of how the
    step was cut into batches and processes.

    Args:
        states: (B, L, D) user states after each event.
        items: (N, D) embeddings of the items to choose among.
        scale: () 1 / tau.
        bias: (N,) item biases, or None.
        labels: (B, L) row of the next event's item, or `IGNORED`.
        seen: (B, L) row of each event's own item, negative for padding: at every position the items up to there leave
            the softmax, unless one is the label. What a ranking without seen items never shows need not be unlearnt.
            None keeps all.
        weights: (B, L) what each position counts; None counts all alike.

    Returns:
        () sum over labelled positions of -weight * log softmax(scale * states . items + bias)[label].

    >>> loss = full_softmax(torch.zeros(1, 2, 3), torch.zeros(4, 3), torch.tensor(1.0), None, torch.tensor([[0, -100]]))
    >>> round(loss.item(), 4)  # log 4: nothing is known of one of four items
    1.3863
    """
    trained = labels != IGNORED
    before = None if seen is None else seen_before(seen)[trained]
    counts = None if weights is None else weights[trained]
    return catalogue_softmax(states[trained] * scale, items, bias, labels[trained], before, counts)


def candidate_softmax(scores: Tensor, places: Tensor) -> Tensor:
    """Average the cross-entropy of a position's positive against its negatives over P positions.

    Args:
        scores: (...) scores of all candidates.
        places: (P, 1 + K) place of each position's candidates in the flat scores, the positive first; negative where
            there is none.

    References:
        Sampled candidates re-ranked by softmax: Nogueira and Cho 2019, arXiv:1901.04085, and the localised contrastive
        loss of Gao et al. 2021, arXiv:2101.08751, eq. 4, whose negatives come from the first stage as here.

    >>> round(candidate_softmax(torch.tensor([0.0, 9.0, 0.0]), torch.tensor([[0, 2, -1]])).item(), 4)  # log 2
    0.6931
    """
    logits = scores.flatten()[places.clamp(min=0)].masked_fill(places < 0, float("-inf"))
    return F.cross_entropy(logits, torch.zeros(len(places), dtype=torch.long, device=logits.device))
