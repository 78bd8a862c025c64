"""Copies of a recommender: pickled, deep, in a forked process, reading less, merged. Each is consistent on its own."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec import Recommender
from llmrec.data.catalog import Catalog

CATALOG = Catalog(items_frame())
HISTORY = [{"item_id": "i00", "timestamp": START}, {"title": "blue hammer", "timestamp": START + 9}]
NEW = [{"item_id": "a0", "title": "green ladder"}]

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


@pytest.fixture
def own(checkpoints) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"]))


def recommended(recommender: Recommender) -> dict[str, float]:
    return {one.item_id: one.score for one in recommender.recommend(HISTORY, k=100, exclude_seen=False)}


def in_a_fork(call: Callable[[], Any], seconds: float = 30) -> str:
    """Return what a call returns in a forked process, or its error, as text; fail where it takes too long."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = repr(call())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode()[:4000])
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + seconds
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the forked process hangs")
        time.sleep(0.01)
    with os.fdopen(reader, "rb") as file:
        return file.read().decode()


def test_a_forked_process_recommends_and_refuses_what_would_hang(own, tmp_path):
    torch.set_num_threads(2)
    try:
        torch.randn(1000, 1000).softmax(-1)  # the parent has threads that the child lacks
        assert in_a_fork(lambda: torch.randn(1000, 1000).softmax(-1).isfinite().all().item()) == "True"
    finally:
        torch.set_num_threads(1)
    expected = own.recommend(HISTORY, k=3)
    own.save_pretrained(tmp_path / "run")
    with own._swapping, own.items.changing:  # as if other threads were at it
        assert in_a_fork(lambda: own.recommend(HISTORY, k=3)) == repr(expected)
        assert in_a_fork(lambda: own.open(HISTORY).score(["i01"])) == repr(own.score(HISTORY, ["i01"]))
    for call in (
        lambda: own.save_pretrained(tmp_path / "other"),
        lambda: own.items.add(NEW),
        lambda: own.items.update([{"item_id": "i01", "title": "heat"}]),
        lambda: own.items.remove(["i01"]),
        lambda: own.replace_items(Catalog(items_frame(5))),
        lambda: Recommender.from_pretrained(tmp_path / "run"),
    ):
        assert "works only in the process that began with it.\nStart processes with the" in in_a_fork(call)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_shares_nothing(own, copied):
    before = recommended(own)
    opened = own.open(HISTORY)
    other = copied(own)
    assert recommended(other) == pytest.approx(before, abs=1e-5)
    other.items.add(NEW)
    other.popularity_weight = 0.0
    assert "a0" in recommended(other) and len(rec_model(other).rec_items) == len(other.items) == len(CATALOG) + 1
    assert recommended(own) == before and opened.score(["i01"])
    with pytest.raises(ValueError, match="changed since this history was opened: open the history again"):
        copied(opened).score(["i01"])  # of another recommender


@pytest.mark.parametrize("copied", [Recommender.without_time, Recommender.merge])
@pytest.mark.parametrize("first", [True, False])
def test_items_added_to_a_copy_or_to_its_original_are_no_items_of_the_other(own, copied, first):
    other = copied(own)
    changed, kept = (own, other) if first else (other, own)
    before = recommended(kept)
    changed.items.add(NEW)
    changed.popularity_weight = 0.0
    assert "a0" in recommended(changed)
    assert recommended(kept) == before
    for one in (changed, kept):
        assert len(rec_model(one).rec_items) == len(one.items)
    assert kept.popularity_weight == 1.0 and kept.items.ids == CATALOG.ids


def test_a_scorer_keeps_the_catalogue_it_began_with(own):
    scorer = own.scorer()
    own.items.add(NEW)
    assert len(scorer.model.rec_items) == len(CATALOG) and scorer.texts.ids == CATALOG.ids
