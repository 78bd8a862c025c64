"""The order of a user's events: by time, and among equal times by a salted hash that knows nothing of the items.

Times are compared in full: by second, then by `nanosecond`, a column of events that have fractions of seconds. Files
are often sorted by item id. An order of equal times by id or by place in the file would be a pattern that a model
learns and no deployment offers, so they are put in an order that looks random and is always the same.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from llmrec.data.schema import MOMENT

SALT = b"llmrec events 1"
TIE_BREAKERS = ("item_id", "event_type", "rating", "session_id")


def text_hashes(texts: pl.Series) -> np.ndarray:
    """Hash each text with salted BLAKE2b to 64 bits, the same in every process and version.

    Returns:
        (L,) uint64 array.

    >>> text_hashes(pl.Series(["a", "b", "a"])).tolist()
    [16984105533019883371, 17088160872875862077, 16984105533019883371]
    """
    unique = texts.unique()
    digests = [hashlib.blake2b(text.encode(), digest_size=8, salt=SALT).digest() for text in unique.to_list()]
    hashes = pl.Series(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64), dtype=pl.UInt64)
    return texts.replace_strict(unique, hashes, return_dtype=pl.UInt64).to_numpy()


def mix(values: np.ndarray) -> np.ndarray:
    """Spread every bit of 64-bit integers over all bits (the finaliser of SplitMix64).

    References:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 18.

    >>> [hex(value) for value in mix(np.array([1, 2], dtype=np.uint64)).tolist()]
    ['0x5692161d100b05e5', '0xdbd238973a2b148a']
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def moment_columns(events: pl.DataFrame) -> list[str]:
    """Return the columns that hold the full time of an event, most significant first."""
    return [name for name in MOMENT if name in events.columns]


def tie_keys(events: pl.DataFrame) -> pl.Series:
    """Return each event's place among events of equal time: a hash of user, item and time.

    Time is part of it, so that two items bought together twice do not always come in the same order.

    Returns:
        UInt64 keys, one per event.
    """
    keys = text_hashes(events["user_id"])
    times = [events[name].to_numpy().astype(np.uint64) for name in moment_columns(events)]
    moments = times[0] if len(times) == 1 else times[0] + mix(times[1])  # mix(0) is 0
    for part in (text_hashes(events["item_id"]), moments):
        keys = mix(keys ^ mix(part + np.uint64(0x9E3779B97F4A7C15)))
    return pl.Series("tie_key", keys, dtype=pl.UInt64)


def order_events(events: pl.DataFrame) -> pl.DataFrame:
    """Sort events by user, time and tie key; the result does not depend on the order of the rows given.

    Events that agree in user, item and time follow each other by event type, rating and session.
    """
    last = [name for name in TIE_BREAKERS if name in events.columns]
    keyed = events.with_columns(tie_keys(events))
    return keyed.sort("user_id", *moment_columns(events), "tie_key", *last, nulls_last=True).drop("tie_key")


def num_tied(events: pl.DataFrame) -> int:
    """Count the events that share their user and time with another event.

    >>> num_tied(pl.DataFrame({"user_id": ["a", "a", "a", "b"], "timestamp": [7, 7, 8, 7]}))
    2
    """
    sizes = events.group_by("user_id", *moment_columns(events)).len()["len"]
    return int(sizes.filter(sizes > 1).sum())
