"""Ids, titles and column names of somebody's table are shown on pages and in a terminal, and obeyed by neither."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

import polars as pl
import pytest
from markdown_it import MarkdownIt
from run_scripts import run_script

from llmrec.commands.main import run
from llmrec.data.files import read_tables

NAME = "<img src=x onerror=alert(1)>|`a`|[b](http://c) **d**\x1b[2J\u202e &lt;"


def events(path: Path, name: str = NAME) -> Path:
    """Five users, each with the same four items twice, at equal times: findings of every kind have examples."""
    rows = [
        (f"{name}{user}", f"{name}{item % 4}", 1_600_000_000 + user + item // 2)
        for user in range(5)
        for item in range(8)
    ]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    table.with_columns(title=pl.col("item_id"), **{"cat\x1b[31m": pl.lit("x")}).write_parquet(path)
    return path


def test_pages_and_prints_hold_names_as_text(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, data = events(tmp_path / "events.parquet"), tmp_path / "data"
    argv = ["--interactions", str(path), "--items", str(path), "--split", "leave_one_out", "--output_dir", str(data)]
    assert run("prepare", argv) == 0
    assert run_script("describe", ["--data_dir", str(data), "--output_dir", str(tmp_path / "described")]) == 0
    assert run("prepare", [*argv, "--columns", f"title={NAME}"]) == 2
    printed = capsys.readouterr()
    assert not {"\x1b", "\u202e"} & set(printed.out + printed.err)
    assert "cat\\x1b[31m" in printed.out
    for page in (data / "audit.md", tmp_path / "described" / "describe.md"):
        text = page.read_text(encoding="utf-8")
        assert not {"\x1b", "\u202e"} & set(text)
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
        assert "<img" not in html and "<a href" not in html and "<code>" not in html
        rows = [line for line in text.splitlines() if line.startswith("| ") and "img" in line]
        assert page.name != "audit.md" or rows
    audit = MarkdownIt("commonmark").enable("table").render((data / "audit.md").read_text(encoding="utf-8"))
    assert "&lt;img src=x onerror=alert(1)&gt;|`a`|[b](http://c) **d**\\x1b[2J\\u202e &amp;lt;0" in audit


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"Screen Size": "big", "screen_size": "small"}, "'Screen Size' and 'screen_size' would both be the attribute"),
        ({"Title": "b"}, "'title' and 'Title' would both be title;\n.*--columns title=YOUR_COLUMN"),
        ({"ITEM ID": "7"}, "'item_id' and 'ITEM ID' would both be item_id"),
    ],
)
def test_columns_of_one_name_are_not_joined_in_silence(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    items = pl.DataFrame({"item_id": ["1", "2"], "title": ["a", "b"], **{name: [v, v] for name, v in columns.items()}})
    items.write_csv(tmp_path / "items.csv")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu,1,1600000000\n")
    with pytest.raises(ValueError, match=message):
        read_tables(tmp_path / "events.csv", tmp_path / "items.csv")


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp,title,title\nu,1,1600000000,a,b\n")
    with pytest.raises(ValueError, match="has the column 'title' twice; rename one"):
        read_tables(path)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        (resource.RLIMIT_FSIZE, 500, "cannot be written: file too large(.|\\n)*Raise the limit on the size of a file"),
        (resource.RLIMIT_FSIZE, 4_000, "[Ff]ile too large(.|\\n)*Raise the limit on the size of a file"),
        (resource.RLIMIT_NOFILE, None, "[Tt]oo many open files(.|\\n)*raise their number"),
    ],
)
def test_limits_of_the_system_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture, limit: int, value: int | None, message: str
) -> None:
    path, data = events(tmp_path / "events.parquet", "name"), tmp_path / "data"
    argv = ["--interactions", str(path), "--split", "leave_one_out", "--output_dir", str(data)]
    assert run("prepare", argv) == 0  # what is imported late is open now
    usual = resource.getrlimit(limit)
    os.close(free := os.open(os.devnull, os.O_RDONLY))  # the next file would have this number
    try:
        resource.setrlimit(limit, (free if value is None else value, usual[1]))
        code = run("prepare", [*argv, "--overwrite", "true"])
    finally:
        resource.setrlimit(limit, usual)
    assert code == 2 and re.search(message, capsys.readouterr().err)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "events.parquet"]
