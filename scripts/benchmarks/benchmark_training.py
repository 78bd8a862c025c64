"""`python scripts/benchmark.py training --output_dir DIR`: what one pass per history is worth.

A user state after every event of a history is a training example. One pass gives all of them; the usual way reads the
history once per example, cut before it. Both run forward and backward on the same histories, side by side, and their
states are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from benchmark_items import synthetic_catalog
from torch import Tensor
from transformers import set_seed

from llmrec.commands.memory import peak_memory_mib, reset_peak_memory
from llmrec.data.catalog import Catalog
from llmrec.losses.catalogue import full_softmax
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender
from llmrec.text.batch import Pass
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

TOLERANCE = 1e-4


@dataclass
class BenchmarkArguments:
    """What is timed, and how often."""

    output_dir: str = field(metadata={"help": "Folder for training.json and training.md."})
    base_model: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "Checkpoint: Hub name or folder."}
    )
    events: list[int] = field(default_factory=lambda: [10, 25, 50], metadata={"help": "Events per history."})
    histories: int = field(default=4, metadata={"help": "Histories in a step."})
    batch_size: int = field(default=32, metadata={"help": "Cut histories read at once by the usual way."})
    repeats: int = field(default=3, metadata={"help": "Steps timed of each; the median counts."})


def measure(arguments: BenchmarkArguments) -> Iterator[dict[str, Any]]:
    """Yield the rows: both ways for each number of events.

    Raises:
        ValueError: as `time_training`.
    """
    for num_events in arguments.events:
        yield from time_training(arguments, num_events)


def time_training(arguments: BenchmarkArguments, num_events: int) -> list[dict[str, Any]]:
    """Time both ways on histories of `num_events` events; return a row for each.

    Raises:
        ValueError: if their states differ by more than `TOLERANCE`.
    """
    set_seed(0)
    catalog = synthetic_catalog(shortest=3, longest=5)
    settings = ModelArguments(base_model=arguments.base_model, max_tokens=448, max_vector_events=0)
    recommender = new_recommender(settings, catalog, has_clock=False, counts=np.ones(len(catalog), dtype=np.int64))
    inner(recommender.model).eval()  # no dropout: the two ways must agree
    torch.nn.init.constant_(inner(recommender.model).rec_head.state_gate, 1.0)  # let the language model count
    random = np.random.default_rng(0)
    items = random.integers(len(catalog), size=(arguments.histories, num_events + 1))
    whole = [one_pass(recommender, catalog, row[:-1]) for row in items]
    cut = [(h, e, prefix(row, e + 1)) for h, row in enumerate(whole) for e in range(num_events)]
    cut.sort(key=lambda entry: recommender.processor.num_tokens(entry[2]))  # the usual way at its best: little padding
    groups = [cut[begin : begin + arguments.batch_size] for begin in range(0, len(cut), arguments.batch_size)]
    every = [[(h, slice(None), row) for h, row in enumerate(whole)]]
    methods: dict[str, Any] = {"one_pass": every, "pass_per_target": groups}
    found: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    peaks: dict[str, int] = {}
    for repeat in range(arguments.repeats + 1):  # the first is to warm up
        for name, batches in methods.items():
            reset_peak_memory()
            began = time.perf_counter()
            found[name] = step(recommender, batches, items)
            if repeat:
                seconds[name].append(time.perf_counter() - began)
                peaks[name] = max(peaks.get(name, 0), peak_memory_mib())
    difference = float((found["one_pass"] - found["pass_per_target"]).abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"states differ by {difference:.2g}, more than {TOLERANCE:.0e}: the two ways do not agree.")
    targets = arguments.histories * num_events
    rows = []
    for name, batches in methods.items():
        tokens = sum(recommender.processor.num_tokens(row) for batch in batches for *_, row in batch)
        median = statistics.median(seconds[name])
        rows.append(
            {
                "method": name,
                "events": num_events,
                "targets": targets,
                "tokens": tokens,
                "seconds": round(median, 4),
                "targets_per_second": round(targets / median, 1),
                "tokens_per_second": round(tokens / median, 1),
                "speedup": round(statistics.median(seconds["pass_per_target"]) / median, 2),
                "peak_mib": peaks[name],
                "max_abs_diff": difference,
            }
        )
        print(f"{num_events:>4} events  {name:<16} {rows[-1]['targets_per_second']:>8} targets/s", flush=True)
    return rows


def step(recommender: Recommender, batches: list[list[tuple[int, Any, Pass]]], items: np.ndarray) -> Tensor:
    """Read all batches forward and backward; return the user states (H, E, D) of every history and event."""
    model = inner(recommender.model)
    labels = torch.from_numpy(items[:, 1:])
    states = torch.empty(*labels.shape, model.config.backbone_config.hidden_size)
    model.zero_grad()
    for batch in batches:
        tensors = recommender.processor.batch([row for *_, row in batch])
        output = model(**tensors)
        if isinstance(batch[0][1], slice):
            wanted, targets = output.states, labels
        else:
            last = torch.tensor([len(row.items) - 1 for *_, row in batch])
            wanted = output.states[torch.arange(len(batch)), last][:, None]
            targets = torch.stack([labels[h, e] for h, e, _ in batch])[:, None]
        full_softmax(wanted, output.embeddings, output.scale, output.bias, targets).backward()
        for row, (history, event, _) in enumerate(batch):
            states[history, event] = wanted[row].detach() if isinstance(event, slice) else wanted[row, 0].detach()
    return states


def one_pass(recommender: Recommender, catalog: Catalog, items: np.ndarray) -> Pass:
    """Return the pass over a whole history of items (L,)."""
    blocks = recommender.processor.blocks(items, np.zeros(len(items), dtype=np.int64), catalog)
    windows = recommender.processor.windows(blocks)
    if len(windows) > 1:
        raise ValueError(f"{len(items)} events do not fit one pass; give fewer --events.")
    return recommender.processor.read(items, blocks, windows[0])


def prefix(row: Pass, num_events: int) -> Pass:
    """Return the pass over the first events alone."""
    return Pass(items=row.items[:num_events], blocks=row.blocks[:num_events], first=num_events - 1)
