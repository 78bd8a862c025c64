"""`python scripts/benchmark.py training --output_dir DIR`: what one pass per history is worth.

A user state after every event of a history is a training example. One pass gives all of them; the usual way reads the
history once per example, cut before it. Both run forward and backward on the same histories, side by side, and their
states are compared. The rows go to `DIR/training.json`, with the machine, and as a table to `DIR/training.md`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from transformers import set_seed

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.memory import peak_memory_mib, reset_peak_memory
from llmrec.commands.outputs import check_writable
from llmrec.data.catalog import Catalog
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender
from llmrec.text.batch import Pass
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender
from llmrec.training.losses import full_softmax

NUM_ITEMS = 1_000
TOLERANCE = 1e-4
WORDS = ("red", "blue", "old", "new", "small", "night", "river", "stone", "glass", "music", "garden", "winter", "road")


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


def main(argv: list[str] | None = None) -> None:
    """Time, compare, write, print."""
    values = sys.argv[1:] if argv is None else list(argv)
    suite = values.pop(0) if values and not values[0].startswith("-") else None
    if suite != "training" and not {"-h", "--help"} & set(values):
        raise ValueError(f"benchmark {suite!r}: the first word says what to time; give `training`.")
    arguments = parse_arguments("benchmark training", BenchmarkArguments, values)
    print_settings(arguments)
    check_writable(arguments.output_dir)
    rows = [row for num_events in arguments.events for row in time_training(arguments, num_events)]
    write_rows(rows, Path(arguments.output_dir), "training")


def time_training(arguments: BenchmarkArguments, num_events: int) -> list[dict[str, Any]]:
    """Time both ways on histories of `num_events` events; return a row for each.

    Raises:
        ValueError: if their states differ by more than `TOLERANCE`.
    """
    set_seed(0)
    catalog = synthetic_catalog()
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


def synthetic_catalog() -> Catalog:
    """Return items with titles of three to five common words."""
    random = np.random.default_rng(0)
    titles = [" ".join(random.choice(WORDS, size=random.integers(3, 6))) for _ in range(NUM_ITEMS)]
    return Catalog(pl.DataFrame({"item_id": [f"{index:04}" for index in range(NUM_ITEMS)], "title": titles}))


def write_rows(rows: list[dict[str, Any]], folder: Path, name: str, what: str = "Medians of one run") -> None:
    """Write the rows as JSON, and as a Markdown table that says what they are and on which machine; print it."""
    machine = (
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
    )
    rows = [{**row, "machine": machine} for row in rows]
    columns = [column for column in rows[0] if column != "machine"]
    table = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    table += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    text = "\n".join(table) + f"\n\n{what}, on {machine}.\n"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in ((f"{name}.json", json.dumps(rows, indent=2) + "\n"), (f"{name}.md", text)):
        scratch = folder / f".{file}"
        scratch.write_text(content, encoding="utf-8")
        scratch.replace(folder / file)
    print(text)


def _cell(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) and 0 < value < 0.01 else str(value)
