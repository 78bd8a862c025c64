"""Times as they come, at every door: missing, equal, descending, in the future, in milliseconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from small_data import DAY, START, items_frame
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.ranking.history_store import HistoryStore
from llmrec.recommender import Recommender

CATALOG = Catalog(items_frame())
IDS = list(CATALOG.ids)
FUTURE = 3_900_000_000  # in the year 2093


@pytest.fixture(scope="module", params=["dual", "cross"])
def recommender(request, checkpoints) -> Recommender:
    settings = {"template": "time", "time_embedding": ["all"], "head": request.param}
    return randomise(tiny_recommender(checkpoints["bert"], CATALOG, **settings))


def scores_of(found: list) -> list[float]:
    return [entry.score for entry in found]


def append(recommender: Recommender, history: list[dict]) -> list[float]:
    opened = recommender.open(history[:1])
    for event in history[1:]:
        opened.append(event)
    return opened.score(IDS)


DOORS: dict[str, Callable] = {
    "recommend": lambda recommender, history: scores_of(recommender.recommend(history, k=5)),
    "batch": lambda recommender, history: scores_of(recommender.recommend_batch([history], k=5)[0]),
    "score": lambda recommender, history: recommender.score(history, IDS),
    "open": lambda recommender, history: recommender.open(history).score(IDS),
    "append": append,
    "store": lambda recommender, history: HistoryStore().open(recommender, "ann", history).score(IDS),
}


def events(*times: object) -> list[dict]:
    return [{"item_id": IDS[place], "timestamp": at} for place, at in enumerate(times)]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("history", "message"),
    [
        (events(START, None), "timestamp None: give seconds since the epoch to all events or to none"),
        (events(None, START), "give seconds since the epoch to all events or to none"),
        (events(START, START - 1), f"is earlier .{START - 1}. than the one before it .{START}.: give the history olde"),
        (events(START * 1_000), f"timestamp {START * 1_000} is no time in seconds since the epoch.\nDivide millisec"),
        (events(START, START * 1_000), "Divide milliseconds by 1000"),
        (events(START, -5), "is no time in seconds"),
    ],
)
def test_times_that_cannot_be_are_refused_at_every_door(recommender, door, history, message):
    with pytest.raises(ValueError, match=message):
        DOORS[door](recommender, history)


@pytest.mark.parametrize("door", DOORS)
def test_times_that_can_be_are_read_at_every_door(recommender, door):
    """None at all, equal ones, and ones that lie ahead."""
    for history in (events(None, None), events(START, START, START), events(START, FUTURE)):
        found = DOORS[door](recommender, history)
        assert found and np.isfinite(found).all()
    same, turned = events(START, START, START + DAY), events(START, START, START + DAY)
    turned[0], turned[1] = turned[1], turned[0]
    assert recommender.score(same, IDS) != recommender.score(turned, IDS)  # of equal times the order given counts


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (START - 1, "is before the last event"),
        (START * 1_000, "Divide milliseconds by 1000"),
        (-1, "no time in seconds"),
        ("soon", "neither seconds nor an ISO date"),
        (float("nan"), "no time in seconds"),
    ],
)
def test_a_now_that_cannot_be_is_refused_at_every_door(recommender, now, message):
    history = events(START)
    opened = recommender.open(history)
    for ask in (
        lambda: recommender.recommend(history, now=now),
        lambda: recommender.recommend(opened, now=now),
        lambda: recommender.recommend_batch([history], now=[now]),
        lambda: recommender.score(history, IDS, now=now),
        lambda: opened.score(IDS, now=now),
        lambda: opened.user_state(now),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    for later in (START, FUTURE, "2093-08-02"):
        assert np.isfinite(recommender.score(history, IDS, now=later)).all()


def prepared(folder, rows: list[tuple[str, str, object]], *options: str) -> int:
    lines = [f"{user},{item},{'' if at is None else at},Item {item}" for user, item, at in rows]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,timestamp,title", *lines]))
    files = ["--interactions", str(folder / "events.csv"), "--output_dir", str(folder / "data")]
    return run("prepare", [*files, "--split", "leave_one_out", *options])


def test_prepare_drops_what_is_no_time_sorts_the_rest_and_says_so(tmp_path):
    ahead = int(time.time()) + 3 * DAY
    sound = [(f"u{user}", str(item), START - item * DAY) for user in range(4) for item in range(5)]  # newest first
    tied = [("u0", "7", START + DAY), ("u0", "8", START + DAY)]
    wrong = [("u0", "1", None), ("u1", "1", "soon"), ("u2", "1", -5), ("u3", "1", START * 1_000), ("u3", "2", ahead)]
    assert prepared(tmp_path, [*sound, *wrong, *tied]) == 0
    data = PreparedData.open(tmp_path / "data")
    assert data.interactions.height == len(sound) + len(tied)
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    dropped = {step["name"]: step["dropped"] for step in manifest["counts"]["events"] if step["dropped"]}
    assert dropped == {
        "missing_timestamp": 1,
        "unreadable_timestamp": 1,
        "negative_time": 1,
        "wrong_time_unit": 1,
        "future_time": 1,
    }
    for row in data.histories():
        assert row["timestamp"] == sorted(row["timestamp"])
    assert sorted(data.histories()[0]["item_id"][-2:]) == ["7", "8"]


def test_prepare_asks_for_the_unit_of_milliseconds(tmp_path, capsys):
    rows = [(f"u{user}", str(item), (START + item) * 1_000) for user in range(4) for item in range(5)]
    assert prepared(tmp_path, rows) == 2
    assert "pass --time_unit ms" in capsys.readouterr().err
    assert prepared(tmp_path, rows, "--time_unit", "ms") == 0
    assert PreparedData.open(tmp_path / "data").interactions["timestamp"].max() == START + 4
