"""Many threads and one recommender: every answer is the serial answer of a catalogue that was there meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec import Recommender
from llmrec.data.catalog import Catalog

CATALOG = Catalog(items_frame())
IDS = CATALOG.ids
CHANGED = "the catalogue changed since this history was opened"
BY_ID = [{"item_id": item, "timestamp": START + 90_000 * place} for place, item in enumerate(["i00", "i05", "i11"])]
BY_TEXT = [BY_ID[0], {"title": "blue hammer", "brand": "acme", "timestamp": START + 5}, BY_ID[2]]
OTHER_TEXT = [{"title": "green glue", "timestamp": START}, BY_ID[1]]
CANDIDATES = ["i01", "i02", {"title": "large bolt"}]
HISTORIES = {"ids": BY_ID, "text": BY_TEXT, "other": OTHER_TEXT}


def answers(recommender: Recommender) -> dict[str, Any]:
    """Every kind of request, by its name; the catalogue holds the items of these histories throughout."""
    found: dict[str, Any] = {}
    for name, history in HISTORIES.items():
        found[f"recommend {name}"] = recommended(recommender, history)
        found[f"score {name}"] = recommender.score(history, CANDIDATES)
    opened = recommender.open(BY_ID[:2])
    opened.append(BY_ID[2])
    found["open"] = opened.score(CANDIDATES), recommended(recommender, opened)
    return found


REQUESTS: dict[str, Callable[[Recommender], Any]] = {
    **{f"recommend {name}": lambda one, h=history: recommended(one, h) for name, history in HISTORIES.items()},
    **{f"score {name}": lambda one, h=history: one.score(h, CANDIDATES) for name, history in HISTORIES.items()},
}


def recommended(recommender: Recommender, history: Any) -> tuple[list[str], list[float]]:
    found = recommender.recommend(history, k=5, num_candidates=8)
    return [one.item_id for one in found], [one.score for one in found]


def opened_and_read_on(recommender: Recommender) -> Any:
    """As `answers` does it; None where the catalogue changed on the way, which is said."""
    try:
        opened = recommender.open(BY_ID[:2])
        opened.append(BY_ID[2])
        return opened.score(CANDIDATES), recommended(recommender, opened)
    except ValueError as error:
        assert CHANGED in str(error)
        return None


REQUESTS["open"] = opened_and_read_on


def is_equal(one: Any, other: Any) -> bool:
    """Equal ids, and scores up to the rounding of a batch."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return one == other if isinstance(one, str) else abs(one - other) < 1e-4


CHANGES: list[Callable[[Recommender], None]] = [
    lambda one: one.items.add([{"item_id": "a0", "title": "green ladder"}, {"item_id": "z0", "title": "blue glue"}]),
    lambda one: one.items.update([{"item_id": "i01", "title": "steel nail"}]),
    lambda one: one.items.remove(["i07", "i20"]),
    lambda one: setattr(one, "popularity_weight", 0.0),
    lambda one: one.items.remove(["a0", "i03"]),
    lambda one: one.items.update([{"item_id": "i01", "title": "heat"}, {"item_id": "i02", "title": "red screw"}]),
    lambda one: one.items.add([{"item_id": "i07", "title": "seven drills"}]),
    lambda one: setattr(one, "popularity_weight", 1.0),
]
"""One after another, they make as many catalogues."""


def hammer(recommender: Recommender, oracle: Recommender, num_threads: int, num_changes: int, seed: int) -> int:
    """Change and ask at once; return how many answers were compared."""
    generations = [answers(oracle)]
    started, finished = 0, 0  # changes that began, and that ended
    stop, wrong, counted = threading.Event(), [], []

    def ask(number: int) -> None:
        random = np.random.default_rng((seed, number))
        while not stop.is_set() or not counted:
            name = str(random.choice(list(REQUESTS)))
            first = finished
            try:
                answer = REQUESTS[name](recommender)
            except Exception as error:
                wrong.append((name, repr(error)))
                return
            last = started
            if answer is not None:
                counted.append((name, first, last, answer))

    with ThreadPoolExecutor(num_threads) as pool:
        asking = [pool.submit(ask, number) for number in range(num_threads)]
        for number in range(num_changes):
            change = CHANGES[number]
            time.sleep(0.03)
            started += 1
            change(recommender)
            finished += 1
        time.sleep(0.05)
        stop.set()
        for each in asking:
            each.result()
    for change in CHANGES[:num_changes]:
        change(oracle)
        generations.append(answers(oracle))
    assert wrong == []
    for name, first, last, answer in counted:
        meanwhile = [generations[number][name] for number in range(first, last + 1)]
        # An open history takes over a new popularity weight, so that two of its answers may be of two moments.
        parts = [*zip(answer, *meanwhile, strict=True)] if name == "open" else [(answer, *meanwhile)]
        assert all(any(is_equal(one, other) for other in others) for one, *others in parts), (name, first, last, answer)
    assert recommender.items.frame.equals(oracle.items.frame)
    assert is_equal(list(answers(recommender).values()), list(answers(oracle).values()))
    return len(counted)


