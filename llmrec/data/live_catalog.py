"""The catalogue of a recommender: items come, change and go, and it ranks the new catalogue from then on.

    recommender.items.add([{"item_id": "n1", "title": "A new film"}])
    recommender.items.update([{"item_id": "n1", "title": "A new film, restored"}])
    recommender.items.remove(["n1"])

Each call costs the encoding of the texts that it brings and a copy of the item table, so give many items at once. Calls
from several threads follow one another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import polars as pl

from llmrec.data.attributes import clean_items
from llmrec.data.catalog import Catalog
from llmrec.data.processes import Lock, check_tables_work

VALUES = (str, int, float, list, tuple, type(None))
"""Kinds of values that become text, as `prepare` makes them text."""


class LiveCatalog(Catalog):
    """A catalogue that may be changed; what a call refuses changes nothing.

    Args:
        catalog: the items to begin with.
        replace: ranks the items of a changed catalogue, and lets this one hold them (`hold`). It is also told the ids
            of items that are the same as before under other words.

    Attributes:
        catalog: the items of this moment, which never change: what takes several looks takes them at this.
        changing: held by whoever changes the items.
    """

    def __init__(self, catalog: Catalog, replace: Callable[[Catalog, Collection[str]], None]) -> None:
        self._replace = replace
        self.changing = Lock()
        self.hold(catalog)

    def hold(self, catalog: Catalog) -> None:
        """Hold the items of another catalogue from now on."""
        self.catalog = frozen(catalog)

    @property
    def frame(self) -> pl.DataFrame:  # type: ignore[override]
        """The table, sorted by `item_id`."""
        return self.catalog.frame

    @property
    def ids(self) -> list[str]:  # type: ignore[override]
        """The ids, sorted."""
        return self.catalog.ids

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.catalog

    def index(self, item_id: str) -> int:
        """Return the item's index; as `Catalog.index`."""
        return self.catalog.index(item_id)

    def attributes(self, item_index: int) -> dict[str, str]:
        """Return the text attributes that the item has; as `Catalog.attributes`."""
        return self.catalog.attributes(item_index)

    def rows_in(self, other: Catalog) -> list[int | None]:
        """Return where each item is in another catalogue; as `Catalog.rows_in`."""
        return self.catalog.rows_in(frozen(other))

    def add(self, items: Any) -> None:
        """Add items: new ids, known by their text alone until somebody trains on them.

        Args:
            items: dicts, or a Polars or pandas frame, with `item_id` and some of the catalogue's attributes.

        Raises:
            TypeError: an item or one of its values is of another kind.
            ValueError: there are no items, or an id is missing, given twice or known; an attribute is unknown to the
                catalogue; or an item has no text.
        """
        check_tables_work("items.add")
        with self.changing:
            rows = self._read(items)
            if known := [item_id for item_id in rows if item_id in self]:
                raise ValueError(f"item {known[0]!r} is in the catalogue already; change its text with update")
            self._replace(Catalog(pl.concat([self.frame, self._table(rows)], how="diagonal")), ())

    def update(self, items: Any) -> None:
        """Change attributes of known items; whatever training learned of them stays, for they are the same items.

        Args:
            items: as for `add`. Attributes that a dict lacks stay as they are, None takes one away.

        Raises:
            TypeError: as `add`.
            ValueError: as `add`, but an id that is not known.
        """
        check_tables_work("items.update")
        with self.changing:
            rows = self._read(items)
            whole = {item_id: {**self.attributes(self.index(item_id)), **row} for item_id, row in rows.items()}
            others = self.frame.filter(~pl.col("item_id").is_in(list(rows)))
            self._replace(Catalog(pl.concat([others, self._table(whole)], how="diagonal")), rows.keys())

    def remove(self, item_ids: Iterable[str]) -> None:
        """Remove items: they leave every ranking, and what was learned of them is forgotten.

        Events of a history that name a removed item need its text beside the id from then on.

        Raises:
            TypeError: `item_ids` is one id, not several.
            ValueError: there are none, one is unknown or given twice, or none would be left in the catalogue.
        """
        if isinstance(item_ids, str):
            raise TypeError(f"item_ids={item_ids!r} is one id: give a list, such as [{item_ids!r}]")
        check_tables_work("items.remove")
        gone = list(_distinct(map(_identity, item_ids)))
        with self.changing:
            for item_id in gone:
                self.index(item_id)
            if len(gone) == len(self):
                raise ValueError(f"removing all {len(self):,} items would leave nothing to recommend; keep one")
            self._replace(Catalog(self.frame.filter(~pl.col("item_id").is_in(gone))), ())

    def _read(self, items: Any) -> dict[str, dict[str, Any]]:
        """Return the attributes of each item by its id, raising for whatever is wrong with one row alone."""
        rows = items.to_dicts() if isinstance(items, pl.DataFrame) else items
        if hasattr(rows, "to_dict"):
            rows = pl.from_pandas(rows).to_dicts()
        if isinstance(rows, (str, Mapping)) or not all(isinstance(row, Mapping) for row in rows):
            raise TypeError("items are neither a frame nor a list of dicts, such as [{'item_id': …, 'title': …}]")
        attributes = [name for name in self.frame.columns if name != "item_id"]
        for row in rows:
            for name, value in row.items():
                if name not in self.frame.columns:
                    raise ValueError(
                        f"item {row.get('item_id')!r}: {name!r} is no attribute of the catalogue's items; they have "
                        f"{', '.join(attributes)}"
                    )
                if not isinstance(value, VALUES):
                    raise TypeError(f"item {row.get('item_id')!r}: {name}={value!r} is no text; give a string")
        ids = _distinct(_identity(row.get("item_id")) for row in rows)
        texts = [{name: value for name, value in row.items() if name != "item_id"} for row in rows]
        return dict(zip(ids, texts, strict=True))

    def _table(self, rows: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
        """Return the rows as `prepare` would have written them.

        Raises:
            ValueError: an item has no text.
        """
        raw = [{"item_id": item_id, **row} for item_id, row in rows.items()]
        table, _ = clean_items(pl.DataFrame(raw, infer_schema_length=None, strict=False))
        if without := sorted(rows.keys() - set(table["item_id"])):
            names = ", ".join(name for name in self.frame.columns if name != "item_id")
            raise ValueError(f"item {without[0]!r} has no text; give at least one attribute that names it: {names}")
        return table


def frozen(catalog: Catalog) -> Catalog:
    """Return the items that a catalogue holds now, which do not change."""
    return catalog.catalog if isinstance(catalog, LiveCatalog) else catalog


def _identity(item_id: Any) -> str:
    """Return an id as text.

    >>> _identity("7"), _identity(7)
    ('7', '7')
    """
    if isinstance(item_id, bool) or not isinstance(item_id, (str, int)) or item_id == "":
        raise ValueError(f"item_id {item_id!r} is no id; every item needs its own, a string")
    return str(item_id)


def _distinct(item_ids: Iterable[str]) -> dict[str, None]:
    """Return ids, in their order; raise ValueError if there are none or one stands twice."""
    found: dict[str, None] = {}
    for item_id in item_ids:
        if item_id in found:
            raise ValueError(f"item {item_id!r} is given twice; give each item once")
        found[item_id] = None
    if not found:
        raise ValueError("no items were given; give at least one")
    return found
