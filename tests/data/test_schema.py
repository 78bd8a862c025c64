from __future__ import annotations

import polars as pl
import pytest

from llmrec.data.schema import (
    ALIASES,
    ATTRIBUTE_ALIASES,
    check_schema,
    parse_mapping,
    plain,
    recognise,
    require_columns,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("userId,movieId,rating,timestamp", {"user_id": "userId", "item_id": "movieId", "timestamp": "timestamp"}),
        ("timestamp,visitorid,event,itemid", {"user_id": "visitorid", "item_id": "itemid", "event_type": "event"}),
        (
            "event_time,event_type,product_id,user_id,user_session",
            {"timestamp": "event_time", "session_id": "user_session"},
        ),
        ("customer_id,article_id,t_dat", {"user_id": "customer_id", "item_id": "article_id", "timestamp": "t_dat"}),
        ("uid,sku,date", {"user_id": "uid", "item_id": "sku", "timestamp": "date"}),
        ("User,ASIN,Time", {"user_id": "User", "item_id": "ASIN", "timestamp": "Time"}),
    ],
)
def test_common_headers_need_no_mapping(header: str, expected: dict[str, str]) -> None:
    chosen = recognise(header.split(","), ALIASES, {})
    assert expected.items() <= chosen.items()
    assert {"user_id", "item_id", "timestamp"} <= set(chosen)


def test_the_best_alias_wins_whatever_the_order_of_the_columns() -> None:
    names = ["date", "user", "user_id", "timestamp", "item"]
    for columns in (names, names[::-1]):
        assert recognise(columns, ALIASES, {}) == {"user_id": "user_id", "item_id": "item", "timestamp": "timestamp"}


def test_a_mapped_column_plays_no_second_part() -> None:
    chosen = recognise(["uid", "user"], ALIASES, {"item_id": "uid"})
    assert chosen == {"user_id": "user", "item_id": "uid"}


def test_every_alias_is_plain_and_belongs_to_one_name() -> None:
    words = [word for names in (*ALIASES.values(), *ATTRIBUTE_ALIASES.values()) for word in names.split()]
    assert len(words) == len(set(words))
    assert all(plain(word) == word for word in words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uid", "'uid' is not canonical=column"),
        ("user_id=", "is not canonical=column"),
        ("user_id=a,user_id=b", "names 'user_id' twice"),
        ("usr_id=uid", "did you mean 'user_id'"),
        ("timestmp=ts", "did you mean 'timestamp'"),
        ("a b=c", "use letters"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_mapping(text)


def test_a_mapping_may_name_attributes_of_its_own() -> None:
    assert parse_mapping("colour=Farbe,title=Name") == {"colour": "Farbe", "title": "Name"}


def test_a_missing_column_is_named_with_those_found_and_the_remedy() -> None:
    with pytest.raises(
        ValueError, match=r"events.csv: no column for timestamp among 'a', 'b'(.|\n)*--columns timestamp="
    ):
        require_columns({"user_id": "a"}, ["user_id", "timestamp"], ["a", "b"], "events.csv")


def test_check_schema_accepts_more_columns_and_refuses_fewer() -> None:
    check_schema({"a": pl.String(), "b": pl.Int64()}, {"a": pl.String}, "t")
    with pytest.raises(ValueError, match="column 'a' is missing"):
        check_schema({"b": pl.Int64()}, {"a": pl.String}, "t")
