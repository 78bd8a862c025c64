"""What a system is worth without a part: the same adapter, asked again with reading, times or order taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmrec.data.cases import Cases
from llmrec.evaluation.rankings import Questions, rank_together
from llmrec.evaluation.results import FULL
from llmrec.evaluation.shuffles import shuffle_order, shuffle_times
from llmrec.text.processor import Processor

KINDS = ("reading", "memory", "time", "order")


class AblatedRecommender(Protocol):
    """What is asked of a `Recommender` whose inputs are taken away."""

    processor: Processor
    memory: Any

    def without_time(self, words: bool = ..., embedding: bool = ...) -> AblatedRecommender:
        """Return the same recommender without the words or the embedding of times."""

    def without_memory(self) -> AblatedRecommender:
        """Return the same recommender, with nothing remembered beside what is read."""

    def scorer(self, **settings: Any) -> Any:
        """Return what scores cases."""


@dataclass(frozen=True)
class Variant:
    """What an adapter reads of a history.

    Attributes:
        name: what it is called in the report.
        words: whether it reads what the template says of times, and of now.
        embedding: whether it reads the embedding of times, and of now.
        cases: what it is asked.
        reading: whether its language model reads at all.
        memory: whether what is remembered is in its scores.
    """

    name: str
    words: bool
    embedding: bool
    cases: Cases
    reading: bool = True
    memory: bool = True


def variants(recommender: AblatedRecommender, firsts: Cases, kinds: Sequence[str], seed: int) -> list[Variant]:
    """Return the variants that differ from each other, the whole adapter first.

    An input that the adapter does not have cannot be taken away: with words alone there is one variant without them.

    Args:
        recommender: The adapter.
        firsts: From `shuffles.first_targets`.
        kinds: Some of `KINDS`.
        seed: Seed of the shuffles.

    Raises:
        ValueError: If a kind is unknown, or times or the memory are to be taken from an adapter that has none.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"ablate={unknown[0]!r} is not one of {', '.join(KINDS)}.")
    processor = recommender.processor
    words = processor.serializer.reads_time or processor.serializer.asks_now
    embedding = processor.embeds_time
    if "time" in kinds and not (words or embedding):
        raise ValueError("ablate='time': the adapter reads no time, so that nothing can be taken away.")
    if "memory" in kinds and recommender.memory is None:
        raise ValueError("ablate='memory': the adapter remembers nothing, so that nothing can be taken away.")
    made = [Variant(FULL, words, embedding, firsts)]
    if "reading" in kinds:
        made.append(Variant("no reading", False, False, firsts, reading=False))
    if "memory" in kinds:
        made.append(Variant("no memory", words, embedding, firsts, memory=False))
    if "time" in kinds:
        if words and embedding:
            made.append(Variant("no time words", False, True, firsts))
            made.append(Variant("no time embedding", True, False, firsts))
        made.append(Variant("no time", False, False, firsts))
        if processor.asks_now:
            made.append(Variant("now = last event", words, embedding, firsts.asked_at_last_event()))
        made.append(Variant("times shuffled", words, embedding, shuffle_times(firsts, seed)))
    if "order" in kinds:
        made.append(Variant("order shuffled", words, embedding, shuffle_order(firsts, seed)))
    return made


def ablate(
    recommender: AblatedRecommender,
    questions: Questions,
    kinds: Sequence[str],
    mask_seen: bool,
    scorer: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Rank every user's first target by each variant; all processes call this, each ranks its part.

    Args:
        recommender: The adapter.
        questions: What is asked, and the seed of its shuffles.
        kinds: Some of `KINDS`.
        mask_seen: Whether items of the history leave the ranking.
        scorer: Settings of `Recommender.scorer`.

    Returns:
        For each variant what it reads, `reading` at all, `words` and `embedding` of times, and its `ranks`, (number of
        users,).
    """
    found = {}
    for one in variants(recommender, questions.firsts, kinds, questions.seed):
        reader = recommender
        if one.reading:  # without it the events that the content path averages are those of the adapter as it is
            reader = recommender.without_time(words=not one.words, embedding=not one.embedding)
        if not one.memory:
            reader = recommender.without_memory()
        ranks = rank_together(reader.scorer(**scorer, reading=one.reading), one.cases, mask_seen).ranks
        found[one.name] = {"reading": one.reading, "words": one.words, "embedding": one.embedding, "ranks": ranks}
    return found
