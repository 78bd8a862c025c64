"""Query blocks: now stands behind the history, moves the user's state and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.models.reading import Reading
from llmrec.recommender import Recommender
from llmrec.text.batch import Branch, Pass, collate
from llmrec.text.moments import NO_TIME
from llmrec.text.windows import Window

CATALOG = Catalog(items_frame())
N = len(CATALOG)
DAY = 86_400
FAMILIES = ["bert", "llama", "roberta", "gpt2"]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("template") / "now.json"
    pattern = "now[: {gap}][, {weekday} {daypart}]"
    path.write_text(json.dumps({"event": "{title}[, {gap}]", "item": "{title}", "query": pattern}))
    return str(path)


@pytest.fixture(scope="module")
def trained(checkpoints, template):
    """Recommenders with a cross head that are told of now, nothing at its starting value."""
    made: dict[tuple, Recommender] = {}

    def get(family: str, attention: str = "sdpa") -> Recommender:
        if (family, attention) not in made:
            settings = {"head": "cross", "template": template, "attn_implementation": attention}
            made[family, attention] = randomise(tiny_recommender(checkpoints[family], CATALOG, **settings))
        return made[family, attention]

    return get


def history(length: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(N, size=length), START + np.cumsum(random.integers(60, 800_000, size=length))


def asked(recommender: Recommender, length: int, events: list[int], waits: list[int], seed: int = 0) -> Pass:
    """A history with a query behind some of its events, each some seconds later."""
    items, times = history(max(9, length), seed)
    items, times = items[:length], times[:length]
    processor = recommender.processor
    row = processor.read(items, processor.blocks(items, times, CATALOG), Window(0, 0, length))
    chosen = np.array(events, dtype=np.int64)
    return processor.ask(row, times, chosen, times[chosen] + np.array(waits, dtype=np.int64))


@torch.no_grad()
def states_of(recommender: Recommender, passes: list[Pass], side: str = "right") -> torch.Tensor:
    processor = recommender.processor
    return rec_model(recommender)(**collate(passes, processor.header, processor.pad_token_id, side)).states


def worst(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


WAITS = [60, 3 * DAY, 100, 40 * DAY, DAY, 7_000, 9 * DAY, 400 * DAY, 2 * DAY]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_queries_in_one_pass_are_each_in_a_pass_of_its_own(trained, family, attention):
    recommender = trained(family, attention)
    for side in ("right", "left"):
        rows = [asked(recommender, 9, list(range(9)), WAITS), asked(recommender, 5, [1, 4], [DAY, 9 * DAY], seed=1)]
        together = states_of(recommender, rows, side)
        for event, wait in enumerate(WAITS):
            alone = states_of(recommender, [asked(recommender, event + 1, [event], [wait])])[0, event]
            assert worst(together[0, event], alone) <= 1e-5
        for event, wait in ((1, DAY), (4, 9 * DAY)):
            alone = states_of(recommender, [asked(recommender, event + 1, [event], [wait], seed=1)])[0, event]
            assert worst(together[1, event], alone) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_now_moves_the_states_that_it_is_asked_for_and_no_other(trained, family):
    recommender = trained(family)
    plain = states_of(recommender, [asked(recommender, 9, [], [])])[0]
    one, two = (states_of(recommender, [asked(recommender, 9, [3], [wait])])[0] for wait in (DAY, 40 * DAY))
    others = [event for event in range(9) if event != 3]
    assert worst(one[others], plain[others]) <= 1e-6 and worst(two[others], plain[others]) <= 1e-6
    assert worst(one[3], two[3]) > 1e-3 and worst(one[3], plain[3]) > 1e-3


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_candidates_see_no_query_and_their_dual_part_does(trained, family):
    recommender = trained(family)
    block = recommender.processor.candidate_block
    branches = [Branch(item, block(CATALOG.attributes(item)), 8) for item in range(N)]
    scores, duals = [], []
    gate = rec_model(recommender).candidate_head.dual_gate.item()
    for wait in (DAY, 40 * DAY):
        row = replace(asked(recommender, 9, [8], [wait]), branches=branches)
        with torch.no_grad():
            output = rec_model(recommender)(**recommender.processor.batch([row]))
        scores.append(output.candidate_scores[0])
        duals.append(output.states[0, 8] @ output.embeddings.T * output.scale + output.bias)
    assert worst(duals[0], duals[1]) > 1e-2
    assert worst(scores[0] - gate * duals[0], scores[1] - gate * duals[1]) <= 1e-4  # what the block itself says


@pytest.mark.parametrize("family", FAMILIES)
def test_now_changes_no_key_or_value_of_the_history(trained, family):
    recommender = trained(family)
    model, processor = rec_model(recommender), recommender.processor
    items, times = history()
    reading = Reading(model, processor.header)
    reading.append(processor.blocks(items, times, CATALOG), model.rec_items(torch.as_tensor(items)))
    kept = [(layer.keys.clone(), layer.values.clone()) for layer in reading._cache.layers]
    assert kept
    states = []
    for wait in (0, DAY, 40 * DAY, DAY):
        query = processor.query(8, int(times[-1]), int(times[-1]) + wait)
        states.append(reading.user_state(query))
        assert worst(states[-1], states_of(recommender, [asked(recommender, 9, [8], [wait])])[0, 8]) <= 1e-5
        for layer, (keys, values) in zip(reading._cache.layers, kept, strict=True):
            assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)
    assert torch.equal(states[1], states[3]) and worst(states[1], states[2]) > 1e-3


def events_of(items: np.ndarray, times: np.ndarray) -> list[dict]:
    return [{"item_id": CATALOG.ids[item], "timestamp": int(at)} for item, at in zip(items, times, strict=True)]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_an_open_history_stays_valid_as_now_moves_and_events_come(trained, family):
    recommender = trained(family)
    whole = events_of(*history(20))
    opened = recommender.open(whole[:4])
    for length in range(4, 20):
        for wait in (0, DAY, 90 * DAY):
            now = whole[length - 1]["timestamp"] + wait
            expected = recommender.open(whole[:length]).score(list(CATALOG.ids[:6]), now=now)
            assert opened.score(list(CATALOG.ids[:6]), now=now) == pytest.approx(expected, abs=2e-4)
        opened.append(whole[length])
    ranked = recommender.recommend(whole, k=5, now="2021-06-01")
    assert [one.item_id for one in recommender.recommend(opened, k=5, now="2021-06-01")] == [
        one.item_id for one in ranked
    ]


def test_now_is_the_time_of_the_last_event_unless_it_is_given(checkpoints, template):
    recommender = randomise(tiny_recommender(checkpoints["bert"], CATALOG, template=template))
    events, ids = events_of(*history()), list(CATALOG.ids)
    last = events[-1]["timestamp"]
    default = recommender.score(events, ids)
    assert recommender.score(events, ids, now=last) == default
    later = recommender.score(events, ids, now=last + 40 * DAY)
    assert np.abs(np.subtract(later, default)).max() > 1e-3
    batch = recommender.recommend_batch([events, events], k=N, exclude_seen=False, now=[None, last + 40 * DAY])
    for found, scores in zip(batch, (default, later), strict=True):
        by_id = {one.item_id: one.score for one in found}
        assert [by_id[item_id] for item_id in ids] == pytest.approx(scores, abs=1e-4)
    for ask in (recommender.recommend, lambda history, now: recommender.score(history, ids, now=now)):
        for wrong, message in ((last - 1, "before the last event"), (last * 1000, "1000"), ("soon", "ISO date")):
            with pytest.raises(ValueError, match=message):
                ask(events, now=wrong)
            with pytest.raises(ValueError, match=message):
                ask(recommender.open(events), now=wrong)


def test_events_without_times_are_asked_at_no_moment(checkpoints, template):
    recommender = tiny_recommender(checkpoints["bert"], CATALOG, template=template)
    processor = recommender.processor
    assert processor.query(0, NO_TIME, NO_TIME).block == processor._ids("now") + processor.separator
    untimed = [{"item_id": CATALOG.ids[item]} for item in (3, 5)]
    assert all(np.isfinite(recommender.score(untimed, list(CATALOG.ids))))
    assert all(np.isfinite(recommender.score(untimed, list(CATALOG.ids), now=START)))  # the moment, and no gap


def test_without_a_query_pattern_now_changes_nothing(checkpoints):
    recommender = randomise(tiny_recommender(checkpoints["bert"], CATALOG))
    events, ids = events_of(*history()), list(CATALOG.ids)
    assert recommender.score(events, ids, now=START + 900 * DAY) == recommender.score(events, ids)
    with pytest.raises(ValueError, match="before the last event"):
        recommender.score(events, ids, now=START)


@pytest.mark.parametrize("num_candidates", [0, 6, None])
def test_the_evaluator_asks_at_the_time_of_the_target(trained, num_candidates):
    """Histories of several windows, several cases each; the other way is the face that users see, case by case."""
    recommender = trained("bert")
    items, times = history(24)
    user, position = np.zeros(4, dtype=np.int64), np.array([3, 12, 13, 23])
    cases = Cases(["u"], [items], [times], user, position, N, "test")
    for asked_for, nows in ((cases, times[position]), (cases.asked_at_last_event(), times[position - 1])):
        scorer = recommender.scorer(num_candidates=num_candidates, mask_seen=False)
        for numbers, scores in scorer.catalogue_scores(asked_for):
            for case, row in zip(numbers, scores, strict=True):
                opened = recommender.open(events_of(items[: position[case]], times[: position[case]]))
                dual = recommender.snapshot().scores(opened.user_state(now=int(nows[case]))[None], [])[0]
                if num_candidates == 0:
                    assert worst(row, dual) <= 1e-3
                    continue
                best = row.argsort(descending=True)[:5].tolist()
                again = recommender.recommend(opened, 5, False, num_candidates or N, now=int(nows[case]))
                assert [one.item_id for one in again] == [CATALOG.ids[item] for item in best]
