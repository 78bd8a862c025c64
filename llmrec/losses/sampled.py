"""Sampled losses of the sequence baselines as functions of tensors, each the mean over P positions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_CHUNK_VALUES = 2**21
"""Values of items' vectors that are held at once: 8 MiB of float32."""


def item_logits(states: Tensor, weight: Tensor, bias: Tensor | None, items: Tensor) -> Tensor:
    """Return the logits of some items at each position, without holding their vectors for all positions at once.

    Args:
        states: (P, D).
        weight: (N, D) output vectors of the items.
        bias: (N,) or None.
        items: (P, K).

    Returns:
        (P, K) with `states[p] · weight[items[p, k]] + bias[items[p, k]]`.

    >>> item_logits(torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.tensor([0.0, 5.0]), torch.tensor([[1, 0]]))
    tensor([[7., 1.]])
    """
    logits = _Gathered.apply(states, weight, items)
    return logits if bias is None else logits + bias[items]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(states, weight, items)
        size = _Gathered.chunk_size(weight, items)
        chunks = zip(states.split(size), items.split(size), strict=True)
        return torch.cat([torch.bmm(weight[chosen], part[..., None]).squeeze(-1) for part, chosen in chunks])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, items = ctx.saved_tensors
        grad_states, grad_weight = torch.empty_like(states), torch.zeros_like(weight)
        size = _Gathered.chunk_size(weight, items)
        for start in range(0, len(states), size):
            part, chosen, outer = (tensor[start : start + size] for tensor in (states, items, grad))
            grad_states[start : start + size] = torch.bmm(outer[:, None, :], weight[chosen]).squeeze(1)
            grad_weight.index_add_(0, chosen.flatten(), (outer[..., None] * part[:, None, :]).flatten(0, 1))
        return grad_states, grad_weight, None

    @staticmethod
    def chunk_size(weight: Tensor, items: Tensor) -> int:
        return max(1, MAX_CHUNK_VALUES // (items.shape[1] * weight.shape[1]))


def gbce_loss(positive: Tensor, negative: Tensor, num_items: int, t: float) -> Tensor:
    """Return the generalised binary cross-entropy of the next item against sampled ones.

    gBCE = -(log σ(s⁺)^β + Σ log(1 - σ(s⁻))) / (K + 1), β = α · (t · (1 - 1/α) + 1/α), α = K / (N - 1). At t = 0 it is
    plain BCE, at t = 1 the scores are calibrated as if nothing had been sampled. The power stands outside the
    logarithm, so no logit is too large for it.

    Args:
        positive: (P,) logits of the next items.
        negative: (P, K) logits of items drawn uniformly among the others.
        num_items: Items that are drawn from, the next one included, N.
        t: How far to calibrate, in [0, 1].

    References:
        Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential recommendation trained with negative
        sampling", RecSys 2023, arXiv:2308.07192, equations for L_gBCE and β(t).

    >>> round(gbce_loss(torch.zeros(1), torch.zeros(1, 2), num_items=5, t=1.0).item(), 4)  # (0.5 + 2) log 2 / 3
    0.5776
    """
    num_negatives = negative.shape[1]
    beta = gbce_beta(num_items, num_negatives, t)
    losses = beta * F.softplus(-positive) + F.softplus(negative).sum(1)
    return losses.mean() / (num_negatives + 1)


def gbce_beta(num_items: int, num_negatives: int, t: float) -> float:
    """Return β = α · (t · (1 - 1/α) + 1/α) with the sampling rate α = K / (N - 1): 1 at t = 0 and α at t = 1.

    >>> [gbce_beta(num_items=5, num_negatives=2, t=t) for t in (0.0, 0.5, 1.0)]
    [1.0, 0.75, 0.5]
    """
    alpha = num_negatives / (num_items - 1)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def bce_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the binary cross-entropy with logits of labelled pairs: the next item 1, a sampled item 0.

    Args:
        positive: (P,) logits of the next items.
        negative: (P, K) logits of the sampled items.

    References:
        The loss of Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, arXiv:1808.09781,
        equation 7, averaged over pairs.

    >>> round(bce_loss(torch.zeros(1), torch.zeros(1, 1)).item(), 4)  # log 2
    0.6931
    """
    logits = torch.cat([positive[:, None], negative], dim=1)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    return F.binary_cross_entropy_with_logits(logits, labels)


def draw_negatives(labels: Tensor, num_items: int, num_negatives: int, generator: torch.Generator) -> Tensor:
    """Draw items uniformly, with replacement, among all but the label.

    Args:
        labels: (P,).
        num_items: Items to draw from, N.
        num_negatives: Items per position, K.
        generator: Where the randomness comes from, on the CPU.

    Returns:
        (P, K) items, on the device of the labels.

    >>> draw_negatives(torch.tensor([0, 1]), num_items=2, num_negatives=3, generator=torch.Generator())
    tensor([[1, 1, 1],
            [0, 0, 0]])
    """
    drawn = torch.randint(num_items - 1, (len(labels), num_negatives), generator=generator).to(labels.device)
    return drawn + (drawn >= labels[:, None])
