from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.models.pooling import pool_blocks


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(["mean", "last"]),
)
def test_pooling_equals_a_loop_over_events(sizes, header, left, right, pooling):
    block = [-1] * left + [0] * header
    for event, size in enumerate(sizes, start=1):
        block += [event] * size
    block += [-1] * right
    if not block:
        return
    hidden = torch.randn(1, len(block), 4, generator=torch.Generator().manual_seed(len(block)))
    pooled = pool_blocks(hidden, torch.tensor([block]), len(sizes), pooling)
    for event in range(len(sizes)):
        tokens = [hidden[0, place] for place, number in enumerate(block) if number == event + 1]
        expected = torch.zeros(4) if not tokens else tokens[-1] if pooling == "last" else sum(tokens) / len(tokens)
        torch.testing.assert_close(pooled[0, event], expected)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_states_of_low_precision_are_pooled_in_float32(pooling):
    hidden = torch.ones(1, 3, 2, dtype=torch.bfloat16)
    assert pool_blocks(hidden, torch.tensor([[0, 1, 1]]), 1, pooling).dtype == torch.float32
