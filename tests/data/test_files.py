from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from llmrec.data.files import read_tables

EVENTS = "user_id,item_id,timestamp,title\nu1,007,1600000000,Heat\nu1,8,1600000001,Babe\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_bare_table_of_events_with_texts_needs_nothing_else(tmp_path: Path) -> None:
    raw = read_tables(
        write(tmp_path / "user_behavior.csv", "uid,sku,event_time,name,brand,age\nu,007,2020-01-01,Heat,X,9\n")
    )
    assert raw.interactions.rows() == [("u", "007", "2020-01-01")]
    assert raw.items.columns == ["item_id", "title", "brand"] and raw.items.rows() == [("007", "Heat", "X")]
    assert raw.columns == {
        "interactions": {
            "user_id": "uid",
            "item_id": "sku",
            "timestamp": "event_time",
            "title": "name",
            "brand": "brand",
        },
        "items": {"title": "name", "brand": "brand"},
    }
    assert list(raw.inputs) == ["user_behavior.csv"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "semicolon.csv", "csv.gz", "parquet", "jsonl", "ndjson"])
def test_every_kind_of_file_gives_the_same_tables(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"events.{ending}"
    frame = pl.read_csv(EVENTS.encode(), infer_schema=False)
    if ending == "parquet":
        frame.write_parquet(path)
    elif ending in ("jsonl", "ndjson"):
        frame.write_ndjson(path)
    elif ending == "csv.gz":
        path.write_bytes(gzip.compress(EVENTS.replace(",", "|").encode()))
    else:
        write(path, EVENTS.replace(",", {"csv": ",", "tsv": "\t", "semicolon.csv": ";"}[ending]))
    raw = read_tables(path)
    assert raw.interactions.equals(frame.select("user_id", "item_id", "timestamp"))
    assert raw.items.equals(frame.select("item_id", "title"))


def test_a_mapping_names_columns_of_both_tables(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", "who,what,when,title\nu,1,1600000000,not this\n")
    items = write(tmp_path / "i.csv", "code,label,weight,stuff,colour\n1,Heat,3.5,7,red\n")
    mapping = {"user_id": "who", "item_id": "what", "timestamp": "when", "title": "label"}
    with pytest.raises(ValueError, match=r"i.csv: no column for item_id among 'code', 'label'"):
        read_tables(events, items, mapping)
    items = write(tmp_path / "i.csv", "what,label,weight,stuff,Colour Name\n1,Heat,3.5,7,red\n")
    raw = read_tables(events, items, mapping)
    assert raw.interactions.columns == ["user_id", "item_id", "timestamp"]
    assert raw.items.rows(named=True) == [{"item_id": "1", "title": "Heat", "colour_name": "red"}]


def test_items_of_parquet_take_lists_and_leave_numbers_and_structs(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", "user,item,time\nu,1,1600000000\n")
    items = pl.DataFrame(
        {
            "parent_asin": [1],
            "title": ["Heat"],
            "categories": [["Film", "Crime"]],
            "average_rating": [4.5],
            "price": [9.5],
            "details": [{"a": 1}],
            "features": [["long"]],
            "embedding": [[0.5, 0.25]],
        }
    )
    items.write_parquet(tmp_path / "i.parquet")
    raw = read_tables(events, tmp_path / "i.parquet")
    assert raw.items.columns == ["item_id", "title", "category", "price", "features"]
    assert raw.items["item_id"].to_list() == ["1"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("e.csv", "", "'e.csv' is empty"),
        ("e.csv", "user_id,item_id,timestamp,title\n", "has a header and no row"),
        (
            "e.csv",
            "user_id,item_id,when,title\nu,1,5,Heat\n",
            r"no column for timestamp among(.|\n)*--columns timestamp=",
        ),
        ("e.csv", "user_id,item_id,timestamp\nu,1,5\n", r"no text of items(.|\n)*--items"),
        ("e.xlsx", "x", "'e.xlsx' is no table this reads"),
        ("e.parquet", "no parquet", "'e.parquet' cannot be read"),
        ("e.jsonl", "{no json", "'e.jsonl' cannot be read"),
    ],
)
def test_bad_tables_are_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tables(write(tmp_path / name, text))


def test_a_missing_file_and_an_unknown_mapped_column(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file at .*nowhere.csv"):
        read_tables(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match=r"column 'uid', mapped to user_id, is in no table: e.csv has 'user_id'"):
        read_tables(write(tmp_path / "e.csv", EVENTS), mapping={"user_id": "uid"})


def test_items_without_words_are_an_error(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", EVENTS)
    with pytest.raises(ValueError, match=r"i.csv: no text among the columns 'item_id', 'weight'"):
        read_tables(events, write(tmp_path / "i.csv", "item_id,weight\n1,2.5\n"))
