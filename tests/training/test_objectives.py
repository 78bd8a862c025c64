from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.losses.catalogue import IGNORED
from llmrec.losses.contrastive import info_nce
from llmrec.text.batch import Pass
from llmrec.text.packing import collate_packed
from llmrec.training.objectives import masked_events

MASK, SEPARATOR, HEADER, PAD = 1, 2, 3, 0

histories = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=5)


def packed(rows: list[list[list[int]]]) -> dict:
    """Rows of histories, each a list of the numbers of words of its events; words count up from 10."""
    words = itertools.count(10)
    passes = [
        [Pass(np.zeros(len(one)), [[*(next(words) for _ in range(size)), SEPARATOR] for size in one]) for one in row]
        for row in rows
    ]
    return collate_packed(passes, [HEADER], PAD)


@settings(deadline=None)
@given(st.lists(histories, min_size=1, max_size=3), st.integers(0, 1_000), st.floats(0.1, 0.9))
def test_events_are_masked_whole_and_nothing_else(rows, seed, rate):
    batch = packed(rows)
    before = {name: tensor.clone() for name, tensor in batch.items()}
    masked, labels = masked_events(batch, MASK, (SEPARATOR,), rate, torch.Generator().manual_seed(seed))
    assert all(torch.equal(batch[name], before[name]) for name in batch)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], batch["input_ids"][chosen])
    assert (masked[chosen] == MASK).all() and torch.equal(masked[~chosen], batch["input_ids"][~chosen])
    assert not (chosen & (batch["block"] <= 0)).any()
    assert not (chosen & (batch["input_ids"] == SEPARATOR)).any()
    for row, histories_of_row in enumerate(rows):
        for number, history in enumerate(histories_of_row):
            for event in range(1, len(history) + 1):
                here = (batch["sequence"][row] == number) & (batch["block"][row] == event)
                words = here & (batch["input_ids"][row] != SEPARATOR)
                if len(history) > 1:
                    assert chosen[row][words].all() or not chosen[row][words].any()


@settings(max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=8), st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_events_are_masked_at_the_rate_asked_for(sizes, seed, rate):
    """Each as often, wherever it stands and however long it is: 300 histories of the same lengths, four in a row."""
    batch = packed([[sizes] * 4] * 75)
    chosen = masked_events(batch, MASK, (SEPARATOR,), rate, torch.Generator().manual_seed(seed))[1] != IGNORED
    for event in range(1, len(sizes) + 1):
        words = (batch["block"] == event) & (batch["input_ids"] != SEPARATOR)
        share = float(chosen[words].double().mean())  # all words of an event or none: of events as of words
        assert abs(share - rate) < 6 * math.sqrt(rate * (1 - rate) / 300)


def test_a_history_of_one_event_loses_single_words():
    batch = packed([[[400]], [[1, 1]]])
    _, labels = masked_events(batch, MASK, (SEPARATOR,), 0.15, torch.Generator().manual_seed(0))
    assert abs((labels[0] != IGNORED).sum().item() - 60) < 4 * math.sqrt(400 * 0.15 * 0.85)


@given(st.integers(1, 6), st.integers(0, 100))
def test_the_contrast_is_the_mean_of_both_directions(users, seed):
    random = torch.Generator().manual_seed(seed)
    first, second = (F.normalize(torch.randn(users, 4, generator=random, dtype=torch.float64), dim=-1) for _ in "ab")
    total = 0.0
    for one, other in ((first, second), (second, first)):
        for user in range(users):
            exps = [math.exp(float(one[user] @ other[rival]) / 0.05) for rival in range(users)]
            total -= math.log(exps[user] / sum(exps))
    assert float(info_nce(first, second)) == pytest.approx(total / (2 * users), rel=1e-9, abs=1e-9)
