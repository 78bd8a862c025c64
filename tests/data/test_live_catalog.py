from __future__ import annotations

import pandas as pd
import polars as pl
import pytest

from llmrec.data.catalog import Catalog
from llmrec.data.live_catalog import LiveCatalog

FRAME = pl.DataFrame(
    {
        "item_id": ["b", "d", "f"],
        "title": ["Heat", "Babe", "Alien"],
        "year": ["1995", "1995", None],
        "genres": ["crime", None, "horror"],
    }
)


@pytest.fixture
def told() -> list:
    """What was told to whoever ranks the items."""
    return []


@pytest.fixture
def items(told) -> LiveCatalog:
    def replace(catalog: Catalog, reworded) -> None:
        told.append(sorted(reworded))
        live.hold(catalog)

    live = LiveCatalog(Catalog(FRAME), replace)
    return live


def test_added_items_stand_in_the_order_of_ids(items, told):
    items.add(
        [{"item_id": "c", "title": "Fargo"}, {"item_id": 7, "genres": "drama", "title": "Casino", "year": 1995.0}]
    )
    assert items.ids == ["7", "b", "c", "d", "f"]
    assert items.attributes(0) == {"title": "Casino", "year": "1995", "genres": "drama"}
    assert items.attributes(items.index("c")) == {"title": "Fargo"}
    assert items.frame.columns == FRAME.columns and told == [[]]


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame], ids=["polars", "pandas"])
def test_frames_are_as_good_as_dicts(items, frame):
    items.add(frame({"item_id": ["x", "y"], "title": ["Fargo", "Casino"], "genres": ["crime|drama", None]}))
    assert items.attributes(items.index("x")) == {"title": "Fargo", "genres": "crime, drama"}
    assert items.attributes(items.index("y")) == {"title": "Casino"}


def test_texts_are_cleaned_as_prepare_cleans_them(items):
    items.add([{"item_id": "x", "title": " <b>Tom &amp; Jerry</b> ", "genres": ["comedy", "family"]}])
    assert items.attributes(items.index("x")) == {"title": "Tom & Jerry", "genres": "comedy, family"}


def test_an_update_changes_what_it_names(items, told):
    items.update([{"item_id": "b", "title": "Heat (restored)"}, {"item_id": "f", "genres": None, "year": 1979}])
    assert items.attributes(0) == {"title": "Heat (restored)", "year": "1995", "genres": "crime"}
    assert items.attributes(2) == {"title": "Alien", "year": "1979"}
    assert items.ids == ["b", "d", "f"] and told == [["b", "f"]]
    items.update([{"item_id": one, "title": "same"} for one in "bdf"])
    assert [items.attributes(row)["title"] for row in range(3)] == ["same"] * 3


def test_removed_items_are_gone(items, told):
    items.remove(["d"])
    assert items.ids == ["b", "f"] and "d" not in items and items.index("f") == 1
    items.add([{"item_id": "d", "title": "Babe", "year": "1995"}])
    assert items.frame.equals(FRAME) and told == [[], []]


@pytest.mark.parametrize(
    ("call", "given", "error", "message"),
    [
        ("add", [], ValueError, "no items were given"),
        ("update", [], ValueError, "no items were given"),
        ("remove", [], ValueError, "no items were given"),
        ("add", [{"item_id": "x", "title": "A"}, {"item_id": "x", "title": "B"}], ValueError, "'x' is given twice"),
        ("remove", ["b", "b"], ValueError, "'b' is given twice"),
        ("add", [{"item_id": "x", "title": "A"}, {"item_id": "b", "title": "B"}], ValueError, "'b' is in the catal"),
        ("update", [{"item_id": "x", "title": "A"}], ValueError, "item 'x' is not in the catalogue"),
        ("remove", ["b", "x"], ValueError, "item 'x' is not in the catalogue"),
        ("remove", ["b", "d", "f"], ValueError, "removing all 3 items"),
        ("remove", "b", TypeError, r"give a list, such as \['b'\]"),
        ("add", [{"title": "A"}], ValueError, "item_id None is no id"),
        ("add", [{"item_id": "", "title": "A"}], ValueError, "item_id '' is no id"),
        ("add", [{"item_id": 1.5, "title": "A"}], ValueError, "item_id 1.5 is no id"),
        ("add", [{"item_id": "x"}], ValueError, "'x' has no text; give at least one .*: title, year, genres"),
        ("add", [{"item_id": "x", "title": " <p></p> "}], ValueError, "'x' has no text"),
        ("add", [{"item_id": "x", "year": 1995}], ValueError, "'x' has no text"),
        ("update", [{"item_id": "d", "title": None}], ValueError, "'d' has no text"),
        ("add", [{"item_id": "x", "titel": "A"}], ValueError, "'titel' is no attribute .* have title, year, genres"),
        ("add", [{"item_id": "x", "title": {"en": "A"}}], TypeError, "title={'en': 'A'} is no text"),
        ("add", {"item_id": "x", "title": "A"}, TypeError, "neither a frame nor a list of dicts"),
        ("update", "b", TypeError, "neither a frame nor a list of dicts"),
        ("add", ["b"], TypeError, "neither a frame nor a list of dicts"),
    ],
)
def test_what_is_refused_changes_nothing(items, told, call, given, error, message):
    with pytest.raises(error, match=message):
        getattr(items, call)(given)
    assert items.frame.equals(FRAME) and told == []
