from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from small_splits import findings_of, tally

from llmrec.data.catalog import Catalog
from llmrec.data.near_duplicates import near_duplicate_groups, normalised_texts
from llmrec.text.serializer import Serializer
from llmrec.text.template import PromptTemplate

CATALOG = Catalog(
    pl.DataFrame(
        {
            "item_id": list("abcdefg"),
            "title": ["Red Hammer", "red-hammer!", "Red hammers", "RED  hammer", "Saw", None, "Saw"],
            "brand": [None, None, None, "Acme", "Red", "saw / red", "Blue"],
        }
    )
)


def test_case_punctuation_spaces_and_the_border_of_attributes_do_not_part_items() -> None:
    # a = b; c and d stand alone; e and f read "saw red"; g is another saw
    assert near_duplicate_groups(CATALOG).tolist() == [0, 0, 1, 2, 3, 3, 4]
    assert near_duplicate_groups(CATALOG).dtype == np.int64


def test_what_is_read_decides_where_it_is_given() -> None:
    serializer = Serializer(PromptTemplate(item="{title}", event="{title}"))
    read = [serializer.all_of(CATALOG.attributes(index)) for index in range(len(CATALOG))]
    # without brands all red hammers are one, and both saws; the nameless item is no saw
    assert near_duplicate_groups(CATALOG, read).tolist() == [0, 0, 1, 0, 2, 3, 2]
    branded = Serializer(PromptTemplate(item="{title}", event="{title}", candidate="{title}[, {brand}]"))
    read = [branded.all_of(CATALOG.attributes(index)) for index in range(len(CATALOG))]
    assert near_duplicate_groups(CATALOG, read).tolist() == [0, 0, 1, 2, 3, 4, 5]


def test_letters_of_every_script_count_and_signs_alone_stay_apart() -> None:
    titles = ["Ёлка", "ёлка.", "елка", "東京", "東 京", "!!!", "???", "ＡＢＣ", "abc", "C++", "c"]
    frame = pl.DataFrame({"item_id": [f"{number:02}" for number in range(len(titles))], "title": titles})
    assert near_duplicate_groups(Catalog(frame)).tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 6, 7, 7]


@given(st.lists(st.text("aB .-", min_size=1, max_size=4), min_size=1, max_size=12))
def test_groups_are_those_of_equal_texts(titles: list[str]) -> None:
    frame = pl.DataFrame({"item_id": [f"{number:02}" for number in range(len(titles))], "title": titles})
    texts = [
        "".join(letter if letter.isalnum() else " " for letter in title.lower()).split() or title.lower()
        for title in titles
    ]
    groups = near_duplicate_groups(Catalog(frame))
    assert [[texts[row] == texts[other] for other in range(len(titles))] for row in range(len(titles))] == (
        groups[:, None] == groups
    ).tolist()
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))
    assert normalised_texts(frame).null_count() == 0


def test_targets_with_a_twin_are_counted() -> None:
    found = findings_of("ann:a0t ann:b5x ann:c6x ben:b0t ben:e6x eve:a0t eve:g7x", catalog=CATALOG)
    twins = found["near_duplicate_items"]
    # items a, b, e, f; targets b and e of four; a pair's tie is worth half a rank
    assert tally(twins) == (4, 7, "warning")
    assert "Compared by all text columns (title, brand)" in twins["effect"]
    assert "50% of the targets" in twins["effect"] and "0.5 ranks" in twins["effect"]
    assert twins["examples"] == [
        {"text": "red hammer", "items": 2, "item_ids": ["a", "b"]},
        {"text": "saw red", "items": 2, "item_ids": ["e", "f"]},
    ]


def test_twins_that_are_no_target_are_a_note() -> None:
    found = findings_of("ann:a0t ann:c5x", catalog=CATALOG)
    assert tally(found["near_duplicate_items"]) == (4, 7, "note")
    assert found["near_duplicate_items"]["effect"].startswith("0% of the targets")
