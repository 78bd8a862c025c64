"""The item-popularity baseline of labelled pairs: how often others liked the item, whoever asks."""

from __future__ import annotations

import numpy as np

STRENGTH = 5.0
"""Events' worth of the overall rate in every item's own."""


def like_rate_logits(items: np.ndarray, liked: np.ndarray, num_items: int, strength: float = STRENGTH) -> np.ndarray:
    """Return the log-odds of each item's like rate, drawn towards the overall rate where there are few events.

    rate = (likes + strength · p) / (events + strength), p being the overall rate with one like and one dislike more, so
    that it is never 0 or 1. An item without an event has p.

    Args:
        items: (E,) item indices of labelled events of training users.
        liked: (E,) bool.
        num_items: Catalogue items, N.
        strength: Weight of the overall rate, in events; above 0.

    Returns:
        (N,) float64 logits: index them with the items in question.

    Raises:
        ValueError: If the arrays do not fit each other or `strength` is not positive.

    >>> rates = like_rate_logits(np.array([0, 0, 1]), np.array([True, True, False]), num_items=3, strength=1.0)
    >>> (1 / (1 + np.exp(-rates))).round(4).tolist()  # p = 3/5: (2 + .6) / 3, (0 + .6) / 2, .6
    [0.8667, 0.3, 0.6]
    """
    if items.shape != liked.shape or items.ndim != 1:
        raise ValueError(f"items {items.shape!r} and liked {liked.shape!r}: give one label per event")
    if not strength > 0:
        raise ValueError(f"strength is {strength!r}: give a number of events above 0, such as {STRENGTH}")
    overall = (liked.sum() + 1) / (len(liked) + 2)
    likes = np.bincount(items, weights=liked, minlength=num_items) + strength * overall
    dislikes = np.bincount(items, weights=~liked, minlength=num_items) + strength * (1 - overall)
    return np.log(likes) - np.log(dislikes)
