"""Scores of whole catalogues for many cases: windows read in length-sorted batches, shared over processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from llmrec.data.cases import case_batches
from llmrec.data.distinct_rows import first_rows
from llmrec.models.adapter import inner
from llmrec.models.modeling import RecModel
from llmrec.text.batch import Pass
from llmrec.text.processor import ItemTexts, Processor

ITEMS_AT_ONCE = 4096
"""Items embedded at once."""


@dataclass
class DualScorer:
    """Scores every catalogue item for every case, by the dual head.

    Args:
        model: a `RecModel`, adapted or not.
        processor: turns histories into batches.
        texts: the items' attributes.
        batch_size: passes read at once; scores do not depend on it.
        shard: (index, count) of this process: it reads every count-th batch. Batches are formed before they are
            shared, so that any number of processes computes the very same numbers.
        progress: whether to show a progress bar.
        reading: whether the language model reads; without it user states are their content alone.
    """

    model: nn.Module
    processor: Processor
    texts: ItemTexts
    batch_size: int = 32
    shard: tuple[int, int] = (0, 1)
    progress: bool = False
    reading: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size!r}: give at least 1 window.")

    def passes(self, cases: Any) -> list[tuple[Pass, np.ndarray, np.ndarray]]:
        """Return the passes that cover all cases: (pass, case numbers, index in the pass of each case's state)."""
        by_user: dict[int, list[int]] = {}
        for case, user in enumerate(cases.user.tolist()):
            by_user.setdefault(user, []).append(case)
        found, now = [], cases.now
        for user, numbers in by_user.items():
            positions = cases.position[numbers]
            length = int(positions.max())  # nothing from the last target on is looked at
            items, timestamps = cases.items[user][:length], cases.timestamps[user][:length]
            blocks = self.processor.blocks(items, timestamps, self.texts)
            for window in self.processor.windows(blocks):
                here = (positions - 1 >= window.first) & (positions - 1 < window.end)
                if here.any():
                    row = self.processor.read(items, blocks, window, timestamps)
                    chosen, events = np.asarray(numbers)[here], positions[here] - 1 - row.offset
                    row = self.processor.ask(row, timestamps, events, now[chosen])
                    found.append((row, chosen, events))
        return found

    @torch.inference_mode()
    def states(self, cases: Any) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (case numbers (B,), user states (B, D)) for this shard's cases."""
        model = inner(self.model)
        passes = self.passes(cases)
        passes.sort(key=lambda entry: (self.processor.num_tokens(entry[0]), entry[1][0]))
        starts = range(0, len(passes), self.batch_size)[self.shard[0] :: self.shard[1]]
        training = model.training
        model.eval()
        try:
            for start in tqdm(starts, desc="reading histories", unit="batch", disable=not self.progress, leave=False):
                chunk = passes[start : start + self.batch_size]
                batch: dict[str, Any] = dict(self.processor.batch([row for row, _, _ in chunk]))
                if self.reading:
                    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
                    states = model(**inputs, catalogue=False).states
                else:
                    states = model.content_states(batch["items"].to(model.device))
                rows = np.repeat(np.arange(len(chunk)), [len(numbers) for _, numbers, _ in chunk])
                columns = np.concatenate([index for _, _, index in chunk])
                yield np.concatenate([numbers for _, numbers, _ in chunk]), states[rows, columns]
        finally:
            model.train(training)

    @torch.inference_mode()
    def catalogue_scores(self, cases: Any) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (case numbers (B,), scores (B, N) float32) for this shard's cases."""
        model = inner(self.model)
        score, memory = catalogue_scoring(model), model.rec_items.memory
        for numbers, states in self.states(cases):
            for rows in case_batches(len(numbers), len(model.rec_items)):  # one window may hold hundreds of cases
                scores = score(states[rows])
                if memory is not None:
                    scores += memory.scores([cases.history(case) for case in numbers[rows]])
                yield numbers[rows], scores


@dataclass(frozen=True, eq=False)
class CatalogueScoring:
    """Scores of user states, with equal scores for equal items.

    Attributes:
        embeddings: (M, D) float64 c(i) / tau of the distinct items.
        kinds: (N,) which of them each item is; None where all differ.
        bias: (N,) what items add to their scores, or None.
    """

    embeddings: Tensor
    kinds: Tensor | None
    bias: Tensor | None

    @torch.inference_mode()
    def __call__(self, states: Tensor) -> Tensor:
        """Return the scores (B, N) float32 of user states (B, D), on the CPU."""
        # Products in float64, then rounded: in float32 their last bit depends on how many states stand beside them.
        scores = (states.double() @ self.embeddings.T).float()
        if self.kinds is not None:
            scores = scores.index_select(1, self.kinds)
        if self.bias is not None:
            scores += self.bias
        return scores.cpu()


@torch.inference_mode()
def catalogue_scoring(model: RecModel, rows: Tensor | None = None) -> CatalogueScoring:
    """Return what scores user states; it takes the memory of its result and of a few thousand items.

    Args:
        model: its item table holds the items.
        rows: (C,) rows of the table to score instead of all: scores are (B, C).
    """
    table, head, device = model.rec_items, model.rec_head, model.device
    wanted = torch.arange(len(table), device=device) if rows is None else rows.to(device)
    biases: list[Tensor] = []

    def learned(rows: Tensor) -> Iterator[np.ndarray]:
        for part in rows.split(ITEMS_AT_ONCE):
            text, _, residual, bias = table(part)
            biases.extend([] if bias is None else [bias])
            yield (text if residual is None else torch.cat([text, residual], dim=1)).float().cpu().numpy()

    training = model.training
    model.eval()  # dropout, and training's own prior, are for training alone
    try:
        # A matrix product rounds equal rows differently; projecting and scoring distinct items once keeps twins tied.
        firsts, kinds = first_rows(learned(wanted))
        distinct = wanted[torch.from_numpy(firsts).to(device)]
        embeddings = torch.empty(len(distinct), table.text.shape[1], dtype=torch.float64, device=device)
        for part, rows in zip(embeddings.split(ITEMS_AT_ONCE), distinct.split(ITEMS_AT_ONCE), strict=True):
            text, _, residual, _ = table(rows)
            torch.mul(head.item_embeddings(text, residual).double(), head.scale, out=part)
    finally:
        model.train(training)
    expand = torch.from_numpy(kinds).to(device) if len(firsts) < len(kinds) else None
    return CatalogueScoring(embeddings, expand, torch.cat(biases) if biases else None)
