"""The choice of the popularity weight: of a few, the one that ranks the validation cases best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from accelerate.utils import gather_object
from torch import Tensor

from llmrec.data.cases import Cases
from llmrec.evaluation.evaluator import RankedPart, collect, score_ranks, user_metrics
from llmrec.models.items import smoothed_popularity
from llmrec.models.modeling import RecModel
from llmrec.ranking.dual import catalogue_scoring

POPULARITY_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Of these the one best on validation is kept, unless one was given."""


class OneBatch(NamedTuple):
    """Scores (B, N) of some cases, by number (B,), as a system that answers with them."""

    numbers: np.ndarray
    scores: Tensor

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield them."""
        yield self


def best_popularity_weight(
    states: Iterable[tuple[np.ndarray, Tensor]],
    model: RecModel,
    cases: Cases,
    weights: Sequence[float],
    mask_seen: bool,
    cutoff: int,
) -> tuple[float, pl.DataFrame]:
    """Rank the whole catalogue with every weight and return the best one, the first of equals.

    Histories are read and products computed once; only what popularity adds differs between the weights. Does not
    change the weight that the model has.

    Args:
        states: Case numbers (B,) and user states (B, D), of this process's part of the cases; `DualScorer.states`.
        model: Its head and item table score; without `hybrid` every weight ranks alike.
        cases: All cases. Every process must call this, and each gets the same answer.
        weights: How much of `smoothed_popularity` is in scores, at least one.
        mask_seen: Whether the items of a history leave its ranking.
        cutoff: K of the NDCG whose mean over users decides.

    Returns:
        The weight, and with it each user's metrics (`user_metrics`, one row per user).
    """
    score = _scoring_without_popularity(model)
    table = model.rec_items
    prior = smoothed_popularity(table.counts).cpu() if table.hybrid else torch.zeros(len(table))  # (N,)
    parts: dict[float, list[RankedPart]] = {weight: [] for weight in weights}
    for numbers, read in states:
        scores = score(read)
        for weight in weights:
            parts[weight].append(score_ranks(OneBatch(numbers, scores + weight * prior), cases, mask_seen))
    looks = []
    for weight in weights:
        ranks = collect(gather_object(parts[weight]), len(cases)).ranks
        per_user = user_metrics(ranks, cases, [cutoff])
        looks.append((float(per_user[f"ndcg@{cutoff}"].to_numpy().mean()), weight, per_user))
    _, weight, per_user = max(looks, key=itemgetter(0))
    return weight, per_user


def _scoring_without_popularity(model: RecModel) -> Callable[[Tensor], Tensor]:
    table = model.rec_items
    weight, table.popularity_weight = table.popularity_weight, 0.0
    try:
        return catalogue_scoring(model)  # it takes the biases as they are now
    finally:
        table.popularity_weight = weight
