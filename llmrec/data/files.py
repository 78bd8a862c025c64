"""Events and items from CSV, Parquet or JSON Lines files, with columns named by the caller or recognised."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from llmrec.data.attributes import is_textual
from llmrec.data.cleaning import as_ids
from llmrec.data.library_errors import reading
from llmrec.data.schema import (
    ALIASES,
    ATTRIBUTE_ALIASES,
    OPTIONAL,
    REQUIRED,
    RawTables,
    attribute_name,
    recognise,
    require_columns,
)

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")
UNNAMED = "column {}"
"""Name of a column while it is not known whether it holds words: no attribute has a name with a space."""
SEPARATORS = (",", ";", "\t", "|")


def separator_of(path: Path) -> str:
    """Return the separator that occurs most often in the first line of a delimited file."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        header = file.readline()
    return max(SEPARATORS, key=header.count)


Table = str | os.PathLike[str] | pl.DataFrame
"""A file, or a frame."""


def name_of(table: Table, role: str) -> str:
    """Return what a table is called in errors: its file, or the role that a frame plays."""
    return role if isinstance(table, pl.DataFrame) else Path(table).name


def scan_table(path: Table) -> pl.LazyFrame:
    """Open a table lazily, by the ending of its name; CSV values stay texts, so that `007` remains an id.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The ending is unknown, or the file holds no columns or cannot be read.
    """
    if isinstance(path, pl.DataFrame):
        return path.lazy()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {os.fspath(path)!r}")
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if ending is None:
        raise ValueError(f"{path.name!r} is no table this reads; give a file ending in {', '.join(SUFFIXES)}")
    with reading(path):
        if ending == ".parquet":
            table = pl.scan_parquet(path)
        elif ending in (".jsonl", ".ndjson"):
            table = pl.scan_ndjson(path, infer_schema_length=None)
        else:
            table = pl.scan_csv(path, separator=separator_of(path), infer_schema=False)
        table.collect_schema()
    return table


def read_columns(name: str, table: pl.LazyFrame, columns: dict[str, str]) -> pl.DataFrame:
    """Read some columns of a table under their canonical names.

    Raises:
        ValueError: The file's content does not fit its columns, a column stands twice or holds values of a kind that
            cannot be used, or there is no row.
    """
    found = table.collect_schema().names()
    for column in columns.values():
        if f"{column}_duplicated_0" in found:
            raise ValueError(f"{name!r} has the column {column!r} twice; rename one of them, or take it out")
    with reading(name):
        frame = table.select(pl.col(column).alias(canonical) for canonical, column in columns.items()).collect()
    if frame.is_empty():
        raise ValueError(f"{name!r} has a header and no row; give at least one")
    for canonical, column in columns.items():
        is_event = canonical in ALIASES
        if canonical != "timestamp" and not is_plain(frame[canonical].dtype, lists=not is_event):
            allowed = "texts or numbers" + ("" if is_event else ", or lists of them")
            raise ValueError(
                f"{name!r}: column {column!r}, read as {canonical}, holds {frame[canonical].dtype};\n"
                f"it may hold {allowed}: convert it, or rename it if it means something else"
            )
    return frame


def is_plain(kind: pl.DataType, *, lists: bool = False) -> bool:
    """Say whether values of a kind can become texts, one each.

    >>> is_plain(pl.Int64()), is_plain(pl.List(pl.String)), is_plain(pl.List(pl.String), lists=True)
    (True, False, True)
    """
    if lists and isinstance(kind, pl.List):
        return is_plain(kind.inner)  # type: ignore[arg-type]
    return not kind.is_nested() and kind not in (pl.Binary, pl.Duration, pl.Object)


