"""The columns of events and items: their names, the names they are recognised by, and their checks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from llmrec.data.labels import LabelSettings

REQUIRED = ("user_id", "item_id", "timestamp")
OPTIONAL = {"event_type": pl.String, "rating": pl.Float64, "session_id": pl.String}
MOMENT = ("timestamp", "nanosecond")
"""Columns of the full time of an event: seconds, and nanoseconds within the second where any event has a fraction."""
INTERACTIONS_SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
SPLITS = ("train", "validation", "test", "dropped")
SPLITS_SCHEMA = {**INTERACTIONS_SCHEMA, "split": pl.String, "reason": pl.String}

# Words by which a column is recognised, best first, compared in lower case without punctuation.
ALIASES = {
    "user_id": "userid user uid visitorid visitor customerid customer memberid member householdid household "
    "reviewerid reviewer accountid account profileid clientid client",
    "item_id": "itemid item iid productid product movieid movie sku parentasin asin articleid article bookid isbn "
    "trackid songid videoid newsid goodsid contentid businessid listingid",
    "timestamp": "timestamp ts time eventtimestamp eventtime datetime date eventdate unixreviewtime "
    "transactiontimestamp purchasedat purchasedate orderdate createdat tdat",
    "event_type": "eventtype event action behavior behaviour behaviortype interactiontype",
    "rating": "rating stars overall",
    "session_id": "sessionid session usersession basketid basket orderid visitid",
}
ATTRIBUTE_ALIASES = {
    "title": "title name itemname itemtitle productname producttitle movietitle booktitle",
    "category": "category categories maincategory productcategory itemcategory categorycode",
    "genres": "genres genre",
    "brand": "brand brandname manufacturer",
    "author": "author authors",
    "artist": "artist artists artistname",
    "department": "department departmentname",
    "tags": "tags keywords",
    "size": "size packagesize",
    "year": "year releaseyear publicationyear",
    "price": "price",
    "description": "description productdescription itemdescription",
}


@dataclass
class RawTables:
    """What a source hands over: two tables under canonical column names, values still as they were read.

    Attributes:
        interactions: `user_id`, `item_id`, `timestamp` and optional columns, of any type that `cleaning` reads; a
            column `left_out` names the source's own reason to leave an event out, null for the others.
        items: `item_id` and text attributes; ids may repeat, values may be missing.
        source: The name of the source, or `files`.
        licence: Terms under which the data may be used.
        citation: Whom to cite.
        inputs: The files that were read, by name.
        columns: Canonical name to the column it was read from, for each table.
        notes: What a reader of the numbers should know of this source.
        labels: How the ratings are to be read, where the source itself says what was liked.
        user_splits: Split of each `user_id`, where the source itself parts its users.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    source: str
    licence: str
    citation: str
    inputs: dict[str, Path]
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    labels: LabelSettings | None = None
    user_splits: dict[str, str] | None = None


def plain(name: str) -> str:
    """Return a column name in lower case without punctuation, as names are compared.

    >>> plain("Movie_ID"), plain("userId")
    ('movieid', 'userid')
    """
    return re.sub(r"[\W_]+", "", name.lower())


def attribute_name(column: str) -> str:
    """Return the name under which a template can use a column: lower case, words joined by one underscore.

    >>> attribute_name("Screen Size (in)"), attribute_name("2nd name")
    ('screen_size_in', 'x_2nd_name')
    """
    name = re.sub(r"\W+", "_", column.strip().lower()).strip("_")
    return name if name.isidentifier() else f"x_{name}"


