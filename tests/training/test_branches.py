"""At labelled positions, the next item and its negatives read the history up to there, and nothing behind it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender
from torch import Tensor

from llmrec.data.catalog import Catalog
from llmrec.losses.catalogue import IGNORED
from llmrec.ranking.dual import catalogue_scoring
from llmrec.ranking.ranks import target_ranks
from llmrec.recommender import Recommender
from llmrec.text.batch import PADDING, Branch, Pass
from llmrec.text.windows import Window
from llmrec.training.branches import BranchSettings, branched

CATALOG = Catalog(items_frame())
N = len(CATALOG)
LENGTHS = [9, 5, 7, 1]
KINDS = ["bert", "gpt2"]


@pytest.fixture(scope="module")
def recommenders(checkpoints, tmp_path_factory) -> dict[str, Recommender]:
    """An encoder with a cross head and a decoder with a verbalizer, nothing at its starting value."""
    path = tmp_path_factory.mktemp("template") / "answers.json"
    path.write_text(json.dumps({"event": "{title}[, {gap}]", "item": "{title}", "answers": ["red", "blue"]}))
    heads = {"bert": "cross", "gpt2": "verbalizer"}
    return {family: make(checkpoints[family], path, head=heads[family]) for family in KINDS}


def make(checkpoint: Path, template: Path, **settings: Any) -> Recommender:
    return randomise(tiny_recommender(checkpoint, CATALOG, template=str(template), **settings))


class Windows(NamedTuple):
    """Passes with the labels (B, L) of their positions."""

    passes: list[Pass]
    labels: Tensor


def windows_of(recommender: Recommender, lengths: list[int] = LENGTHS, num_context: int = 0) -> Windows:
    """Windows of random items with the item after each event as its label, the first `num_context` without."""
    random, passes = np.random.default_rng(0), []
    labels = torch.full((len(lengths), max(lengths)), IGNORED)
    for number, length in enumerate(lengths):
        items = random.permutation(N)[: length + 1]
        times = START + np.cumsum(random.integers(60, 800_000, size=length))
        blocks = recommender.processor.blocks(items[:-1], times, CATALOG)
        passes.append(recommender.processor.read(items[:-1], blocks, Window(0, 0, length)))
        labels[number, num_context:length] = torch.from_numpy(items[1 + num_context :])
    return Windows(passes, labels)


@torch.no_grad()
def branches(
    recommender: Recommender, windows: Windows, seed: int = 0, **settings: Any
) -> tuple[dict[str, Tensor], Tensor]:
    """Hang candidates on windows, proposed by the states of the model itself."""
    model = rec_model(recommender)
    states = model(**recommender.processor.batch(windows.passes)).states
    generator = torch.Generator().manual_seed(seed)
    chosen = BranchSettings(**settings)
    return branched(*windows, states, model, recommender.processor, recommender.items, chosen, generator)


class Position(NamedTuple):
    """What hangs on one position: its window, its event, and candidates in the order of its places."""

    window: int
    event: int
    items: list[int]


def positions(batch: dict[str, Tensor], places: Tensor) -> list[Position]:
    """Read the positions back from places and batch alone."""
    width, found = batch["candidates"].shape[1], []
    for row in places.tolist():
        own = [place for place in row if place >= 0]
        (window,) = {place // width for place in own}
        (event,) = set(batch["candidate_events"].flatten()[own].tolist())
        found.append(Position(window, event, batch["candidates"].flatten()[own].tolist()))
    return found


@torch.no_grad()
def scores_of(recommender: Recommender, batch: dict[str, Tensor]) -> Tensor:
    return rec_model(recommender)(**batch).candidate_scores.flatten()


@pytest.mark.parametrize("num_positions", [1, 2, 4, 50])
@pytest.mark.parametrize("num_context", [0, 3])
def test_positions_are_labelled_ones_and_at_most_so_many_of_each_window(recommenders, num_positions, num_context):
    lengths = [9, 4, 7, 5]
    windows = windows_of(recommenders["bert"], lengths, num_context)
    for seed in range(5):
        found = positions(*branches(recommenders["bert"], windows, seed, num_positions=num_positions))
        assert len({(one.window, one.event) for one in found}) == len(found)
        for window, length in enumerate(lengths):
            events = [one.event for one in found if one.window == window]
            assert len(events) == min(num_positions, length - num_context)
            assert all(num_context <= event < length for event in events)


def test_every_labelled_position_has_its_turn(recommenders):
    windows = windows_of(recommenders["bert"], [6], num_context=2)
    drawn = [positions(*branches(recommenders["bert"], windows, seed, num_positions=1))[0].event for seed in range(60)]
    assert set(drawn) == {2, 3, 4, 5}
    assert max(map(drawn.count, set(drawn))) < 30  # a quarter each


@pytest.mark.parametrize("family", KINDS)
def test_the_positive_is_first_and_is_the_label_of_its_position(recommenders, family):
    windows = windows_of(recommenders[family])
    for one in positions(*branches(recommenders[family], windows, num_positions=3, num_negatives=4)):
        assert one.items[0] == windows.labels[one.window, one.event] >= 0
        assert one.items[0] not in one.items[1:] and len(set(one.items)) == len(one.items) == 5


@pytest.mark.parametrize("family", KINDS)
def test_places_and_blocks_are_those_of_the_candidates(recommenders, family):
    """Every candidate of the batch is at exactly one place, and its tokens are its own."""
    recommender = recommenders[family]
    windows = windows_of(recommender)
    batch, places = branches(recommender, windows, num_positions=3, num_negatives=4)
    own = places[places >= 0].tolist()
    assert len(set(own)) == len(own)
    assert sorted(own) == (batch["candidates"].flatten() != PADDING).nonzero()[:, 0].tolist()
    width = batch["candidates"].shape[1]
    for place in own:
        window, column = divmod(place, width)
        tokens = batch["branch"][window] == column + 1
        block = recommender.processor.candidate_block(CATALOG.attributes(int(batch["candidates"][window, column])))
        assert batch["input_ids"][window, tokens].tolist() == block
        assert set(batch["block"][window, tokens].tolist()) == {int(batch["candidate_events"][window, column]) + 1}
    trunk = recommender.processor.batch(windows.passes)
    assert torch.equal(batch["items"], trunk["items"])  # the windows themselves are as they were


@pytest.mark.parametrize("mask_seen", [True, False])
def test_an_item_is_a_negative_before_it_is_seen_and_not_behind(recommenders, mask_seen):
    """All items but the positive are asked for, so what is missing was masked."""
    windows = windows_of(recommenders["bert"])
    settings = {"num_positions": 9, "kinds": ["uniform"], "num_negatives": N, "mask_seen": mask_seen}
    for one in positions(*branches(recommenders["bert"], windows, **settings)):
        past = set(windows.passes[one.window].items[: one.event + 1].tolist()) if mask_seen else set()
        assert set(one.items) == set(range(N)) - past  # items are distinct, so the label was never seen


def test_history_is_what_was_seen_up_to_the_position(recommenders):
    windows = windows_of(recommenders["bert"])
    settings = {"num_positions": 9, "kinds": ["history"], "num_negatives": N, "mask_seen": False}
    for one in positions(*branches(recommenders["bert"], windows, **settings)):
        assert set(one.items[1:]) == set(windows.passes[one.window].items[: one.event + 1].tolist())


@pytest.mark.parametrize("family", KINDS)
def test_proposed_are_what_the_dual_head_ranks_first_at_that_position(recommenders, family):
    recommender = recommenders[family]
    windows, model = windows_of(recommender), rec_model(recommender)
    with torch.no_grad():
        states = model(**recommender.processor.batch(windows.passes)).states
    settings = {"num_positions": 9, "kinds": ["proposed"], "num_negatives": 5, "num_proposed": 5}
    best = set()
    for one in positions(*branches(recommender, windows, **settings)):
        scores = catalogue_scoring(model)(states[one.window, one.event][None])[0].clone()
        scores[[one.items[0], *windows.passes[one.window].items[: one.event + 1]]] = -torch.inf
        assert sorted(one.items[1:]) == sorted(scores.topk(5).indices.tolist())
        best.add(frozenset(one.items[1:]))
    assert len(best) > 3  # other positions, other proposals


@torch.no_grad()
def ranks_of_labels(recommender: Recommender, windows: Windows, mask_seen: bool) -> dict[tuple[int, int], float]:
    """Where the dual head ranks the label of every labelled position, by (window, event); inf where it was seen."""
    model, ranks = rec_model(recommender), {}
    states = model(**recommender.processor.batch(windows.passes)).states
    for window, event in torch.nonzero(windows.labels >= 0).tolist():
        scores = catalogue_scoring(model)(states[window, event][None])
        seen = [windows.passes[window].items[: event + 1]] if mask_seen else None
        ranks[window, event] = target_ranks(scores, windows.labels[window, event][None], seen).item()
    return ranks


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("mask_seen", [True, False])
def test_where_all_negatives_are_proposed_the_positive_is_proposed_too(recommenders, family, mask_seen):
    """Else the candidate head would learn that what the dual head proposes is wrong."""
    recommender = recommenders[family]
    windows = windows_of(recommender)
    windows.labels[0, 1::2] = torch.from_numpy(windows.passes[0].items[1::2])  # what was just seen, once more
    ranks = ranks_of_labels(recommender, windows, mask_seen)
    expected = {place for place, rank in ranks.items() if rank <= 8}
    assert 0 < len(expected) < len(ranks)
    settings = {"num_positions": 9, "num_negatives": 3, "num_proposed": 8, "mask_seen": mask_seen}
    found = positions(*branches(recommender, windows, kinds=["proposed"], **settings))
    assert {(one.window, one.event) for one in found} == expected
    found = positions(*branches(recommender, windows, kinds=["proposed", "uniform"], **settings))
    assert {(one.window, one.event) for one in found} == set(ranks)  # others stand among the negatives


def test_where_no_positive_is_proposed_all_positions_count(recommenders):
    recommender = recommenders["bert"]
    windows = windows_of(recommender, [6, 5])
    ranks = ranks_of_labels(recommender, windows, mask_seen=True)
    for place in [place for place, rank in ranks.items() if rank == 1]:
        windows.labels[place] = IGNORED
        del ranks[place]
    assert len(ranks) > 5
    settings = {"num_positions": 9, "kinds": ["proposed"], "num_negatives": 1, "num_proposed": 1}
    found = positions(*branches(recommender, windows, **settings))
    assert {(one.window, one.event) for one in found} == set(ranks)


@pytest.mark.parametrize("family", KINDS)
def test_candidates_score_as_alone_behind_the_history_up_to_their_position(recommenders, family):
    recommender = recommenders[family]
    windows = windows_of(recommender)
    batch, places = branches(recommender, windows, num_positions=3, num_negatives=4)
    together = scores_of(recommender, batch)
    block = recommender.processor.candidate_block
    for row, one in zip(places, positions(batch, places), strict=True):
        whole, end = windows.passes[one.window], one.event + 1
        cut = replace(whole, items=whole.items[:end], blocks=whole.blocks[:end])
        alone = []
        for item in one.items:
            branch = Branch(item, block(CATALOG.attributes(item)), one.event)
            alone.append(
                scores_of(recommender, dict(recommender.processor.batch([replace(cut, branches=[branch])])))[0]
            )
        alone = torch.stack(alone)
        assert alone.std() > 1e-2
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-4 * float(alone.abs().max()))


@pytest.mark.parametrize("family", KINDS)
def test_what_comes_after_a_position_changes_neither_its_candidates_nor_their_scores(recommenders, family):
    """Other events behind it, as many as before; and one event up to it, which does change the scores."""
    recommender = recommenders[family]
    windows = windows_of(recommender, [9, 8])
    windows.labels[:, :4], windows.labels[:, 5:] = IGNORED, IGNORED  # event 4 is the one position
    settings = {"num_negatives": 5, "kinds": ["proposed", "uniform"], "num_proposed": 6}

    def changed(events: slice) -> Windows:
        passes = []
        for one in windows.passes:
            items = one.items.copy()
            items[events] = (items[events] + 11) % N
            blocks = recommender.processor.blocks(items, np.full(len(items), START), CATALOG)
            kept = [
                block if new == old else fresh
                for block, fresh, old, new in zip(one.blocks, blocks, one.items, items, strict=True)
            ]
            passes.append(replace(one, items=items, blocks=kept))
        return Windows(passes, windows.labels)

    def outcome(asked: Windows) -> tuple[list[Position], Tensor]:
        batch, places = branches(recommender, asked, **settings)
        return positions(batch, places), scores_of(recommender, batch)[places]

    found, scores = outcome(windows)
    assert [one.event for one in found] == [4, 4]
    same, same_scores = outcome(changed(slice(5, None)))
    assert same == found
    torch.testing.assert_close(same_scores, scores, rtol=0, atol=1e-5 * float(scores.abs().max()))
    _, other_scores = outcome(changed(slice(4, 5)))
    assert (other_scores[:, 0] - scores[:, 0]).abs().min() > 1e-2  # the positives are the same items


def test_the_generator_alone_decides(recommenders):
    windows = windows_of(recommenders["bert"])

    def drawn(seed: int) -> list[Position]:
        torch.manual_seed(seed + 100)
        return positions(*branches(recommenders["bert"], windows, seed, num_positions=2))

    first = drawn(1)
    torch.rand(7)
    assert first == drawn(1) != drawn(2)


def test_positions_without_enough_negatives_have_empty_places(recommenders):
    """The first event has one earlier item to offer, the third has three."""
    windows = windows_of(recommenders["bert"], [3])
    settings = {"num_positions": 3, "kinds": ["history"], "num_negatives": 4, "mask_seen": False}
    batch, places = branches(recommenders["bert"], windows, **settings)
    missing = {one.event: int((row < 0).sum()) for row, one in zip(places, positions(batch, places), strict=True)}
    assert missing == {0: 3, 1: 2, 2: 1}
    assert batch["candidates"].shape == (1, 2 + 3 + 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ["proposed", "random"]}, "negatives 'random': give some of proposed, popular, text, history"),
        ({"kinds": []}, r"negatives \[\]: nothing to draw from"),
        ({"kinds": ["history"]}, r"negatives \['history'\]: nothing to draw from; add proposed or popular"),
        ({"num_positions": 0}, "num_positions=0: give at least 1"),
        ({"num_negatives": 0}, "num_negatives=0: give at least 1"),
        ({"num_proposed": -3}, "num_proposed=-3: give at least 1"),
    ],
)
def test_settings_that_train_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BranchSettings(**settings)


def test_history_alone_will_do_where_seen_items_come_again():
    assert BranchSettings(kinds=["history"], mask_seen=False).kinds == ["history"]
    assert BranchSettings(kinds=["history", "popular"]).mask_seen
