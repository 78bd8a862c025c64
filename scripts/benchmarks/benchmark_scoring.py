"""`python scripts/benchmark.py scoring --output_dir DIR`: what candidates cost that share one reading of the history.

Each way scores the same candidates of the same history, side by side: `naive` reads the history again for every
candidate; `packed` and `cached` are those of `CandidateScorer`; `cross_encoder` is `CrossEncoder.predict` of
sentence-transformers on the same checkpoint and texts, where that is installed. The scores of the first three are
compared. Last, a history that stands open reads one more event, `append`, against reading all of it, `reread`; then
both with the adapter merged, `append_merged` and `reread_merged`, as a service would; their memory is that of both
models.

A row's `seconds` and `tokens` are of all pairs. Where naive would take more than five minutes, a random tenth of its
pairs, and of the cross encoder's, is timed, and `timed_share` is 0.1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from benchmark_subject import (
    block_sizes,
    count_tokens,
    draw_events,
    draw_question,
    load_cross_encoder,
    naive_scores,
    pair_texts,
    untrained_recommender,
)
from benchmark_timing import Timing, time_in_turns
from torch import Tensor

from llmrec.ranking.candidates import METHODS, CandidateScorer, Question
from llmrec.ranking.planning import chunk_candidates
from llmrec.recommender import Recommender

FAMILIES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
OPEN_EVENTS, OPEN_TOKENS, OPEN_REPEATS = 50, 448, 10
"""Events of the open history before it reads one more, tokens that a pass may have, and how often that is timed."""
TOLERANCE = 1e-4
"""Largest difference of scores, as a share of their standard deviation."""


@dataclass
class BenchmarkArguments:
    """What is timed, and how often."""

    output_dir: str = field(metadata={"help": "Folder for scoring.json and scoring.md."})
    families: list[str] = field(
        default_factory=lambda: list(FAMILIES),
        metadata={"help": f"Checkpoints: {', '.join(FAMILIES)}, or any Hub name or folder."},
    )
    history_tokens: list[int] = field(
        default_factory=lambda: [100, 200, 400], metadata={"help": "Tokens of a history, header included."}
    )
    candidates: list[int] = field(default_factory=lambda: [20, 100, 500], metadata={"help": "Candidates of a history."})
    batch_size: int = field(
        default=8, metadata={"help": "Pairs that naive and cross_encoder read at once; 8 is their best on a CPU."}
    )
    repeats: int = field(
        default=3, metadata={"help": "Runs of each way, fewer where they would pass max_seconds; the median counts."}
    )
    max_seconds: float = field(
        default=300.0, metadata={"help": "Where naive would take longer, a random tenth of the pairs is timed."}
    )

    def __post_init__(self) -> None:
        if min(self.candidates, default=2) < 2:
            raise ValueError(f"candidates {self.candidates!r}: give at least 2, whose scores can be compared.")
        for name in ("batch_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: give at least 1.")


def measure(arguments: BenchmarkArguments) -> Iterator[dict[str, Any]]:
    """Yield the rows of each family: every length with every number of candidates, then the open history.

    Raises:
        ValueError: after the last row, if two ways differ by more than `TOLERANCE`.
    """
    differing = []
    for row in _rows(arguments):
        what = f"{row['family']}  {row['history_tokens']} tokens  {row['candidates']} candidates  {row['method']}"
        print(f"{what}: {row['seconds']} s, {row['speedup']} x faster, {row['token_ratio']} x fewer tokens", flush=True)
        yield row
        if row["max_rel_diff"] is not None and not row["max_rel_diff"] <= TOLERANCE:
            differing.append(f"{what}: {row['max_rel_diff']:.2g}")
    if differing:
        raise ValueError("\n".join([f"scores differ by more than {TOLERANCE:.0e} of their spread:", *differing]))


def _rows(arguments: BenchmarkArguments) -> Iterator[dict[str, Any]]:
    for family in arguments.families:
        max_tokens = max(*arguments.history_tokens, OPEN_TOKENS)
        recommender = untrained_recommender(FAMILIES.get(family, family), max_tokens)
        encoder = load_cross_encoder(recommender)
        for num_tokens in arguments.history_tokens:
            for num_candidates in arguments.candidates:
                question = draw_question(recommender, num_tokens, num_candidates)
                for row in time_scoring(recommender, encoder, question, arguments):
                    yield {"family": family, "history_tokens": num_tokens, "candidates": num_candidates, **row}
        for served, suffix in ((recommender, ""), (recommender.merge(), "_merged")):
            for row in time_appending(served, suffix):
                yield {"family": family, **row}


class Way(NamedTuple):
    """One way to do it."""

    run: Callable[[], Any]
    warm_up: Callable[[], Any]
    """Takes as much memory, and may be less work."""
    tokens: int
    """Tokens that it reads, for all pairs; padding is not counted."""
    timed_share: float = 1.0
    """Share of the pairs that a run scores."""


def time_scoring(
    recommender: Recommender, encoder: Any, question: Question, arguments: BenchmarkArguments
) -> list[dict[str, Any]]:
    """Time every way to score the candidates of a question; return a row for each.

    Args:
        recommender: it has a candidate head.
        encoder: the cross encoder, or None.
        question: history and candidates.
        arguments: repeats, batch size and limit.
    """
    pairs = timed_pairs(recommender, question, arguments)
    ways = scoring_ways(recommender, question, pairs, arguments.batch_size)
    if encoder is not None:
        ways["cross_encoder"] = cross_encoder_way(recommender, encoder, question, pairs, arguments.batch_size)
    timings = time_in_turns(
        {name: way.run for name, way in ways.items()},
        {name: way.warm_up for name, way in ways.items()},
        arguments.repeats,
        arguments.max_seconds,
    )
    measured = {name: Measured(timings[name], way.tokens, way.timed_share) for name, way in ways.items()}
    expected, spread = timings["naive"].result, timings["packed"].result.std()  # naive's are too few where sampled
    found = {"naive": expected, **{method: timings[method].result[pairs] for method in METHODS}}
    return [
        {"method": name, **one.costs(measured["naive"]), **differences(found.get(name), expected, spread)}
        for name, one in measured.items()
    ]


def timed_pairs(recommender: Recommender, question: Question, arguments: BenchmarkArguments) -> np.ndarray:
    """Return the numbers of the candidates that naive scores: all, or a random tenth where all would take too long."""
    number = len(question.items)
    probe = part_of(question, np.arange(min(number, arguments.batch_size)))
    for _ in range(2):  # the first is to warm up
        began = time.perf_counter()
        naive_scores(recommender, probe, arguments.batch_size)
    seconds = (time.perf_counter() - began) * number / len(probe.items)
    if seconds <= arguments.max_seconds:
        return np.arange(number)
    return np.sort(np.random.default_rng(0).choice(number, size=max(1, round(number / 10)), replace=False))


def scoring_ways(recommender: Recommender, question: Question, pairs: np.ndarray, batch_size: int) -> dict[str, Way]:
    """Return the ways to score a question by name: naive on the given `pairs`, and the scorer's own."""
    processor, items = recommender.processor, recommender.items
    sizes = block_sizes(recommender, question.items)
    history, candidates = processor.num_tokens(question.row), int(sizes.sum())
    naive, first = (
        partial(naive_scores, recommender, part_of(question, some), batch_size)
        for some in (pairs, np.argsort(-sizes)[:batch_size])
    )
    ways = {"naive": Way(naive, first, len(sizes) * history + candidates, len(pairs) / len(sizes))}
    for method in METHODS:
        scorer = CandidateScorer(recommender.model, processor, items, method=method)
        run = partial(_only, scorer, question)
        chunks = chunk_candidates(scorer.rec_model.backbone, history, sizes.tolist(), scorer.max_pass_mib)
        readings = len(chunks) if method == "packed" else 1
        ways[method] = Way(run, run, readings * history + candidates)
    return ways


