"""The cascade: the dual head proposes from the whole catalogue, the candidate head ranks what was proposed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmrec.data.distinct_rows import first_rows
from llmrec.models.items import Items
from llmrec.ranking.candidates import CandidateScorer, Question
from llmrec.ranking.dual import ITEMS_AT_ONCE, DualScorer
from llmrec.ranking.ranks import top_k
from llmrec.text.windows import Window


@dataclass
class CascadeScorer:
    """Scores the whole catalogue for every case: the proposals by the candidate head, all others below them by `dual`.

    Args:
        proposer: the dual scorer, of the same adapter or of another one over the same items.
        ranker: scores the proposals.
        num_candidates: items proposed; None has the candidate head rank the whole catalogue.
        mask_seen: whether items of the history are kept out of the proposals.
    """

    proposer: DualScorer
    ranker: CandidateScorer
    num_candidates: int | None = 100
    mask_seen: bool = True

    def __post_init__(self) -> None:
        if self.num_candidates is not None and self.num_candidates < 1:
            raise ValueError(f"num_candidates={self.num_candidates!r}: give at least 1 item.")

    def catalogue_scores(self, cases: Any) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield (case numbers (B,), scores (B, N) float32) for this shard's cases; equal items have equal scores."""
        vectors = self._vectors()
        for numbers, dual in self.proposer.catalogue_scores(cases):
            scores = dual.clone()  # it was made in inference mode
            if self.num_candidates is None:
                proposed = torch.arange(scores.shape[1]).expand(len(numbers), -1)
            else:
                seen = [cases.seen(case) for case in numbers] if self.mask_seen else None
                proposed = top_k(scores, self.num_candidates, seen)
            kept = [row[row >= 0].numpy() for row in proposed]
            # The last bits of a score depend on what stands beside it; scoring twins once keeps them tied.
            asked, places = zip(*(self._distinct(items, vectors) for items in kept), strict=True)
            questions = [self.question(cases, case, items) for case, items in zip(numbers, asked, strict=True)]
            for row, items, place, found in zip(scores, kept, places, self.ranker.scores(questions), strict=True):
                put_on_top(row, torch.from_numpy(items), found[place])
            yield numbers, scores

    def question(self, cases: Any, case: int, items: np.ndarray) -> Question:
        """Return the question for a case: its history, as the ranker reads it, and items (C,)."""
        processor, user, end = self.ranker.processor, cases.user[case], int(cases.position[case])
        history, timestamps = cases.items[user][:end], cases.timestamps[user][:end]
        blocks = processor.blocks(history, timestamps, self.ranker.texts)
        start, first, _ = processor.windows(blocks)[-1]
        row = processor.read(history, blocks, Window(start, first, end), timestamps)
        last = len(row.items) - 1
        row = processor.ask(row, timestamps, np.array([last]), cases.now[[case]])
        return Question(row, items, np.full(len(items), last))

    @torch.inference_mode()
    def _vectors(self) -> np.ndarray:
        """Return (N,) a number of all that the ranker's item table holds of each item; equal where that is equal."""
        table = self.ranker.rec_model.rec_items
        training = table.training
        table.eval()  # dropout, and training's own prior, are for training alone
        rows = torch.arange(len(table), device=table.text.device).split(ITEMS_AT_ONCE)
        kinds = first_rows(_joined(table(part)) for part in rows)[1]
        table.train(training)
        return kinds

    def _distinct(self, items: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first of each group of items (C,) that read the same and have equal vectors, and each one's place.

        Args:
            items: what was proposed for a case.
            vectors: (N,) as `_vectors` gives them.
        """
        ranker, places = self.ranker, np.empty(len(items), dtype=np.int64)
        found: dict[tuple[int, ...], int] = {}
        firsts: list[int] = []
        for place, item in enumerate(items.tolist()):
            key = (int(vectors[item]), *ranker.processor.candidate_block(ranker.texts.attributes(item)))
            if key not in found:
                found[key] = len(firsts)
                firsts.append(item)
            places[place] = found[key]
        return np.array(firsts, dtype=np.int64), places


def _joined(items: Items) -> np.ndarray:
    """Return all that a table holds of P items, side by side (P, ...)."""
    parts = [part.reshape(len(items.text), -1) for part in items if part is not None]
    return torch.cat(parts, dim=1).float().cpu().numpy()


def put_on_top(scores: Tensor, items: Tensor, found: Tensor) -> None:
    """Give the items (C,) of a row of scores (N,) those that were found (C,), shifted to stand above all others.

    What is not finite stays as it is: NaN is NaN, and minus infinity stands below all.

    >>> scores = torch.tensor([3.0, 9.0, 5.0, 1.0])
    >>> put_on_top(scores, torch.tensor([1, 2]), torch.tensor([-7.0, -6.0]))
    >>> scores
    tensor([3., 4., 5., 1.])
    """
    others = torch.ones_like(scores, dtype=torch.bool)
    others[items] = False
    highest, lowest = (part[part.isfinite()] for part in (scores[others], found))
    above = highest.max() + 1 if len(highest) else 1.0
    scores[items] = (found - lowest.min() if len(lowest) else found) + above
