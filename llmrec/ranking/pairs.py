"""Will this user like that item? Logits for labelled pairs: all that fall into one window of a history in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llmrec.data.like_rates import pair_log_odds
from llmrec.ranking.candidates import CandidateScorer, Question
from llmrec.text.processor import ItemTexts, Processor


def pair_questions(cases: Any, processor: Processor, texts: ItemTexts) -> Iterator[tuple[np.ndarray, Question]]:
    """Yield (case numbers (C,), their question) for every window in which cases fall.

    A case's candidate reads the events before its position, with their verdicts, and nothing else.

    Args:
        cases: `evaluation.labelled_cases.LabelledCases`, or anything with its arrays.
        processor: turns events into tokens.
        texts: the items' attributes.
    """
    now = cases.now
    by_user: dict[int, list[int]] = {}
    for case, user in enumerate(cases.user.tolist()):
        by_user.setdefault(user, []).append(case)
    for user, found in by_user.items():
        numbers = np.array(found)
        positions = cases.position[numbers]
        end = int(positions.max())  # nothing from the last case on is looked at
        items, timestamps = cases.items[user], cases.timestamps[user][:end]
        blocks = processor.blocks(items[:end], timestamps, texts, cases.liked[user][:end])
        for window in processor.windows(blocks):
            here = (positions - 1 >= window.first) & (positions - 1 < window.end)
            if here.any():
                row = processor.read(items[:end], blocks, window, timestamps)
                events = positions[here] - 1 - row.offset
                row = processor.ask(row, timestamps, events, now[numbers[here]])
                yield numbers[here], Question(row, items[positions[here]], events)


def pair_scores(scorer: CandidateScorer, cases: Any) -> np.ndarray:
    """Return logits (number of cases,) float64: the candidate head's, and where they start (`starting_logits`)."""
    logits = np.full(len(cases.user), np.nan)
    numbers, questions = zip(*pair_questions(cases, scorer.processor, scorer.texts), strict=True)
    for places, found in zip(numbers, scorer.scores(questions), strict=True):
        logits[places] = found.numpy()
    return logits + starting_logits(scorer, cases)


def starting_logits(scorer: CandidateScorer, cases: Any) -> np.ndarray:
    """Return where the logits (number of cases,) start, by what is known of the likes of users and items; or zeros."""
    rate, odds = scorer.processor.config.like_rate, scorer.rec_model.rec_items.like_odds
    if rate is None or odds is None:
        return np.zeros(len(cases.user))
    return pair_log_odds(cases, odds.cpu().double().numpy()[cases.targets], rate)
