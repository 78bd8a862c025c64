"""Splits that others published, a file each, read for an audit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from llmrec.data.attributes import clean_items
from llmrec.data.catalog import Catalog
from llmrec.data.cleaning import as_ids, typed_events
from llmrec.data.files import read_interactions, read_items
from llmrec.data.schema import REQUIRED
from llmrec.data.split_events import SplitEvents, ordered


def read_split(
    path: str | os.PathLike[str], mapping: dict[str, str], time_unit: str | None
) -> tuple[pl.DataFrame, int]:
    """Read one split's events, and count the rows that lack a user, an item or a readable time.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, lacks a column, or no row of it can be used.
        TypeError: The timestamp column cannot hold times.
    """
    rows, _ = read_interactions(path, mapping, with_texts=False)
    events = typed_events(rows, time_unit).select(*REQUIRED, "nanosecond").drop_nulls()
    if events.is_empty():
        raise ValueError(
            f"{Path(path).name}: none of {rows.height:,} rows has a user, an item and a time;\nmend it or --columns"
        )
    return events, rows.height - events.height


def check_overlap(train: pl.DataFrame, test: pl.DataFrame) -> None:
    """Raise when training and test share neither a user nor an item: their ids are written differently.

    Raises:
        ValueError: They share none.
    """
    if all(test.join(train, on=key, how="semi").is_empty() for key in ("user_id", "item_id")):
        examples = [(part["user_id"][0], part["item_id"][0]) for part in (train, test)]
        raise ValueError(
            f"training and test share neither a user nor an item (such as {examples[0]!r} and {examples[1]!r});\n"
            "write ids in the same way in all files, or name the columns with --columns"
        )


def read_split_files(
    paths: Mapping[str, str | os.PathLike[str]], mapping: dict[str, str] | None = None, time_unit: str | None = None
) -> tuple[SplitEvents, dict[str, int]]:
    """Read the files of a split.

    Times are compared in full, fractions of seconds too. Nothing is cleaned but rows that lack a user, an item or a
    time.

    Args:
        paths: `train`, `test` and perhaps `validation`, to CSV, TSV, Parquet or JSON Lines files.
        mapping: Canonical name to column, for names that are not recognised.
        time_unit: Unit of numeric times (s, ms, us, ns); None means seconds and refuses others.

    Returns:
        The events, and for each split the rows left out.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file cannot be read, is empty or lacks a column, or training and test share no id.
        TypeError: A timestamp column cannot hold times.
    """
    parts, left_out = {}, {}
    for split, path in paths.items():
        parts[split], left_out[split] = read_split(path, mapping or {}, time_unit)
    check_overlap(parts["train"], parts["test"])
    labelled = [events.with_columns(split=pl.lit(split)) for split, events in parts.items()]
    return SplitEvents(ordered(pl.concat(labelled))), left_out


def read_catalog(path: str | os.PathLike[str], mapping: dict[str, str] | None = None) -> Catalog:
    """Read a table of items and clean its texts as preparation does.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, or has no id or no text.
    """
    items, _ = read_items(path, mapping or {})
    return Catalog(clean_items(items.with_columns(as_ids(items["item_id"]).alias("item_id")))[0])
