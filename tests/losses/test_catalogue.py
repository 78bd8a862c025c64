from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from llmrec.losses import catalogue
from llmrec.losses.catalogue import catalogue_softmax, seen_before

P, N, D = 7, 11, 3
SEEN = torch.tensor([[0, 1, -1], [5, 5, 5], [-1, -1, -1], [2, 9, 10], [3, 4, -1], [7, -1, 8], [6, 6, 0]])


@pytest.mark.parametrize("max_chunk_logits", [2**22, 30, 1])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("with_seen", [True, False])
@pytest.mark.parametrize("with_weights", [True, False])
def test_it_is_cross_entropy_in_value_and_gradients(max_chunk_logits, with_bias, with_seen, with_weights, monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_CHUNK_LOGITS", max_chunk_logits)
    monkeypatch.setattr(catalogue, "MIN_CHUNK_POSITIONS", 1)
    random = torch.Generator().manual_seed(0)
    shapes = [(P, D), (N, D), *([(N,)] if with_bias else [])]
    tensors = [torch.randn(*shape, generator=random, dtype=torch.float64, requires_grad=True) for shape in shapes]
    states, items, bias = *tensors[:2], tensors[2] if with_bias else None
    labels = torch.randint(N, (P,), generator=random)
    weights = torch.rand(P, generator=random, dtype=torch.float64) if with_weights else None
    mask = torch.zeros(P, N, dtype=torch.bool)
    for row, gone in enumerate(SEEN.tolist() if with_seen else []):
        for item in {*gone} - {-1, int(labels[row])}:
            mask[row, item] = True
    logits = (states @ items.T + (0 if bias is None else bias)).masked_fill(mask, float("-inf"))
    each = F.cross_entropy(logits, labels, reduction="none")
    expected = each.sum() if weights is None else each @ weights
    found = catalogue_softmax(states, items, bias, labels, SEEN if with_seen else None, weights)
    torch.testing.assert_close(found, expected)
    for grad, wanted in zip(*(torch.autograd.grad(3 * loss, tensors) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(grad, wanted)


def test_it_by_hand():
    # Logits log 1, log 2, log 5: the label has 2/8, and 2/3 once the last item has been seen.
    items = torch.tensor([[1.0], [2.0], [5.0]]).log()
    state, label = torch.ones(1, 1), torch.tensor([1])
    whole, left = (catalogue_softmax(state, items, None, label, seen) for seen in (None, torch.tensor([[2]])))
    assert [whole.item(), left.item()] == pytest.approx([math.log(4), math.log(1.5)], abs=1e-6)


def test_it_does_not_overflow():
    loss = catalogue_softmax(torch.tensor([[1e4]]), torch.tensor([[1.0], [-1.0]]), None, torch.tensor([1]))
    assert loss.item() == pytest.approx(2e4)


def test_it_holds_a_chunk_of_the_logits_at_once(monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_CHUNK_LOGITS", 3 * N)
    monkeypatch.setattr(catalogue, "MIN_CHUNK_POSITIONS", 1)
    sizes, linear = [], F.linear

    def counted(*arguments):
        logits = linear(*arguments)
        sizes.append(logits.numel())
        return logits

    monkeypatch.setattr(F, "linear", counted)
    catalogue_softmax(torch.randn(P, D), torch.randn(N, D), None, torch.zeros(P, dtype=torch.long))
    assert sizes == [3 * N, 3 * N, N]
    sizes.clear()
    monkeypatch.setattr(catalogue, "MIN_CHUNK_POSITIONS", 4)  # else there would be as many chunks as items are many
    catalogue_softmax(torch.randn(P, D), torch.randn(N, D), None, torch.zeros(P, dtype=torch.long))
    assert sizes == [4 * N, 3 * N]


def test_it_says_that_it_cannot_be_differentiated_twice():
    states, items = torch.randn(P, D, requires_grad=True), torch.randn(N, D)
    loss = catalogue_softmax(states, items, None, torch.zeros(P, dtype=torch.long)).square()
    (grad,) = torch.autograd.grad(loss, states, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_what_was_seen_before_is_what_stands_up_to_a_position():
    items = torch.randint(-1, 9, (2, 5), generator=torch.Generator().manual_seed(0))
    found = seen_before(items)
    for row in range(2):
        for place in range(5):
            assert found[row, place, : place + 1].tolist() == items[row, : place + 1].tolist()
            assert (found[row, place, place + 1 :] == -1).all()
