"""The item table of a changed catalogue: what was learned of items that stay is kept, only new words are encoded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from llmrec.data.catalog import Catalog
from llmrec.models.items import ItemTable


def changed_table(
    table: ItemTable,
    known: Catalog,
    items: Catalog,
    write: Callable[[dict[str, str]], str],
    encode: Callable[[Sequence[str]], Tensor],
    reworded: Collection[str] = (),
) -> ItemTable:
    """Return a table of the new items. One whose id and text are known keeps all that was learned of it.

    Args:
        table: of the old items.
        known: the old items.
        items: the new ones.
        write: an item's attributes → its own text.
        encode: M texts → their embeddings (M, D).
        reworded: ids of known items that are the same under other words: what was learned of them stays.
    """
    rows = items.rows_in(known)  # where each item stands in the old table
    texts: dict[int, str] = {}  # those to encode
    for index, item_id in enumerate(items.ids):
        if rows[index] is None:
            text = write(items.attributes(index))
            old = known.index(item_id) if item_id in known else None
            if old is None or write(known.attributes(old)) != text:
                texts[index] = text
            if index not in texts or item_id in reworded:
                rows[index] = old
    longer = table.extend(encode(list(texts.values()))) if texts else table
    places = {index: len(known) + place for place, index in enumerate(texts)}
    chosen = longer.select(torch.tensor([places[index] if row is None else row for index, row in enumerate(rows)]))
    changed = [index for index in texts if rows[index] is not None]
    chosen.text[changed] = longer.text[[places[index] for index in changed]]
    return chosen
