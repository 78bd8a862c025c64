"""`python scripts/benchmark.py pretraining --data_dir DATA --output_dir DIR`: what packing histories is worth.

The same histories are read forward and backward packed into full rows, padded in batches of similar length, and padded
in batches as they come; every history's loss is compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import set_seed

from llmrec.commands.memory import peak_memory_mib, reset_peak_memory
from llmrec.data.directory import PreparedData
from llmrec.losses.catalogue import IGNORED
from llmrec.models.adapter import inner
from llmrec.models.capabilities import is_causal
from llmrec.models.language import LanguageModel, token_head
from llmrec.text.packing import PackedBatch
from llmrec.training.adaptation_data import NextTokens, PackedCollator, PackedDataset, ReadPass, history_passes
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

TOLERANCE = 1e-5


@dataclass
class BenchmarkArguments:
    """What is timed, and how often."""

    output_dir: str = field(metadata={"help": "Folder for pretraining.json and pretraining.md."})
    data_dir: str = field(metadata={"help": "Data directory whose training histories are read."})
    base_model: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "Checkpoint: Hub name or folder."}
    )
    template: str = field(default="default", metadata={"help": "Prompt template."})
    histories: int = field(default=256, metadata={"help": "Histories read, drawn by seed."})
    row_tokens: int = field(default=256, metadata={"help": "Tokens of a packed row."})
    batch_tokens: int = field(default=2048, metadata={"help": "Tokens of a batch, padding included, of every way."})
    repeats: int = field(default=3, metadata={"help": "Times each way is timed; the median counts."})


class EverySeventhEvent(NamedTuple):
    """Masks the second event of every seven: a share as in training, and the same however histories are arranged."""

    mask_token: int
    separator: int

    def __call__(self, batch: PackedBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return input ids and labels."""
        chosen = (batch["block"] > 0) & (batch["block"] % 7 == 2) & (batch["input_ids"] != self.separator)
        return batch["input_ids"].masked_fill(chosen, self.mask_token), batch["input_ids"].where(chosen, IGNORED)


def measure(arguments: BenchmarkArguments) -> Iterator[dict[str, Any]]:
    """Yield a row for each way.

    Raises:
        ValueError: if a history's losses differ by more than `TOLERANCE` between the ways.
    """
    set_seed(0)
    directory = PreparedData.open(arguments.data_dir)
    counts = np.zeros(len(directory.catalog), dtype=np.int64)
    settings = ModelArguments(
        base_model=arguments.base_model, template=arguments.template, hybrid=False, attention_dropout=0.0
    )
    width = inner_width(settings)
    text = torch.zeros(len(directory.catalog), width)  # no item is embedded: histories alone are read
    clock = directory.has_clock
    recommender = new_recommender(settings, directory.catalog, clock, counts, text)
    processor, causal = recommender.processor, is_causal(inner(recommender.model).backbone)
    language = LanguageModel(recommender.model, *token_head(recommender.checkpoint, causal))
    language.compares = False
    language.eval()  # no dropout: the ways must agree
    passes = history_passes(directory, processor, 0.0, 0, False, None, 0).train
    passes = [one for one in passes if len(one.row.blocks) > 1]
    drawn = np.random.default_rng(0).permutation(len(passes))[: arguments.histories]
    passes = [passes[index] for index in drawn]
    objective = NextTokens() if causal else EverySeventhEvent(processor.tokenizer.mask_token_id, processor.separator[0])
    collator = PackedCollator(processor, objective, 0)  # type: ignore[arg-type]
    sizes = [processor.num_tokens(one.row) for one in passes]
    ways = {
        "packed": batches_of(
            PackedDataset(passes, processor, arguments.row_tokens).rows, arguments.row_tokens, arguments
        ),
        "padded, by length": by_width([[passes[i]] for i in np.argsort(sizes, kind="stable")], sizes, arguments, True),
        "padded": by_width([[one] for one in passes], sizes, arguments, False),
    }
    losses: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, int] = {}
    for repeat in range(arguments.repeats + 1):  # the first is to warm up
        for name, batches in ways.items():
            reset_peak_memory()
            began = time.perf_counter()
            losses[name] = read(language, collator, batches, passes)
            if repeat:
                seconds[name].append(time.perf_counter() - began)
                peaks[name] = max(peaks.get(name, 0), peak_memory_mib())
    difference = max(float(np.abs(found - losses["packed"]).max()) for found in losses.values())
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, batches in ways.items():
        padded = sum(len(rows) * max(row_size(row, processor) for row in rows) for rows in batches)
        yield {
            "method": name,
            "histories": len(passes),
            "tokens": sum(sizes),
            "tokens_with_padding": padded,
            "seconds": round(medians[name], 3),
            "tokens_per_second": round(sum(sizes) / medians[name], 1),
            "speedup": round(medians["padded"] / medians[name], 2),
            "peak_mib": peaks[name],
            "max_abs_diff": difference,
        }
    if not difference <= TOLERANCE:
        raise ValueError(f"losses differ by {difference:.2g}, more than {TOLERANCE:.0e}: the ways do not agree.")


def inner_width(settings: ModelArguments) -> int:
    """Return the hidden width of the checkpoint."""
    from transformers import AutoConfig

    from llmrec.checkpoints import resolve_checkpoint

    return int(AutoConfig.from_pretrained(resolve_checkpoint(settings.base_model, None).path).hidden_size)


def row_size(row: list[ReadPass], processor: Any) -> int:
    """Return the tokens of a row."""
    return sum(processor.num_tokens(one.row) for one in row)


def batches_of(rows: list[Any], row_tokens: int, arguments: BenchmarkArguments) -> list[list[Any]]:
    """Cut rows into batches of as many as the tokens of a batch allow."""
    size = max(1, arguments.batch_tokens // row_tokens)
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def by_width(rows: list[Any], sizes: list[int], arguments: BenchmarkArguments, adapt: bool) -> list[list[Any]]:
    """Cut rows of one history into batches: of equal number, or with `adapt` of as many as fit beside the longest."""
    if not adapt:
        return batches_of(rows, max(sizes), arguments)
    batches, begin = [], 0
    lengths = sorted(sizes)
    for end in range(1, len(rows) + 1):
        if end == len(rows) or lengths[end] * (end + 1 - begin) > arguments.batch_tokens:
            batches.append(rows[begin:end])
            begin = end
    return batches


def read(
    language: LanguageModel, collator: PackedCollator, batches: list[list[Any]], passes: list[ReadPass]
) -> np.ndarray:
    """Read all batches forward and backward; return the mean loss of every history, zero where nothing is asked."""
    place = {id(one): index for index, one in enumerate(passes)}
    sums = np.zeros((len(passes), 2))
    language.zero_grad()
    for rows in batches:
        batch = collator(rows)
        losses = language(**batch)[0].losses
        losses.sum().backward()
        asked = batch["labels"] != IGNORED
        where = zip(torch.nonzero(asked)[:, 0].tolist(), batch["sequence"][asked].tolist(), strict=True)
        for (row, number), loss in zip(where, losses.tolist(), strict=True):
            sums[place[id(rows[row][number])]] += loss, 1
    return sums[:, 0] / np.maximum(sums[:, 1], 1)