def read_interactions(
    source: Table, mapping: dict[str, str], *, with_texts: bool
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Read a table of events.

    Args:
        source: The file or frame.
        mapping: The caller's names, canonical name to column.
        with_texts: Whether to read the items' text attributes from this table too.

    Returns:
        The table, and canonical name to column.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, has no row, or lacks a column.
    """
    table, name = scan_table(source), name_of(source, "events")
    found = table.collect_schema().names()
    wanted = {**ALIASES, **ATTRIBUTE_ALIASES}
    columns = recognise(found, wanted, mapping)
    require_columns(columns, REQUIRED, found, name)
    events = (*REQUIRED, *OPTIONAL)
    columns = {name: column for name, column in columns.items() if name in events or with_texts}
    if with_texts and not set(columns) - set(events):
        raise ValueError(
            f"{name}: no text of items among the columns {', '.join(map(repr, found))};\n"
            "give a table of items with --items, or name a text column with --columns title=YOUR_COLUMN"
        )
    return read_columns(name, table, columns), columns


def read_items(source: Table, mapping: dict[str, str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Read a table of items: the id, the attributes that are recognised, and every other column that holds words.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, has no row, no id or no text.
    """
    table, name = scan_table(source), name_of(source, "items")
    found = table.collect_schema().names()
    columns = recognise(found, {"item_id": ALIASES["item_id"], **ATTRIBUTE_ALIASES}, mapping)
    columns = {name: column for name, column in columns.items() if name == "item_id" or name not in ALIASES}
    require_columns(columns, ["item_id"], found, name)
    types = table.collect_schema()
    others = [column for column in found if column not in columns.values() and is_plain(types[column], lists=True)]
    items = read_columns(name, table, {**columns, **dict(zip(map(UNNAMED.format, others), others, strict=True))})
    columns = {
        name: column for name, column in columns.items() if not items[name].dtype.is_nested() or is_textual(items[name])
    }
    for column in others:
        if is_textual(items[UNNAMED.format(column)]):
            attribute = attribute_name(column)
            if attribute in columns:
                raise ValueError(
                    f"{name!r}: columns {columns[attribute]!r} and {column!r} would both be the attribute "
                    f"{attribute!r};\nrename one of them, or take it out"
                )
            columns[attribute] = column
            items = items.rename({UNNAMED.format(column): attribute})
    if len(columns) == 1:
        raise ValueError(
            f"{name}: no text among the columns {', '.join(map(repr, found))};\n"
            "name one with --columns title=YOUR_COLUMN"
        )
    return items.select(list(columns)), columns


def check_mapping(tables: Mapping[str, Table], mapping: Mapping[str, str]) -> None:
    """Raise unless every mapped column is in one of the tables at least.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file cannot be opened, or a mapped column is in none.
    """
    found = {name: scan_table(table).collect_schema().names() for name, table in tables.items()}
    for canonical, column in mapping.items():
        if not any(column in names for names in found.values()):
            told = "; ".join(f"{name} has {', '.join(map(repr, names))}" for name, names in found.items())
            raise ValueError(f"column {column!r}, mapped to {canonical}, is in no table: {told}")


def read_tables(
    interactions: Table,
    items: Table | None = None,
    mapping: dict[str, str] | None = None,
) -> RawTables:
    """Read events and items from files or frames.

    Args:
        interactions: Table of events, one row each.
        items: Table of items; None takes the items' texts from the table of events.
        mapping: Canonical name to column, for names that are not recognised.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file cannot be read, is empty, lacks a column, or a mapped column is in neither.
    """
    mapping = mapping or {}
    roles = {"events": interactions, **({} if items is None else {"items": items})}
    tables = {name_of(table, role): table for role, table in roles.items()}
    check_mapping(tables, mapping)
    events, event_columns = read_interactions(interactions, mapping, with_texts=items is None)
    if items is None:
        attributes = [name for name in event_columns if name not in (*REQUIRED, *OPTIONAL)]
        texts, item_columns = events.select("item_id", *attributes), {name: event_columns[name] for name in attributes}
        events = events.drop(attributes)
    else:
        texts, item_columns = read_items(items, mapping)
    return RawTables(
        interactions=events,
        items=texts.with_columns(as_ids(texts["item_id"]).alias("item_id")),
        source="files",
        licence="not stated: the data are the caller's",
        citation="not stated: the data are the caller's",
        inputs={name: Path(table) for name, table in tables.items() if not isinstance(table, pl.DataFrame)},
        columns={"interactions": event_columns, "items": item_columns},
    )
