"""`Interactions`: who did what when, and what the items are, before anything is cleaned or split."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import polars as pl

from llmrec.data.attributes import clean_items
from llmrec.data.catalog import Catalog
from llmrec.data.cleaning import as_ids
from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.files import read_items, read_tables
from llmrec.data.labels import LabelSettings
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables
from llmrec.data.sources import load_source

if TYPE_CHECKING:
    import datasets
    import pandas
    import pyarrow

    Frame: TypeAlias = (
        pl.DataFrame | pl.LazyFrame | pandas.DataFrame | pyarrow.Table | datasets.Dataset | Iterable[Mapping[str, Any]]
    )


class Interactions:
    """Raw tables of events and items; `split` cleans them and parts them in time.

    Attributes:
        raw: The two tables under canonical names, values as they were read.
    """

    def __init__(self, raw: RawTables) -> None:
        self.raw = raw

    @classmethod
    def from_frames(
        cls,
        events: Frame,
        items: Frame | None = None,
        columns: Mapping[str, str] | None = None,
        *,
        name: str = "frames",
        licence: str | None = None,
        citation: str | None = None,
    ) -> Interactions:
        """Take frames of pandas, polars, pyarrow or `datasets`, or lists of dicts.

        Args:
            events: One row per event: user, item and time; columns of usual names (`user_id`, `product_id`,
                `timestamp`, …) are recognised. Times are dates, ISO texts or seconds.
            items: One row per item: its id and text; None takes the text from the events.
            columns: Canonical name to column, for columns that are not recognised: `{"user_id": "household"}`.
            name: What the data are called in reports.
            licence: Terms under which they may be used.
            citation: Whom to cite.

        Raises:
            TypeError: A table is of no kind that is read.
            ValueError: A table has no row or lacks a column.
        """
        tables = as_polars(events, "events"), None if items is None else as_polars(items, "items")
        return cls(_named(read_tables(*tables, dict(columns or {})), name, licence, citation))

    @classmethod
    def from_files(
        cls,
        interactions: str | os.PathLike[str],
        items: str | os.PathLike[str] | None = None,
        columns: Mapping[str, str] | None = None,
        *,
        name: str = "files",
        licence: str | None = None,
        citation: str | None = None,
    ) -> Interactions:
        """Read CSV, TSV, Parquet or JSON Lines files; see `from_frames`.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file cannot be read, has no row or lacks a column.
        """
        return cls(_named(read_tables(interactions, items, dict(columns or {})), name, licence, citation))

    @classmethod
    def from_source(cls, name: str) -> Interactions:
        """Read public data by name, such as `movielens-small` (`llmrec.data.sources`).

        Raises:
            ValueError: There is no source of that name, or its package is not installed.
        """
        return cls(load_source(name))

    def split(
        self,
        kind: Literal["temporal", "leave_one_out", "users"] = "temporal",
        *,
        folder: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        labels: LabelSettings | None = None,
        time_unit: Literal["s", "ms", "us", "ns"] | None = None,
        **settings: Any,
    ) -> PreparedData:
        """Clean, part and audit the events, as `llmrec prepare` does.

        Args:
            kind: One cut in time for all users, each user's last two events, or whole users.
            folder: Data directory to write; None keeps the data in a temporary folder that goes with the result.
            overwrite: Whether prepared data that stand in `folder` are replaced.
            labels: Which ratings are likes and dislikes, for labelled pairs.
            time_unit: Unit of numeric times; None means seconds, and others are refused.
            **settings: Those of `SplitSettings`: `validation_fraction`, `test_fraction`, `min_user_events`,
                `min_item_events`, `seed`.

        Raises:
            ValueError: The tables cannot be used; the text says why and what to do.
            FileExistsError: Something else stands in `folder`.
        """
        chosen = replace(SplitSettings(), kind=kind, **settings)
        temporary = None if folder is not None else tempfile.TemporaryDirectory(prefix="llmrec-data-")
        target = Path(temporary.name, "data") if temporary is not None else Path(folder)  # type: ignore[arg-type]
        with staged_directory(target, overwrite=overwrite) as staging:
            _, report = prepare(self.raw, staging, chosen, labels=labels, time_unit=time_unit)
        data = PreparedData.open(target)
        data.report, data.temporary = report, temporary
        return data


def catalog_from(items: Frame) -> Catalog:
    """Return the catalogue of a table of items: ids and texts cleaned as `Interactions.split` does.

    Raises:
        TypeError: The table is of no kind that is read.
        ValueError: It has no id or no text.

    >>> catalog_from([{"sku": 7, "name": "Red hammer"}]).attributes(0)
    {'title': 'Red hammer'}
    """
    raw, _ = read_items(as_polars(items, "items"), {})
    cleaned, _ = clean_items(raw.with_columns(as_ids(raw["item_id"]).alias("item_id")))
    if cleaned.is_empty():
        raise ValueError("items: no item has an id and text; give a column item_id and one such as title.")
    return Catalog(cleaned)


def as_polars(table: Frame, name: str) -> pl.DataFrame:
    """Return a table of any kind that is read as a polars frame.

    Raises:
        TypeError: It is of another kind.

    >>> as_polars([{"user_id": "ann", "item_id": 3}], "events").rows()
    [('ann', 3)]
    """
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, pl.DataFrame):
        return table
    kind = type(table).__module__.partition(".")[0]
    if kind == "pandas":
        return pl.from_pandas(table)  # type: ignore[arg-type]
    if kind == "datasets" and hasattr(table, "with_format"):
        table = table.with_format("arrow")[:]
        kind = "pyarrow"
    if kind == "pyarrow":
        frame = pl.from_arrow(table)  # type: ignore[arg-type]
        assert isinstance(frame, pl.DataFrame)
        return frame
    if isinstance(table, (list, tuple)) and all(isinstance(row, Mapping) for row in table):
        return pl.DataFrame(table, infer_schema_length=None)
    raise TypeError(
        f"{name} is {type(table).__name__!r}: give a frame of pandas, polars, pyarrow or datasets, or a list of dicts."
    )


def _named(raw: RawTables, name: str, licence: str | None, citation: str | None) -> RawTables:
    return replace(raw, source=name, licence=licence or raw.licence, citation=citation or raw.citation)
