"""A sparse item-item table: the items that the same people met in training, by cosine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmrec.data.training_events import TrainingEvents


class Neighbours(NamedTuple):
    """The nearest items of each item, nearest first, as a sparse matrix in rows."""

    ends: np.ndarray
    """(N + 1,) int64: the neighbours of item `i` stand from `ends[i]` to `ends[i + 1]`."""
    items: np.ndarray
    """Their item indices, int32."""
    similarities: np.ndarray
    """Their cosines, float32, above zero."""

    def nearest(self, num_neighbours: int) -> Neighbours:
        """Return at most this many of each item's neighbours: what `item_neighbours` would have found.

        >>> all_neighbours = Neighbours(np.array([0, 2, 3]), np.array([5, 6, 7]), np.array([0.9, 0.8, 0.7]))
        >>> all_neighbours.nearest(1).items.tolist()
        [5, 7]
        """
        lengths = np.diff(self.ends)
        kept = np.arange(len(self.items)) - np.repeat(self.ends[:-1], lengths) < num_neighbours
        ends = np.concatenate([[0], np.cumsum(lengths.clip(max=num_neighbours))])
        return Neighbours(ends, self.items[kept], self.similarities[kept])


def item_neighbours(events: TrainingEvents, num_neighbours: int) -> Neighbours:
    """Find each item's most similar other items, by the cosine of the sets of users that met them in training.

    cos(i, j) = |users of i and j| / √(|users of i| · |users of j|), each user counted once however often they came
    back. Computed by `implicit` over sparse rows, so that neither time nor memory grows with N². Where the last places
    are tied, a fixed shuffle decides, not the item id.

    Args:
        events: What users met.
        num_neighbours: Neighbours kept of each item, at most.

    Raises:
        ValueError: If `num_neighbours` is below 1.
    """
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours is {num_neighbours!r}: keep at least 1")
    from implicit.nearest_neighbours import ItemItemRecommender
    from scipy.sparse import csr_matrix

    shuffled = np.random.default_rng(0).permutation(events.num_items)  # item index -> column
    rows = [np.sort(shuffled[np.unique(items)]) for items in events.items]
    columns = np.concatenate(rows)
    weights = 1 / np.sqrt(np.bincount(columns, minlength=events.num_items).clip(min=1))  # (N,), by column
    ends = np.cumsum([0, *map(len, rows)])
    met = csr_matrix((weights[columns], columns, ends), shape=(len(rows), events.num_items))
    # One more, since an item is its own nearest. More threads would change no number, only which cores are busy.
    model = ItemItemRecommender(K=num_neighbours + 1, num_threads=1)
    model.fit(met, show_progress=False)
    found = model.similarity.tocoo()
    others = found.row != found.col
    row, column, similarity = found.row[others], found.col[others], found.data[others]
    items = np.argsort(shuffled)  # column -> item index
    row = items[row]
    order = np.lexsort((-column, -similarity, row))  # of equal ones, implicit keeps the higher column
    ends = np.searchsorted(row[order], np.arange(events.num_items + 1))
    nearest = Neighbours(ends, items[column[order]].astype(np.int32), similarity[order].astype(np.float32))
    return nearest.nearest(num_neighbours)
