from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import SEEN, randomise, rec_model, tiny_recommender

from llmrec import Recommender
from llmrec.data.catalog import Catalog

DAY = 86_400
CATALOG = Catalog(items_frame())
IDS = CATALOG.ids
HISTORY = [{"item_id": item, "timestamp": START + DAY * 3 * place} for place, item in enumerate(["i00", "i05", "i11"])]
NEW = {"title": "green ladder", "brand": "acme"}


@pytest.fixture(scope="module", params=["bert", "llama"])
def recommender(request, checkpoints) -> Recommender:
    """Nothing at its starting value, items still those of the catalogue; tests leave it as it is."""
    return randomise(tiny_recommender(checkpoints[request.param]))


@pytest.fixture
def own(request, checkpoints) -> Recommender:
    """One that a test may change."""
    return randomise(tiny_recommender(checkpoints["bert"]))


def test_recommend_is_the_order_of_score(recommender):
    scores = dict(zip(IDS, recommender.score(HISTORY, IDS), strict=True))
    found = recommender.recommend(HISTORY, k=len(IDS), exclude_seen=False)
    assert [entry.rank for entry in found] == list(range(1, len(IDS) + 1))
    assert sorted(entry.item_id for entry in found) == IDS
    for entry in found:
        assert entry.score == pytest.approx(scores[entry.item_id], abs=1e-5)
        assert entry.text == CATALOG.attributes(CATALOG.index(entry.item_id))
    values = [entry.score for entry in found]
    assert values == sorted(values, reverse=True) and len(set(values)) > 20


def test_k_takes_the_best(recommender):
    whole = recommender.recommend(HISTORY, k=100)
    assert len(whole) == len(IDS) - 3
    for k in (1, 5, 20):
        assert recommender.recommend(HISTORY, k=k) == whole[:k]


@pytest.mark.parametrize("head", ["dual", "cross"])
def test_whether_seen_items_are_left_out_is_saved_and_the_default_of_everybody(checkpoints, tmp_path, head):
    recommender, seen = randomise(tiny_recommender(checkpoints["bert"], head=head)), {"i00", "i05", "i11"}
    for masked in (True, False):
        recommender.config = replace(recommender.config, mask_seen=masked)
        recommender.save_pretrained(tmp_path / str(masked))
        loaded = Recommender.from_pretrained(tmp_path / str(masked), device="cpu")
        default = loaded.recommend(HISTORY, k=len(IDS))
        assert loaded.recommend(HISTORY, k=len(IDS), exclude_seen=masked) == default
        assert loaded.recommend(loaded.open(HISTORY), k=len(IDS), exclude_seen=None)[0].item_id == default[0].item_id
        assert loaded.recommend_batch([HISTORY], k=len(IDS)) == [default]
        assert (seen <= {entry.item_id for entry in default}) is not masked
        assert len(loaded.recommend(HISTORY, k=len(IDS), exclude_seen=not masked)) == len(IDS) - 3 * (not masked)
        if head == "cross":
            assert loaded.scorer(num_candidates=3).mask_seen is masked
            assert loaded.scorer(num_candidates=3, mask_seen=not masked).mask_seen is not masked


def test_seen_items_are_left_out_unless_asked_for(recommender):
    seen = {"i00", "i05", "i11"}
    assert not seen & {entry.item_id for entry in recommender.recommend(HISTORY, k=100)}
    kept = recommender.recommend(HISTORY, k=100, exclude_seen=False)
    assert seen < {entry.item_id for entry in kept}
    assert [entry.item_id for entry in kept if entry.item_id not in seen] == [
        entry.item_id for entry in recommender.recommend(HISTORY, k=100)
    ]


def test_a_batch_is_each_history_by_itself(recommender):
    histories = [HISTORY, HISTORY[:1], [NEW], HISTORY[1:]]
    together = recommender.recommend_batch(histories, k=4)
    for entries, history in zip(together, histories, strict=True):
        alone = recommender.recommend(history, k=4)
        assert [entry.item_id for entry in entries] == [entry.item_id for entry in alone]
        assert [entry.score for entry in entries] == pytest.approx([entry.score for entry in alone], abs=1e-4)
    assert recommender.recommend_batch([], k=4) == []


def test_scores_belong_to_their_candidates(recommender):
    scores = recommender.score(HISTORY, IDS)
    backwards = recommender.score(HISTORY, IDS[::-1])
    assert scores == pytest.approx(backwards[::-1], abs=1e-5)
    one, two, again = recommender.score(HISTORY, ["i07", "i20", "i07"])
    assert (one, two) == pytest.approx((scores[7], scores[20]), abs=1e-5)
    assert one == again
    assert recommender.score(HISTORY, [{"item_id": "i07"}]) == pytest.approx([scores[7]], abs=1e-5)
    assert recommender.score(HISTORY, []) == []


