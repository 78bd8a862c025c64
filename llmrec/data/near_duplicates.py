"""Items that a reader cannot tell apart: the same text but for case, punctuation and spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from llmrec.data.findings import MAX_EXAMPLES, Finding, graded, percent, share

if TYPE_CHECKING:
    from llmrec.data.catalog import Catalog
    from llmrec.data.split_events import SplitEvents

MAX_TEXT = 120
"""Characters of a text shown as an example."""


def normalised_texts(items: pl.DataFrame) -> pl.Series:
    """Return each item's attributes as one text in lower case, with one space for every run of other signs.

    A text of signs alone, which would come out empty, stays as it is.

    Args:
        items: `item_id` and text attributes (String, null where missing).

    >>> items = pl.DataFrame({"item_id": ["1", "2", "3"], "title": ["Red-Hammer!", "red  hammer", "?"], "brand": None})
    >>> normalised_texts(items).to_list()
    ['red hammer', 'red hammer', '?']
    """
    attributes = [pl.col(name).cast(pl.String) for name in items.columns if name != "item_id"]
    raw = pl.concat_str(attributes, separator=" ", ignore_nulls=True).str.normalize("NFKC").str.to_lowercase()
    words = raw.str.replace_all(r"[\W_]+", " ").str.strip_chars()
    return items.select(pl.when(words != "").then(words).otherwise(raw)).to_series().alias("text")


def near_duplicate_groups(catalog: Catalog, read: Sequence[str] | None = None) -> np.ndarray:
    """Number the groups of items whose normalised texts are equal; most items are a group of their own.

    Finds neither misspelt nor reworded texts.

    Args:
        catalog: The items.
        read: (N,) what a model reads of each item; None joins all text attributes, read or not.

    Returns:
        (N,) int64 group of each `item_index`; groups are numbered from 0 by their first item.

    >>> from llmrec.data.catalog import Catalog
    >>> titles = ["Blue saw", "Red hammer", "blue saw.", "RED-hammer"]
    >>> near_duplicate_groups(Catalog(pl.DataFrame({"item_id": list("abcd"), "title": titles}))).tolist()
    [0, 1, 0, 1]
    """
    frame = catalog.frame if read is None else pl.DataFrame({"item_id": catalog.ids, "read": list(read)})
    texts = normalised_texts(frame).to_frame().with_row_index("item_index")
    first = texts.select(pl.col("item_index").min().over("text")).to_series()
    return first.rank("dense").to_numpy().astype(np.int64) - 1


def near_duplicate_items(data: SplitEvents, catalog: Catalog) -> Finding:
    """Find items with twins of the same normalised text."""
    groups = near_duplicate_groups(catalog)
    items = pl.DataFrame({"item_id": catalog.ids, "group": groups}).with_columns(size=pl.len().over("group"))
    twins = items.filter(pl.col("size") > 1)
    sizes = data.targets.select(item_id=data.item_names.gather(data.targets["item"])).join(twins, on="item_id")["size"]
    affected = share(len(sizes), data.targets.height)
    tie = float(np.mean((sizes.to_numpy() - 1) / 2)) if len(sizes) else 0.0
    first = twins.group_by("group", maintain_order=True).agg("item_id", pl.col("size").first()).head(MAX_EXAMPLES)
    shown = catalog.frame.filter(pl.col("item_id").is_in(first["item_id"].list.first().implode()))
    texts = dict(zip(shown["item_id"], normalised_texts(shown), strict=True))
    return Finding(
        "near_duplicate_items",
        twins.height,
        len(catalog),
        graded(affected),
        f"{percent(affected)} of the targets have a twin that a model of texts scores alike: ties decided in its "
        f"favour flatter it by {tie:,.1f} ranks there on average, so metrics are reported with the twins and without. "
        f"Compared by all text columns ({', '.join(catalog.frame.columns[1:])}): to a template that reads fewer, more "
        "items are alike.",
        [
            {"text": texts[ids[0]][:MAX_TEXT], "items": size, "item_ids": ids[:MAX_EXAMPLES]}
            for _, ids, size in first.iter_rows()
        ],
    )
