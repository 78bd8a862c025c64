from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, prepare_data_loader, skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from llmrec.configuration import RecommenderConfig
from llmrec.losses.catalogue import IGNORED
from llmrec.models.backbone import load_tokenizer
from llmrec.text.batch import Pass
from llmrec.text.processor import Processor
from llmrec.text.serializer import Serializer
from llmrec.text.template import PromptTemplate
from llmrec.training.collators import WindowBatchSampler, WindowCollator

LENGTHS = np.random.default_rng(0).integers(5, 200, size=203)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
def test_every_window_is_drawn_once_in_batches_that_are_full_but_the_last(lengths, batch_size, pool, epoch):
    sampler = WindowBatchSampler(lengths, batch_size, seed=1, pool_batches=pool)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(len(batch) == batch_size for batch in batches[:-1]) and 1 <= len(batches[-1]) <= batch_size


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = WindowBatchSampler(LENGTHS, 8, seed)
        sampler.set_epoch(epoch)
        torch.manual_seed(np.random.randint(99))
        return list(sampler)

    assert order(3, 5) == order(3, 5)
    orders = [order(seed, epoch) for seed in (3, 4) for epoch in (0, 1, 2)]
    assert len({str(batches) for batches in orders}) == 6
    # Not only are the batches drawn in another order: other windows meet.
    assert len({tuple(sorted(map(tuple, map(sorted, batches)))) for batches in orders}) == 6


def test_windows_of_similar_length_meet():
    def padded(batches) -> int:
        return sum(max(LENGTHS[batch]) * len(batch) for batch in batches)

    grouped = padded(WindowBatchSampler(LENGTHS, 8, seed=0))
    shuffled = np.random.default_rng(0).permutation(len(LENGTHS)).tolist()
    assert grouped < 1.1 * LENGTHS.sum() < padded([shuffled[begin : begin + 8] for begin in range(0, 203, 8)])


@pytest.mark.parametrize("num_processes", [2, 3])
@pytest.mark.parametrize("num_windows", [203, 200, 7])
def test_no_window_is_lost_between_processes(num_processes, num_windows):
    for epoch in range(5):
        sampler = WindowBatchSampler(LENGTHS[:num_windows], 8, seed=0)
        sampler.set_epoch(epoch)
        shards = [list(BatchSamplerShard(sampler, num_processes, index)) for index in range(num_processes)]
        assert len({len(shard) for shard in shards}) == 1
        drawn = [index for shard in shards for batch in shard for index in batch]
        assert set(drawn) == set(range(num_windows))
        assert len(drawn) - num_windows < 8 * num_processes  # what fills the last round up


@pytest.mark.parametrize("done", [1, 5, 25])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_resumed_epoch_goes_on_where_it_stopped(done, epoch):
    def loader():
        sampler = WindowBatchSampler(LENGTHS, 8, seed=0)
        return prepare_data_loader(DataLoader(range(203), batch_sampler=sampler, collate_fn=list), put_on_device=False)

    whole = loader()
    whole.set_epoch(epoch)
    resumed = skip_first_batches(loader(), done)
    resumed.batch_sampler.batch_sampler.set_epoch(epoch)  # as Trainer reaches it
    assert list(resumed) == list(whole)[done:]


def test_labels_are_padded_as_events_are(checkpoints):
    config = RecommenderConfig(base_model="tiny", max_tokens=30)
    processor = Processor(Serializer(PromptTemplate()), load_tokenizer(checkpoints["bert"]), config)
    examples = [
        {"row": Pass(np.array([4, 5, 6]), [[9], [9, 9], [9]], first=1), "labels": np.array([IGNORED, 6, 7])},
        {"row": Pass(np.array([2]), [[9, 9]]), "labels": np.array([3])},
    ]
    batch = WindowCollator(processor)(examples)
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [3, IGNORED, IGNORED]]
    assert batch["items"].tolist() == [[4, 5, 6], [2, -1, -1]]
    expected = processor.batch([example["row"] for example in examples])
    assert set(batch) == set(expected) | {"labels", "passes"}
    assert batch["passes"] == [example["row"] for example in examples]
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
