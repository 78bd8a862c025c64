from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llmrec.data.directory import TABLES, PreparedData, staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables
from llmrec.storage import sha256_of

START = 1_500_000_000
TITLES = pl.DataFrame({"item_id": list("wxyz"), "title": ["Walk", "Xylophone", "Yard", "Zebra"]})
EVENTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(START, START + 12)), min_size=8, max_size=40
)


def tables(rows: list[tuple[str, str, int]], items: pl.DataFrame = TITLES) -> RawTables:
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return RawTables(events, items, "files", "free", "nobody", {})


def prepared(path: Path, raw: RawTables, **split: object) -> PreparedData:
    with staged_directory(path) as staging:
        prepare(raw, staging, SplitSettings(**split))  # type: ignore[arg-type]
    return PreparedData.open(path)


def walk(num_users: int = 12, num_events: int = 9) -> list[tuple[str, str, int]]:
    """Users who take the four items in turn, one event every ten seconds, some at the same second as another's."""
    return [
        (f"u{user:02}", "wxyz"[(user * 3 + event) % 4], START + (event * num_users + user) // 2 * 10)
        for user in range(num_users)
        for event in range(num_events)
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS, st.sampled_from(["temporal", "leave_one_out"]), st.integers(0, 2), st.integers(0, 2))
def test_every_event_has_one_split_and_training_comes_first(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]], kind: str, min_user: int, min_item: int
) -> None:
    path = tmp_path_factory.mktemp("prepared") / "data"
    try:
        data = prepared(path, tables(rows), kind=kind, min_user_events=min_user, min_item_events=min_item)
    except ValueError:
        assume(False)
    splits = data.splits
    assert sorted(splits.select("user_id", "item_id", "timestamp").rows()) == sorted(set(rows))
    assert set(splits["split"]) <= {"train", "validation", "test", "dropped"}
    assert (splits["reason"].is_not_null() == (splits["split"] == "dropped")).all()
    if kind == "temporal":
        cuts = [data.manifest["split"][name]["timestamp"] for name in ("validation_from", "test_from")]
        bounds = {"train": (START, cuts[0]), "validation": cuts, "test": (cuts[1], START + 13)}
        for name, (low, high) in bounds.items():
            times = splits.filter(split=name)["timestamp"]
            assert times.is_between(low, high, closed="left").all()
    histories = data.histories()
    kept = splits.filter(pl.col("split") != "dropped")
    assert sum(map(len, histories["item_id"])) == kept.height
    for row in histories:
        own = kept.filter(user_id=row["user_id"])
        assert row["timestamp"] == sorted(row["timestamp"])
        assert (row["item_id"], row["split"]) == (own["item_id"].to_list(), own["split"].to_list())
        if kind == "leave_one_out" and "test" in row["split"]:
            assert row["split"][-2:] == ["validation", "test"]
            assert row["split"][:-2] == ["train"] * (len(row["split"]) - 2) != []


@pytest.mark.parametrize("kind", ["temporal", "leave_one_out"])
def test_shuffled_rows_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    raw = tables(walk())
    extra = raw.interactions.with_columns(rating=(pl.col("timestamp") % 7).cast(pl.Float64))
    raw.interactions = pl.concat([extra, extra.head(20).with_columns(rating=9.5)])
    hashes = []
    for seed in range(3):
        raw.interactions = raw.interactions.sample(fraction=1.0, shuffle=True, seed=seed)
        raw.items = raw.items.sample(fraction=1.0, shuffle=True, seed=seed)
        data = prepared(tmp_path / str(seed), raw, kind=kind, min_item_events=2)
        hashes.append({name: sha256_of(data.path / name) for name in (*TABLES, "manifest.json", "audit.json")})
    assert hashes[0] == hashes[1] == hashes[2]


