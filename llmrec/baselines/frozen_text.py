"""The frozen-text baseline of labelled pairs: is the item nearer to what the user liked, or to what they disliked?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmrec.data.labelled_cases import LabelledCases

RIDGE = 1.0
MAX_STEPS = 100


def text_margins(cases: LabelledCases, vectors: np.ndarray) -> np.ndarray:
    """Return each case's mean cosine to the liked items before it, minus that to the disliked ones.

    A mean over no item is zero, and so is the cosine to an item without words (a zero vector).

    Args:
        cases: What is asked, and the labelled histories.
        vectors: (N, D) frozen text embedding of each catalogue item, of any length.

    Returns:
        (number of cases,) float64 in [-2, 2].
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    margins = np.empty(len(cases.user))
    order = np.argsort(cases.user, kind="stable")
    users, starts = np.unique(cases.user[order], return_index=True)
    for user, rows in zip(users, np.split(order, starts[1:]), strict=True):
        own, liked = unit[cases.items[user]], cases.liked[user]  # (L, D), (L,)
        positions = cases.position[rows]
        taste = np.zeros((len(rows), own.shape[1]))
        for sign, chosen in ((1, liked), (-1, ~liked)):
            before = np.cumsum(chosen)[positions - 1]
            sums = np.cumsum(own * chosen[:, None], axis=0)[positions - 1]
            taste += sign * sums / np.maximum(before, 1)[:, None]
        margins[rows] = (own[positions] * taste).sum(axis=1)
    return margins


class Logistic(NamedTuple):
    """Logits from one number: `offset + scale · x`."""

    offset: float
    scale: float

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Return the logit of each value."""
        return self.offset + self.scale * values


def fit_logistic(values: np.ndarray, labels: np.ndarray, ridge: float = RIDGE) -> Logistic:
    """Fit a logistic regression of labels on one number, by Newton's method with halved steps.

    The number is standardised before the ridge, `ridge / 2 · scale²` beside the summed loss, so that its unit does not
    matter; the offset is free.

    Args:
        values: (number of examples,) finite.
        labels: (number of examples,) bool, both labels among them.
        ridge: Weight of the ridge, above 0: it keeps the scale finite where the values part the labels.

    Raises:
        ValueError: If the arrays do not fit each other, or all labels are the same.
    """
    if values.shape != labels.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape!r} and labels {labels.shape!r}: give one of each per example")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"all {len(labels)} labels are the same; give more examples, or draw them with another seed")
    mean, spread = values.mean(), values.std() or 1.0
    inputs = np.stack([np.ones(len(values)), (values - mean) / spread], axis=1)  # (E, 2)
    penalty = np.diag([0.0, ridge])
    signs = np.where(labels, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (inputs @ weights)).sum() + weights @ penalty @ weights / 2)

    weights = np.zeros(2)
    for _ in range(MAX_STEPS):
        likely = 1 / (1 + np.exp(-(inputs @ weights)))
        gradient = inputs.T @ (likely - labels) + penalty @ weights
        curvature = (inputs * (likely * (1 - likely))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curvature, gradient)
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-12:
            step /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return Logistic(float(weights[0] - weights[1] * mean / spread), float(weights[1] / spread))


def frozen_text_logits(train: LabelledCases, cases: LabelledCases, vectors: np.ndarray) -> np.ndarray:
    """Return the logit of each case from its text margin, scale and offset fitted on the training examples.

    Args:
        train: The examples that any system compared with this one was trained on.
        cases: What is asked.
        vectors: (N, D) frozen text embedding of each catalogue item.

    Returns:
        (number of cases,) float64.

    Raises:
        ValueError: If all training labels are the same.
    """
    fitted = fit_logistic(text_margins(train, vectors), train.labels)
    return fitted.logits(text_margins(cases, vectors))
