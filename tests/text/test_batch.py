from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmrec.text.batch import HEADER, PADDING, Pass, collate

SHORT = Pass(np.array([7]), [[11, 12]])
LONG = Pass(np.array([7, 8]), [[11], [13, 14, 15]])


def test_padding_on_the_right_by_hand():
    batch = collate([SHORT, LONG], header=[1, 2], pad_token_id=0, padding_side="right")
    assert batch["input_ids"].tolist() == [[1, 2, 11, 12, 0, 0], [1, 2, 11, 13, 14, 15]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 4, 5]]
    assert batch["block"].tolist() == [[0, 0, 1, 1, -1, -1], [0, 0, 1, 2, 2, 2]]
    assert batch["items"].tolist() == [[7, -1], [7, 8]]


def test_padding_on_the_left_by_hand():
    batch = collate([SHORT, LONG], header=[1, 2], pad_token_id=9, padding_side="left")
    assert batch["input_ids"].tolist() == [[9, 9, 1, 2, 11, 12], [1, 2, 11, 13, 14, 15]]
    assert batch["position_ids"].tolist() == [[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert batch["block"].tolist() == [[-1, -1, 0, 0, 1, 1], [0, 0, 1, 2, 2, 2]]
    assert batch["items"].tolist() == [[7, -1], [7, 8]]  # events are padded behind on either side


def test_neither_side_is_an_error():
    with pytest.raises(ValueError, match="padding_side='middle'"):
        collate([SHORT], [1], 0, "middle")


BLOCKS = st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=4), min_size=1, max_size=5)


@given(
    st.lists(BLOCKS, min_size=1, max_size=4),
    st.lists(st.integers(1, 9), max_size=3),
    st.sampled_from(["left", "right"]),
)
def test_every_row_reads_back_as_it_was(rows, header, side):
    passes = [Pass(np.arange(len(blocks)) + 100, blocks) for blocks in rows]
    batch = collate(passes, header, pad_token_id=0, padding_side=side)
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    for index, blocks in enumerate(rows):
        block, ids = batch["block"][index], batch["input_ids"][index]
        assert ids[block == HEADER].tolist() == header
        assert [ids[block == event + 1].tolist() for event in range(len(blocks))] == blocks
        assert (ids[block == PADDING] == 0).all()
        real = block != PADDING
        assert batch["position_ids"][index][real].tolist() == list(range(int(real.sum())))
        items = batch["items"][index]
        assert items[items != PADDING].tolist() == list(range(100, 100 + len(blocks)))
