from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from llmrec.losses import GBCE, BinaryCrossEntropy, CatalogueSoftmax, SampledSoftmax, catalogue_softmax, gbce_loss
from llmrec.losses.sampled import draw_negatives

P, N, D = 6, 9, 4


@pytest.fixture
def parts():
    random = torch.Generator().manual_seed(0)
    states, items = (torch.randn(size, D, generator=random, requires_grad=True) for size in (P, N))
    return states, items, torch.randn(N, generator=random), torch.randint(N, (P,), generator=random)


def test_the_default_is_the_function(parts):
    assert torch.equal(CatalogueSoftmax()(*parts), catalogue_softmax(*parts))


def test_with_every_item_drawn_the_sampled_softmax_is_the_whole_one_but_for_what_is_drawn_twice(parts):
    states, items, bias, labels = parts
    loss = SampledSoftmax(num_negatives=50, seed=3)
    found = loss(*parts)
    drawn = torch.randint(N, (50,), generator=torch.Generator().manual_seed(3))
    logits = states @ items.T + bias
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        others = torch.stack([row[item] for item in drawn if item != label])
        expected -= F.log_softmax(torch.cat([row[label][None], others]), dim=0)[0]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    found.backward()
    assert states.grad.isfinite().all() and items.grad.abs().sum() > 0
    assert loss(*parts).item() != pytest.approx(found.item())  # other draws


def test_what_was_seen_leaves_the_sampled_softmax_but_for_the_label(parts):
    states, items, bias, labels = parts
    everything = torch.arange(N).expand(P, -1)
    assert SampledSoftmax(num_negatives=20)(states, items, bias, labels, everything).item() == pytest.approx(
        0, abs=1e-5
    )


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_gbce_is_the_function_of_its_draws(parts, t):
    states, items, bias, labels = parts
    drawn = draw_negatives(labels, N, 5, torch.Generator().manual_seed(1))
    logits = states @ items.T + bias
    expected = gbce_loss(logits.gather(1, labels[:, None])[:, 0], logits.gather(1, drawn), N, t) * P
    assert GBCE(num_negatives=5, seed=1, t=t)(*parts).item() == pytest.approx(expected.item(), rel=1e-5)
    if t == 0:
        assert BinaryCrossEntropy(num_negatives=5, seed=1)(*parts).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("make", [CatalogueSoftmax, SampledSoftmax, BinaryCrossEntropy, GBCE])
def test_weights_scale_what_each_position_counts(parts, make):
    one, other = (make()(*parts, None, weights) for weights in (None, torch.full((P,), 2.0)))
    assert other.item() == pytest.approx(2 * one.item(), rel=1e-5)


def test_no_negatives_are_refused():
    with pytest.raises(ValueError, match="num_negatives=0"):
        SampledSoftmax(num_negatives=0)
