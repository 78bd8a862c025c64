"""The softmax over a whole catalogue, for the baselines and the dual head alike: its logits are never held whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100
"""Label of a position that is not trained."""
MAX_CHUNK_LOGITS = 2**22
"""Logits that are held at once: 16 MiB of float32."""
MIN_CHUNK_POSITIONS = 64
"""Positions of a chunk, though they have more logits: each chunk reads and writes what is held of all items."""


CatalogueLoss = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None], Tensor]
"""A loss over the catalogue: states (P, D) times 1 / tau, items (N, D), bias (N,) or None, labels (P,), seen (P, S) or
None and weights (P,) or None to the sum () over the positions, as `catalogue_softmax` takes them."""


def catalogue_softmax(
    states: Tensor,
    items: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    seen: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum the cross-entropy of the next item against all items over P positions, chunk by chunk of the positions.

    Equal to `F.cross_entropy(states @ items.T + bias, labels, reduction="sum")` in value and gradients, which are
    computed along with the value; it cannot be differentiated twice.

    Args:
        states: (P, D).
        items: (N, D) vectors of the items.
        bias: (N,) or None.
        labels: (P,) the next item.
        seen: (P, S) items that leave the softmax at each position, unless one is the label; negative numbers are
            ignored. What a ranking without seen items never shows need not be unlearnt. None keeps all.
        weights: (P,) what each position counts; None counts all alike.

    References:
        Full-catalogue softmax as the strong baseline loss: Klenitskiy and Vasilev, "Turning dross into gold loss: is
        BERT4Rec really better than SASRec?", RecSys 2023, arXiv:2309.07602.

    >>> round(catalogue_softmax(torch.zeros(1, 2), torch.zeros(4, 2), None, torch.tensor([0])).item(), 4)  # log 4
    1.3863
    >>> seen = torch.tensor([[1, 0, -1]])  # item 1 leaves, the label stays: log 3
    >>> round(catalogue_softmax(torch.zeros(1, 2), torch.zeros(4, 2), None, torch.tensor([0]), seen).item(), 4)
    1.0986
    """
    weights = states.new_ones(len(states)) if weights is None else weights
    return _Softmax.apply(states, items, bias, labels, seen, weights)


def full_softmax(
    states: Tensor,
    items: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    seen: Tensor | None = None,
    weights: Tensor | None = None,
    loss: CatalogueLoss | None = None,
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
        loss: what takes the place of `catalogue_softmax`.

    Returns:
        () sum over labelled positions of -weight * log softmax(scale * states . items + bias)[label].

    >>> loss = full_softmax(torch.zeros(1, 2, 3), torch.zeros(4, 3), torch.tensor(1.0), None, torch.tensor([[0, -100]]))
    >>> round(loss.item(), 4)  # log 4: nothing is known of one of four items
    1.3863
    """
    trained = labels != IGNORED
    before = None if seen is None else seen_before(seen)[trained]
    counts = None if weights is None else weights[trained]
    return (loss or catalogue_softmax)(states[trained] * scale, items, bias, labels[trained], before, counts)


def seen_before(items: Tensor) -> Tensor:
    """Return (B, L, L): at each position of histories (B, L) the items up to there, -1 for what comes later.

    >>> seen_before(torch.tensor([[4, 7]])).tolist()
    [[[4, -1], [4, 7]]]
    """
    order = torch.arange(items.shape[1], device=items.device)
    return torch.where(order[None, :] <= order[:, None], items[:, None, :], -1)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        items: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        seen: Tensor | None,
        weights: Tensor,
    ) -> Tensor:
        grad_states = torch.empty_like(states)
        grad_items = torch.zeros_like(items)
        grad_bias = None if bias is None else torch.zeros_like(bias)
        loss = states.new_zeros(())
        size = max(MIN_CHUNK_POSITIONS, MAX_CHUNK_LOGITS // len(items))
        for start in range(0, len(states), size):
            chunk = slice(start, start + size)
            part, label, weight = states[chunk], labels[chunk, None], weights[chunk, None]
            logits = F.linear(part, items, bias)
            label_logits = logits.gather(1, label)
            if seen is not None:
                # What does not count points at the label, which is put back afterwards.
                out = torch.where(seen[chunk] >= 0, seen[chunk], label)
                logits.scatter_(1, out, float("-inf")).scatter_(1, label, label_logits)
            highest = logits.amax(1, keepdim=True)
            total = logits.sub_(highest).exp_().sum(1, keepdim=True)
            loss += ((total.log() + (highest - label_logits)) * weight).sum()
            grad = logits.mul_(weight / total)
            grad.scatter_add_(1, label, -weight)
            torch.mm(grad, items, out=grad_states[chunk])
            grad_items.addmm_(grad.T, part)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        ctx.save_for_backward(grad_states, grad_items, grad_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if saved is None else saved * grad for saved in ctx.saved_tensors), None, None, None
