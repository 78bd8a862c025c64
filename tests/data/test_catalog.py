from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from llmrec.data.catalog import Catalog

FRAME = pl.DataFrame(
    {
        "item_id": ["b", "a", "10", "9"],
        "title": ["Beta", "Alpha", None, None],
        "brand": [None, "Acme", "Solo", None],
        "year": ["2001", None, None, "1999"],
    }
)


def test_indices_follow_sorted_ids_and_skip_items_without_text() -> None:
    catalog = Catalog(FRAME)
    assert catalog.ids == ["10", "a", "b"] and len(catalog) == 3
    assert [catalog.index(item_id) for item_id in catalog.ids] == [0, 1, 2]
    assert "a" in catalog and "9" not in catalog and 10 not in catalog
    assert [catalog.attributes(index) for index in range(3)] == [
        {"brand": "Solo"},
        {"title": "Alpha", "brand": "Acme"},
        {"title": "Beta", "year": "2001"},
    ]
    assert Catalog(FRAME.reverse()).frame.equals(catalog.frame)


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    catalog = Catalog(FRAME)
    catalog.write(tmp_path / "items.parquet")
    assert Catalog.read(tmp_path / "items.parquet").frame.equals(catalog.frame)


def test_unknown_items_and_indices() -> None:
    catalog = Catalog(FRAME)
    with pytest.raises(ValueError, match="item 'zz' is not in the catalogue of 3 items"):
        catalog.index("zz")
    for index in (-1, 3):
        with pytest.raises(IndexError, match=rf"item_index {index} is not in 0\.\.2"):
            catalog.attributes(index)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"title": ["x"]}, "no column 'item_id'"),
        ({"item_id": [1], "title": ["x"]}, r"item_id \(Int64\)"),
        ({"item_id": ["1", "1"], "title": ["x", "y"]}, "item_id '1' is missing or repeated"),
        ({"item_id": ["1", None], "title": ["x", "y"]}, "item_id None is missing or repeated"),
        ({"item_id": ["1"], "title": [None]}, "no item has text"),
        ({"item_id": ["1"], "year": ["1999"]}, "no item has text"),
        ({"item_id": ["1"]}, "no item has text"),
    ],
)
def test_tables_that_are_no_catalogue(frame: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalog(pl.DataFrame(frame))


def test_files_that_are_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no table of items"):
        Catalog.read(tmp_path / "items.parquet")
    (tmp_path / "items.parquet").write_text("nothing of the kind")
    with pytest.raises(ValueError, match="is no Parquet file"):
        Catalog.read(tmp_path / "items.parquet")