def test_a_new_user_needs_one_event_and_no_time(recommender):
    assert len(recommender.recommend([{"item_id": "i03"}], k=3)) == 3
    assert len(recommender.recommend([NEW], k=3)) == 3


def test_time_and_order_are_read(recommender):
    base = torch.tensor(recommender.score(HISTORY, IDS))
    later = [*HISTORY[:2], {**HISTORY[2], "timestamp": START + 900 * DAY}]
    turned = [{**event, "item_id": item} for event, item in zip(HISTORY, ["i05", "i00", "i11"], strict=True)]
    for other in (later, turned, [{"item_id": event["item_id"]} for event in HISTORY]):
        assert (torch.tensor(recommender.score(other, IDS)) - base).abs().max() > 1e-4


def test_a_new_item_in_the_history_is_read_by_its_words(recommender):
    plain = torch.tensor(recommender.score([*HISTORY[:2], {**NEW, "timestamp": START + 9 * DAY}], IDS))
    other = torch.tensor(recommender.score([*HISTORY[:2], {"title": "heat", "timestamp": START + 9 * DAY}], IDS))
    assert (plain - other).abs().max() > 1e-2
    assert len(rec_model(recommender).rec_items) == len(IDS)  # nothing of the request stays


def test_a_new_candidate_scores_as_a_known_item_that_has_only_its_text(recommender):
    """Known by text alone: an item that no training event holds."""
    counts = rec_model(recommender).rec_items.counts
    row = CATALOG.index("i09")
    counts[row] = 0
    try:
        words = CATALOG.attributes(row)
        known, new = recommender.score(HISTORY, ["i09", words])
        assert new == pytest.approx(known, abs=1e-4)
        first = recommender.score([{"item_id": "i09"}], IDS)
        assert recommender.score([words], IDS) == pytest.approx(first, abs=1e-4)
    finally:
        counts[row] = SEEN


def test_a_new_item_may_be_in_the_history_and_a_candidate(recommender):
    history = [*HISTORY[:2], {**NEW, "timestamp": START + 9 * DAY}]
    alone = recommender.score(history, [NEW])
    among = recommender.score(history, ["i00", NEW, {"title": "blue saw"}])
    assert among[1] == pytest.approx(alone[0], abs=1e-5)


def test_twins_of_equal_text_tie_until_something_is_learned_of_them(checkpoints):
    text_only = randomise(tiny_recommender(checkpoints["bert"], hybrid=False))
    assert CATALOG.attributes(2) == CATALOG.attributes(3)
    scores = dict(zip(["i02", "i03", "i04"], text_only.score(HISTORY, ["i02", "i03", "i04"]), strict=True))
    assert scores["i02"] == scores["i03"] != scores["i04"]
    place = {entry.item_id: entry for entry in text_only.recommend(HISTORY, k=100)}
    assert place["i02"].score == place["i03"].score
    assert place["i03"].rank == place["i02"].rank + 1  # ties stand in the order of the catalogue
    hybrid = randomise(tiny_recommender(checkpoints["bert"]))
    one, two = hybrid.score(HISTORY, ["i02", "i03"])
    assert one != two


def test_an_event_without_words_is_one_position_that_holds_its_item(checkpoints):
    own = randomise(tiny_recommender(checkpoints["bert"], template="vectors"))
    assert own.processor.serializer.template.event == ""
    blocks = own.processor.blocks(np.arange(8), START + DAY * np.arange(8), CATALOG)
    assert blocks == [own.processor.separator] * 8
    before = own.score(HISTORY, IDS)
    for place in range(len(HISTORY)):
        changed = [{**event, "item_id": "i20"} if at == place else event for at, event in enumerate(HISTORY)]
        assert own.score(changed, IDS) != pytest.approx(before, abs=1e-3)


def test_popularity_has_the_weight_it_is_given(own):
    table = rec_model(own).rec_items
    table.counts = torch.arange(len(IDS))
    own.popularity_weight = 0.0
    without = own.score(HISTORY, IDS)
    own.popularity_weight = 0.75
    expected = [score + 0.75 * math.log(1 + count / 10) for count, score in enumerate(without)]
    assert own.score(HISTORY, IDS) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match=r"popularity_weight=2.5 is not in \[0, 2\]"):
        own.popularity_weight = 2.5
    assert own.popularity_weight == 0.75


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None])
def test_k_is_a_whole_number(recommender, k):
    with pytest.raises(ValueError, match=f"k={k!r}: give a whole number"):
        recommender.recommend(HISTORY, k=k)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "history is empty"),
        ([{"item_id": "no-such"}], "event 0: item 'no-such' is not in the catalogue"),
        ([HISTORY[1], HISTORY[0]], "event 1 is earlier"),
        ([HISTORY[0], {"item_id": "i01"}], "timestamp None"),
    ],
)
def test_bad_histories_are_refused(recommender, history, message):
    with pytest.raises(ValueError, match=message):
        recommender.recommend(history)
    with pytest.raises(ValueError, match=message):
        recommender.score(history, ["i00"])
    with pytest.raises(ValueError, match=message):
        recommender.recommend_batch([HISTORY, history])


