"""Candidates read a history and nothing else: packed, cached and one by one give the same scores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.data.catalog import Catalog
from llmrec.models.reading import Reading
from llmrec.recommender import Recommender
from llmrec.text.batch import Branch, Pass, collate
from llmrec.text.windows import Window

CATALOG = Catalog(items_frame())
N = len(CATALOG)
ANSWERS = ["red", "blue"]
KINDS = [("bert", "cross"), ("roberta", "cross"), ("llama", "cross"), ("gpt2", "cross"), ("gpt2", "verbalizer")]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> str:
    """A template whose answers are words of the tiny vocabularies."""
    path = tmp_path_factory.mktemp("template") / "answers.json"
    path.write_text(json.dumps({"event": "{title}[, {gap}]", "item": "{title}", "answers": ANSWERS}))
    return str(path)


@pytest.fixture(scope="module")
def trained(checkpoints, template):
    """Recommenders with nothing at its starting value, by family, head and attention."""
    made: dict[tuple, Recommender] = {}

    def get(family: str, head: str, attention: str = "sdpa") -> Recommender:
        key = family, head, attention
        if key not in made:
            settings = {"head": head, "attn_implementation": attention, "template": template}
            made[key] = randomise(tiny_recommender(checkpoints[family], CATALOG, **settings))
        return made[key]

    return get


def read_pass(recommender: Recommender, length: int = 9, seed: int = 0) -> Pass:
    random = np.random.default_rng(seed)
    items = random.integers(N, size=length)
    times = START + np.cumsum(random.integers(60, 800_000, size=length))
    blocks = recommender.processor.blocks(items, times, CATALOG)
    return recommender.processor.read(items, blocks, Window(0, 0, length))


def branches_of(recommender: Recommender, items: np.ndarray, event: int) -> list[Branch]:
    block = recommender.processor.candidate_block
    return [Branch(int(item), block(CATALOG.attributes(int(item))), event) for item in items]


@torch.no_grad()
def packed(recommender: Recommender, row: Pass, branches: list[Branch], side: str = "right") -> torch.Tensor:
    processor = recommender.processor
    batch = collate([replace(row, branches=branches)], processor.header, processor.pad_token_id, side)
    return rec_model(recommender)(**batch).candidate_scores[0]


def naive(recommender: Recommender, row: Pass, branches: list[Branch]) -> torch.Tensor:
    """A pass of its own for every candidate, over the history up to the event that it sees."""
    scores = []
    for branch in branches:
        end = branch.event + 1
        cut = replace(row, items=row.items[:end], blocks=row.blocks[:end])
        scores.append(packed(recommender, cut, [branch]))
    return torch.cat(scores)


def cached(recommender: Recommender, row: Pass, branches: list[Branch]) -> torch.Tensor:
    table = rec_model(recommender).rec_items
    reading = Reading(rec_model(recommender), recommender.processor.header)
    reading.append(row.blocks, table(torch.as_tensor(row.items)))
    return reading.candidate_scores(
        [branch.block for branch in branches], table(torch.tensor([b.item for b in branches]))
    )


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference, as a share of the spread."""
    return ((one - other).abs().max() / one.std()).item()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("family", "head"), KINDS)
