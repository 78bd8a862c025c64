"""Histories, catalogues and cases small enough to check by eye."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from datasets import Dataset

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.data.directory import staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables

TITLES = (  # a hyphen stands for a space
    "heat alien brazil casino fargo matrix memento seven speed twister vertigo zodiac gravity rocky jaws "
    "red-hammer blue-saw green-drill large-screw small-nail wooden-ladder steel-bolt paint-brush red-glue"
)
START = 1_600_000_000  # 13 September 2020
DAY = 86_400


def catalog_of(item_ids: str) -> Catalog:
    """A catalogue of one-letter items, such as "abc"."""
    return Catalog(pl.DataFrame({"item_id": list(item_ids), "title": [f"title {item}" for item in item_ids]}))


def histories_of(**users: tuple[str, str]) -> Dataset:
    """One row per user, from items and splits spelled out: `ann=("abc", "tvx")`, where x is test; a second apart."""
    names = {"t": "train", "v": "validation", "x": "test"}
    return Dataset.from_dict(
        {
            "user_id": list(users),
            "item_id": [list(items) for items, _ in users.values()],
            "timestamp": [list(range(len(items))) for items, _ in users.values()],
            "split": [[names[letter] for letter in splits] for _, splits in users.values()],
        }
    )


def cases_of(rows: list[list[int]], targets: list[tuple[int, int]], num_items: int) -> Cases:
    """Cases from item indices per user and (user, position) of each target."""
    return Cases(
        users=[f"user {row}" for row in range(len(rows))],
        items=[np.array(row, dtype=np.int64) for row in rows],
        timestamps=[np.arange(len(row)) for row in rows],
        user=np.array([user for user, _ in targets], dtype=np.int64),
        position=np.array([position for _, position in targets], dtype=np.int64),
        num_items=num_items,
        split="test",
    )


def items_frame(num_items: int = 24) -> pl.DataFrame:
    """Items i00, i01, … with a title; some have a brand and genres. Items i02 and i03 are twins: the same text."""
    known = [title.replace("-", " ") for title in TITLES.split()]
    titles = [known[index % len(known)] + " title" * (index // len(known)) for index in range(num_items)]
    titles[3] = titles[2]
    return pl.DataFrame(
        {
            "item_id": [f"i{index:02}" for index in range(num_items)],
            "title": titles,
            "brand": [("acme", "bosch", None)[index % 3] if index != 3 else None for index in range(num_items)],
            "genres": [
                ("drama, crime", None)[index % 2] if index != 3 else "drama, crime" for index in range(num_items)
            ],
        },
        schema_overrides={"brand": pl.String, "genres": pl.String},
    )


def random_histories(num_users: int, num_items: int, length: int, seed: int = 0) -> list[list[int]]:
    """Item indices of users who walk through the catalogue in small steps, so that there is something to learn."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(num_users):
        steps = random.integers(1, 4, size=int(random.integers(max(3, length // 2), length + 1)))
        rows.append(((random.integers(num_items) + np.cumsum(steps)) % num_items).tolist())
    return rows


def data_directory(
    folder: Path,
    num_users: int = 12,
    num_items: int = 24,
    length: int = 10,
    split: str = "leave_one_out",
    irregular: bool = False,
) -> Path:
    """Prepare a data directory of random users at `folder`, and return it; events every three days, or irregular."""
    rows = random_histories(num_users, num_items, length)
    gaps = np.full((num_users, length), 3 * DAY)
    if irregular:
        gaps = np.random.default_rng(1).choice([DAY // 24, 3 * DAY, 40 * DAY], size=gaps.shape)
    times = START + np.cumsum(gaps, axis=1) - gaps[:, :1] + np.arange(num_users)[:, None]
    events = [
        (f"u{user:02}", f"i{item:02}", int(times[user, place]))
        for user, row in enumerate(rows)
        for place, item in enumerate(row)
    ]
    return prepared(folder, events, items_frame(num_items), split)


def prepared(
    folder: Path, events: list[tuple[str, str, int]], items: pl.DataFrame, split: str = "leave_one_out"
) -> Path:
    """Prepare a data directory of (user_id, item_id, timestamp) at `folder`, and return it."""
    raw = RawTables(
        interactions=pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"),
        items=items,
        source="tests",
        licence="none",
        citation="none",
        inputs={},
    )
    with staged_directory(folder) as staging:
        prepare(raw, staging, SplitSettings(kind=split))
    return folder
