"""Examples to padded tensors, and the order in which they are drawn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback

from llmrec.losses.catalogue import IGNORED
from llmrec.text.processor import Processor
from llmrec.training.dataset import Example


class WindowCollator:
    """Pads windows to a `Batch`; adds `labels` (B, L), `weights` if any, and the `passes`, which may get branches."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return the tensors of one training batch."""
        batch: dict[str, Any] = dict(self.processor.batch([example["row"] for example in examples]))
        labels = torch.full_like(batch["items"], IGNORED)
        for index, example in enumerate(examples):
            labels[index, : len(example["labels"])] = torch.from_numpy(example["labels"])
        weighted = [(index, row) for index, one in enumerate(examples) if (row := one.get("weights")) is not None]
        if weighted:
            batch["weights"] = torch.zeros(labels.shape)
        for index, row in weighted:
            batch["weights"][index, : len(row)] = torch.from_numpy(row)
        return {**batch, "labels": labels, "passes": [example["row"] for example in examples]}


SAMPLING = ("group_by_length", "random", "sequential")
"""Orders in which windows are drawn (`WindowBatchSampler`)."""


class WindowBatchSampler(Sampler[list[int]]):
    """Batches of windows, in an order that depends on seed and epoch alone.

    To be grouped by length, windows are shuffled, sorted by length within pools of `pool_batches` batches, and the
    batches shuffled again, so that little is padded and no two epochs are alike. A run resumed in the middle of an
    epoch draws the same batches. Only the last batch may be short: several processes would lose the batches beside a
    short one in the middle.

    Args:
        lengths: tokens of each window.
        batch_size: windows in a batch; the last one may have fewer.
        seed: the run's seed.
        pool_batches: batches sorted together.
        strategy: one of `SAMPLING`; `random` shuffles windows alone, `sequential` takes them as they stand.
        drop_last: leave a short batch out.

    Raises:
        ValueError: if every batch would be left out.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        pool_batches: int = 50,
        strategy: str = SAMPLING[0],
        drop_last: bool = False,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.pool = batch_size * pool_batches
        self.strategy = strategy
        self.drop_last = drop_last
        self.epoch = 0
        if not len(self):
            raise ValueError(
                f"dataloader_drop_last leaves out all {len(self.lengths)} windows, fewer than a batch of {batch_size}: "
                "leave it out, or give a smaller --per_device_train_batch_size."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = np.arange(len(self.lengths))
        if self.strategy != "sequential":
            order = random.permutation(order)
        grouped = self.strategy == "group_by_length"
        if grouped:
            pools = [order[begin : begin + self.pool] for begin in range(0, len(order), self.pool)]
            order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = [order[begin : begin + self.batch_size].tolist() for begin in range(0, len(order), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        for index in random.permutation(len(full)) if grouped else range(len(full)):
            yield full[index]
        if len(full) < len(self):
            yield batches[-1]


class TimeLimit(TrainerCallback):
    """Stops training after some minutes, with an evaluation and a checkpoint of what was reached."""

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.began = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop where the time is over."""
        if time.perf_counter() - self.began > self.seconds:
            control.should_training_stop = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"


class SamplerEpoch(TrainerCallback):
    """Tells the sampler its epoch: resumed on several processes, it is wrapped too deep for Trainer to reach."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Unwrap the sampler and set its epoch."""
        sampler = train_dataloader.batch_sampler
        while not isinstance(sampler, WindowBatchSampler):
            sampler = sampler.batch_sampler
        sampler.set_epoch(int(state.epoch or 0))
