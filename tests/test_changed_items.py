"""Items that come, change and go without training: only new words are read, and nobody else's numbers move."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import SEEN, head_settings, randomise, rec_model, tiny_recommender

from llmrec import Recommender
from llmrec.data.catalog import Catalog

CATALOG = Catalog(items_frame())
IDS = CATALOG.ids
HISTORY = [{"item_id": item, "timestamp": START + 90_000 * place} for place, item in enumerate(["i00", "i05", "i11"])]
NEW = [{"item_id": "a0", "title": "green ladder", "brand": "acme"}, {"item_id": "z0", "title": "blue glue"}]
LEARNED = ("input_residual", "output_residual", "bias", "counts")


@pytest.fixture(params=["bert-dual", "llama-dual", "bert-cross", "gpt2-verbalizer"])
def recommender(request, checkpoints, tmp_path) -> Recommender:
    family, head = request.param.split("-")
    return randomise(tiny_recommender(checkpoints[family], **head_settings(head, tmp_path)))


@pytest.fixture
def own(checkpoints) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"]))


@pytest.fixture
def encoded(own, monkeypatch) -> list[str]:
    """The texts that the recommender encodes from now on."""
    texts: list[str] = []
    encode = own._encode
    monkeypatch.setattr(own, "_encode", lambda given: texts.extend(given) or encode(given))
    return texts


def row_of(recommender: Recommender, item_id: str) -> dict[str, torch.Tensor]:
    """What the table holds of one item."""
    table, index = rec_model(recommender).rec_items, recommender.items.index(item_id)
    return {name: getattr(table, name)[index].clone() for name in ("text", *LEARNED)}


def assert_same_rows(recommender: Recommender, before: dict[str, dict[str, torch.Tensor]]) -> None:
    for item_id, row in before.items():
        for name, values in row_of(recommender, item_id).items():
            assert torch.equal(values, row[name]), (item_id, name)


def test_the_numbers_of_untouched_items_do_not_move_by_a_bit(recommender):
    untouched = [item for item in IDS if item not in ("i05", "i07", "i20")]
    history = [event for event in HISTORY if event["item_id"] != "i05"]
    before = recommender.score(history, untouched)
    rows = {item: row_of(recommender, item) for item in untouched}
    ranked = {one.item_id: one.score for one in recommender.recommend(history, k=100, num_candidates=100)}
    recommender.items.add(NEW)
    assert recommender.score(history, untouched) == before
    recommender.items.update([{"item_id": "i05", "title": "red tape"}])
    assert recommender.score(history, untouched) == before
    recommender.items.remove(["i07", "i20", "a0"])
    assert recommender.score(history, untouched) == before
    assert_same_rows(recommender, rows)
    after = {one.item_id: one.score for one in recommender.recommend(history, k=100, num_candidates=100)}
    assert set(after) == {*IDS, "z0"} - {"i07", "i20", "i00", "i11"}
    shared = sorted(set(untouched) & set(after))
    # A product of other matrices may round its last bit elsewhere.
    assert [after[item] for item in shared] == pytest.approx([ranked[item] for item in shared], abs=1e-5)


def test_only_new_words_are_encoded(own, encoded):
    write = own.processor.item_text
    own.items.add(NEW)
    assert sorted(encoded) == sorted(write({k: v for k, v in item.items() if k != "item_id"}) for item in NEW)
    encoded.clear()
    own.items.update(
        [{"item_id": "i05", "title": "red tape"}, {"item_id": "i06", "title": CATALOG.attributes(6)["title"]}]
    )
    assert encoded == [write({**CATALOG.attributes(5), "title": "red tape"})]
    encoded.clear()
    own.items.remove(["i01", "a0"])
    assert encoded == []
    own.items.update([{"item_id": "i06", "title": CATALOG.attributes(6)["title"]}])  # nothing new at all
    assert encoded == []


def test_new_items_have_their_text_and_nothing_learned(own):
    by_text = own.score(HISTORY, [{"title": "green ladder", "brand": "acme"}, {"title": "blue glue"}])
    own.items.add(NEW)
    assert own.score(HISTORY, ["a0", "z0"]) == pytest.approx(by_text, abs=1e-4)
    for item in ("a0", "z0"):
        row = row_of(own, item)
        assert not any(row[name].any() for name in LEARNED)
        assert row["text"].norm() == pytest.approx(1, abs=1e-5)
    assert {"a0", "z0"} < {one.item_id for one in own.recommend([{"item_id": "a0"}], k=100, exclude_seen=False)}
    assert len(own.recommend([{"item_id": "z0"}], k=3)) == 3


def test_an_updated_item_reads_otherwise_and_keeps_what_was_learned(own):
    before = row_of(own, "i05")
    with_text = own.score([HISTORY[0]], [{**CATALOG.attributes(5), "title": "red tape"}])
    own.items.update([{"item_id": "i05", "title": "red tape"}])
    after = row_of(own, "i05")
    assert all(torch.equal(before[name], after[name]) for name in LEARNED) and after["counts"] == SEEN
    expected = own._encode([own.processor.item_text({**CATALOG.attributes(5), "title": "red tape"})])[0]
    torch.testing.assert_close(after["text"], expected, rtol=0, atol=1e-6)
    assert (after["text"] - before["text"]).norm() > 1e-2
    assert own.score([HISTORY[0]], ["i05"]) != pytest.approx(with_text, abs=1e-3)  # its text alone is not all of it


def test_removed_items_vanish_and_come_back_as_strangers(own):
    first = own.recommend(HISTORY, k=1)[0].item_id
    text = CATALOG.attributes(CATALOG.index(first))
    own.items.remove([first])
    assert first not in {one.item_id for one in own.recommend(HISTORY, k=100, exclude_seen=False)}
    with pytest.raises(ValueError, match=f"item '{first}' is not in the catalogue"):
        own.score(HISTORY, [first])
    with pytest.raises(ValueError, match=f"event 0: item '{first}' is not in the catalogue"):
        own.recommend([{"item_id": first}])
    assert own.recommend([{"item_id": first, **text}], k=3)  # the remedy that the error names
    own.items.add([{"item_id": first, **text}])
    assert not row_of(own, first)["output_residual"].any()


def test_one_who_kept_the_items_sees_the_changes(own):
    items = own.items
    items.add(NEW[:1])
    items.add(NEW[1:])
    assert {"a0", "z0"} < set(own.items.ids) and own.items is items and len(items) == 26


def test_what_fails_changes_nothing(own, monkeypatch):
    table, before = rec_model(own).rec_items, own.score(HISTORY, IDS)
    opened, version = own.open(HISTORY), own.version
    for call in (
        lambda: own.items.add([NEW[0], {"item_id": "i05", "title": "again"}]),
        lambda: own.items.update([{"item_id": "i05", "title": "other"}, {"item_id": "no-such", "title": "other"}]),
        lambda: own.items.remove(["i05", "no-such"]),
    ):
        with pytest.raises(ValueError):
            call()
    monkeypatch.setattr(own, "_encode", lambda texts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own.items.add(NEW)
    with pytest.raises(ZeroDivisionError):
        own.items.update([{"item_id": "i05", "title": "other"}])
    monkeypatch.undo()
    assert rec_model(own).rec_items is table and own.version == version
    assert own.items.frame.equals(CATALOG.frame) and own.score(HISTORY, IDS) == before
    assert opened.score(IDS) == before  # still good


def test_without_residuals_too(checkpoints):
    plain = randomise(tiny_recommender(checkpoints["bert"], hybrid=False))
    before = plain.score(HISTORY, IDS)
    plain.items.add(NEW)
    plain.items.update([{"item_id": "i20", "title": "red tape"}])
    plain.items.remove(["z0", "i21"])
    untouched = [item for item in IDS if item not in ("i20", "i21")]
    assert plain.score(HISTORY, untouched) == [before[IDS.index(item)] for item in untouched]
    new = plain.score(HISTORY, ["a0", "i20"])
    by_text = plain.score(
        HISTORY, [{"title": "green ladder", "brand": "acme"}, {**CATALOG.attributes(20), "title": "red tape"}]
    )
    assert new == pytest.approx(by_text, abs=1e-4)


def test_changed_items_are_saved(own, tmp_path):
    own.items.add(NEW)
    own.items.update([{"item_id": "i05", "title": "red tape"}])
    own.items.remove(["i07"])
    own.save_pretrained(tmp_path / "run")
    loaded = Recommender.from_pretrained(tmp_path / "run")
    assert loaded.items.frame.equals(own.items.frame)
    assert loaded.score(HISTORY, own.items.ids) == pytest.approx(own.score(HISTORY, own.items.ids), abs=1e-5)
    loaded.items.add(pl.DataFrame({"item_id": ["y0"], "title": ["green saw"]}))
    assert "y0" in {one.item_id for one in loaded.recommend(HISTORY, k=100)}
    assert not any(weight.requires_grad for weight in rec_model(loaded).rec_items.parameters())
