from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from llmrec.commands.main import run
from llmrec.data.directory import PreparedData

EVENTS = "who,what,when,rank\n" + "".join(
    f"u{user},{(user + event) % 5},{1_600_000_000 + event * 100 + user},{event}\n"
    for user in range(6)
    for event in range(8)
)
ITEMS = "what,label\n" + "".join(f"{item},Item number {item}\n" for item in range(5))
MAPPED = ["--columns", "user_id=who,item_id=what,timestamp=when,title=label"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "e.csv").write_text(EVENTS)
    (tmp_path / "i.csv").write_text(ITEMS)
    return ["--interactions", str(tmp_path / "e.csv"), "--items", str(tmp_path / "i.csv"), *MAPPED]


def test_files_become_a_data_directory(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prepare", [*files, "--output_dir", str(tmp_path / "data")]) == 0
    output = capsys.readouterr().out
    assert (
        output.index("validation_fraction")
        < output.index("read ")
        < output.index("train ")
        < output.index("written in")
    )
    data = PreparedData.open(tmp_path / "data")
    assert data.interactions.height == 48
    assert data.catalog.attributes(3) == {"title": "Item number 3"}
    assert {name: part["events"] for name, part in data.manifest["split"]["counts"].items()} == {
        "train": 38,
        "validation": 5,
        "test": 5,
    }


def test_own_files_say_what_they_are(tmp_path: Path, files: list[str]) -> None:
    said = ["--name", "A shop", "--licence", "CC BY 4.0", "--citation", "Somebody 2024"]
    assert run("prepare", [*files, *said, "--output_dir", str(tmp_path / "data")]) == 0
    manifest = PreparedData.open(tmp_path / "data").manifest
    assert [manifest[name] for name in ("source", "licence", "citation")] == ["A shop", "CC BY 4.0", "Somebody 2024"]


def test_a_bare_user_behavior_csv_needs_no_mapping(tmp_path: Path) -> None:
    lines = [
        f"u{user},{item},2024-05-{item + 1:02}T10:00:00+02:00,Item {item}" for user in range(5) for item in range(9)
    ]
    (tmp_path / "user_behavior.csv").write_text("\n".join(["visitorid,product_id,event_time,name", *lines]))
    options = ["--interactions", str(tmp_path / "user_behavior.csv"), "--output_dir", str(tmp_path / "data")]
    assert run("prepare", options) == 0
    data = PreparedData.open(tmp_path / "data")
    # 2024-05-01 is 19,844 days after 1970-01-01; ten o'clock two hours east of Greenwich is eight there
    assert data.interactions["timestamp"].min() == 19_844 * 86_400 + 8 * 3_600
    assert data.catalog.attributes(8) == {"title": "Item 8"}
    # nine moments of five events each: a tenth of 45 is 4, a fifth is 9, and equal times stay together
    counts = {name: part["events"] for name, part in data.manifest["split"]["counts"].items()}
    assert counts == {"train": 35, "validation": 5, "test": 5}


def test_movielens_small_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--source", "movielens-small", "--split", "leave_one_out", "--min_item_events", "5"]
    assert run("prepare", [*options, "--output_dir", str(tmp_path / "data")]) == 0
    assert "31.9%" in capsys.readouterr().out
    data = PreparedData.open(tmp_path / "data")
    # 100,004 ratings, two of them of films without title and genres
    assert data.interactions.height == 100_002 and len(data.catalog) == 9_064
    assert data.manifest["split"]["counts"]["test"]["users"] == 671
    train = data.splits.filter(split="train")
    assert train.group_by("item_id").len()["len"].min() >= 5
    assert data.catalog.attributes(data.catalog.index("296")) == {
        "title": "Pulp Fiction",
        "genres": "Comedy, Crime, Drama, Thriller",
        "year": "1994",
    }
    matched = data.interactions.filter(user_id="1").select("item_id", "timestamp").sort("item_id").head(1)
    assert matched.rows() == [("1029", 1260759179)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give exactly one of"),
        (["--source", "movielens-small", "--interactions", "e.csv"], "give exactly one of"),
        (["--source", "netflix"], "source 'netflix' is not one of movielens-small, complete-journey"),
        (["--source", "movielens-small", "--columns", "a=b"], "--columns 'a=b' goes with --interactions"),
        (["--interactions", "missing.csv"], "no file at 'missing.csv'"),
        (["--source", "movielens-small", "--validation_fraction", "2"], "validation_fraction 2.0 is not between"),
        (["--source", "movielens-small", "--min_user_events", "100000"], "lower them"),
        (["--interactions", "e.csv", "--name", " "], "--name ' ' says nothing: give a text, or leave it out"),
        (["--source", "movielens-small", "--licence", "MIT"], "--licence 'MIT' is of one's own files; --source has"),
        (["--source", "movielens-small", "--oops", "1"], "--oops"),
    ],
)
def test_bad_options_are_errors_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run("prepare", [*options, "--output_dir", str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("llmrec prepare: error: ") and message in error
    assert len(error.strip().splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("when", "moment"), "'when', mapped to timestamp, is in no table"),
        (lambda text: text.splitlines()[0] + "\n", "has a header and no row"),
        (lambda text: text.replace(",1600", ",-1600"), "negative_time 48"),
    ],
)
def test_bad_tables_are_errors_and_write_nothing(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str], change: Callable[[str], str], message: str
) -> None:
    (tmp_path / "e.csv").write_text(change(EVENTS))
    assert run("prepare", [*files, "--output_dir", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["e.csv", "i.csv"]


def test_milliseconds_are_read_when_asked_for(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    events = pl.read_csv(tmp_path / "e.csv").with_columns(pl.col("when") * 1000 + 7)
    events.write_csv(tmp_path / "e.csv")
    options = [*files, "--output_dir", str(tmp_path / "data")]
    assert run("prepare", options) == 2
    assert "looks like milliseconds" in capsys.readouterr().err
    assert run("prepare", [*options, "--time_unit", "ms"]) == 0
    assert PreparedData.open(tmp_path / "data").interactions["timestamp"].min() == 1_600_000_000


def test_existing_output_is_kept_unless_told(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*files, "--output_dir", str(tmp_path / "data")]
    assert run("prepare", options) == 0
    assert run("prepare", options) == 2
    assert "--overwrite true" in capsys.readouterr().err
    assert run("prepare", [*options, "--split", "leave_one_out", "--overwrite", "true"]) == 0
    assert PreparedData.open(tmp_path / "data").manifest["split"]["kind"] == "leave_one_out"
