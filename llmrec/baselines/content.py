"""The frozen-text baseline: what a person would be shown next if only the words of the items counted.

On rich texts it is the bar to pass. A user is the recency-weighted mean of the history's item vectors, an item scores
by its cosine to that mean. A search also tries the vectors whitened (`spread`), which costs nothing and ranks better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from llmrec.data.cases import Cases, case_batches
from llmrec.data.distinct_rows import unique_rows
from llmrec.models.whitening import whitening

DECAYS = (0.3, 0.5, 0.7, 0.9, 1.0)
"""Decays among which a search chooses."""

NEGLIGIBLE_WEIGHT = 2.0**-40
"""An event whose weight is below this, relative to the latest, cannot move a float32 score."""


def spread(vectors: np.ndarray) -> np.ndarray:
    """Return item vectors (N, D) whitened (`whitening`) and of length one again; zero stays zero, twins stay twins."""
    vectors = np.array(vectors, dtype=np.float32)
    unique, inverse = unique_rows(vectors)
    wide = unique.astype(np.float64) @ whitening(torch.from_numpy(vectors)).double().numpy()
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)[inverse]


class ContentBaseline:
    """Score items by cosine to the recency-weighted mean of the history's item vectors.

    The vector of a history h_1 … h_n is normalise(Σ decay^(n-j) · v(h_j)), as in the content path of the model. Items
    whose vectors are equal score equally, to the last bit; a zero vector (an item without words) scores zero.
    """

    def __init__(self, item_vectors: np.ndarray, decay: float = 0.7):
        """Take the item vectors and how fast the past fades.

        Args:
            item_vectors: (N, D), one row per catalogue item, of length one or zero.
            decay: Weight of an event relative to the one after it, in (0, 1].

        Raises:
            ValueError: If rows are of another length or not finite, or `decay` is out of range.
        """
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay!r}: an event's weight relative to the next lies in (0, 1]; try 0.7")
        unique, self.inverse = unique_rows(np.asarray(item_vectors, dtype=np.float32))
        lengths = np.linalg.norm(unique, axis=1)
        wrong = np.flatnonzero(~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0)))
        if wrong.size:
            raise ValueError(
                f"item vectors of length {lengths[wrong[0]].item()!r}: rows must have length one or be zero; "
                "divide each row by its norm"
            )
        # Sums in float64 and one rounding to float32 at the end make scores the same for every batch size.
        self.unique_vectors = unique.astype(np.float64)  # (M, D)
        self.decay = decay
        self.max_events = math.ceil(math.log(NEGLIGIBLE_WEIGHT) / math.log(decay)) if decay < 1 else None

    def user_vector(self, history: np.ndarray) -> np.ndarray:
        """Return the unit vector (D,) of a history of item indices (L,), oldest first; zero for an empty one."""
        recent = history[-self.max_events :] if self.max_events else history
        weights = self.decay ** np.arange(len(recent) - 1, -1, -1, dtype=np.float64)
        vector = weights @ self.unique_vectors[self.inverse[recent]]
        length = np.linalg.norm(vector)
        return vector / length if length > 0 else vector

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once."""
        for numbers in case_batches(len(cases.position), len(self.inverse)):
            histories = [cases.items[cases.user[case]][: cases.position[case]] for case in numbers]
            users = np.stack([self.user_vector(history) for history in histories])  # (B, D)
            scores = torch.from_numpy(users @ self.unique_vectors.T).float()  # (B, M)
            yield numbers, scores.index_select(1, torch.from_numpy(self.inverse))

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return settings and arrays from which `from_state` builds an equal baseline."""
        vectors = self.unique_vectors.astype(np.float32)  # they came from float32, so nothing is lost
        return {"decay": self.decay}, {"unique_vectors": vectors, "inverse": self.inverse}

    @classmethod
    def from_state(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> ContentBaseline:
        """Build what `state` came from."""
        return cls(arrays["unique_vectors"][arrays["inverse"]], settings["decay"])
