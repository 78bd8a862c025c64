"""Text embeddings crowd around one direction; whitening spreads them, so that what tells items apart counts."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.1
"""Share of the mean variance added to every direction: those that the items hardly use are not blown up."""


def whitening(text: Tensor) -> Tensor:
    """Return the symmetric matrix W (D, D) that makes embeddings (N, D) of items about as wide in every direction.

    W is (C + ridge · tr(C) / D · I)^(-1/2), C the second moments of the rows, scaled to a mean diagonal of 1. Nothing
    is subtracted, so that it is linear: the embedding of an item that comes later is `W @ text` too. A catalogue
    without texts gets the identity.

    References:
        ZCA whitening: Bell and Sejnowski 1997; of sentence embeddings Su et al. 2021, arXiv:2103.15316; of items in
        sequential recommendation Zhang et al. 2024 (WhitenRec), arXiv:2402.10602.

    >>> text = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])
    >>> text.pow(2).mean(0), (text @ whitening(text)).pow(2).mean(0)
    (tensor([0.7600, 0.2400]), tensor([0.4260, 0.3758]))
    """
    rows = text.cpu().double()
    moments = rows.T @ rows / max(len(rows), 1)
    mean = moments.trace() / len(moments)
    if not mean > 0:
        return torch.eye(len(moments)).to(text)
    variances, directions = torch.linalg.eigh(moments + RIDGE * mean * torch.eye(len(moments)))
    matrix = (directions * variances.rsqrt()) @ directions.T
    return (matrix * (len(matrix) / matrix.trace())).to(text)
