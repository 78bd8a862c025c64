"""A small made-up shop, so that every example runs in seconds; give a data directory to run it on your own data."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl

from llmrec import Interactions, PreparedData

COLOURS = ["red", "blue", "green", "large", "small", "wooden", "steel"]
TOOLS = ["hammer", "saw", "drill", "screw", "nail", "glue", "tape", "brush", "paint", "ladder", "bolt"]


def shop(num_users: int = 60, num_items: int = 40, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return events of people who walk through the shelves, and the items on them."""
    random = np.random.default_rng(seed)
    names = [f"{COLOURS[item % 7]} {TOOLS[item % 11]} {item}" for item in range(num_items)]
    items = pl.DataFrame({"item_id": [f"i{item}" for item in range(num_items)], "title": names})
    rows = []
    for user in range(num_users):
        walk = (random.integers(num_items) + np.cumsum(random.integers(1, 4, size=12))) % num_items
        days = np.cumsum(random.integers(1, 9, size=12))
        rows += [
            (f"u{user}", f"i{item}", 1_600_000_000 + 86_400 * int(day)) for item, day in zip(walk, days, strict=True)
        ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"), items


def data_of_the_command_line() -> PreparedData:
    """Return the data directory given as first argument, else the made-up shop."""
    if len(sys.argv) > 1 and sys.argv[1] != "shop":
        return PreparedData.open(sys.argv[1])
    events, items = shop()
    return Interactions.from_frames(events, items, name="made-up shop").split("leave_one_out")


def checkpoint_of_the_command_line() -> str:
    """Return the checkpoint given as second argument, else the usual small one."""
    return sys.argv[2] if len(sys.argv) > 2 else "sentence-transformers/all-MiniLM-L6-v2"
