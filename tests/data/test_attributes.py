from __future__ import annotations

import html
import time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data import attributes
from llmrec.data.attributes import MAX_CHARACTERS, as_texts, clean_items, clean_text, natural_title


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("&lt;b&gt;bold&lt;/b&gt; claim", "bold claim"),
        ("one<br>two<br />three", "one two three"),
        ("a\t b\n\n c\u00a0d", "a b c d"),
        ("<!-- note -->text", "text"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("I <3 you", "I <3 you"),
        ("zero\u200bwidth\x00", "zerowidth"),
        ("naïve café 日本", "naïve café 日本"),
        ("", None),
        (" &nbsp; ", None),
    ],
)
def test_clean_text(raw: str, clean: str | None) -> None:
    assert clean_text(raw) == clean


@given(st.text(alphabet="ab <>/&;amplt#3\n", max_size=30))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean_text(text)
    assert once is None or (clean_text(once) == once and once == " ".join(once.split()))


def stripped(text: str) -> str:
    """Tags and comments become spaces, one after another from the left, each found by looking at every character."""
    at = 0
    while at < len(text):
        end = 0
        if text.startswith("<!--", at) and "-->" in text[at + 4 :]:
            end = text.index("-->", at + 4) + 3
        name = text[at + 1 :].removeprefix("/")
        if text[at] == "<" and name[:1].isascii() and name[:1].isalpha():
            close = min((text.find(sign, at + 1) % (len(text) + 1) for sign in "<>"), default=len(text))
            end = close + 1 if text[close : close + 1] == ">" else 0
        text, at = (f"{text[:at]} {text[end:]}" if end else text), at + 1
    return text


@given(
    st.text(alphabet="ab <>/!-&;amplt#38\n", max_size=30)
    | st.lists(st.sampled_from(["<!--", "-->", "<b", ">", "</b>", "&lt;", "&amp;", "amp;", "x", " "])).map("".join)
)
def test_cleaning_unescapes_and_strips_until_nothing_changes(text: str) -> None:
    while (plain := " ".join(stripped(html.unescape(text)).split())) != text:
        text = plain
    assert clean_text(text) == (plain or None)


@pytest.mark.parametrize(
    "text",
    [
        *("<!--" * 250_000, "<" * 1_000_000, "<a" * 500_000, "<!-->" * 200_000, "&" * 1_000_000, "&#" * 500_000),
        "&#" + "1" * 1_000_000,
    ],
    ids=lambda text: text[:6],
)
def test_a_long_hostile_text_takes_time_in_proportion_to_its_length(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at the rest of the text for each of its signs would be 10^11 steps and more."""
    monkeypatch.setattr(attributes, "MAX_CHARACTERS", len(text))
    start = time.perf_counter()
    clean_text(text)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("&" + "amp;" * 200_000, "amp;"),
        ("&" + "#38;" * 200_000, "#38;"),
        ("<a" * 30_000 + ">" * 30_000, "a"),
        ("&" + "amp;" * 20 + "lt;b>x", "x"),
    ],
)
def test_deep_nesting_ends_and_leaves_no_markup(text: str, left: str) -> None:
    start = time.perf_counter()
    cleaned = clean_text(text)
    assert time.perf_counter() - start < 10
    assert cleaned is not None and cleaned.startswith(left) and not set("<>&") & set(cleaned)
    assert clean_text(cleaned) == cleaned


def test_a_text_is_read_up_to_its_limit_and_that_is_counted() -> None:
    items = pl.DataFrame({"item_id": ["1", "2"], "title": ["a" * (MAX_CHARACTERS + 1), "b" * MAX_CHARACTERS]})
    table, counts = clean_items(items)
    assert table["title"].str.len_chars().to_list() == [MAX_CHARACTERS, MAX_CHARACTERS]
    assert counts["texts_cut"] == 1


@pytest.mark.parametrize(
    ("raw", "natural"),
    [
        ("Misérables, Les", "Les Misérables"),
        (
            "Good, the Bad and the Ugly, The (Buono, il brutto, Il)",
            "The Good, the Bad and the Ugly (Il Buono, il brutto)",
        ),
        ("Vitelloni, I (a.k.a. The Young and the Passionate)", "I Vitelloni (a.k.a. The Young and the Passionate)"),
        ("Zombies (a.k.a. Dead, The)", "Zombies (a.k.a. The Dead)"),
        ("Me, Myself & Irene", "Me, Myself & Irene"),
        ("Theory, Thea", "Theory, Thea"),
        ("Human Centipede II (Full Sequence), The", "The Human Centipede II (Full Sequence)"),
        ("Heat", "Heat"),
    ],
)
def test_natural_title(raw: str, natural: str) -> None:
    assert natural_title(raw) == natural
    assert natural_title(natural) == natural


def test_as_texts_of_every_type() -> None:
    assert as_texts(pl.Series([1995.0, 1996.5, float("nan")])).to_list() == ["1995.0", "1996.5", None]
    assert as_texts(pl.Series([1995, None])).to_list() == ["1995", None]
    assert as_texts(pl.Series([["a ", None, "<i>b</i>"], [None]])).to_list() == ["a, b", None]
    assert as_texts(pl.Series([None, None], dtype=pl.Null)).to_list() == [None, None]
    assert as_texts(pl.Series([], dtype=pl.String)).to_list() == []
    assert as_texts(pl.Series(["x", "x"], dtype=pl.Categorical)).to_list() == ["x", "x"]


def test_clean_items_joins_rows_and_leaves_out_what_has_no_text() -> None:
    items = pl.DataFrame(
        {
            "item_id": ["b", "a", "a", "a", "c", None, "d"],
            "title": ["Beta", "Alpha", "Alfa", "Alpha ", "<p> </p>", "Nobody", None],
            "genres": ["Drama|War", None, "Comedy", None, None, None, None],
            "year": ["2001", None, None, None, "1999", None, "1999"],
            "empty": [None, None, " ", None, None, None, None],
        }
    )
    table, counts = clean_items(items)
    assert table.columns == ["item_id", "title", "genres", "year"]
    assert table.rows() == [("a", "Alpha", "Comedy", None), ("b", "Beta", "Drama, War", "2001")]
    assert counts == {"read": 7, "without_id": 1, "joined": 2, "without_text": 2, "kept": 2}


def test_equally_frequent_texts_do_not_depend_on_the_order_of_rows() -> None:
    items = pl.DataFrame({"item_id": ["a", "a"], "title": ["Zeta", "Eta"]})
    assert clean_items(items)[0].rows() == clean_items(items.reverse())[0].rows() == [("a", "Eta")]