def parse_mapping(text: str | None) -> dict[str, str]:
    """Read a column mapping, canonical name to the caller's column.

    Args:
        text: `canonical=column` pairs joined by commas; None and "" are the empty mapping.

    Raises:
        ValueError: A pair has no `=`, a name appears twice, or a canonical name looks misspelt.

    >>> parse_mapping("user_id=uid, item_id=sku")
    {'user_id': 'uid', 'item_id': 'sku'}
    """
    known = [*ALIASES, *ATTRIBUTE_ALIASES]
    mapping: dict[str, str] = {}
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        canonical, equals, column = (part.strip() for part in pair.partition("="))
        if not (canonical and equals and column):
            raise ValueError(f"column mapping {pair.strip()!r} is not canonical=column, for example user_id=uid")
        if canonical in mapping:
            raise ValueError(
                f"column mapping names {canonical!r} twice: {mapping[canonical]!r} and {column!r}; keep one"
            )
        near = difflib.get_close_matches(canonical, known, n=1, cutoff=0.75)
        if canonical not in known and (near or not canonical.isidentifier()):
            meant = f"; did you mean {near[0]!r}?" if near else "; use letters, digits and underscores"
            raise ValueError(f"column mapping: {canonical!r} is no canonical name{meant}")
        mapping[canonical] = column
    return mapping


def recognise(columns: Sequence[str], aliases: Mapping[str, str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Find which column plays which part.

    A mapping wins where its column exists; otherwise the first alias that names a column that no other part has taken.

    Args:
        columns: The names found in a table.
        aliases: For each canonical name the words it is known by, best first.
        mapping: The caller's choice, canonical name to column.

    Returns:
        Canonical name to column, for those found, in the order of `aliases` and then of `mapping`.

    Raises:
        ValueError: Two columns have the name that was found, but for case and punctuation.

    >>> recognise(["uid", "movieId", "ts", "x"], ALIASES, {})
    {'user_id': 'uid', 'item_id': 'movieId', 'timestamp': 'ts'}
    >>> recognise(["user", "when", "time"], ALIASES, {"timestamp": "when"})
    {'user_id': 'user', 'timestamp': 'when'}
    """
    chosen = {canonical: column for canonical, column in mapping.items() if column in columns}
    taken = set(chosen.values())
    by_plain_name: dict[str, list[str]] = {}
    for column in columns:
        if column not in taken:
            by_plain_name.setdefault(plain(column), []).append(column)
    for canonical, names in aliases.items():
        found = next((by_plain_name[name] for name in names.split() if name in by_plain_name), None)
        if canonical not in chosen and found is not None:
            if len(found) > 1:
                raise ValueError(
                    f"columns {' and '.join(map(repr, found))} would both be {canonical};\n"
                    f"say which one with --columns {canonical}=YOUR_COLUMN"
                )
            chosen[canonical] = found[0]
            del by_plain_name[plain(found[0])]
    order = [*aliases, *(name for name in mapping if name not in aliases)]
    return {name: chosen[name] for name in order if name in chosen}


def require_columns(found: Iterable[str], required: Iterable[str], columns: Sequence[str], table: str) -> None:
    """Raise when a table lacks a column, naming those it has.

    Raises:
        ValueError: A required canonical column was not found.
    """
    missing = [name for name in required if name not in found]
    if missing:
        raise ValueError(
            f"{table}: no column for {', '.join(missing)} among {', '.join(map(repr, columns))};\n"
            f"name it with --columns {missing[0]}=YOUR_COLUMN"
        )


def check_schema(schema: Mapping[str, pl.DataType], expected: Mapping[str, type[pl.DataType]], table: str) -> None:
    """Raise when a prepared table does not have the expected columns and types.

    Raises:
        ValueError: A column is missing or of another type.

    >>> check_schema({"user_id": pl.Int64()}, {"user_id": pl.String}, "interactions.parquet")
    Traceback (most recent call last):
    ValueError: interactions.parquet: column 'user_id' is Int64, must be String; run `llmrec prepare` again
    """
    for name, kind in expected.items():
        if schema.get(name) != kind:
            found = schema.get(name, "missing")
            raise ValueError(f"{table}: column {name!r} is {found}, must be {kind()}; run `llmrec prepare` again")
