"""Which rows of an array are equal to the bit, so that each is scored once and twins tie exactly."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np


def unique_rows(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct rows, in order of first appearance, and which of them each row is.

    Score the distinct rows once and expand with the second array, and twins tie exactly: a matrix product may give
    equal columns results that differ in the last bit, depending on where they stand. Rows are compared bit by bit (0.0
    and -0.0 are one), so vectors that differ by rounding are not merged; encode equal texts once.

    Args:
        vectors: (N, D).

    Returns:
        The distinct rows (M, D) and, for each row, its place among them (N,) int64: `unique[inverse]` equals `vectors`.

    Raises:
        ValueError: If the array does not have two dimensions.

    >>> unique, inverse = unique_rows(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    >>> unique.tolist(), inverse.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [0, 1, 0])
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors of shape {vectors.shape!r}: give one row per item, (N, D)")
    firsts, inverse = first_rows([vectors])
    return vectors[firsts], inverse


def first_rows(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct rows of an array that comes in parts, as `unique_rows`; none of it is kept.

    Args:
        parts: arrays (P, D), N rows together.

    Returns:
        The index of the first of each kind (M,) and, for each row, its kind (N,), both int64.
    """
    places: dict[bytes, int] = {}
    firsts: list[int] = []
    inverse: list[int] = []
    for part in parts:
        for row in part + 0.0:
            place = places.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), len(places))
            if place == len(firsts):
                firsts.append(len(inverse))
            inverse.append(place)
    return np.array(firsts, dtype=np.int64), np.array(inverse, dtype=np.int64)
