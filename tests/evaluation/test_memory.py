"""Evaluation takes memory for a batch of cases, not for all: nothing that any system makes grows with users x items."""

from __future__ import annotations

import tracemalloc
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, tiny_recommender
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmrec.baselines.sequence_training import SEQUENCE_GRIDS
from llmrec.baselines.systems import SYSTEMS, Fitter, grid
from llmrec.data.cases import Cases, case_batches
from llmrec.data.catalog import Catalog
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import Details, score_ranks

N, LENGTH, FEW, MANY = 400, 12, 8, 32
MAX_SCORES = 10 * N  # ten cases, fewer than the windows that are read at once hold
CATALOG = Catalog(items_frame(N))
SMALL = {"num_epochs": 1, "hidden_size": 8, "num_layers": 1, "max_length": 6, "batch_size": 64}
WAYS = {
    "llmrec": {},
    "llmrec without reading": {"reading": False},
    "llmrec that re-ranks": {"num_candidates": 3},
}


class LargestTensor(TorchDispatchMode):
    """Watches every operation of torch for the storage of what it returns, in bytes."""

    num_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [each.untyped_storage().nbytes() for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        self.num_bytes = max(self.num_bytes, *sizes, 0)
        return result


class Recorder:
    """A system whose batches are looked at as they pass."""

    def __init__(self, system: Any):
        self.system, self.shapes = system, []

    def catalogue_scores(self, cases: Cases):
        for numbers, scores in self.system.catalogue_scores(cases):
            self.shapes.append(tuple(scores.shape))
            yield numbers, scores


def cases_of_everybody(num_users: int) -> Cases:
    """Every event of everybody but the first is a target; the many are the few, four times."""
    rows = [np.random.default_rng(user % FEW).permutation(N)[:LENGTH] for user in range(num_users)]
    return Cases(
        users=[f"u{user}" for user in range(num_users)],
        items=rows,
        timestamps=[START + 86_400 * np.arange(LENGTH)] * num_users,
        user=np.repeat(np.arange(num_users), LENGTH - 1),
        position=np.tile(np.arange(1, LENGTH), num_users),
        num_items=N,
        split="test",
    )


@pytest.fixture(scope="module")
def system_of(checkpoints):
    cases = cases_of_everybody(MANY)
    events = TrainingEvents(cases.items, cases.timestamps, N)
    vectors = np.eye(N, 16, dtype=np.float32) + np.eye(N, 16, -1, dtype=np.float32)
    vectors[17:] = np.random.default_rng(0).standard_normal((N - 17, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fitter = Fitter(events, events, lambda: vectors, quality=lambda system: 0.5)

    @cache
    def get(name: str) -> Any:
        if name in WAYS:
            head = {"head": "cross"} if "num_candidates" in WAYS[name] else {}
            recommender = randomise(tiny_recommender(checkpoints["bert"], CATALOG, max_tokens=32, **head))
            return recommender.scorer(batch_size=8, **WAYS[name])
        settings = grid(name, has_clock=True)[0]
        return fitter.fit(name, {**settings, **SMALL} if name in SEQUENCE_GRIDS else settings)[0]

    return get


def measured(system: Any, num_users: int) -> tuple[int, int, Recorder]:
    """Bytes of the largest tensor and of all that Python and numpy held at once, and the batches."""
    cases, recorder, largest = cases_of_everybody(num_users), Recorder(system), LargestTensor()
    details = Details(np.arange(N), np.isin(np.arange(len(cases)), cases.first_of_each_user))
    tracemalloc.start()
    try:
        with largest:
            score_ranks(recorder, cases, True, details)
        return largest.num_bytes, tracemalloc.get_traced_memory()[1], recorder
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [*SYSTEMS, *WAYS])
def test_four_times_the_users_take_no_larger_a_tensor(system_of, name, monkeypatch):
    system = system_of(name)
    monkeypatch.setattr(case_batches, "__defaults__", (MAX_SCORES,))
    (few, few_in_all, _), (many, many_in_all, recorder) = (measured(system, number) for number in (FEW, MANY))
    assert max(rows for rows, _ in recorder.shapes) * N <= MAX_SCORES
    assert sum(rows for rows, _ in recorder.shapes) == MANY * (LENGTH - 1)
    assert many <= 1.5 * few  # widths of batches differ
    all_scores = MANY * (LENGTH - 1) * N * 4
    assert many < all_scores / 2 and many_in_all - few_in_all < all_scores / 2