def test_packed_cached_and_naive_agree(trained, family, head, attention):
    recommender = trained(family, head, attention)
    row = read_pass(recommender)
    branches = branches_of(recommender, np.arange(N), event=8)
    assert len({len(branch.block) for branch in branches}) > 1  # ragged
    expected = naive(recommender, row, branches)
    assert expected.std() > 1e-2
    for scores in (packed(recommender, row, branches), packed(recommender, row, branches, "left")):
        assert difference(expected, scores) <= 1e-4
    assert difference(expected, cached(recommender, row, branches)) <= 1e-4


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_candidates_do_not_see_each_other_nor_later_events(trained, family, head):
    recommender = trained(family, head)
    row, random = read_pass(recommender), np.random.default_rng(1)
    branches = branches_of(recommender, np.arange(N), event=4)
    scores = packed(recommender, row, branches)
    order = random.permutation(N)
    assert difference(scores[order], packed(recommender, row, [branches[number] for number in order])) <= 1e-6 * 10
    assert difference(scores[:3], packed(recommender, row, branches[:3])) <= 1e-5
    assert difference(scores, naive(recommender, row, branches)) <= 1e-4  # naive ends the history at the event
    later = branches_of(recommender, np.arange(N), event=5)
    both = packed(recommender, row, [*later, *branches])
    assert difference(scores, both[N:]) <= 1e-5
    assert difference(scores, both[:N]) > 1e-2  # one event more is seen


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_branches_change_no_state_of_the_history(trained, family, head):
    recommender = trained(family, head)
    row, processor = read_pass(recommender), recommender.processor
    with torch.no_grad():
        plain = rec_model(recommender)(**processor.batch([row]))
        branched = rec_model(recommender)(
            **processor.batch([replace(row, branches=branches_of(recommender, np.arange(N), 3))])
        )
    assert plain.candidate_scores is None
    assert (plain.states - branched.states).abs().max() <= 1e-6


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_a_history_read_event_by_event_is_the_history_read_at_once(trained, family, head):
    recommender = trained(family, head)
    model, row = rec_model(recommender), read_pass(recommender)
    table, items = model.rec_items, torch.as_tensor(row.items)
    reading = Reading(model, recommender.processor.header)
    with torch.no_grad():
        states = model(**recommender.processor.batch([row])).states[0]
    for event in range(len(row.items)):
        reading.append(row.blocks[event : event + 1], table(items[event : event + 1]))
        assert (reading.user_state() - states[event]).abs().max() <= 1e-5
        branches = branches_of(recommender, np.arange(3), event)
        blocks, candidates = [branch.block for branch in branches], table(torch.arange(3))
        first = reading.candidate_scores(blocks, candidates)
        assert torch.equal(first, reading.candidate_scores(blocks, candidates))  # scoring leaves the reading as it was
        assert difference(naive(recommender, row, branches), first) <= 1e-4


def test_the_verbalizer_is_the_difference_of_the_next_tokens_logits(checkpoints, template):
    """By the checkpoint's own language-model head, on the plain text, without masks of ours."""
    from transformers import AutoModelForCausalLM

    settings = {"head": "verbalizer", "template": template, "hybrid": False}
    recommender = tiny_recommender(checkpoints["gpt2"], CATALOG, **settings)
    row = read_pass(recommender, length=1)
    branch = branches_of(recommender, np.array([2]), event=0)
    processor = recommender.processor
    ids = torch.tensor([[*processor.header, *row.blocks[0], *branch[0].block]])
    language_model = AutoModelForCausalLM.from_pretrained(checkpoints["gpt2"], dtype=torch.float32)
    logits = language_model(ids).logits[0, -1]
    yes, no = (processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in ANSWERS)
    assert packed(recommender, row, branch).item() == pytest.approx((logits[yes] - logits[no]).item(), abs=1e-4)


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_merging_the_adapter_changes_no_score(trained, family, head):
    recommender = trained(family, head)
    row = read_pass(recommender)
    branches = branches_of(recommender, np.arange(N), event=8)
    expected = packed(recommender, row, branches)
    try:
        recommender.model.merge_adapter()
        assert difference(expected, packed(recommender, row, branches)) <= 1e-4
        assert difference(expected, cached(recommender, row, branches)) <= 1e-4
    finally:
        recommender.model.unmerge_adapter()


def test_a_verbalizer_needs_a_decoder_and_answers_that_are_tokens(checkpoints):
    with pytest.raises(ValueError, match=r"is an encoder.*\nUse the cross head"):
        tiny_recommender(checkpoints["bert"], CATALOG, head="verbalizer", template="default")
    with pytest.raises(ValueError, match=r"answer 'Yes' is no single token.*\nGive other words"):
        tiny_recommender(checkpoints["gpt2"], CATALOG, head="verbalizer")


def test_a_candidate_longer_than_its_budget_is_refused_by_name(checkpoints):
    recommender = tiny_recommender(checkpoints["bert"], CATALOG, head="cross", max_candidate_tokens=4)
    with pytest.raises(
        ValueError, match=r"candidate 'a b c d e.* has \d+ tokens, max_candidate_tokens is 4.\nRaise it"
    ):
        recommender.processor.candidate_block({"title": "a b c d e f"})
    assert recommender.processor.candidate_block({"title": "heat"})
