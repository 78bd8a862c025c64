from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.text.batch import Pass
from llmrec.text.packing import collate_packed, pack


@given(st.lists(st.integers(1, 20), max_size=40), st.integers(20, 60))
def test_every_history_is_in_one_row_and_no_row_is_too_long(lengths, budget):
    rows = pack(lengths, budget)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= budget for row in rows)
    # first fit: no two rows could have been one
    totals = sorted(sum(lengths[index] for index in row) for row in rows)
    assert len(totals) < 2 or totals[0] + totals[1] > budget


def test_a_history_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="9 tokens does not fit a row of 8"):
        pack([3, 9], 8)


def test_packed_rows_hold_what_single_rows_hold():
    passes = [Pass(np.array([1, 2]), [[11, 12], [13]]), Pass(np.array([3]), [[14]]), Pass(np.array([4]), [[15, 16]])]
    packed = collate_packed([passes[:2], passes[2:]], [7], 0)
    single = collate_packed([[one] for one in passes], [7], 0)
    for name in ("input_ids", "position_ids", "block"):
        real = {kind: batch[name][batch["block"] >= 0].tolist() for kind, batch in (("one", packed), ("two", single))}
        assert real["one"] == real["two"]
    assert packed["sequence"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, -1, -1, -1]]
