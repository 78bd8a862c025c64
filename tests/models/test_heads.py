from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from llmrec.models.heads import DualHead

D = 6


def moved_head() -> DualHead:
    torch.manual_seed(0)
    head = DualHead(D)
    with torch.no_grad():
        for weight in head.parameters():
            weight += 0.5 * torch.randn(weight.shape)
        head.state_gate.fill_(0.8)
    return head


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, D), dim=-1)


def test_content_is_the_recency_weighted_mean_by_loop():
    head = moved_head()
    events, real = unit(2, 5), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    decay = 1 / (1 + math.exp(-head.decay_logit.item()))
    content = head.content(events, real)
    for row, length in ((0, 5), (1, 3)):
        for last in range(length):
            mean = sum(decay ** (last - place) * events[row, place] for place in range(last + 1))
            torch.testing.assert_close(content[row, last], mean / mean.norm())


def test_the_user_state_is_the_formula():
    head = moved_head()
    states, events, real = torch.randn(1, 4, D) * 9, unit(1, 4), torch.ones(1, 4, dtype=torch.bool)
    read = states @ head.state_projection.T
    read = read / read.norm(dim=-1, keepdim=True)
    joined = head.content_gate * head.content(events, real) + head.state_gate * read
    expected = joined / joined.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(head.user_states(states, events, real), expected)


def test_item_embeddings_are_the_formula():
    head = moved_head()
    text, residual = unit(3), torch.randn(3, D)
    projected = text @ head.item_projection.T
    projected = projected / projected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(head.item_embeddings(text, None), projected)
    both = projected + residual
    torch.testing.assert_close(head.item_embeddings(text, residual), both / both.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(head.item_embeddings(text, torch.zeros(3, D)), projected)


def test_a_fresh_head_is_the_frozen_text_baseline():
    head = DualHead(D)
    text, events, real = unit(7), unit(2, 4), torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(head.item_embeddings(text, torch.zeros(7, D)), text)
    assert not head.input_vectors(text, torch.zeros(7, D)).any()
    assert torch.sigmoid(head.decay_logit).item() == pytest.approx(0.7)
    assert head.scale.item() == pytest.approx(20)  # 1 / 0.05
    states = torch.randn(2, 4, D)
    torch.testing.assert_close(head.user_states(states, events, real), head.content(events, real))


def test_the_scale_is_capped():
    head = DualHead(D)
    with torch.no_grad():
        head.log_scale.fill_(50)
    assert head.scale.item() == 100


def test_nothing_is_nan_where_there_is_nothing():
    head = moved_head()
    padding = torch.zeros(1, 2, dtype=torch.bool)
    head.user_states(torch.zeros(1, 2, D), unit(1, 2), padding).sum().backward()
    assert head.content(unit(1, 2), padding).isfinite().all()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in head.parameters())