def test_later_events_change_neither_the_training_events_nor_what_is_dropped(tmp_path: Path) -> None:
    rows = [*walk(), ("rare", "w", START)]
    settings_ = {"kind": "temporal", "min_user_events": 3, "min_item_events": 3}
    before = prepared(tmp_path / "before", tables(rows), **settings_)
    cut = before.manifest["split"]["validation_from"]["timestamp"]
    changed = [("rare", "w", time) if time >= cut else (user, item, time) for user, item, time in rows]
    changed = list(dict.fromkeys(changed))
    later = [("rare", "x", START + 10**6 + number) for number in range(len(rows) - len(changed))]
    after = prepared(tmp_path / "after", tables([*changed, *later]), **settings_)
    assert after.manifest["split"]["validation_from"]["timestamp"] == cut

    def early(data: PreparedData) -> pl.DataFrame:
        return data.splits.filter(pl.col("timestamp") < cut)

    assert early(before).equals(early(after))
    dropped = early(after).filter(split="dropped")
    assert dropped.rows() == [("rare", "w", START, "dropped", "k_core_user")]


def test_cold_items_stay_in_the_catalogue_and_in_the_held_out_events(tmp_path: Path) -> None:
    items = pl.concat([TITLES, pl.DataFrame({"item_id": ["cold", "unseen"], "title": ["Cold", "Unseen"]})])
    rows = [*walk(), ("u00", "cold", START + 10**6)]
    data = prepared(tmp_path / "data", tables(rows, items), kind="temporal", min_item_events=2)
    assert {"cold", "unseen"} <= set(data.catalog.ids)
    assert data.splits.filter(item_id="cold")["split"].to_list() == ["test"]
    assert data.manifest["split"]["counts"]["test"]["cold_items"] == 1


def test_the_manifest_says_what_was_done(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("abc")
    raw = tables([*walk(), ("u00", "gone", START), ("u00", "w", -1)])
    raw.inputs = {"events.csv": tmp_path / "events.csv"}
    data = prepared(tmp_path / "data", raw, kind="temporal", validation_fraction=0.2, test_fraction=0.1)
    manifest = data.manifest
    text = (data.path / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert text == json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    # SHA-256 of "abc", FIPS 180-2 appendix B.1
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert manifest["inputs"] == {"events.csv": {"bytes": 3, "sha256": abc}}
    assert (manifest["source"], manifest["licence"], manifest["citation"]) == ("files", "free", "nobody")
    assert manifest["clock"] == "utc" and manifest["split"]["kind"] == "temporal"
    # two users share every second, but no user has two events in one
    assert manifest["ties"] == {"events": 0, "share": 0.0, "salt": "llmrec events 1"}
    steps = {step["name"]: (step["dropped"], step["events"]) for step in manifest["counts"]["events"]}
    assert (steps["read"], steps["negative_time"], steps["item_without_text"]) == ((0, 110), (1, 109), (1, 108))
    # 108 events in pairs of one second: the last 11 and the last 32 begin inside pairs 49 and 39 (from 1)
    assert manifest["split"]["test_from"]["timestamp"] == START + 480
    assert manifest["split"]["validation_from"]["timestamp"] == START + 380
    assert manifest["split"]["validation_from"]["iso"] == "2017-07-14T02:46:20+00:00"
    assert {name: counts["events"] for name, counts in manifest["split"]["counts"].items()} == {
        "train": 76,
        "validation": 20,
        "test": 12,
    }
    assert set(manifest["versions"]) == {"llmrec", "polars", "python"}


def test_ordinal_times_take_leave_one_out_only(tmp_path: Path) -> None:
    rows = [(user, item, place) for user in "abc" for place, item in enumerate("wxyz")]
    with pytest.raises(ValueError, match="--split leave_one_out"):
        prepared(tmp_path / "data", tables(rows))
    data = prepared(tmp_path / "data", tables(rows), kind="leave_one_out")
    assert data.manifest["clock"] == "ordinal"
    assert data.histories()["item_id"][:] == [list("wxyz")] * 3


def test_tied_events_are_counted(tmp_path: Path) -> None:
    rows = [("a", item, START) for item in "wxy"] + [("a", "z", START + 1), ("b", "w", START)]
    data = prepared(tmp_path / "data", tables(rows), kind="leave_one_out")
    assert data.manifest["ties"] == {"events": 3, "share": 0.6, "salt": "llmrec events 1"}


def test_settings_and_items_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split 'random' is not one of temporal, leave_one_out"):
        SplitSettings(kind="random")
    with pytest.raises(ValueError, match="no item has text"):
        prepared(tmp_path / "data", tables(walk(), TITLES.with_columns(title=pl.lit(" "))))
    assert list(tmp_path.iterdir()) == []