def cross_encoder_way(
    recommender: Recommender, encoder: Any, question: Question, pairs: np.ndarray, batch_size: int
) -> Way:
    """Return the way of the cross encoder, on the given `pairs`."""
    texts, longest = pair_texts(recommender, question), np.argsort(-block_sizes(recommender, question.items))
    run, first = (
        partial(encoder.predict, [texts[pair] for pair in some], batch_size=batch_size, show_progress_bar=False)
        for some in (pairs, longest[:batch_size])
    )
    return Way(run, first, count_tokens(encoder, texts), len(pairs) / len(texts))


def _only(scorer: CandidateScorer, question: Question) -> Tensor:
    return scorer.scores([question])[0]


def part_of(question: Question, pairs: np.ndarray) -> Question:
    """Return the question about some of its candidates."""
    return Question(question.row, question.items[pairs], question.events[pairs])


def time_appending(recommender: Recommender, suffix: str = "") -> list[dict[str, Any]]:
    """Time one more event on an open history, and reading the longer history again; return a row for each.

    Args:
        recommender: adapted or merged.
        suffix: what stands behind the names of both ways.
    """
    items = draw_events(recommender, OPEN_EVENTS + 1)
    *history, event = [{"item_id": recommender.items.ids[item]} for item in items]
    blocks = recommender.processor.blocks(items, np.zeros(len(items), dtype=np.int64), recommender.items)
    whole = len(recommender.processor.header) + sum(map(len, blocks))
    reread, append = Timing(), Timing()
    append.warm_up(partial(recommender.open(history).append, event))
    reread.warm_up(partial(recommender.open, [*history, event]))
    for _ in range(OPEN_REPEATS):
        opened = recommender.open(history)
        append.run(partial(opened.append, event))
        reread.run(partial(recommender.open, [*history, event]))
    measured = {"reread": Measured(reread, whole), "append": Measured(append, len(blocks[-1]))}
    states = opened.user_state(), reread.result.user_state()
    difference = differences(*states, spread=states[1].std())
    what = {"history_tokens": whole - len(blocks[-1]), "candidates": 0}
    return [
        {**what, "method": name + suffix, **one.costs(measured["reread"]), **difference}
        for name, one in measured.items()
    ]