def test_bad_candidates_are_refused(recommender):
    with pytest.raises(ValueError, match="candidate 1: item 'no-such' is not in the catalogue"):
        recommender.score(HISTORY, ["i00", "no-such"])
    with pytest.raises(TypeError, match="candidate 0 is 7"):
        recommender.score(HISTORY, [7])
    with pytest.raises(TypeError, match="candidates"):
        recommender.score(HISTORY, "i00")


def test_after_a_failure_the_item_table_is_whole(recommender, monkeypatch):
    before = recommender.score(HISTORY, IDS)
    monkeypatch.setattr(recommender.processor, "batch", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recommender.recommend([NEW])
    monkeypatch.undo()
    assert recommender.score(HISTORY, IDS) == before


def test_a_recommender_fresh_from_training_drops_nothing_at_random(own):
    expected, recommended = own.score(HISTORY, IDS), own.recommend(HISTORY, k=5)
    rec_model(own).rec_items.residual_dropout = 0.5
    own.model.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert own.score(HISTORY, IDS) == expected
        own.model.train()
        assert own.recommend(HISTORY, k=5) == recommended


def test_nobody_needs_gradients_here(own):
    """Weights that are trained make results that drag a graph along; a reader of floats must not notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(isinstance(entry.score, float) for entry in own.recommend(HISTORY))


def changed_catalog() -> Catalog:
    """Without i01, i05 with other words, and three items more, one of them in front."""
    frame = items_frame().filter(pl.col("item_id") != "i01")
    frame = frame.with_columns(
        title=pl.when(pl.col("item_id") == "i05").then(pl.lit("other words")).otherwise(pl.col("title"))
    )
    titles = ["green ladder", "blue glue", "blue glue"]
    new = pl.DataFrame({"item_id": ["a0", "z1", "z2"], "title": titles, "brand": ["acme", None, None]})
    return Catalog(pl.concat([frame, new], how="diagonal"))


def test_replaced_items_keep_what_is_known_of_them(own):
    before = dict(zip(IDS, own.score(HISTORY[:1], IDS), strict=True))
    by_text = own.score(HISTORY[:1], [{"title": "green ladder", "brand": "acme"}, {"title": "blue glue"}])
    other_words = own.score(HISTORY[:1], [{**CATALOG.attributes(5), "title": "other words"}])[0]
    catalog = changed_catalog()
    own.replace_items(catalog)
    assert own.items.frame.equals(catalog.frame)
    after = dict(zip(catalog.ids, own.score(HISTORY[:1], catalog.ids), strict=True))
    for item in set(IDS) - {"i01", "i05"}:
        assert after[item] == pytest.approx(before[item], abs=1e-5), item
    assert after["i05"] == pytest.approx(other_words, abs=1e-4) != pytest.approx(before["i05"], abs=1e-2)
    assert after["a0"] == pytest.approx(by_text[0], abs=1e-4)
    assert after["z1"] == after["z2"] == pytest.approx(by_text[1], abs=1e-4)
    with pytest.raises(ValueError, match="item 'i01' is not in the catalogue"):
        own.score(HISTORY, ["i01"])
    assert {entry.item_id for entry in own.recommend([{"item_id": "z1"}], k=100)} == set(catalog.ids) - {"z1"}


def test_replacing_with_the_same_items_changes_nothing(own):
    before = own.score(HISTORY, IDS)
    table = rec_model(own).rec_items
    own.replace_items(Catalog(items_frame()))
    assert rec_model(own).rec_items is table
    own.replace_items(Catalog(items_frame().with_columns(colour=pl.lit("red"))))  # a column that is not read
    assert own.score(HISTORY, IDS) == pytest.approx(before, abs=1e-6)


def test_replaced_items_are_not_trained_where_the_old_ones_were_not(own, tmp_path):
    own.save_pretrained(tmp_path)
    loaded = Recommender.from_pretrained(tmp_path)
    loaded.replace_items(changed_catalog())
    assert not any(weight.requires_grad for weight in rec_model(loaded).rec_items.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_what_is_dropped_in_training_outlives_other_items(own, training):
    """Replaced for good, or for the length of a request."""
    model = rec_model(own)
    model.rec_items.residual_dropout, model.vector_dropout = 0.4, 0.3
    own.recommend([NEW], k=3)
    own.model.train(training)
    own.replace_items(changed_catalog())
    assert (model.rec_items.residual_dropout, model.vector_dropout) == (0.4, 0.3)
    assert model.training == model.rec_items.training == training


def test_items_are_the_catalogue(recommender):
    assert recommender.items.ids == IDS
    assert len(recommender.items) == 24
    assert "i07" in recommender.items and recommender.items.index("i07") == 7
