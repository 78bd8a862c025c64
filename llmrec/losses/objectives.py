"""Objectives of the dual head with settings of their own; each is called as `catalogue_softmax` is.

A loss of one's own is a function or a class like these: it takes the states (P, D) of P positions times 1 / tau, the
vectors (N, D) and biases (N,) of the items, the labels (P,), the items seen at each position (P, S), which a ranking
would not show, and what each position counts (P,), and returns the sum () over the positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec.losses.catalogue import catalogue_softmax
from llmrec.losses.sampled import draw_negatives, gbce_beta, item_logits


@dataclass
class CatalogueSoftmax:
    """The softmax over all items; the default (`catalogue_softmax`)."""

    def __call__(
        self,
        states: Tensor,
        items: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        seen: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the sum over positions."""
        return catalogue_softmax(states, items, bias, labels, seen, weights)


@dataclass
class _Sampled:
    """An objective over items drawn uniformly for each call.

    Attributes:
        num_negatives: Items that each label stands among, K.
        seed: Of the draws, which go on from call to call.
    """

    num_negatives: int = 256
    seed: int = 0
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives={self.num_negatives!r}: give at least 1.")
        self._generator = torch.Generator().manual_seed(self.seed)


@dataclass
class SampledSoftmax(_Sampled):
    """The softmax over the label and uniform negatives that all positions of a step share.

    Drawn uniformly, negatives need no logQ correction; one that is the label, or was seen, leaves the softmax there.

    References:
        Sampled softmax: Jean et al. 2015, arXiv:1412.2007; in recommendation Klenitskiy and Vasilev 2023,
        arXiv:2309.07602.

    >>> loss = SampledSoftmax(num_negatives=1)  # of two items the other one, or nothing
    >>> value = loss(torch.zeros(1, 2), torch.zeros(2, 2), None, torch.tensor([0])).item()
    >>> round(value, 4) in (0.0, 0.6931)
    True
    """

    def __call__(
        self,
        states: Tensor,
        items: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        seen: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the sum over positions."""
        drawn = torch.randint(len(items), (self.num_negatives,), generator=self._generator).to(labels.device)
        negative = F.linear(states, items[drawn], None if bias is None else bias[drawn])
        out = drawn[None, :] == labels[:, None]
        if seen is not None:
            out |= (drawn[None, :, None] == seen[:, None, :]).any(-1)
        positive = item_logits(states, items, bias, labels[:, None])
        logits = torch.cat([positive, negative.masked_fill(out, float("-inf"))], dim=1)
        losses = F.cross_entropy(logits, torch.zeros_like(labels), reduction="none")
        return losses.sum() if weights is None else (losses * weights).sum()


@dataclass
class BinaryCrossEntropy(_Sampled):
    """The binary cross-entropy of the label against uniform negatives of each position's own, per logit.

    References:
        Kang and McAuley 2018 (SASRec), arXiv:1808.09781, equation 7.
    """

    def __call__(
        self,
        states: Tensor,
        items: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        seen: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the sum over positions; what was seen may be drawn."""
        drawn = draw_negatives(labels, len(items), self.num_negatives, self._generator)
        logits = item_logits(states, items, bias, torch.cat([labels[:, None], drawn], dim=1))
        beta = self.positive_weight(len(items))
        losses = (beta * F.softplus(-logits[:, 0]) + F.softplus(logits[:, 1:]).sum(1)) / (self.num_negatives + 1)
        return losses.sum() if weights is None else (losses * weights).sum()

    def positive_weight(self, num_items: int) -> float:
        """Return what the label's term counts."""
        return 1.0


@dataclass
class GBCE(BinaryCrossEntropy):
    """The generalised binary cross-entropy, whose scores are calibrated as if nothing had been sampled at t = 1.

    Attributes:
        t: How far to calibrate, in [0, 1].

    References:
        Petrov and Macdonald 2023 (gSASRec), arXiv:2308.07192.
    """

    t: float = 0.75

    def positive_weight(self, num_items: int) -> float:
        """Return β(t) of the sampling rate."""
        return gbce_beta(num_items, self.num_negatives, self.t)
