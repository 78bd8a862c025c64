"""The catalogue: every item that can be recommended, its index and its text."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from llmrec.data.attributes import has_text
from llmrec.data.library_errors import reading, writing
from llmrec.data.processes import check_tables_work
from llmrec.formatting import printable
from llmrec.untrusted import check_bytes, check_count

ITEMS = "items.parquet"


class Catalog:
    """Items in the order of their ids; `item_id` is the caller's name, `item_index` the row in score tables.

    Args:
        frame: `item_id` and text attributes, all String; rows without text are no items of the catalogue.

    Attributes:
        frame: The table, sorted by `item_id`.
        ids: The ids, sorted: `ids[item_index]` is the `item_id`.

    Raises:
        ValueError: A column is no String, an id is missing or appears twice, or no item has text.

    >>> catalog = Catalog(pl.DataFrame({"item_id": ["7", "11"], "title": ["Heat", "Babe"], "brand": [None, "Kitty"]}))
    >>> catalog.ids, catalog.index("7"), "12" in catalog, len(catalog)
    (['11', '7'], 1, False, 2)
    >>> catalog.attributes(1)
    {'title': 'Heat'}
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        check_tables_work("a catalogue of items")
        if "item_id" not in frame.columns:
            raise ValueError(f"items: no column 'item_id' among {frame.columns}; it names each item")
        wrong = [f"{name} ({kind})" for name, kind in frame.schema.items() if kind not in (pl.String, pl.Null)]
        if wrong:
            raise ValueError(f"items: columns {', '.join(wrong)} are no texts; run `llmrec prepare` on the raw items")
        frame = frame.cast(pl.String).filter(has_text(frame.columns))
        if frame.is_empty():
            raise ValueError("items: no item has text; give at least one text attribute, for example 'title'")
        repeated = frame.filter(pl.col("item_id").is_null() | pl.col("item_id").is_duplicated())
        if not repeated.is_empty():
            raise ValueError(
                f"items: item_id {repeated['item_id'][0]!r} is missing or repeated; every item needs its own"
            )
        self.frame = frame.sort("item_id")
        self.ids: list[str] = self.frame["item_id"].to_list()
        self._index = {item_id: index for index, item_id in enumerate(self.ids)}
        self._texts = {name: self.frame[name].to_list() for name in self.frame.columns if name != "item_id"}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._index

    def index(self, item_id: str) -> int:
        """Return the item's index.

        Raises:
            ValueError: The catalogue has no such item.
        """
        try:
            return self._index[item_id]
        except KeyError:
            raise ValueError(
                f"item {item_id!r} is not in the catalogue of {len(self):,} items (such as {self.ids[0]!r});\n"
                "in histories and among candidates its text stands for it, and items.add makes it known"
            ) from None

    def attributes(self, item_index: int) -> dict[str, str]:
        """Return the text attributes that the item has, in the order of the columns.

        Raises:
            IndexError: There is no such row.
        """
        if not 0 <= item_index < len(self):
            raise IndexError(f"item_index {item_index!r} is not in 0..{len(self) - 1}")
        row = ((name, texts[item_index]) for name, texts in self._texts.items())
        return {name: text for name, text in row if text is not None}

    def rows_in(self, other: Catalog) -> list[int | None]:
        """Return for each item the index of the one in `other` that has its id and all its attributes, else None.

        >>> frame = pl.DataFrame({"item_id": ["7", "8"], "title": ["Heat", "Babe"]})
        >>> Catalog(frame).rows_in(Catalog(frame.tail(1)))
        [None, 0]
        """
        names = [*self.frame.columns, *(name for name in other.frame.columns if name not in self.frame.columns)]
        rows, others = (
            catalog.frame.with_columns(
                pl.lit(None, pl.String).alias(name) for name in names if name not in catalog.frame.columns
            )
            .select(names)
            .rows()
            for catalog in (self, other)
        )
        index = {row: place for place, row in enumerate(others)}
        return [index.get(row) for row in rows]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Catalog:
        """Read a catalogue from a Parquet file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no table of items, or larger than a catalogue (`untrusted.LIMITS`).
        """
        check_tables_work("reading items")
        if not Path(path).is_file():
            raise FileNotFoundError(f"no table of items at {os.fspath(path)!r}")
        check_size(Path(path))
        with reading(path):
            frame = pl.read_parquet(Path(path))
        return cls(frame)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the catalogue as a Parquet file."""
        check_tables_work("saving items")
        with writing(path):
            self.frame.write_parquet(Path(path))


def check_size(path: Path) -> None:
    """Refuse a table of items that is longer, wider or larger than any catalogue, before it is unpacked.

    Raises:
        ValueError: Naming the limit, or that it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_bytes(ITEMS, path.stat().st_size)
    try:
        about = pq.read_metadata(path)
        check_count(ITEMS, "rows", about.num_rows)
        check_count(ITEMS, "columns", about.num_columns)
        check_count(ITEMS, "row groups", about.num_row_groups)
        unpacked = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
        check_count(ITEMS, "bytes when unpacked", unpacked)
        texts = pl.scan_parquet(path, glob=False).select(pl.col(pl.String).str.len_bytes().cast(pl.UInt64).sum())
        check_count(ITEMS, "bytes of text", sum(texts.collect(engine="streaming").row(0)))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        reason = printable((str(error) or type(error).__name__).splitlines()[0][:200])
        raise ValueError(f"{os.fspath(path)!r} is no Parquet file: {reason}") from None
