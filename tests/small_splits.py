"""Split events spelled out in a line, and their audits."""

from __future__ import annotations

from typing import Any

import polars as pl

from llmrec.data.audit import audit
from llmrec.data.catalog import Catalog
from llmrec.data.split_events import SplitEvents, ordered

START = 1_600_000_007  # 13 September 2020, no full minute
SPLITS = {"t": "train", "v": "validation", "x": "test", "d": "dropped"}
Row = tuple[str, str, int, str]


def rows_of(text: str) -> list[Row]:
    """Events such as `"ann:a0t ann:b5x"`: user, item, seconds since `START`, letter of the split."""
    words = (word.split(":") for word in text.split())
    return [(user, event[0], int(event[1:-1]), SPLITS[event[-1]]) for user, event in words]


def split_events(rows: list[Row], kind: str | None = None, start: int = START) -> SplitEvents:
    """Events in order, as an audit reads them."""
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": pl.String}
    return SplitEvents(
        ordered(pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("timestamp") + start)), kind
    )


def findings_of(
    text: str, kind: str | None = None, *, start: int = START, catalog: Catalog | None = None
) -> dict[str, dict[str, Any]]:
    """Audit events that are spelled out; findings by name."""
    result = audit(split_events(rows_of(text), kind, start), catalog)
    return {row["name"]: row for row in result["findings"]}


def tally(finding: dict[str, Any]) -> tuple[int, int, str]:
    """The count, of how many, and the severity."""
    return finding["count"], finding["of"], finding["severity"]
