from __future__ import annotations

import numpy as np
import pytest

from llmrec.baselines.case_batches import case_batches


@pytest.mark.parametrize(("num_cases", "num_items"), [(0, 10), (1, 10), (10, 3), (7, 100), (7, 101), (5, 1000)])
def test_every_case_is_in_one_batch_and_no_batch_is_larger_than_allowed(num_cases, num_items):
    batches = list(case_batches(num_cases, num_items, max_scores=100))
    assert np.concatenate([[], *batches]).tolist() == list(range(num_cases))
    assert all(len(batch) * num_items <= 100 or len(batch) == 1 for batch in batches)
