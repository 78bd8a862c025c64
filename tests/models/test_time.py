"""The embedding of time: its features by the calendar, nothing at step 0, and times that reach what they should."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import START, items_frame
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.configuration import TIME_PARTS
from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.models.time import num_features, time_features
from llmrec.recommender import Recommender
from llmrec.text.moments import NO_TIME
from llmrec.text.windows import Window
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender

CATALOG = Catalog(items_frame())
N = len(CATALOG)
IDS = list(CATALOG.ids)
DAY, WEEK = 86_400, 604_800
MOMENTS = st.integers(0, 4_000_000_000)


def features(part: str, gap: int = 0, moment: int = 0) -> np.ndarray:
    return time_features(torch.tensor([gap, moment]), [part]).numpy()


@given(MOMENTS)
def test_phases_are_those_of_clock_and_calendar(seconds):
    at = datetime.fromtimestamp(seconds, tz=UTC)
    hour = (at.hour + at.minute / 60 + at.second / 3_600) / 24
    week = (at.weekday() + hour) / 7
    for part, phase, harmonics in (("hour", hour, 4), ("weekday", week, 3)):
        angles = 2 * np.pi * phase * np.arange(1, harmonics + 1)
        np.testing.assert_allclose(features(part, 0, seconds), [*np.sin(angles), *np.cos(angles)], atol=2e-5)


@given(MOMENTS, st.integers(1, 60))
def test_years_come_round_within_two_days(seconds, years):
    at = datetime.fromtimestamp(seconds, tz=UTC).replace(day=1)
    later = at.replace(year=at.year + years)
    one, other = (features("yearday", 0, int(moment.timestamp())) for moment in (at, later))
    half = features("yearday", 0, int(at.timestamp()) + 182 * DAY)
    assert np.abs(one - other).max() <= 4 * 2 * np.pi * 2 / 365  # the fourth harmonic turns four times as fast
    assert np.abs(one - half).max() > 1


@given(MOMENTS, st.integers(1, 500))
def test_whole_weeks_change_no_hour_and_no_weekday(seconds, weeks):
    for part in ("hour", "weekday"):
        assert np.array_equal(features(part, 0, seconds), features(part, 0, seconds + weeks * WEEK))


def test_any_function_of_the_weekday_is_linear_in_its_features():
    days = np.stack([features("weekday", 0, START + day * DAY) for day in range(7)])
    assert np.linalg.matrix_rank(np.column_stack([np.ones(7), days]), tol=1e-3) == 7


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=9))
def test_gaps_are_logarithms_and_what_is_not_known_is_nothing(gaps):
    lines = [features("gap", gap)[1] for gap in sorted(gaps)]
    assert lines == sorted(lines) and all(0 <= line <= 1 for line in lines)
    for part in TIME_PARTS:
        assert features(part, NO_TIME, NO_TIME).tolist() == [0.0] * num_features([part])
        assert features(part, 5, 5).any()


def write_template(folder, **patterns) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps({"event": "{title}", "item": "{title}", **patterns}))
    return str(path)


@pytest.fixture(scope="module")
def silent(tmp_path_factory) -> str:
    """A template without a word of time."""
    return write_template(tmp_path_factory.mktemp("silent"))


@pytest.fixture(scope="module")
def trained(checkpoints, silent):
    """Recommenders that know time by its embedding alone, nothing at its starting value."""
    made: dict[tuple, Recommender] = {}

    def get(family: str, *parts: str, head: str = "dual") -> Recommender:
        if (family, parts, head) not in made:
            settings = {"time_embedding": list(parts), "template": silent, "head": head, "max_tokens": 40}
            made[family, parts, head] = randomise(
                tiny_recommender(checkpoints[family], CATALOG, max_vector_events=3, **settings)
            )
        return made[family, parts, head]

    return get


def history(length: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(N, size=length), START + np.cumsum(random.integers(60, 9 * DAY, size=length))


def events_of(items: np.ndarray, times: np.ndarray) -> list[dict]:
    return [{"item_id": IDS[item], "timestamp": int(at)} for item, at in zip(items, times, strict=True)]


def scores(recommender: Recommender, items: np.ndarray, times: np.ndarray, wait: int = 0) -> np.ndarray:
    return np.array(recommender.score(events_of(items, times), IDS, now=int(times[-1]) + wait))


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_each_part_tells_its_own_time_and_no_other(trained, family):
    items, times = history()
    shifts = {"gap": None, "hour": 6 * 3_600, "weekday": DAY, "yearday": 100 * DAY}
    for part in TIME_PARTS:
        recommender = trained(family, part)
        plain = scores(recommender, items, times)
        stretched = times[:1] + 2 * (times - times[0])
        moved = stretched if part == "gap" else times + shifts[part]
        assert np.abs(scores(recommender, items, moved) - plain).max() > 1e-3, part
        waiting = scores(recommender, items, times, wait=30 * DAY + 6 * 3_600)
        assert np.abs(waiting - plain).max() > 1e-3, part
        if part == "gap":
            assert np.array_equal(scores(recommender, items, times + 100_003), plain)
        if part == "hour":
            days = times + DAY * np.arange(len(times))  # other weekdays and gaps, the same hours
            assert np.array_equal(scores(recommender, items, days), plain)


@pytest.mark.parametrize("weeks", [1, 52, 521])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_whole_weeks_change_no_score_of_who_reads_weekdays_and_gaps(checkpoints, tmp_path, family, weeks):
    """In words and by embedding at once; half a week does change them."""
    template = write_template(
        tmp_path, event="{title}[, {gap}][, {weekday} {daypart}]", query="now[: {gap}][, {weekday} {daypart}]"
    )
    settings = {"template": template, "time_embedding": ["gap", "hour", "weekday"], "head": "cross"}
    recommender = randomise(tiny_recommender(checkpoints[family], CATALOG, **settings))
    items, times = history()
    for wait in (0, 3 * DAY):
        plain = scores(recommender, items, times, wait)
        assert np.abs(scores(recommender, items, times + weeks * WEEK, wait) - plain).max() <= 1e-6
        assert np.abs(scores(recommender, items, times + 3 * DAY, wait) - plain).max() > 1e-3


@pytest.mark.parametrize("head", ["dual", "cross"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_events_read_one_by_one_in_batches_and_in_windows_agree(trained, family, head):
    recommender = trained(family, *TIME_PARTS, head=head)
    items, times = history(24)
    whole = events_of(items, times)
    opened = recommender.open(whole[:1])
    for length in range(1, 25):
        now = int(times[length - 1]) + 5 * DAY
        expected = recommender.open(whole[:length]).score(IDS, now=now)
        assert opened.score(IDS, now=now) == pytest.approx(expected, abs=5e-4)
        if length < 24:
            opened.append(whole[length])
    position = np.array([3, 12, 23])
    cases = Cases(["u"], [items], [times], np.zeros(3, dtype=np.int64), position, N, "test")
    for numbers, found in recommender.scorer(num_candidates=0).catalogue_scores(cases):
        for case, row in zip(numbers, found, strict=True):
            one = recommender.open(whole[: position[case]])
            state = one.user_state(now=int(times[position[case]]))
            assert (recommender.snapshot().scores(state[None], [])[0] - row).abs().max() <= 1e-3


def test_a_history_without_times_is_one_of_no_moment(trained):
    recommender = trained("bert", *TIME_PARTS)
    untimed = [{"item_id": item_id} for item_id in IDS[:4]]
    assert np.isfinite(recommender.score(untimed, IDS)).all()
    row = recommender.open(untimed)
    assert row._timestamps == [NO_TIME] * 4


def read(recommender: Recommender, items: np.ndarray, times: np.ndarray) -> dict:
    blocks = recommender.processor.blocks(items, times, CATALOG)
    row = recommender.processor.read(items, blocks, Window(0, 0, len(items)), times)
    last = np.array([len(items) - 1])
    return dict(recommender.processor.batch([recommender.processor.ask(row, times, last, times[last] + DAY)]))


def test_at_step_0_an_embedding_changes_no_token_and_no_event(checkpoints, silent):
    plain = tiny_recommender(checkpoints["bert"], CATALOG, template=silent)
    embedding = tiny_recommender(checkpoints["bert"], CATALOG, template=silent, time_embedding=["all"])
    batch, other = (read(recommender, *history()) for recommender in (plain, embedding))
    assert "times" in other and "branch" in other and set(batch) == {"input_ids", "position_ids", "block", "items"}
    assert torch.equal(other["input_ids"][:, :-1], batch["input_ids"])  # one token more: the query that carries now
    model = rec_model(embedding)
    with torch.no_grad():
        assert not model.rec_time(other["times"]).any() and not model.rec_time(other["query_times"]).any()
        assert torch.equal(rec_model(plain)(**batch).states, model(**other).states)  # the gate is closed at step 0


def test_without_a_clock_nothing_is_added(checkpoints, silent, tmp_path):
    """The same weights, tokens and scores as where nothing was asked for; a query has nothing to say either."""
    told = write_template(tmp_path, query="now[: {gap}]")
    made = []
    for settings in ({}, {"time_embedding": ["all"], "template": told}):
        torch.manual_seed(0)
        arguments = ModelArguments(
            base_model=str(checkpoints["bert"]), max_tokens=64, **{"template": silent, **settings}
        )
        made.append(new_recommender(arguments, CATALOG, has_clock=False, counts=np.full(N, 5)))
    plain, asked = map(randomise, made)
    assert asked.config.time_embedding == [] and not asked.processor.asks_now
    assert [name for name, _ in plain.model.named_parameters()] == [name for name, _ in asked.model.named_parameters()]
    items, times = history()
    one, other = (read(recommender, items, times) for recommender in (plain, asked))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert np.array_equal(scores(plain, items, times, DAY), scores(asked, items, times, DAY))


@pytest.mark.parametrize("template", ["timeless", "vectors"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_template_without_time_costs_no_token_and_no_weight(checkpoints, family, template):
    """Header and titles by the tokenizer alone are all that is read, and no time there is changes a score."""
    recommender = randomise(tiny_recommender(checkpoints[family], CATALOG, template=template))
    processor, (items, times) = recommender.processor, history(5)
    batch = read(recommender, items, times)
    end = [processor.tokenizer.sep_token_id] if family == "bert" else processor.tokenizer("\n")["input_ids"]
    words = [[] if template == "vectors" else processor._ids(CATALOG.attributes(int(item))["title"]) for item in items]
    assert batch["input_ids"][0].tolist() == [*processor.header, *(token for each in words for token in [*each, *end])]
    assert set(batch) == {"input_ids", "position_ids", "block", "items"}
    assert not any("time" in name for name, _ in recommender.model.named_parameters())
    untimed = recommender.score([{"item_id": IDS[item]} for item in items], IDS)
    for moved, wait in ((times, 0), (times, 900 * DAY), (START + 3 * (times - START), 5)):
        assert scores(recommender, items, moved, wait).tolist() == untimed


def test_an_embedding_is_saved_and_loaded_with_the_adapter(trained, tmp_path):
    recommender = trained("bert", *TIME_PARTS)
    recommender.save_pretrained(tmp_path / "saved")
    loaded = Recommender.from_pretrained(tmp_path / "saved")
    assert loaded.config.time_embedding == list(TIME_PARTS)
    assert torch.equal(rec_model(loaded).rec_time.weight, rec_model(recommender).rec_time.weight)
    items, times = history()
    assert np.array_equal(scores(loaded, items, times, DAY), scores(recommender, items, times, DAY))


def test_parts_are_some_of_those_there_are(checkpoints):
    with pytest.raises(
        ValueError, match=r"time_embedding=\['minute'\] is no list of some of gap, hour, weekday, yeard"
    ):
        tiny_recommender(checkpoints["bert"], CATALOG, time_embedding=["minute"])


def test_reading_without_times_is_refused_where_they_are_embedded(trained):
    recommender = trained("bert", *TIME_PARTS)
    items, times = history()
    with pytest.raises(ValueError, match="give the events' timestamps to read"):
        recommender.processor.read(items, recommender.processor.blocks(items, times, CATALOG), Window(0, 0, 9))
