"""How much popularity and memory count in a score: of a few settings, the one that ranks the validation cases best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from accelerate.utils import gather_object
from torch import Tensor

from llmrec.configuration import MemoryWeights
from llmrec.data.cases import Cases, case_batches
from llmrec.evaluation.evaluator import RankedPart, collect, score_ranks, user_metrics
from llmrec.models.items import smoothed_popularity
from llmrec.models.memory import Memory
from llmrec.models.modeling import RecModel
from llmrec.ranking.dual import catalogue_scoring

POPULARITY_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Of these the one best on validation is kept, unless one was given."""
NEIGHBOUR_WEIGHTS = (2.5, 5.0, 10.0, 20.0, 40.0)
NEIGHBOUR_DECAYS = (0.3, 0.5, 0.7, 0.9, 1.0)
OWN_WEIGHTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
OWN_DECAYS = (0.9, 0.97, 0.99, 1.0)
MAX_SCORES = 2 * 10**8
"""Scores, cases times items, that the weights of the memory are chosen on, about: evenly spaced cases of more."""


class ScoreWeights(NamedTuple):
    """What is added to the scores of the dual head without popularity."""

    popularity: float
    memory: MemoryWeights = MemoryWeights()


class OneBatch(NamedTuple):
    """Scores (B, N) of some cases, by number (B,), as a system that answers with them."""

    numbers: np.ndarray
    scores: Tensor

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield them."""
        yield self


States = Iterable[tuple[np.ndarray, Tensor]]
"""Case numbers (B,) and user states (B, D), of this process's part of the cases; `DualScorer.states`."""


def best_popularity_weight(
    states: States, model: RecModel, cases: Cases, weights: Sequence[float], mask_seen: bool, cutoff: int
) -> tuple[float, pl.DataFrame, np.ndarray]:
    """Rank the whole catalogue with every weight and return the best one, the first of equals.

    Histories are read and products computed once; only what popularity adds differs between the weights. Does not
    change the weight that the model has.

    Args:
        states: User states of this process's cases.
        model: Its head and item table score; without `hybrid` every weight ranks alike.
        cases: All cases. Every process must call this, and each gets the same answer.
        weights: How much of `smoothed_popularity` is in scores, at least one.
        mask_seen: Whether the items of a history leave its ranking.
        cutoff: K of the NDCG whose mean over users decides.

    Returns:
        The weight, and with it each user's metrics (`user_metrics`, one row per user) and the rank of every case.
    """
    search = _Search(states, model, cases, model.rec_items.memory, mask_seen, cutoff)
    memory = MemoryWeights() if search.memory is None else search.memory.weights
    _, best, per_user, ranks = search.best([ScoreWeights(weight, memory) for weight in weights])
    return best.popularity, per_user, ranks


def best_score_weights(
    states: States,
    model: RecModel,
    cases: Cases,
    memory: Memory,
    popularity_weights: Sequence[float],
    mask_seen: bool,
    cutoff: int,
) -> tuple[ScoreWeights, pl.DataFrame]:
    """Choose the weights of popularity and memory, one after the other, by what ranks the cases best.

    First popularity alone, then the items that the same people had, with as much popularity or less, then what the
    person had, where items of the history are ranked at all. What does not rank better stays out. The table must have
    been counted on events that none of the cases is part of.

    Args:
        states: User states of this process's cases, gone through several times.
        model: Its head and item table score.
        cases: All cases; every process must call this, and each gets the same answer.
        memory: What was counted; its own weights do not matter.
        popularity_weights: What popularity may weigh, at least one.
        mask_seen: Whether the items of a history leave its ranking.
        cutoff: K of the NDCG whose mean over users decides.

    Returns:
        The weights, and with them each user's metrics.
    """
    search = _Search(list(states), model, cases, memory, mask_seen, cutoff)
    found = search.best([ScoreWeights(weight) for weight in popularity_weights])
    for _ in range(1 if mask_seen else 2):  # the two parts of the memory depend on each other
        popularity, chosen = found[1]
        fewer = [weight for weight in popularity_weights if weight <= popularity][-4:]
        near = [
            ScoreWeights(less, replace(chosen, neighbours=weight, neighbours_decay=decay))
            for less in fewer
            for weight in NEIGHBOUR_WEIGHTS
            for decay in NEIGHBOUR_DECAYS
        ]
        found = max(found, search.best(near), key=itemgetter(0))
        if not mask_seen:
            own = [
                ScoreWeights(found[1].popularity, replace(found[1].memory, own=weight, own_decay=decay))
                for weight in OWN_WEIGHTS
                for decay in OWN_DECAYS
            ]
            found = max(found, search.best(own), key=itemgetter(0))
    return found[1], found[2]


class _Search:
    """Scores of the same cases under several weights, which share all but the last sum."""

    def __init__(
        self, states: States, model: RecModel, cases: Cases, memory: Memory | None, mask_seen: bool, cutoff: int
    ) -> None:
        self.states, self.cases, self.memory = states, cases, memory
        self.mask_seen, self.cutoff = mask_seen, cutoff
        self.score = _scoring_without_popularity(model)
        table = model.rec_items
        self.prior = smoothed_popularity(table.counts).cpu() if table.hybrid else torch.zeros(len(table))  # (N,)

    def best(self, settings: Sequence[ScoreWeights]) -> tuple[float, ScoreWeights, pl.DataFrame, np.ndarray]:
        """Return the best NDCG of some weights, the first of equals, those weights, users' metrics and all ranks."""
        parts: dict[ScoreWeights, list[RankedPart]] = {}
        for numbers, states in self.states:
            for rows in case_batches(len(numbers), len(self.prior)):
                for setting, scores in self._scores(numbers[rows], states[rows], settings):
                    part = score_ranks(OneBatch(numbers[rows], scores), self.cases, self.mask_seen)
                    parts.setdefault(setting, []).append(part)
        looks = []
        for setting in settings:
            ranks = collect(gather_object(parts.get(setting, [])), len(self.cases)).ranks
            per_user = user_metrics(ranks, self.cases, [self.cutoff])
            looks.append((float(per_user[f"ndcg@{self.cutoff}"].to_numpy().mean()), setting, per_user, ranks))
        return max(looks, key=itemgetter(0))

    def _scores(
        self, numbers: np.ndarray, states: Tensor, settings: Sequence[ScoreWeights]
    ) -> Iterator[tuple[ScoreWeights, Tensor]]:
        """Yield the scores (B, N) under each of the settings."""
        read = self.score(states)
        histories = [self.cases.history(case) for case in numbers]
        parts: dict[tuple[str, float], Tensor] = {}

        def part(name: str, decay: float, scores: Callable[..., np.ndarray]) -> Tensor:
            if (name, decay) not in parts:
                parts[name, decay] = torch.from_numpy(scores(histories, decay))
            return parts[name, decay]

        for setting in settings:
            weights, scores = setting.memory, read + setting.popularity * self.prior
            if self.memory is not None and weights.neighbours:
                near = part("neighbours", weights.neighbours_decay, self.memory.neighbour_scores)
                scores = scores.add_(near, alpha=weights.neighbours)
            if self.memory is not None and weights.own:
                scores = scores.add_(part("own", weights.own_decay, self.memory.own_scores), alpha=weights.own)
            yield setting, scores


def _scoring_without_popularity(model: RecModel) -> Callable[[Tensor], Tensor]:
    table = model.rec_items
    weight, table.popularity_weight = table.popularity_weight, 0.0
    try:
        return catalogue_scoring(model)  # it takes the biases as they are now
    finally:
        table.popularity_weight = weight
