from __future__ import annotations

import math

import pytest
import torch

from llmrec.losses import sampled
from llmrec.losses.sampled import bce_loss, draw_negatives, gbce_loss, item_logits


def random_tensors(num_positions: int = 7, num_items: int = 11, width: int = 3, with_bias: bool = True):
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((num_positions, width), (num_items, width), (num_items,))
    )
    labels = torch.randint(num_items, (num_positions,), generator=generator)
    return states, weight, bias if with_bias else None, labels


@pytest.fixture(params=[2**21, 30], ids=["one chunk", "many chunks"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(sampled, "MAX_CHUNK_VALUES", request.param)


def gradients(loss: torch.Tensor, *tensors: torch.Tensor | None) -> list[torch.Tensor]:
    return list(torch.autograd.grad(3 * loss, [tensor for tensor in tensors if tensor is not None]))


def test_item_logits_are_those_of_the_whole_product(chunks):
    states, weight, bias, _ = random_tensors()
    items = torch.randint(len(weight), (len(states), 5), generator=torch.Generator().manual_seed(1))
    expected = (states @ weight.T + bias).gather(1, items)
    logits = item_logits(states, weight, bias, items)
    torch.testing.assert_close(logits, expected)
    for grad, wanted in zip(
        gradients(logits.square().sum(), states, weight, bias),
        gradients(expected.square().sum(), states, weight, bias),
        strict=True,
    ):
        torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.75, 1.0])
def test_gbce_is_bce_of_the_transformed_positive(t):
    """The paper's other form: gBCE of s is BCE with the positive logit γ(s) = log(1 / (σ(s)^-β - 1))."""
    positive, negative, num_items = 1.3, [-0.4, 2.0, 0.1], 21
    alpha = 3 / 20
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    transformed = math.log(1 / ((1 / (1 + math.exp(-positive))) ** -beta - 1))
    losses = [math.log(1 + math.exp(-transformed)), *(math.log(1 + math.exp(logit)) for logit in negative)]
    positives, negatives = (torch.tensor(values, dtype=torch.float64) for values in ([positive], [negative]))
    assert gbce_loss(positives, negatives, num_items, t).item() == pytest.approx(sum(losses) / 4, abs=1e-12)


def test_gbce_without_calibration_is_bce():
    positive, negative = torch.randn(4, generator=torch.Generator().manual_seed(0)), torch.randn(4, 3)
    torch.testing.assert_close(gbce_loss(positive, negative, num_items=50, t=0.0), bce_loss(positive, negative))


def test_gbce_stays_finite_where_the_transformed_logit_is_not():
    extremes = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = gbce_loss(extremes, torch.tensor([[200.0], [-200.0]]), num_items=1000, t=0.75)
    (grad,) = torch.autograd.grad(loss, extremes)
    assert loss.isfinite() and grad.isfinite().all()


def test_bce_by_hand():
    # σ(log 3) = 3/4 for the next item, σ(0) = 1/2 for the other: mean of -log 3/4 and -log 1/2.
    loss = bce_loss(torch.tensor([math.log(3)]), torch.tensor([[0.0]]))
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2, abs=1e-6)


def test_negatives_are_uniform_over_all_but_the_label():
    drawn = draw_negatives(torch.tensor([2, 0]), 4, 30_000, torch.Generator().manual_seed(0))
    for row, others in zip(drawn, ([0, 1, 3], [1, 2, 3]), strict=True):
        counts = torch.bincount(row, minlength=4)
        assert counts.nonzero().flatten().tolist() == others
        assert (counts[others] - 10_000).abs().max() < 400  # five standard deviations