@pytest.fixture(params=["bert-dual", "gpt2-cross"])
def twins(request, checkpoints) -> tuple[Recommender, Recommender]:
    """Two recommenders that are equal and share nothing."""
    family, head = request.param.split("-")
    one, other = (randomise(tiny_recommender(checkpoints[family], head=head)) for _ in range(2))
    assert is_equal(answers(one)["open"], answers(other)["open"])
    return one, other


def test_answers_under_threads_are_serial_answers(twins):
    assert hammer(*twins, num_threads=4, num_changes=len(CHANGES), seed=0) >= 4


@pytest.fixture
def own(checkpoints) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"]))


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Begin all calls at once, each in a thread; return what they return."""
    begin = threading.Barrier(len(calls))
    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(lambda call=call: (begin.wait(), call())[1]) for call in calls]
        return [each.result() for each in running]


def test_a_catalogue_that_changes_during_a_request_stays_changed(own, monkeypatch):
    """A request with an item of its own is under way while another thread removes items."""
    encoding, removed = threading.Event(), threading.Event()
    encode = type(own.snapshot()).encode

    def slow(self, texts):
        encoding.set()
        assert removed.wait(10)
        return encode(self, texts)

    expected = recommended(own, BY_TEXT)
    monkeypatch.setattr(type(own.snapshot()), "encode", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(recommended, own, BY_TEXT)
        assert encoding.wait(10)
        own.items.remove(["i07", "i20"])
        removed.set()
        assert is_equal(answer.result(), expected)
    assert len(rec_model(own).rec_items) == len(own.items) == len(IDS) - 2
    whole = own.recommend(BY_ID, k=100, exclude_seen=False)
    assert {one.item_id: one.score for one in whole} == pytest.approx(
        dict(zip(own.items.ids, own.score(BY_ID, own.items.ids), strict=True)), abs=1e-4
    )


def test_threads_with_items_of_their_own_do_not_meet(own):
    serial = {name: request(own) for name, request in REQUESTS.items()}
    asked = [name for name in REQUESTS if name != "open"] * 2
    for _ in range(3):
        found = in_threads(*(lambda name=name: REQUESTS[name](own) for name in asked))
        assert all(is_equal(answer, serial[name]) for name, answer in zip(asked, found, strict=True))
    assert is_equal([request(own) for request in REQUESTS.values()], list(serial.values()))  # and afterwards


def test_items_that_two_threads_add_are_all_there(own):
    names = [[f"{letter}{number:02}" for number in range(20)] for letter in "xy"]

    def add(ids: list[str]) -> None:
        for item_id in ids:
            own.items.add([{"item_id": item_id, "title": f"heat {item_id}"}])

    in_threads(*(lambda ids=ids: add(ids) for ids in names))
    assert own.items.ids == sorted([*IDS, *names[0], *names[1]])
    assert len(rec_model(own).rec_items) == len(own.items)
    expected = own._encode([own.processor.item_text({"title": "heat x07"})])[0]
    found = rec_model(own).rec_items.text[own.items.index("x07")]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_items_added_in_inference_mode_are_usual_ones(own):
    with torch.inference_mode():
        own.items.add([{"item_id": "a0", "title": "green ladder"}])
        assert own.recommend(BY_TEXT, k=3)
    assert own.recommend(BY_TEXT, k=3)
    assert not any(weight.is_inference() for weight in own.model.parameters())


def test_asking_leaves_the_mode_of_the_model_alone(own):
    before = recommended(own, BY_TEXT)
    own.model.train()
    rec_model(own).rec_items.residual_dropout = 0.9
    assert is_equal(recommended(own, BY_TEXT), before) and is_equal(own.score(BY_ID, IDS), own.score(BY_ID, IDS))
    assert all(module.training for module in own.model.modules())


def test_what_trains_is_served_with_its_new_weights(own):
    before, opened = recommended(own, BY_ID), own.open(BY_ID)
    with torch.no_grad():
        for name, weight in own.model.named_parameters():
            if "lora_" in name:
                weight.mul_(-2)
    assert not is_equal(recommended(own, BY_ID), before)
    with pytest.raises(ValueError, match="the weights, the adapter or the template changed since this history"):
        opened.score(IDS)


def test_every_adapter_has_item_embeddings_of_its_own(own):
    first = recommended(own, BY_ID)
    config = own.model.peft_config["default"]
    own.model.add_adapter("other", config)
    opened = own.open(BY_ID)
    own.model.set_adapter("other")
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in own.model.named_parameters():
            if ".other" in name:
                weight += 0.3 * torch.randn(weight.shape, generator=random)
    own.model.set_adapter("default")
    assert is_equal(recommended(own, BY_ID), first)
    opened = own.open(BY_ID)
    own.model.set_adapter("other")
    second = dict(zip(*recommended(own, BY_ID), strict=True))
    # An open history scores by no cache: item embeddings and user state of the one adapter that is active.
    assert second == pytest.approx(dict(zip(second, own.score(BY_ID, list(second)), strict=True)), abs=1e-4)
    assert not is_equal(list(second.values()), first[1])
    with pytest.raises(ValueError, match="open the history again"):
        own.recommend(opened)
    own.model.set_adapter("default")
    assert is_equal(recommended(own, BY_ID), first)
