from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.configuration import MemoryWeights
from llmrec.data.item_neighbours import Neighbours, item_neighbours
from llmrec.data.training_events import TrainingEvents
from llmrec.models.memory import NUM_NEIGHBOURS, Memory

N = 7
WEIGHTS = MemoryWeights(neighbours=2.0, neighbours_decay=0.7, own=3.0, own_decay=0.9)


def memory_of(rows: list[list[int]], weights: MemoryWeights = WEIGHTS) -> Memory:
    arrays = [np.array(row) for row in rows]
    return Memory.counted(TrainingEvents(arrays, [np.arange(len(row)) for row in rows], N), weights)


def dense(memory: Memory) -> np.ndarray:
    ends, items, similarities = memory.neighbours
    matrix = np.zeros((len(memory), len(memory)))
    for item in range(len(memory)):
        row = slice(ends[item], ends[item + 1])
        matrix[item, items[row]] = similarities[row]
    return matrix


ROWS = [[0, 1, 2], [1, 0], [0, 2, 2, 3], [3, 4, 1], [5, 4]]
histories = st.lists(st.lists(st.integers(0, N + 1), min_size=1, max_size=12), min_size=1, max_size=4)


@given(histories=histories)
def test_scores_are_the_sums_of_the_formula_event_by_event(histories):
    memory = memory_of(ROWS)
    similar = dense(memory)
    found = memory.scores([np.array(history) for history in histories]).numpy()
    for row, history in zip(found, histories, strict=True):
        own, near = np.zeros(N), np.zeros(N)
        for age, item in enumerate(reversed(history)):
            if item < N:  # what lies beyond the table is new
                own[item] += 0.9**age
                near += 0.7**age * similar[item]
        near /= sum(0.7**age for age in range(len(history)))
        assert row == pytest.approx(2.0 * near + 3.0 * np.log1p(own), rel=1e-5, abs=1e-6)


def test_a_history_scores_the_same_beside_any_others():
    memory, rows = memory_of(ROWS), [np.array([0, 3, 1]), np.array([2]), np.array([5, 4, 4, 0])]
    together = memory.scores(rows)
    for row, scores in zip(rows, together, strict=True):
        assert (memory.scores([row])[0] == scores).all()


def test_the_table_is_that_of_the_counts_in_half_precision():
    events = TrainingEvents([np.array(row) for row in ROWS], [np.arange(len(row)) for row in ROWS], N)
    expected = item_neighbours(events, NUM_NEIGHBOURS)
    found = memory_of(ROWS).neighbours
    assert (found.items == expected.items).all() and (found.ends == expected.ends).all()
    assert found.similarities == pytest.approx(expected.similarities, rel=1e-3)
    assert len(found.items) and found.similarities.dtype == np.float16


def test_an_item_without_a_training_event_has_no_neighbours_but_is_remembered():
    scores = memory_of(ROWS).scores([np.array([6])])[0]
    assert scores.tolist() == pytest.approx([0.0] * 6 + [3.0 * math.log(2)])


@given(order=st.permutations(range(N)), dropped=st.integers(0, 4), new=st.integers(0, 3))
def test_a_changed_catalogue_keeps_what_was_counted_of_the_items_that_stay(order, dropped, new):
    memory = memory_of(ROWS)
    rows = [*order[: N - dropped], *[None] * new]
    similar, found = dense(memory), dense(memory.select(rows))
    for here, old in enumerate(rows):
        for there, other in enumerate(rows):
            expected = 0 if old is None or other is None else similar[old, other]
            assert found[here, there] == expected


def test_saved_and_read_it_scores_the_same():
    memory, history = memory_of(ROWS), [np.array([0, 3, 3, 1])]
    again = Memory.from_tensors(memory.tensors(), WEIGHTS, N)
    assert (again.scores(history) == memory.scores(history)).all()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("ends", lambda ends: ends[:-1]),
        ("ends", lambda ends: ends.flip(0)),
        ("items", lambda items: items + N),
        ("items", lambda items: items - N),
        ("items", lambda items: items[1:]),
        ("similarities", lambda similarities: similarities * float("nan")),
        ("similarities", lambda similarities: similarities[None]),
    ],
)
def test_a_damaged_table_is_refused(part, change):
    tensors = memory_of(ROWS).tensors()
    with pytest.raises(ValueError, match="the memory"):
        Memory.from_tensors({**tensors, part: change(tensors[part])}, WEIGHTS, N)


def test_no_weight_adds_nothing():
    assert not MemoryWeights()
    assert (memory_of(ROWS, MemoryWeights()).scores([np.array([0, 1])]) == 0).all()
    assert isinstance(memory_of(ROWS).neighbours, Neighbours)


@pytest.mark.parametrize(
    "values",
    [{"own": -1}, {"own": "much"}, {"own_decay": 0}, {"neighbours_decay": 1.5}, {"other": 1}, [], {"own": True}],
)
def test_weights_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match="memory"):
        MemoryWeights.of(values)
