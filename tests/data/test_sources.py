from __future__ import annotations

import pytest

from llmrec.data.sources import load_source, package_folder


def test_movielens_small_is_the_published_table() -> None:
    raw = load_source("movielens-small")
    assert raw.interactions.height == 100_004
    assert raw.interactions["user_id"].n_unique() == 671
    assert raw.items.height == raw.items["item_id"].n_unique() == 9_066
    films = {row["item_id"]: row for row in raw.items.rows(named=True)}
    assert films["2571"] == {
        "item_id": "2571",
        "title": "The Matrix",
        "year": 1999.0,
        "genres": "Action|Sci-Fi|Thriller",
    }
    assert not any(row["genres"] == "(no genres listed)" for row in films.values())
    assert "Harper" in raw.citation and "GroupLens" in raw.licence
    assert not [title for row in films.values() if (title := row["title"]) and title.endswith(", The")]


def test_complete_journey_is_the_published_table() -> None:
    raw = load_source("complete-journey")
    assert raw.interactions.height == 1_469_307
    assert raw.interactions["user_id"].n_unique() == 2_469
    assert raw.items.height == raw.items["item_id"].n_unique() == 92_331
    assert raw.items.columns == ["item_id", "title", "category", "brand", "department", "size"]
    reasons = dict(raw.interactions["left_out"].drop_nulls().value_counts().rows())
    assert reasons["quantity_zero"] == 8_869
    kept = raw.interactions.filter(raw.interactions["left_out"].is_null()).select("user_id", "item_id", "timestamp")
    assert kept.height == kept.n_unique() == 1_469_307 - sum(reasons.values())


def test_unknown_names_and_missing_packages_are_errors() -> None:
    with pytest.raises(ValueError, match=r"source 'netflix' is not one of movielens-small, complete-journey"):
        load_source("netflix")
    with pytest.raises(ValueError, match=r"not installed(.|\n)*pip install no-such-thing"):
        package_folder("no_such_thing", "no-such-thing", "x")
