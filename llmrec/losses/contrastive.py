"""Contrastive losses of paired embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.05


def info_nce(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the symmetric InfoNCE of paired embeddings, with in-batch negatives.

    Args:
        first: (U, D) unit embeddings of texts.
        second: (U, D) those of the same users' other halves.
        temperature: what similarities are divided by.

    Returns:
        () mean cross-entropy; zero for a single user.

    References:
        InfoNCE: van den Oord et al. 2018, arXiv:1807.03748, equation 4; on crops of a user's history CL4SRec (Xie et
        al. 2022), arXiv:2010.14395.

    >>> info_nce(torch.eye(2), torch.eye(2)) < 1e-6
    tensor(True)
    """
    logits = first @ second.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
