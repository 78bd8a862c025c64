"""An open history that goes on is the history read again from the start."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.ranking.history_store import HistoryStore

CATALOG = Catalog(items_frame())
IDS = list(CATALOG.ids)
DAY = 86_400
NEW = {"title": "blue hammer", "brand": "acme"}
KINDS = [("bert", "dual"), ("bert", "cross"), ("llama", "cross"), ("gpt2", "cross")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def recommender(request, checkpoints):
    family, head = request.param
    return randomise(tiny_recommender(checkpoints[family], CATALOG, head=head, max_tokens=40, max_vector_events=3))


def events(length: int) -> list[dict]:
    found = [{"item_id": IDS[(7 * n) % len(IDS)], "timestamp": START + n * n * DAY} for n in range(length)]
    found[2] = {**NEW, "timestamp": found[2]["timestamp"]}  # one that the catalogue lacks
    return found


def test_appending_equals_reading_again_while_the_window_moves(recommender):
    history = events(24)
    opened = recommender.open(history[:1])
    candidates = [*IDS[:5], NEW, {"title": "green paint"}]
    num_read = []
    for length in range(1, 25):
        if length > 1:
            opened.append(history[length - 1])
        expected = recommender.open(history[:length]).score(candidates)
        assert opened.score(candidates) == pytest.approx(expected, abs=2e-4)
        again = [(one.item_id, one.rank) for one in recommender.recommend(history[:length], k=5)]
        assert [(one.item_id, one.rank) for one in recommender.recommend(opened, k=5)] == again
        num_read.append(opened._reading.num_events)
    assert min(b - a for a, b in itertools.pairwise(num_read)) < 0 < max(num_read)  # the window did move


def test_an_event_reads_its_own_tokens_alone(recommender, monkeypatch):
    history = events(6)
    opened = recommender.open(history[:1])
    read = []
    reading = type(opened._reading)
    original = reading._run

    def counted(self, ids, *rest):
        read.append(len(ids))
        return original(self, ids, *rest)

    monkeypatch.setattr(reading, "_run", counted)
    opened.append(history[1])
    assert read == [len(opened._blocks[1])]


def test_scores_are_those_of_the_batch_that_the_evaluator_reads(recommender):
    """Another way to the same number: the packed pass, and for the dual head the scores of the whole catalogue."""
    history = events(8)
    history[2] = {"item_id": IDS[3], "timestamp": history[2]["timestamp"]}
    scores = recommender.open(history).score(IDS)
    whole = recommender.recommend_batch([history], k=len(IDS), exclude_seen=False, num_candidates=len(IDS))[0]
    assert {one.item_id: one.score for one in whole} == pytest.approx(dict(zip(IDS, scores, strict=True)), abs=1e-4)


def test_the_order_of_candidates_moves_no_bit(recommender):
    candidates = [*IDS, {"title": "Something new"}, {"title": "Something else that is new"}]
    order = np.random.default_rng(2).permutation(len(candidates)).tolist()
    opened = recommender.open(events(6))
    scores = opened.score(candidates)
    assert recommender.open(events(6)).score([candidates[place] for place in order]) == [scores[n] for n in order]


def test_what_is_refused_changes_nothing(recommender):
    history = events(5)
    opened = recommender.open(history)
    before = opened.score(IDS[:4])
    for wrong, message in (
        ({"item_id": IDS[0], "timestamp": START}, "event 5 is earlier"),  # counted as in the whole history
        ({"item_id": "no-such", "timestamp": START + 99 * DAY}, "event 5: item 'no-such' is not in the catalogue"),
        ({"item_id": IDS[0]}, "event 5: timestamp None"),
    ):
        with pytest.raises(ValueError, match=message):
            opened.append(wrong)
        assert opened.history == history
        assert opened.score(IDS[:4]) == before
    assert opened.score([]) == []
    with pytest.raises(TypeError, match="candidates 'i00' are no list"):
        opened.score("i00")
    with pytest.raises(ValueError, match="the history is empty"):
        recommender.open([])


def test_the_store_reads_on_what_it_knows_and_again_what_has_changed(recommender):
    store, history = HistoryStore(max_histories=2), events(6)
    first = store.open(recommender, "ann", history[:4])
    assert store.open(recommender, "ann", history) is first  # two more events were appended
    assert first.history == history
    expected = recommender.open(history).score(IDS[:3])
    assert first.score(IDS[:3]) == pytest.approx(expected, abs=2e-4)
    other = store.open(recommender, "ann", history[1:])  # another past
    assert other is not first and other.history == history[1:]
    assert store.open(recommender, "ann", history[1:3]) is not other  # fewer events than were read
    assert len(store) == 1


def test_the_store_keeps_the_users_seen_last(recommender):
    store, history = HistoryStore(max_histories=2), events(3)
    ann, bob = (store.open(recommender, user, history) for user in ("ann", "bob"))
    assert store.open(recommender, "ann", history) is ann
    store.open(recommender, "eve", history)
    assert len(store) == 2
    assert store.open(recommender, "ann", history) is ann
    assert store.open(recommender, "bob", history) is not bob
    with pytest.raises(ValueError, match="max_histories=0: give at least 1"):
        HistoryStore(0)


def test_the_store_keeps_to_its_memory(recommender, monkeypatch):
    history = events(4)
    config = recommender.model.config.backbone_config.to_dict()
    opened = recommender.open(history)
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or config["n_head"]
    layers = config.get("num_hidden_layers") or config["n_layer"]
    hidden = config.get("hidden_size") or config["n_embd"]
    width = hidden // (config.get("num_attention_heads") or config["n_head"])
    numbers = opened._reading.num_tokens * layers * 2 * heads * width + len(history) * hidden
    assert opened.mebibytes == pytest.approx(4 * numbers / 2**20)
    opened.score(IDS)
    kept = {each.untyped_storage() for layer in opened._reading._cache.layers for each in (layer.keys, layer.values)}
    assert sum(storage.nbytes() for storage in kept) == 4 * (numbers - len(history) * hidden)  # no candidate's
    monkeypatch.setattr(type(opened), "mebibytes", property(lambda self: float(len(self.history))))
    store = HistoryStore(max_mebibytes=7)
    ann, bob = (store.open(recommender, user, history[:3]) for user in ("ann", "bob"))
    assert (len(store), store.mebibytes) == (2, 6.0)
    assert store.open(recommender, "ann", history) is ann  # one more event, and now ann is the newest
    assert (len(store), store.mebibytes) == (2, 7.0)
    store.open(recommender, "eve", history[:2])
    assert (len(store), store.mebibytes) == (2, 6.0)  # bob went
    assert store.open(recommender, "ann", history) is ann
    assert store.open(recommender, "bob", history[:3]) is not bob
    store = HistoryStore(max_mebibytes=2)
    whole = store.open(recommender, "ann", history)
    assert store.open(recommender, "ann", history) is whole  # the newest stays
    with pytest.raises(ValueError, match=r"max_mebibytes=0\.5: give at least 1"):
        HistoryStore(max_mebibytes=0.5)


def test_the_store_tells_adapters_apart(checkpoints):
    one, other = (randomise(tiny_recommender(checkpoints["bert"], CATALOG), seed=seed) for seed in (1, 2))
    store, history = HistoryStore(), events(3)
    first, second = (store.open(recommender, "ann", history) for recommender in (one, other))
    assert first is not second and len(store) == 2
    assert [store.open(recommender, "ann", history) for recommender in (one, other)] == [first, second]


def test_other_weights_or_items_are_another_recommender(checkpoints):
    recommender = randomise(tiny_recommender(checkpoints["bert"], CATALOG))
    store, history = HistoryStore(), events(3)
    before = store.open(recommender, "ann", history)
    weight = next(weight for weight in recommender.model.parameters() if weight.requires_grad)
    with torch.no_grad():
        weight += 0.0
    after = store.open(recommender, "ann", history)
    assert after is not before
    assert store.open(recommender, "ann", history) is after
    keys = {recommender.version}
    for size in (20, 10, 20, 10):  # tables that are gone leave their place in memory to new ones
        recommender.replace_items(Catalog(items_frame().head(size)))
        assert store.open(recommender, "ann", history[:1]) is not after
        keys.add(recommender.version)
    assert len(keys) == 5


def test_an_open_history_says_that_the_catalogue_changed(checkpoints):
    recommender = randomise(tiny_recommender(checkpoints["bert"], CATALOG))
    store, history = HistoryStore(), events(4)
    opened = store.open(recommender, "ann", history)
    recommender.items.remove([IDS[1]])
    for use in (
        lambda: opened.append(history[3]),
        lambda: opened.score(IDS[2:4]),
        lambda: recommender.recommend(opened, k=3),
        lambda: opened.user_state(),
        lambda: opened.rank(torch.zeros(len(IDS) - 1), 3, False, 3),
    ):
        with pytest.raises(ValueError, match="the catalogue changed since this history was opened: open the history"):
            use()
    assert opened.history == history
    again = store.open(recommender, "ann", history)
    assert again.score(IDS[2:4]) == recommender.score(history, IDS[2:4])
