from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import items_frame
from tiny_recommenders import tiny_recommender

from llmrec.baselines.content import spread
from llmrec.data.catalog import Catalog
from llmrec.models.adapter import inner
from llmrec.models.whitening import RIDGE, whitening

D = 5


def crowded(num_items: int, seed: int = 0) -> torch.Tensor:
    """Unit rows (N, D) that lie around one direction, as embeddings of texts do."""
    rows = torch.randn(num_items, D, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows * torch.tensor([1, 0.5, 0.3, 0.2, 0.1]) + torch.tensor([3.0, 0, 0, 0, 0]), dim=-1)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(0, 2**16))
def test_it_is_the_inverse_root_of_the_moments(num_items, seed):
    """Without an eigendecomposition: its square times the moments, ridge added, is a multiple of the identity."""
    text = crowded(num_items, seed).double()
    matrix = whitening(text)
    moments = text.T @ text / num_items
    product = matrix @ matrix @ (moments + RIDGE / D * torch.eye(D))  # unit rows: the trace is 1
    torch.testing.assert_close(product, product.trace() / D * torch.eye(D).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(matrix, matrix.T)
    assert matrix.trace().item() == pytest.approx(D)


def test_what_was_crowded_is_spread():
    text = crowded(200)
    spread_out = F.normalize(text @ whitening(text), dim=-1)
    assert (spread_out @ spread_out.T).mean() < (text @ text.T).mean() - 0.3


def test_the_order_and_the_length_of_rows_do_not_matter():
    text = crowded(30)
    torch.testing.assert_close(whitening(text.flip(0)), whitening(text))
    torch.testing.assert_close(whitening(7 * text), whitening(text))


@pytest.mark.parametrize("text", [torch.zeros(0, D), torch.zeros(3, D)])
def test_without_texts_it_is_the_identity(text):
    assert torch.equal(whitening(text), torch.eye(D))


def test_a_baseline_is_spread_by_it_and_keeps_zeros_and_twins():
    text = torch.cat([crowded(20), torch.zeros(1, D)])[[*range(21), 3, 20]]
    found = spread(text.numpy())
    expected = F.normalize(text @ whitening(text), dim=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.array_equal(found[3], found[21]) and not found[[20, 22]].any()


def test_a_recommender_starts_with_it_unless_told_otherwise(checkpoints):
    items = Catalog(items_frame())
    for whiten in (True, False):
        model = inner(tiny_recommender(checkpoints["bert"], items, whiten=whiten).model)
        text = model.rec_items.text
        expected = whitening(text) if whiten else torch.eye(text.shape[1])
        torch.testing.assert_close(model.rec_head.item_projection.data, expected)
