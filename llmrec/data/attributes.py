"""The text attributes of items, made plain: no markup or stray spaces, one row per item, none without text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import polars as pl

LIST_ATTRIBUTES = ("genres", "category", "tags", "author", "artist")
"""Attributes whose texts may join several values by `|`."""
DETAIL_ATTRIBUTES = ("year", "price", "size")
"""Attributes that say something about an item but cannot stand for it: an item with nothing else has no text."""

MAX_CHARACTERS = 100_000
"""Characters of a text that are read; the rest is cut off and counted."""
MAX_ROUNDS = 50
"""How deep entities and tags may stand in one another (`&amp;amp;lt;b>`); what is nested deeper is no text."""
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
TAG_OR_COMMENT = re.compile(TAG.pattern + r"|<!--.*?-->", re.DOTALL)
ENDLESS_NUMBER = re.compile(r"&#[0-9]{4000,};?")
MARKUP_SIGNS = str.maketrans("<>&", "   ")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\u200b\u200e\u200f\ufeff]")
ARTICLES = "The|A|An|La|Le|Les|L'|El|Los|Las|Il|Lo|I|Gli|Der|Die|Das|Det|Den|Un|Une"
TRAILING_ARTICLE = re.compile(rf"(^|\()(a\.k\.a\. )?([^()]+(?: \([^()]*\))?), ({ARTICLES})(?=\)| \(|$)")


def clean_text(text: str) -> str | None:
    """Return a text without HTML tags and entities, unprintable characters and runs of spaces; None if nothing is left.

    Takes time in proportion to the length: at most `MAX_ROUNDS` rounds over at most `MAX_CHARACTERS` characters.

    >>> clean_text("  Tom &amp; Jerry<br/>the   <b>movie</b> ")
    'Tom & Jerry the movie'
    >>> clean_text(" <p></p> ") is None
    True
    """
    text = text[:MAX_CHARACTERS]
    for _ in range(MAX_ROUNDS):
        plain = without_tags(UNPRINTABLE.sub("", html.unescape(ENDLESS_NUMBER.sub("\ufffd", text))))
        plain = " ".join(plain.split())
        if plain == text:
            return plain or None
        text = plain
    return " ".join(text.translate(MARKUP_SIGNS).split()) or None


def without_tags(text: str) -> str:
    """Put a space in the place of every HTML tag and comment.

    >>> without_tags("a<br>b<!-- c --><!-- d")
    'a b <!-- d'
    """
    end = text.rfind("-->") + len("-->") if "-->" in text else 0  # no comment ends behind it, so none is looked for
    return TAG_OR_COMMENT.sub(" ", text[:end]) + TAG.sub(" ", text[end:])


def natural_title(title: str) -> str:
    """Put an article that was moved behind a title, for sorting, back before it.

    >>> natural_title("Matrix, The")
    'The Matrix'
    >>> natural_title("Avventura, L' (Adventure, The)")
    "L'Avventura (The Adventure)"
    """

    def put_back(match: re.Match[str]) -> str:
        opening, known_as, name, article = match.groups()
        return f"{opening}{known_as or ''}{article}{'' if article.endswith(chr(39)) else ' '}{name}"

    return TRAILING_ARTICLE.sub(put_back, title)


def as_texts(values: pl.Series) -> pl.Series:
    """Convert a column of texts, numbers or lists of them to clean texts; whole floats lose their `.0`.

    >>> as_texts(pl.Series([["Drama", " War"], None, []])).to_list()
    ['Drama, War', None, None]
    >>> as_texts(pl.Series([1995.0, None])).to_list()
    ['1995', None]
    """
    if isinstance(values.dtype, pl.List):
        stripped = values.cast(pl.List(pl.String)).list.drop_nulls().list.eval(pl.element().str.strip_chars())
        values = stripped.list.join(", ")
    elif values.dtype.is_float():
        values = values.set(~values.is_finite(), None)
        whole = values.cast(pl.Int64, strict=False)
        values = whole if (whole == values).all() else values
    texts = values.cast(pl.String)
    present = texts.unique().drop_nulls().sort()
    cleaned = pl.Series([clean_text(text) for text in present], dtype=pl.String)
    return texts.replace_strict(present, cleaned, default=None, return_dtype=pl.String)


def is_textual(values: pl.Series) -> bool:
    """Say whether a column of unknown meaning holds words: texts or lists of texts that are not all numbers.

    >>> is_textual(pl.Series(["red", "7"])), is_textual(pl.Series(["3.5", "7"])), is_textual(pl.Series([1, 2]))
    (True, False, False)
    """
    if values.dtype == pl.List(pl.String):
        return True
    if values.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return False
    present = values.cast(pl.String).drop_nulls()
    return bool(present.cast(pl.Float64, strict=False).is_null().any())


def most_frequent(items: pl.DataFrame, attribute: str) -> pl.DataFrame:
    """Return the most frequent text of an attribute for each item, the alphabetically first among equals.

    >>> items = pl.DataFrame({"item_id": ["1", "1", "1"], "title": ["Heat", "Heat!", "Heat"]})
    >>> most_frequent(items, "title").rows()
    [('1', 'Heat')]
    """
    counts = items.filter(pl.col(attribute).is_not_null()).group_by("item_id", attribute).len()
    best = counts.sort("item_id", "len", attribute, descending=[False, True, False])
    return best.unique("item_id", keep="first", maintain_order=True).select("item_id", attribute)


def clean_items(items: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Make the catalogue's table: clean texts, one row per item, sorted by id.

    Rows of one id are joined, each attribute taking its most frequent text. Attributes that no item has are left out.

    Args:
        items: `item_id` (String) and attributes of any type.

    Returns:
        The table, and counts: rows read, rows without an id, rows joined to another of the same id, items without
        text (left out), items kept, and texts that were cut at `MAX_CHARACTERS`, where there are any.

    >>> items = pl.DataFrame({"item_id": ["2", "1", "3"], "title": ["Heat", "<b>Babe</b>", " "], "year": 1995})
    >>> table, counts = clean_items(items)
    >>> table.rows()
    [('1', 'Babe', '1995'), ('2', 'Heat', '1995')]
    >>> counts["without_text"]
    1
    """
    attributes = [name for name in items.columns if name != "item_id"]
    texts = items.select("item_id", *(as_texts(items[name]).alias(name) for name in attributes))
    long = sum(
        int((items[name].str.len_chars() > MAX_CHARACTERS).sum())
        for name in attributes
        if items[name].dtype == pl.String
    )
    splittable = [pl.col(name).str.replace_all(r"\s*\|\s*", ", ") for name in attributes if name in LIST_ATTRIBUTES]
    texts = texts.with_columns(splittable).filter(pl.col("item_id").is_not_null())
    table = texts.select("item_id").unique().sort("item_id")
    num_items = table.height
    for name in attributes:
        table = table.join(most_frequent(texts, name), on="item_id", how="left", maintain_order="left")
    table = table.filter(has_text(table.columns))
    table = table.select("item_id", *(name for name in attributes if table[name].null_count() < table.height))
    counts = {
        "read": items.height,
        "without_id": items.height - texts.height,
        "joined": texts.height - num_items,
        "without_text": num_items - table.height,
        "kept": table.height,
        **({"texts_cut": long} if long else {}),
    }
    return table, counts


def has_text(columns: Sequence[str]) -> pl.Expr:
    """Return the expression that is true for items with an attribute that can stand for them.

    >>> pl.DataFrame({"title": ["Heat", None], "year": ["1995", "1995"]}).select(has_text(["title", "year"])).rows()
    [(True,), (False,)]
    """
    words = [name for name in columns if name != "item_id" and name not in DETAIL_ATTRIBUTES]
    return pl.any_horizontal([pl.col(name).is_not_null() for name in words]) if words else pl.lit(False)
