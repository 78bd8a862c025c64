"""The table of `llmrec transfer`: cells of users' NDCG@10 → means, paired differences, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from benchmark import describe_machine

from llmrec.evaluation.document import Cell as TableCell
from llmrec.evaluation.document import Section, Table, interval_cell
from llmrec.evaluation.intervals import bootstrap_means, percentile_interval
from llmrec.evaluation.table import markdown_page
from llmrec.storage import write_texts

ADAPTED_ON = {"none": "none", "same": "same domain", "other": "other domain", "both": "both"}
ZERO_SHOT, FULL = "zero-shot", "full"
WHAT = "NDCG@10 of one run each, mean over users, with 95 % bootstrap intervals over users"


class Cell(NamedTuple):
    """What one checkpoint came to with so many users to learn from."""

    row: str
    """What it was adapted to, a key of `ADAPTED_ON`."""
    column: str
    """`ZERO_SHOT`, a number of users, or `FULL`."""
    ndcg: np.ndarray
    """(U,) NDCG@10 of every user."""
    users: int | None
    """Users learned from, None for all."""
    steps: int
    """Steps trained."""
    seconds: float
    """Seconds that took."""


def summary(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return of each cell its mean, and the difference to the same column of the checkpoint as it was, with intervals.

    >>> halves = np.array([0.5, 0.5])
    >>> found = summary([Cell("none", FULL, halves, None, 9, 1.0), Cell("same", FULL, halves + 0.25, None, 9, 1.0)])
    >>> found[1]["ndcg@10"]["value"], found[1]["minus_none"]["low"], found[0]["minus_none"]
    (0.75, 0.25, None)
    """
    as_it_was = {cell.column: cell.ndcg for cell in cells if cell.row == "none"}
    rows = []
    for cell in cells:
        base = None if cell.row == "none" else as_it_was.get(cell.column)
        rows.append(
            {
                "adapted_on": ADAPTED_ON[cell.row],
                "learned_from": cell.column,
                "users": cell.users,
                "steps": cell.steps,
                "seconds": round(cell.seconds, 1),
                "ndcg@10": _interval(cell.ndcg),
                "minus_none": None if base is None else _interval(cell.ndcg - base),
            }
        )
    return rows


def write_transfer(cells: Sequence[Cell], user_ids: list[str], settings: Mapping[str, Any], folder: Path) -> None:
    """Write `transfer.json`, `transfer.md` and every user's values, `users.parquet`."""
    rows = summary(cells)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"what": WHAT, "machine": describe_machine(), "settings": _without_places(settings), "cells": rows}
    write_texts(folder, {"transfer.json": json.dumps(whole, indent=2) + "\n", "transfer.md": page(rows)})
    columns = {f"{ADAPTED_ON[cell.row]}, {cell.column}": cell.ndcg for cell in cells}
    pl.DataFrame({"user_id": user_ids, **columns}).write_parquet(folder / "users.parquet")


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write both tables in Markdown: the values, and what adapting changed."""
    wide = {"ndcg@10": _table(rows, "ndcg@10", ADAPTED_ON.values(), signed=False)}
    wide["minus_none"] = _table(rows, "minus_none", list(ADAPTED_ON.values())[1:], signed=True)
    note = "Each user is compared with itself; bold: the interval lies above zero."
    return markdown_page(
        "Transfer",
        f"{WHAT}. Rows: what the checkpoint was adapted to; columns: how many users' rankings it then learned from.",
        [
            Section("values", "NDCG@10", tables=[wide["ndcg@10"]]),
            Section("differences", "Minus the checkpoint as it was", text=[note], tables=[wide["minus_none"]]),
        ],
    )


def _table(rows: Sequence[Mapping[str, Any]], value: str, names: Any, signed: bool) -> Table:
    columns = list(dict.fromkeys(row["learned_from"] for row in rows))
    found = {(row["adapted_on"], row["learned_from"]): row[value] for row in rows}
    lines = []
    for name in names:
        cells = [found.get((name, column)) for column in columns]
        if any(cells):
            strong = [signed and cell is not None and cell["low"] > 0 for cell in cells]
            written = [interval_cell(cell, signed, bold) for cell, bold in zip(cells, strong, strict=True)]
            lines.append([TableCell(name), *written])
    heads = [f"{column} users" if column.isdecimal() else column for column in columns]
    return Table(["adapted to", *heads], lines)


def _interval(values: np.ndarray) -> dict[str, float]:
    low, high = percentile_interval(bootstrap_means(values[:, None]))
    return {"value": float(values.mean()), "low": low.item(), "high": high.item()}


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name folders by their last part: the rest is of this machine."""
    places = ("data_dir", "other_data_dir", "output_dir", "base_model", "same", "other", "both")
    folders = {name for name in places if settings[name] and Path(settings[name]).is_dir()}
    return {name: Path(value).name if name in folders else value for name, value in settings.items()}
