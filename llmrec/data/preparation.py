"""From raw tables to a data directory: clean, order, split, drop the rare, write, and say in a manifest how."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from llmrec import __version__
from llmrec.data.attributes import clean_items
from llmrec.data.audit import audit, write_audit
from llmrec.data.catalog import Catalog
from llmrec.data.cleaning import CleaningReport, clean_events
from llmrec.data.directory import describe_files, write_manifest
from llmrec.data.histories import group_by_user, write_histories
from llmrec.data.ordering import SALT, num_tied, order_events
from llmrec.data.schema import RawTables
from llmrec.data.split_events import SplitEvents
from llmrec.data.splitting import (
    KINDS,
    drop_rare,
    leave_one_out_split,
    split_counts,
    temporal_cuts,
    temporal_split,
)
from llmrec.data.times import clock_of, iso


@dataclass(frozen=True)
class SplitSettings:
    """How events are parted.

    Attributes:
        kind: `temporal` (one cut for all) or `leave_one_out` (each user's last two events).
        validation_fraction: Share of events between the cuts (`temporal`).
        test_fraction: Share of events after the second cut (`temporal`).
        min_user_events: Fewest training events of a user.
        min_item_events: Fewest training events of an item.

    Raises:
        ValueError: The kind is unknown.
    """

    kind: str = "temporal"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    min_user_events: int = 0
    min_item_events: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"split {self.kind!r} is not one of {', '.join(KINDS)}")


def split_events(events: pl.DataFrame, settings: SplitSettings) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Part ordered events and drop rare users and items from training.

    Args:
        events: `user_id`, `item_id`, `timestamp`, in the order of `ordering.order_events`.
        settings: The kind of split and its numbers.

    Returns:
        The table of splits, row by row as `events`, and what the manifest says of it.

    Raises:
        ValueError: The events cannot be parted so, or no training event is left.
    """
    described: dict[str, Any] = {"kind": settings.kind}
    if settings.kind == "temporal":
        validation_from, test_from = temporal_cuts(
            events["timestamp"], settings.validation_fraction, settings.test_fraction
        )
        split = temporal_split(events["timestamp"], validation_from, test_from)
        described["validation_fraction"] = settings.validation_fraction
        described["test_fraction"] = settings.test_fraction
        described["validation_from"] = {"timestamp": validation_from, "iso": iso(validation_from)}
        described["test_from"] = {"timestamp": test_from, "iso": iso(test_from)}
    else:
        split = leave_one_out_split(events["user_id"])
    keys = events.select("user_id", "item_id", "timestamp")
    labelled = drop_rare(
        keys.with_columns(split.alias("split")), settings.min_user_events, settings.min_item_events, settings.kind
    )
    splits = pl.concat([keys, labelled], how="horizontal")
    described["counts"] = split_counts(splits)
    return splits, described


def report_dropped(report: CleaningReport, splits: pl.DataFrame) -> None:
    """Add the events that the k-core dropped to the report, by reason."""
    left = splits
    for reason in ("k_core_user", "k_core_item"):
        kept = left.filter(pl.col("reason").ne_missing(pl.lit(reason)))
        report.add(reason, left.height - kept.height, kept)
        left = kept


def prepare(
    raw: RawTables,
    directory: Path,
    settings: SplitSettings | None = None,
    *,
    time_unit: str | None = None,
    now: int | None = None,
) -> tuple[dict[str, Any], CleaningReport]:
    """Write a data directory, with its audit where there are test events.

    The files depend on the rows given, not on their order, and on no clock but `now`.

    Args:
        raw: Events and items as a source hands them over.
        directory: An empty directory, as `directory.staged_directory` yields it.
        settings: How to split; None is a temporal split of 80, 10 and 10 percent.
        time_unit: Unit of numeric times (s, ms, us, ns); None means seconds and refuses others.
        now: The present, in seconds since 1970, against which times are judged; None asks the clock.

    Returns:
        The manifest and the report of cleaning.

    Raises:
        ValueError: The tables cannot be used; the text says why and what to do.
        TypeError: The timestamp column cannot hold times.
    """
    settings = settings or SplitSettings()
    items, item_counts = clean_items(raw.items)
    if items.is_empty():
        raise ValueError("items: no item has text; give a text attribute, for example with --columns title=YOUR_COLUMN")
    events, report = clean_events(raw.interactions, items, time_unit=time_unit, now=now)
    events = order_events(events)
    splits, split = split_events(events, settings)
    report_dropped(report, splits)

    events.write_parquet(directory / "interactions.parquet")
    splits.write_parquet(directory / "splits.parquet")
    catalog = Catalog(items)
    catalog.write(directory / "items.parquet")
    write_histories(directory / "histories.arrow", group_by_user(events, splits))
    if "test" in splits["split"]:
        write_audit(directory, audit(SplitEvents(splits, settings.kind), catalog))
    tied = num_tied(events)
    manifest = {
        "source": raw.source,
        "licence": raw.licence,
        "citation": raw.citation,
        "notes": raw.notes,
        "columns": raw.columns,
        "inputs": describe_files(raw.inputs),
        "clock": clock_of(events["timestamp"]),
        "filters": {
            "min_user_events": settings.min_user_events,
            "min_item_events": settings.min_item_events,
            "time_unit": time_unit or "s",
        },
        "counts": {"events": report.as_dicts(), "items": item_counts},
        "ties": {"events": tied, "share": round(tied / events.height, 6), "salt": SALT.decode()},
        "split": split,
        "versions": {"llmrec": __version__, "polars": pl.__version__, "python": platform.python_version()},
    }
    write_manifest(directory, manifest)
    return manifest, report
