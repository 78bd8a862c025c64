"""Scores of candidates that have read a history: many per history, at the price of their own tokens.

Where a history and its candidates fit one pass they are packed into one row, several rows to a batch. Where they do
not, the history is read once, its keys and values are kept, and the candidates follow in chunks. Both give the scores
of a pass per candidate, and neither order nor number of candidates matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from llmrec.models.adapter import inner
from llmrec.models.capabilities import capabilities
from llmrec.models.modeling import RecModel
from llmrec.models.reading import Reading
from llmrec.ranking.planning import cached_tokens, chunk_candidates, pass_mebibytes
from llmrec.text.batch import Branch, Pass
from llmrec.text.processor import ItemTexts, Processor

METHODS = ("packed", "cached")


@dataclass(frozen=True)
class Question:
    """What is to be scored of one history.

    Attributes:
        row: the pass that reads the history.
        items: (C,) row of each candidate in the item table.
        events: (C,) index in the pass of the last event that each sees.
    """

    row: Pass
    items: np.ndarray
    events: np.ndarray

    def __post_init__(self) -> None:
        if self.items.shape != self.events.shape or self.items.ndim != 1:
            raise ValueError(f"items {self.items.shape!r} and events {self.events.shape!r}: give one event per item.")


@dataclass
class CandidateScorer:
    """Scores candidates by the candidate head.

    Args:
        model: a `RecModel` with a candidate head, adapted or not.
        processor: turns histories and candidates into tokens.
        texts: the items' attributes.
        max_pass_mib: memory that one pass may take, about, in MiB: it decides how many rows share a batch, how many
            candidates share a pass, and whether they are packed or cached.
        method: `packed` or `cached` to have it decided; None packs what is best read in one pass.
        progress: whether to show a progress bar, with the time left.

    Raises:
        ValueError: if the model has no candidate head, or an argument is out of range.
    """

    model: nn.Module
    processor: Processor
    texts: ItemTexts
    max_pass_mib: float = 64.0
    method: str | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if not hasattr(self.rec_model, "candidate_head"):
            raise ValueError("the model has a dual head alone: train with --head cross to score candidates that read.")
        if self.method not in (None, *METHODS):
            raise ValueError(f"method={self.method!r} is neither None nor one of {', '.join(METHODS)}.")
        if self.max_pass_mib <= 0:
            raise ValueError(f"max_pass_mib={self.max_pass_mib!r}: give more than 0.")
        if self.method == "cached" and not capabilities(self.rec_model.backbone).cache:
            raise ValueError(
                "method='cached': the checkpoint fills no key/value cache, so its histories and candidates are packed."
                "\nGive method='packed' or None."
            )

    @property
    def rec_model(self) -> RecModel:
        """The model inside its adapter."""
        return inner(self.model)

    @torch.inference_mode()
    def scores(self, questions: Sequence[Question]) -> list[Tensor]:
        """Return the scores (C,) float32 of each question's candidates, on the CPU."""
        results = [torch.empty(len(question.items)) for question in questions]
        model = self.rec_model
        training = model.training
        model.eval()
        try:
            jobs = self._jobs(questions)
            with tqdm(
                total=sum(len(question.items) for question in questions),
                desc="scoring candidates",
                unit="candidate",
                disable=not self.progress,
                leave=False,
            ) as bar:
                for places, found in jobs:
                    for (number, chunk), scores in zip(places, found, strict=True):
                        results[number][chunk] = scores.float().cpu()
                        bar.update(len(scores))
        finally:
            model.train(training)
        return results

    def _jobs(self, questions: Sequence[Question]) -> Iterator[tuple[list[tuple[int, Tensor]], list[Tensor]]]:
        """Yield (question number, some of its candidates) and their scores, some at a time.

        Candidates are read in an order of their own, so that the caller's does not even move a last bit.
        """
        packed: list[tuple[int, Tensor, Pass]] = []
        for number, question in enumerate(questions):
            if not len(question.items):
                continue
            branches = [
                Branch(int(item), self.processor.candidate_block(self.texts.attributes(int(item))), int(event))
                for item, event in zip(question.items, question.events, strict=True)
            ]
            order = torch.tensor(sorted(range(len(branches)), key=branches.__getitem__))
            branches = [branches[place] for place in order.tolist()]
            num_history = self.processor.num_tokens(question.row)
            sizes = [len(branch.block) for branch in branches]
            backbone = self.rec_model.backbone
            may_cache = self.method != "packed" and capabilities(backbone).cache
            may_cache = may_cache and len(set(question.events.tolist())) == 1
            limit = cached_tokens(backbone) if may_cache else math.inf
            chunks = chunk_candidates(backbone, num_history, sizes, self.max_pass_mib, limit)
            if may_cache and (self.method == "cached" or len(chunks) > 1):
                yield [(number, order[chunk]) for chunk in chunks], list(self._cached(question, branches, chunks))
            else:
                packed += [(number, order[chunk], replace(question.row, branches=branches[chunk])) for chunk in chunks]
        yield from self._packed(packed)

    def _packed(
        self, passes: list[tuple[int, Tensor, Pass]]
    ) -> Iterator[tuple[list[tuple[int, Tensor]], list[Tensor]]]:
        passes = sorted(passes, key=lambda entry: -self.processor.num_tokens(entry[2]))
        begin = 0
        while begin < len(passes):
            longest = pass_mebibytes(self.rec_model.backbone, self.processor.num_tokens(passes[begin][2]))
            end = begin + max(1, int(self.max_pass_mib // longest))
            rows = passes[begin:end]
            batch: dict[str, Any] = dict(self.processor.batch([row for _, _, row in rows]))
            inputs = {name: tensor.to(self.rec_model.device) for name, tensor in batch.items()}
            output = self.model(**inputs, catalogue=False)
            scores = [output.candidate_scores[index, : len(row.branches)] for index, (*_, row) in enumerate(rows)]
            yield [(number, chunk) for number, chunk, _ in rows], scores
            begin = end

    def _cached(self, question: Question, branches: list[Branch], chunks: list[slice]) -> Iterator[Tensor]:
        model, end = self.rec_model, int(question.events[0]) + 1
        table, device = model.rec_items, model.device
        reading = Reading(model, self.processor.header)
        row = question.row
        times = None if row.times is None else row.times[:end]
        reading.append(row.blocks[:end], table(torch.as_tensor(row.items[:end], device=device)), times)
        query = next((one for one in row.queries if one.event == end - 1), None)
        for chunk in chunks:
            items = table(torch.tensor([branch.item for branch in branches[chunk]], device=device))
            yield reading.candidate_scores([branch.block for branch in branches[chunk]], items, query)
