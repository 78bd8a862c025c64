"""What the scoring benchmark measures: a history, its candidates, and those who score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from benchmark_items import synthetic_catalog
from torch import Tensor
from transformers import set_seed

from llmrec.models.adapter import inner
from llmrec.ranking.candidates import Question
from llmrec.recommender import Recommender
from llmrec.text.batch import Branch
from llmrec.text.windows import Window
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

MIN_TOKENS, MAX_TOKENS = 4, 12
"""Of an event, or a candidate."""


def untrained_recommender(base_model: str, max_tokens: int) -> Recommender:
    """Return a recommender whose candidate head scores by the candidate's state alone, with random weights."""
    set_seed(0)
    catalog = synthetic_catalog(shortest=3, longest=11)
    settings = ModelArguments(
        base_model=base_model, head="cross", dual_gate=0.0, max_tokens=max_tokens, max_vector_events=0
    )
    counts = np.ones(len(catalog), dtype=np.int64)
    recommender = new_recommender(settings, catalog, has_clock=False, counts=counts)
    model = inner(recommender.model).eval()
    torch.nn.init.normal_(model.candidate_head.weight, std=model.config.backbone_config.hidden_size**-0.5)
    torch.nn.init.constant_(model.rec_head.state_gate, 1.0)  # user states are to depend on what was read
    return recommender


def draw_question(recommender: Recommender, num_tokens: int, num_candidates: int) -> Question:
    """Return a random history of `num_tokens` tokens, header included, with random candidates behind it.

    Raises:
        ValueError: if no event is that short.
    """
    random, processor = np.random.default_rng(0), recommender.processor
    usual, sizes = usual_items(recommender)
    left, chosen = num_tokens - len(processor.header), []
    while (fits := (sizes == left) | (sizes <= left - MIN_TOKENS)).any():  # what is left stays the size of an item
        chosen.append(random.choice(np.flatnonzero(fits)))
        left -= int(sizes[chosen[-1]])
    if not chosen:
        raise ValueError(f"history_tokens {num_tokens!r}: no event is that short; give more.")
    items = usual[chosen]
    blocks = processor.blocks(items, np.zeros(len(items), dtype=np.int64), recommender.items)
    row = processor.read(items, blocks, Window(0, 0, len(items)))
    candidates = random.choice(usual, size=num_candidates, replace=num_candidates > len(usual))
    return Question(row, candidates, np.full(num_candidates, len(items) - 1))


def draw_events(recommender: Recommender, num_events: int) -> np.ndarray:
    """Return random items (L,) of 4 to 12 tokens, as many of each length as may be: 8 tokens an event."""
    random = np.random.default_rng(0)
    usual, sizes = usual_items(recommender)
    lengths = MIN_TOKENS + np.arange(num_events) % (MAX_TOKENS + 1 - MIN_TOKENS)
    return np.array([random.choice(usual[sizes == length]) for length in lengths])


def usual_items(recommender: Recommender) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of 4 to 12 tokens, (M,), and their numbers of tokens, as an event or as a candidate."""
    sizes = block_sizes(recommender, np.arange(len(recommender.items)))
    usual = np.flatnonzero((sizes >= MIN_TOKENS) & (sizes <= MAX_TOKENS))
    return usual, sizes[usual]


def block_sizes(recommender: Recommender, items: np.ndarray) -> np.ndarray:
    """Return the numbers of tokens (C,) of items (C,)."""
    processor, catalog = recommender.processor, recommender.items
    return np.array([len(processor.candidate_block(catalog.attributes(int(item)))) for item in items])


def candidate_branches(recommender: Recommender, question: Question) -> list[Branch]:
    """Return the candidates (C) as branches of the history."""
    processor, catalog = recommender.processor, recommender.items
    return [
        Branch(int(item), processor.candidate_block(catalog.attributes(int(item))), int(event))
        for item, event in zip(question.items, question.events, strict=True)
    ]


@torch.inference_mode()
def naive_scores(recommender: Recommender, question: Question, batch_size: int) -> Tensor:
    """Return the scores (C,) of candidates that have each read the history for themselves, sorted by length."""
    branches = candidate_branches(recommender, question)
    order = sorted(range(len(branches)), key=lambda pair: -len(branches[pair].block))
    scores = torch.empty(len(branches))
    for begin in range(0, len(order), batch_size):
        pairs = order[begin : begin + batch_size]
        batch: dict[str, Any] = dict(
            recommender.processor.batch([replace(question.row, branches=[branches[pair]]) for pair in pairs])
        )
        scores[pairs] = recommender.model(**batch, catalogue=False).candidate_scores[:, 0]
    return scores


def load_cross_encoder(recommender: Recommender) -> Any:
    """Return sentence-transformers' `CrossEncoder` on the recommender's checkpoint; None where it is not installed.

    It gets a fresh head for one score, and reads text as it is, without a chat template.
    """
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        print('no cross_encoder rows: sentence-transformers is missing (pip install "llmrec[benchmark]")', flush=True)
        return None
    encoder = CrossEncoder(
        str(recommender.checkpoint.path),
        device="cpu",
        num_labels=1,
        config_kwargs={"architectures": None},  # a decoder's would make it a chat model that answers yes or no
        processor_kwargs={"chat_template": None},
        model_kwargs={"dtype": torch.float32},
    )
    if encoder.tokenizer.pad_token is None:  # decoders often have none
        encoder.tokenizer.pad_token = encoder.tokenizer.eos_token
        encoder.model.config.pad_token_id = encoder.tokenizer.pad_token_id
    return encoder


def pair_texts(recommender: Recommender, question: Question) -> list[tuple[str, str]]:
    """Return the texts of history and candidate of each pair (C): what the recommender reads, separators included."""
    processor, catalog = recommender.processor, recommender.items
    write = processor.serializer.candidate
    separator = processor.tokenizer.sep_token
    events = [write(catalog.attributes(int(item))) for item in question.row.items]
    end = "\n" if separator is None else ""  # a separator is put there by the tokenizer
    history = (separator or "\n").join([processor.serializer.header, *events]) + end
    return [(history, write(catalog.attributes(int(item))) + end) for item in question.items]


def count_tokens(encoder: Any, texts: Sequence[tuple[str, str]]) -> int:
    """Return the tokens of all pairs as the cross encoder reads them, padding not counted.

    Raises:
        ValueError: if it would cut one.
    """
    read = encoder.tokenizer([pair[0] for pair in texts], [pair[1] for pair in texts], truncation=False)
    sizes = [len(ids) for ids in read["input_ids"]]
    if max(sizes) > encoder.max_seq_length:
        raise ValueError(
            f"a pair has {max(sizes)} tokens, the cross encoder reads {encoder.max_seq_length}: give shorter histories."
        )
    return sum(sizes)
