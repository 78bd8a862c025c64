from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.histories import likes_of
from llmrec.data.labels import LabelSettings, label_events
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables

START = 1_600_000_000


def rated(num_users: int = 20, num_events: int = 6) -> pl.DataFrame:
    """Users who rate items 0, 1, …; ratings go 1, 2, 3, 4, 5, 1, … and no two events share a time."""
    rows = [
        (f"u{user:02}", f"i{event}", START + user * 100 + event, float((user + event) % 5 + 1))
        for user in range(num_users)
        for event in range(num_events)
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating"], orient="row")


def prepared(path: Path, events: pl.DataFrame, labels: LabelSettings | None, kind: str = "users") -> PreparedData:
    items = pl.DataFrame(
        {"item_id": [f"i{item}" for item in range(6)], "title": [f"Title {item}" for item in range(6)]}
    )
    with staged_directory(path) as staging:
        prepare(RawTables(events, items, "tests", "none", "none", {}), staging, SplitSettings(kind=kind), labels=labels)
    return PreparedData.open(path)


def test_likes_dislikes_and_nothing_between(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", rated(), LabelSettings(like_at_least=4, dislike_at_most=2))
    # 20 users of 6 events: each of five ratings 24 times, the threes leave
    steps = {step["name"]: step["dropped"] for step in data.manifest["counts"]["events"]}
    assert steps["rating_between"] == 24
    assert sorted(data.interactions["rating"].unique()) == [1, 2, 4, 5]
    assert data.interactions["liked"].to_list() == (data.interactions["rating"] >= 4).to_list()
    assert len(data.splits) == len(data.interactions) == 96
    labels = data.manifest["labels"]
    assert (labels["like_at_least"], labels["dislike_at_most"], labels["cases"]) == (4, 2, "all")
    assert sum(part["events"] for part in labels["counts"].values()) == 96
    assert sum(part["liked"] for part in labels["counts"].values()) == 48
    for row, liked in zip(data.histories(), likes_of(data.histories()), strict=True):
        own = data.interactions.filter(user_id=row["user_id"])
        assert row["liked"] == own["liked"].to_list() == liked.tolist()
        assert row["item_id"] == own["item_id"].to_list()
        assert liked.dtype == np.bool_


def test_one_threshold_parts_all_ratings(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", rated(), LabelSettings(like_at_least=3))
    assert len(data.interactions) == 120
    assert data.manifest["labels"]["dislike_at_most"] is None


def test_without_labels_nothing_changes(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", rated(), None, kind="leave_one_out")
    assert "labels" not in data.manifest
    assert data.interactions.columns == ["user_id", "item_id", "timestamp", "rating"]
    assert data.histories().column_names == ["user_id", "item_id", "timestamp", "split"]
    with pytest.raises(ValueError, match="--like_at_least"):
        next(likes_of(data.histories()))


def test_thresholds_are_where_they_say() -> None:
    events = pl.DataFrame({"rating": [3.0, 3.001, 3.999, 4.0]})
    kept = label_events(events, LabelSettings(4, 3))
    assert kept.rows() == [(3.0, False), (4.0, True)]


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([1.0, 4.0, None], r"1 event of 3 have no number as rating \(the first: user 'u2', item 'x'\)"),
        ([float("nan"), 4.0, None], "2 events of 3"),
        ([4.0, 5.0, 4.5], "from 4.0 to 5.0 give 3 likes of 3 labels"),
        ([1.0, 2.0, 3.5], "give 0 likes of 2 labels"),
    ],
)
def test_ratings_that_give_no_labels(ratings: list[float | None], message: str) -> None:
    events = pl.DataFrame({"user_id": ["u0", "u1", "u2"], "item_id": "x", "rating": ratings})
    with pytest.raises(ValueError, match=message):
        label_events(events, LabelSettings(4, 3))


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="no column of them"):
        label_events(pl.DataFrame({"user_id": ["a"]}), LabelSettings(4))
    for like, dislike in ((3, 3), (3, 4), (float("nan"), None), (4, float("nan"))):
        with pytest.raises(ValueError, match="is not below like_at_least"):
            LabelSettings(like, dislike)
    with pytest.raises(ValueError, match="'first' is not one of all, last"):
        LabelSettings(4, 3, cases="first")
