from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.audit import audit
from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables
from llmrec.data.split_events import SplitEvents, ordered
from llmrec.data.splitting import users_split

START = 1_600_000_000
TITLES = pl.DataFrame({"item_id": list("wxyz"), "title": ["Walk", "Xylophone", "Yard", "Zebra"]})


def events(num_users: int = 40, num_events: int = 20) -> pl.DataFrame:
    rows = [
        (f"u{user:02}", "wxyz"[(user + event) % 4], START + event * 86_400 + user * 61)
        for user in range(num_users)
        for event in range(num_events + user % 3)
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def prepared(path: Path, **settings: object) -> PreparedData:
    raw = RawTables(events(), TITLES, "tests", "none", "none", {})
    with staged_directory(path) as staging:
        prepare(raw, staging, SplitSettings(kind="users", **settings))  # type: ignore[arg-type]
    return PreparedData.open(path)


@given(st.lists(st.integers(0, 30), min_size=40, max_size=80), st.integers(0, 5))
def test_a_user_has_one_split_whatever_the_order_of_the_rows(rows: list[int], seed: int) -> None:
    users = pl.Series("user_id", [f"u{user}" for user in [*rows, 31, 32, 33, 34, 35]])
    table = pl.DataFrame({"user_id": users, "split": users_split(users, 0.2, 0.1, seed)})
    by_user = table.unique()
    assert by_user["user_id"].is_unique().all()
    sizes = dict(by_user["split"].value_counts().rows())
    num_users = by_user.height
    assert sizes["test"] == max(1, round(num_users * 0.1)) and sizes["validation"] == max(1, round(num_users * 0.2))
    backwards = users.reverse()
    again = pl.DataFrame({"user_id": backwards, "split": users_split(backwards, 0.2, 0.1, seed)}).unique()
    assert again.sort("user_id").equals(by_user.sort("user_id"))


def test_seeds_draw_different_users() -> None:
    users = pl.Series([f"u{user}" for user in range(200)])
    tested = [users.filter(users_split(users, 0.2, 0.2, seed) == "test").to_list() for seed in (0, 1)]
    assert len(tested[0]) == len(tested[1]) == 40
    assert 2 <= len(set(tested[0]) & set(tested[1])) <= 20  # of 40 · 40 / 200 = 8 by chance


@pytest.mark.parametrize(
    ("num_users", "fractions", "message"),
    [(10, (0.0, 0.1), "not between 0 and 1"), (10, (0.5, 0.5), "leave no training"), (2, (0.1, 0.1), "too few")],
)
def test_what_cannot_be_drawn(num_users: int, fractions: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        users_split(pl.Series([f"u{user}" for user in range(num_users)]), *fractions)


def test_the_directory_says_what_the_split_is(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", test_fraction=0.2, seed=3)
    split = data.manifest["split"]
    assert (split["kind"], split["drawn"], split["seed"], split["test_fraction"]) == ("users", True, 3, 0.2)
    assert "no cut in time" in split["meaning"]
    assert {name: part["users"] for name, part in split["counts"].items()} == {"train": 28, "validation": 4, "test": 8}
    assert split["counts"]["test"]["new_users"] == 8
    assert data.splits.group_by("user_id").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 40


def test_only_training_users_count_for_the_k_core(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", min_user_events=21)
    dropped = data.splits.filter(split="dropped")
    assert set(dropped["reason"]) == {"k_core_user"}
    held_out = data.splits.filter(pl.col("split").is_in(["validation", "test"]))
    assert held_out.group_by("user_id").len()["len"].min() == 20  # shorter than the minimum, and kept


def test_an_audit_takes_it_for_no_temporal_leak(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data")
    found = data.audit
    assert found is not None and found["split_kind"] == "users"
    findings = {row["name"]: row for row in found["findings"]}
    assert {row["severity"] for row in findings.values()} <= {"note", "warning"}
    assert findings["training_after_test_starts"]["severity"] == "note"
    assert "a split by users has it by construction" in findings["training_after_test_starts"]["effect"]
    assert "future_training_events" not in findings  # nobody's own future is trained on
    assert [row["name"] for row in found["skipped"]] == ["users_core_fitted_on_test"]
    assert findings["cold_users"]["count"] == findings["cold_users"]["of"] == 4
    assert "Split: by users, each with all events in one split" in (data.path / "audit.md").read_text()
    # the same events, from files that say nothing of their split
    guessed = audit(SplitEvents(ordered(data.splits.select("user_id", "item_id", "timestamp", "split"))), data.catalog)
    assert guessed["split_kind"] == "users"
    assert [row["name"] for row in guessed["findings"]] == [row["name"] for row in found["findings"]]
