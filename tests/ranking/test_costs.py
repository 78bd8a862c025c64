"""What a request costs is set by its own size and the catalogue's, whatever number a caller gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec import Recommender
from llmrec.data.catalog import Catalog
from llmrec.models.items import ItemTable
from llmrec.ranking import dual
from llmrec.ranking.dual import catalogue_scoring
from llmrec.text.request import NewItems

CATALOG = Catalog(items_frame())
HISTORY = [{"item_id": item, "timestamp": START} for item in ("i00", "i05")]
ALL = [{"item_id": item} for item in CATALOG.ids]
HUGE = 10**15
"""Numbers that no machine holds."""


@pytest.fixture(params=["dual", "cross"])
def recommender(request, checkpoints) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"], head=request.param))


def test_more_items_than_there_are_cost_no_more(recommender):
    whole = recommender.recommend(HISTORY, k=len(CATALOG))
    assert len(whole) == len(CATALOG) - 2
    assert recommender.recommend(HISTORY, k=HUGE) == whole
    assert recommender.recommend(recommender.open(HISTORY), k=HUGE, num_candidates=HUGE) == whole
    assert recommender.recommend_batch([HISTORY], k=HUGE) == [whole]


def test_numbers_of_items_may_be_numpys_and_are_no_truth_values(recommender):
    five = recommender.recommend(HISTORY, k=5, num_candidates=7)
    assert recommender.recommend(HISTORY, k=np.int64(5), num_candidates=np.int32(7)) == five
    for wrong in (True, np.True_, 5.0, 0, np.int64(-1), "5", None):
        for name in ("k", "num_candidates"):
            for history in (HISTORY, recommender.open(HISTORY)):
                with pytest.raises(ValueError, match=f"{name}=.*: give a whole number of items, at least 1"):
                    recommender.recommend(history, **{name: wrong})


def test_a_user_who_has_seen_everything_is_recommended_nothing(recommender):
    expected = recommender.recommend(HISTORY, k=3)
    found = recommender.recommend_batch([HISTORY, ALL, HISTORY], k=3, now=[None, None, None])
    assert found[1] == []
    for each in (found[0], found[2]):
        assert [one.item_id for one in each] == [one.item_id for one in expected]
    assert recommender.recommend(ALL) == recommender.recommend(recommender.open(ALL)) == []
    assert [one.item_id for one in recommender.recommend(ALL[:-1])] == [CATALOG.ids[-1]]
    assert len(recommender.recommend(ALL, exclude_seen=False, k=3)) == 3


def test_new_items_are_told_apart_without_comparing_all_with_all():
    compared = 0

    class Counted(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    new = NewItems()
    places = [new.place({"title": Counted(f"title {number}")}) for number in [*range(1000), *range(1000)]]
    assert places == [*range(1000), *range(1000)] and len(new) == 1000
    assert compared <= 4000


def test_new_items_that_no_window_reads_are_not_encoded(recommender, monkeypatch):
    history = [{"title": f"heat {number}"} for number in range(2000)]
    encoded = []
    encode = type(recommender.snapshot()).encode
    monkeypatch.setattr(
        type(recommender.snapshot()), "encode", lambda self, texts: encoded.extend(texts) or encode(self, texts)
    )
    found = recommender.recommend(history, k=3)
    assert 0 < len(encoded) <= 64  # tokens of the window
    assert [one.item_id for one in recommender.recommend(history[-60:], k=3)] == [one.item_id for one in found]


def test_the_catalogue_is_embedded_a_few_items_at_a_time(recommender, monkeypatch):
    model = rec_model(recommender)
    kinds = torch.randint(0, 50, (101,), generator=torch.Generator().manual_seed(0))
    text = F.normalize(torch.randn(50, 32, generator=torch.Generator().manual_seed(1)), dim=-1)[kinds]
    model.rec_items = ItemTable(text, hybrid=True, counts=kinds).eval()
    for weight in (model.rec_items.output_residual, model.rec_items.bias):
        weight.data = torch.randn(50, *weight.shape[1:], generator=torch.Generator().manual_seed(2))[kinds]
    states = F.normalize(torch.randn(3, 32), dim=-1)
    with torch.no_grad():
        whole = model.rec_items()
        expected = states @ model.rec_head.item_embeddings(whole.text, whole.output_residual).T
        expected = expected * model.rec_head.scale + whole.bias
    asked = []
    forward = ItemTable.forward
    monkeypatch.setattr(ItemTable, "forward", lambda self, rows=None: asked.append(rows) or forward(self, rows))
    monkeypatch.setattr(dual, "ITEMS_AT_ONCE", 7)
    scoring = catalogue_scoring(model)
    assert asked and all(rows is not None and len(rows) <= 7 for rows in asked)
    assert scoring.embeddings.shape == (len(kinds.unique()), 32)
    torch.testing.assert_close(scoring(states), expected, rtol=0, atol=1e-4)
    for kind in kinds.unique():
        twins = scoring(states)[:, kinds == kind]
        assert torch.equal(twins, twins[:, :1].expand_as(twins))
    torch.testing.assert_close(catalogue_scoring(model, kinds)(states), expected[:, kinds], rtol=0, atol=1e-4)
