from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.models.attention import attention_mask
from llmrec.text.batch import TRUNK

LEAST = torch.finfo(torch.float32).min


def visible(block, branch, causal, query: int, key: int) -> bool:
    """The rule of the docstring, word by word, for one row."""
    if query == key:
        return True  # padding too sees itself
    if block[query] < 0 or block[key] < 0:
        return False
    if causal and key > query:
        return False
    if branch[key] != TRUNK:  # no one sees a branch but the branch itself
        return branch[query] == branch[key]
    return block[key] <= block[query]  # the trunk: earlier blocks, and the own or the one the branch hangs behind


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A trunk, branches behind some of its blocks, and padding on either side."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    block = [number for number, size in enumerate(sizes) for _ in range(size)]
    branch = [TRUNK] * len(block)
    for number, size in enumerate(draw(st.lists(st.integers(1, 3), max_size=3)), start=1):
        block += [draw(st.integers(0, len(sizes) - 1))] * size
        branch += [number] * size
    left, right = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return [-1] * left + block + [-1] * right, [TRUNK] * left + branch + [TRUNK] * right


@settings(max_examples=200, deadline=None)
@given(rows(), st.booleans())
def test_every_pair_of_tokens_follows_the_rule(row, causal):
    block, branch = row
    mask = attention_mask(torch.tensor([block]), causal, torch.tensor([branch]))
    assert mask.shape == (1, 1, len(block), len(block))
    assert mask.dtype == torch.float32
    for query in range(len(block)):
        for key in range(len(block)):
            expected = 0.0 if visible(block, branch, causal, query, key) else LEAST
            assert mask[0, 0, query, key].item() == expected, (query, key)


@settings(max_examples=50, deadline=None)
@given(rows(), st.booleans())
def test_no_branches_and_trunk_alone_are_the_same(row, causal):
    block = torch.tensor([row[0]])
    assert torch.equal(attention_mask(block, causal), attention_mask(block, causal, torch.full_like(block, TRUNK)))


def test_rows_of_a_batch_do_not_meet():
    blocks = [[0, 1, 1, 2], [0, 0, 1, -1], [-1, 0, 1, 2]]
    together = attention_mask(torch.tensor(blocks), causal=False)
    for row, block in enumerate(blocks):
        assert torch.equal(together[row], attention_mask(torch.tensor([block]), causal=False)[0])


def test_two_candidates_by_hand():
    # header, one event of two tokens; candidates of two tokens and one, behind the event
    block, branch = torch.tensor([[0, 1, 1, 1, 1, 1]]), torch.tensor([[0, 0, 0, 1, 1, 2]])
    seen = attention_mask(block, causal=False, branch=branch)[0, 0] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_over_any_row_is_finite(causal):
    mask = attention_mask(torch.tensor([[-1, -1, 0, 1], [-1, -1, -1, -1]]), causal)
    assert torch.softmax(mask, dim=-1).isfinite().all()
