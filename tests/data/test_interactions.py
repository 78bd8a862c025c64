from __future__ import annotations

import json

import datasets
import polars as pl
import pytest

import llmrec
from llmrec import Cases, Interactions, PreparedData
from llmrec.commands.main import run
from llmrec.data.directory import TABLES

EVENTS = [
    {"household": user, "code": f"0{item}", "when": f"2021-03-{1 + 3 * place + user:02}T10:00:00Z"}
    for user in range(8)
    for place, item in enumerate([(user * 3 + step) % 9 for step in range(7)])
]
ITEMS = [{"code": f"0{item}", "title": f"thing {item}", "price": None if item == 3 else item / 2} for item in range(9)]
COLUMNS = {"user_id": "household", "item_id": "code", "timestamp": "when"}
KINDS = {
    "polars": pl.DataFrame,
    "lazy": pl.LazyFrame,
    "pandas": lambda rows: pl.DataFrame(rows).to_pandas(),
    "pyarrow": lambda rows: pl.DataFrame(rows).to_arrow(),
    "datasets": datasets.Dataset.from_list,
    "dicts": list,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> PreparedData:
    """What the command makes of the same rows in files."""
    folder = tmp_path_factory.mktemp("files")
    pl.DataFrame(EVENTS).write_csv(folder / "events.csv")
    pl.DataFrame(ITEMS).write_csv(folder / "items.csv")
    mapping = ",".join(f"{name}={column}" for name, column in COLUMNS.items())
    files = ["--interactions", str(folder / "events.csv"), "--items", str(folder / "items.csv"), "--columns", mapping]
    assert run("prepare", [*files, "--output_dir", str(folder / "data")]) == 0
    return PreparedData.open(folder / "data")


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_every_kind_are_split_as_the_files_are(prepared, kind):
    made = KINDS[kind]
    data = Interactions.from_frames(made(EVENTS), made(ITEMS), COLUMNS).split("temporal")
    assert data.interactions.equals(prepared.interactions) and data.splits.equals(prepared.splits)
    assert data.items.frame["title"].to_list() == prepared.items.frame["title"].to_list()
    assert data.manifest["source"] == "frames" and data.manifest["split"] == prepared.manifest["split"]


def test_files_are_split_as_the_command_splits_them(prepared, tmp_path):
    pl.DataFrame(EVENTS).write_parquet(tmp_path / "e.parquet")
    pl.DataFrame(ITEMS).write_parquet(tmp_path / "i.parquet")
    data = Interactions.from_files(tmp_path / "e.parquet", tmp_path / "i.parquet", COLUMNS, name="mine").split()
    assert data.splits.equals(prepared.splits) and data.manifest["source"] == "mine"


def test_training_events_and_cases_are_those_of_the_splits(prepared):
    train = {row["user_id"]: row["item_id"] for row in prepared.train}
    expected: dict[str, list[str]] = {}
    for user, item, split in prepared.splits.select("user_id", "item_id", "split").iter_rows():
        if split == "train":
            expected.setdefault(user, []).append(item)
    assert train == expected and prepared.train.column_names == ["user_id", "item_id", "timestamp"]
    assert isinstance(prepared.validation, Cases) and prepared.test.split == "test"
    assert prepared.test.item_ids == prepared.items.ids


def test_settings_of_the_split_and_texts_within_the_events():
    rows = [{**event, "title": f"thing {event['code']}"} for event in EVENTS]
    data = Interactions.from_frames(rows, columns=COLUMNS).split("leave_one_out", min_item_events=1)
    assert data.manifest["split"]["kind"] == "leave_one_out" and len(data.test) == 8
    with pytest.raises(TypeError, match="folds"):
        Interactions.from_frames(rows, columns=COLUMNS).split(folds=3)


def test_saved_elsewhere_it_opens_again(prepared, tmp_path):
    prepared.save(tmp_path / "copy")
    again = PreparedData.open(tmp_path / "copy")
    assert again.manifest == prepared.manifest and all((tmp_path / "copy" / name).is_file() for name in TABLES)
    with pytest.raises(FileExistsError):
        prepared.save(tmp_path / "copy")
    data = Interactions.from_frames(EVENTS, ITEMS, COLUMNS).split(folder=tmp_path / "kept")
    assert (
        data.path == tmp_path / "kept" and json.loads((data.path / "manifest.json").read_text())["source"] == "frames"
    )


@pytest.mark.parametrize(
    ("events", "items", "error", "words"),
    [
        (3, ITEMS, TypeError, "events is 'int': give a frame of pandas, polars"),
        (EVENTS, "items.csv", TypeError, "items is 'str'"),
        ([{"a": 1}], ITEMS, ValueError, "'household', mapped to user_id, is in no table: events has 'a'"),
        (pl.DataFrame(EVENTS).head(0), ITEMS, ValueError, "'events' has a header and no row"),
        (EVENTS, [{"code": "01"}], ValueError, "items: no text among the columns"),
    ],
)
def test_what_is_no_table_is_refused(events, items, error, words):
    with pytest.raises(error, match=words):
        Interactions.from_frames(events, items, COLUMNS).split()


@pytest.mark.parametrize(("repeats", "masked"), [(0, True), (5, False)])
def test_whether_seen_items_are_masked_follows_from_the_training_events(repeats, masked):
    rows = [
        {"user_id": "u", "item_id": str(n % (20 - repeats)), "timestamp": 1_600_000_000 + n, "title": "x"}
        for n in range(20)
    ]
    rows += [{"user_id": "v", "item_id": "1", "timestamp": 1_700_000_000 + n, "title": "x"} for n in range(2)]
    data = Interactions.from_frames(rows).split("temporal", validation_fraction=0.05, test_fraction=0.05)
    train = data.splits.filter(pl.col("split") == "train")
    assert data.repeat_share == pytest.approx(1 - train.unique(["user_id", "item_id"]).height / train.height)
    assert data.mask_seen is masked


def test_every_public_name_can_be_imported():
    for name in llmrec.__all__:
        assert getattr(llmrec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = llmrec.nonsense
