"""How often an item was liked, and how often a user liked: what is known of a labelled pair before anything is read.

The item's rate alone is the item-popularity baseline. Both together are where training on labelled pairs starts, and a
baseline too, by which one sees what reading adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llmrec.data.labelled_cases import LabelledCases

STRENGTH = 5.0
"""Events' worth of the overall rate in every item's and every user's own."""


def overall_rate(liked: np.ndarray) -> float:
    """Return the share of likes with one like and one dislike more, so that it is never 0 or 1.

    >>> overall_rate(np.array([True, True, False]))
    0.6
    """
    return float((liked.sum() + 1) / (len(liked) + 2))


def log_odds(likes: np.ndarray, events: np.ndarray, overall: float, strength: float = STRENGTH) -> np.ndarray:
    """Return the log-odds of rates that are drawn towards the overall one where there are few events.

    rate = (likes + strength · overall) / (events + strength)

    >>> rates = log_odds(np.array([2, 0, 0]), np.array([2, 1, 0]), overall=0.6, strength=1.0)
    >>> (1 / (1 + np.exp(-rates))).round(4).tolist()  # (2 + .6) / 3, (0 + .6) / 2, .6
    [0.8667, 0.3, 0.6]
    """
    return np.log(likes + strength * overall) - np.log(events - likes + strength * (1 - overall))


def like_rate_logits(items: np.ndarray, liked: np.ndarray, num_items: int, strength: float = STRENGTH) -> np.ndarray:
    """Return the log-odds of each item's like rate, whoever asks; an item without an event has the overall rate.

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
    >>> (1 / (1 + np.exp(-rates))).round(4).tolist()  # the overall rate is 3/5
    [0.8667, 0.3, 0.6]
    """
    if items.shape != liked.shape or items.ndim != 1:
        raise ValueError(f"items {items.shape!r} and liked {liked.shape!r}: give one label per event")
    if not strength > 0:
        raise ValueError(f"strength is {strength!r}: give a number of events above 0, such as {STRENGTH}")
    likes = np.bincount(items, weights=liked, minlength=num_items)
    return log_odds(likes, np.bincount(items, minlength=num_items), overall_rate(liked), strength)


def item_log_odds(items: np.ndarray, liked: np.ndarray, num_items: int) -> np.ndarray:
    """Return the log-odds of each item's like rate less those of the overall rate, (N,): zero for an item unseen.

    The arguments are those of `like_rate_logits`.
    """
    overall = overall_rate(liked)
    return like_rate_logits(items, liked, num_items) - np.log(overall / (1 - overall))


def pair_log_odds(cases: LabelledCases, item_odds: np.ndarray, overall: float) -> np.ndarray:
    """Return the log-odds of a like by the user's rate so far and the item's, each as far as it differs from the rest.

    As if the two were independent of each other (naive Bayes): overall + (user - overall) + (item - overall).

    Args:
        cases: What is asked.
        item_odds: (number of cases,) log-odds of each case's item, less those of the overall rate.
        overall: The overall rate.
    """
    likes = [cases.liked[user][:position].sum() for user, position in zip(cases.user, cases.position, strict=True)]
    return log_odds(np.array(likes), np.asarray(cases.position), overall) + item_odds


def odds_without_own(pairs: LabelledCases, items: np.ndarray, liked: np.ndarray) -> np.ndarray:
    """Return the log-odds of each pair's item less the overall ones, its own answer left out of what was counted.

    Where training starts: an item's rate that held the answer would give it away.

    Args:
        pairs: Training pairs.
        items: (E,) items of the events that are counted, those of the pairs among them.
        liked: (E,) bool.
    """
    overall, targets = overall_rate(liked), pairs.targets
    likes = np.bincount(items, weights=liked)[targets] - pairs.labels
    events = np.bincount(items)[targets] - 1
    return log_odds(likes, events, overall) - np.log(overall / (1 - overall))
