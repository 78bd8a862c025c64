"""The softmax of a positive among sampled candidates, for heads that read each candidate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