class Measured(NamedTuple):
    """What one way took."""

    timing: Timing
    tokens: int
    timed_share: float = 1.0

    @property
    def seconds(self) -> float:
        """Median time, of all pairs."""
        return self.timing.seconds / self.timed_share

    def costs(self, usual: Measured) -> dict[str, Any]:
        """Return the columns of a row: what this way takes, and its gain over the usual one."""
        return {
            "seconds": round(self.seconds, 4),
            "tokens": self.tokens,
            "speedup": round(usual.seconds / self.seconds, 2),
            "token_ratio": round(usual.tokens / self.tokens, 2),
            "peak_mib": self.timing.peak_mib,
            "cpu_seconds": round(self.timing.cpu_seconds / self.timed_share, 4),
            "timed_share": round(self.timed_share, 3),
            "repeats": len(self.timing.wall),
        }


def differences(found: Tensor | None, expected: Tensor, spread: Tensor) -> dict[str, float | None]:
    """Return the largest difference, and its share of the spread; None for scores of another model.

    >>> import torch
    >>> differences(torch.tensor([1.0, 3.5]), torch.tensor([1.0, 3.0]), spread=torch.tensor(2.0))
    {'max_abs_diff': 0.5, 'max_rel_diff': 0.25}
    """
    largest = None if found is None else (found - expected).abs().max()
    return {
        "max_abs_diff": None if largest is None else float(largest),
        "max_rel_diff": None if largest is None else float(largest / spread),
    }
