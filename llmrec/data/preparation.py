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
from llmrec.data.labels import LabelSettings, label_counts, label_events
from llmrec.data.library_errors import writing
from llmrec.data.ordering import SALT, moment_columns, num_tied, order_events
from llmrec.data.schema import RawTables
from llmrec.data.split_events import SplitEvents
from llmrec.data.splitting import (
    KINDS,
    USERS_MEANING,
    drop_rare,
    leave_one_out_split,
    split_counts,
    temporal_cuts,
    temporal_split,
    users_split,
)
from llmrec.data.times import clock_of, iso


@dataclass(frozen=True)
class SplitSettings:
    """How events are parted.

    Attributes:
        kind: `temporal` (one cut for all), `leave_one_out` (each user's last two events) or `users` (whole users).
        validation_fraction: Share of events between the cuts (`temporal`), or of users (`users`).
        test_fraction: Share of events after the second cut (`temporal`), or of users (`users`).
        min_user_events: Fewest training events of a user.
        min_item_events: Fewest training events of an item.
        seed: Seed of the draw of users (`users`).

    Raises:
        ValueError: The kind is unknown.
    """

    kind: str = "temporal"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    min_user_events: int = 0
    min_item_events: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"split {self.kind!r} is not one of {', '.join(KINDS)}")


def split_events(
    events: pl.DataFrame, settings: SplitSettings, user_splits: dict[str, str] | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Part ordered events and drop rare users and items from training.

    Args:
        events: `user_id`, `item_id`, `timestamp`, perhaps `nanosecond`, in the order of `ordering.order_events`.
            A cut in time is a whole second.
        settings: The kind of split and its numbers.
        user_splits: Split of each user where the source gives it; None draws users.

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
    elif settings.kind == "leave_one_out":
        split = leave_one_out_split(events["user_id"])
    elif user_splits is not None:
        split = events["user_id"].replace_strict(user_splits, return_dtype=pl.String)
        described |= {"meaning": USERS_MEANING, "drawn": False}
    else:
        fractions = {"validation_fraction": settings.validation_fraction, "test_fraction": settings.test_fraction}
        split = users_split(events["user_id"], **fractions, seed=settings.seed)
        described |= {
            "meaning": USERS_MEANING,
            "drawn": True,
            **fractions,
            "seed": settings.seed,
            "salt": SALT.decode(),
        }
    keys = events.select("user_id", "item_id", *moment_columns(events))
    labelled = drop_rare(
        keys.with_columns(split.alias("split")), settings.min_user_events, settings.min_item_events, settings.kind
    )
    splits = pl.concat([keys, labelled], how="horizontal")
    described["counts"] = split_counts(splits)
    return splits, described


def check_whole_rows(labels: LabelSettings | None, settings: SplitSettings) -> None:
    """Raise where a user's last event is the question, and the settings would part it from the others or drop it.

    Raises:
        ValueError: They would.
    """
    if labels is None or labels.cases != "last":
        return
    if settings.kind != "users":
        raise ValueError(
            f"split {settings.kind!r} would part a row's question from its history: these data take --split users alone"
        )
    if settings.min_user_events > 1 or settings.min_item_events > 1:
        raise ValueError(
            f"min_user_events {settings.min_user_events!r} and min_item_events {settings.min_item_events!r} could drop "
            "a row's question;\nleave them at 0 for these data"
        )


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
    labels: LabelSettings | None = None,
    time_unit: str | None = None,
    now: int | None = None,
) -> tuple[dict[str, Any], CleaningReport]:
    """Write a data directory, with its audit where there are test events.

    The files depend on the rows given, not on their order, and on no clock but `now`.

    Args:
        raw: Events and items as a source hands them over.
        directory: An empty directory, as `directory.staged_directory` yields it.
        settings: How to split; None is a temporal split of 80, 10 and 10 percent.
        labels: Which ratings are likes and dislikes; None is the source's own way, and no labels where it has none.
        time_unit: Unit of numeric times (s, ms, us, ns); None means seconds and refuses others.
        now: The present, in seconds since 1970, against which times are judged; None asks the clock.

    Returns:
        The manifest and the report of cleaning.

    Raises:
        ValueError: The tables cannot be used; the text says why and what to do.
        TypeError: The timestamp column cannot hold times.
    """
    settings = settings or SplitSettings()
    labels = labels or raw.labels
    check_whole_rows(labels, settings)
    items, item_counts = clean_items(raw.items)
    if items.is_empty():
        raise ValueError("items: no item has text; give a text attribute, for example with --columns title=YOUR_COLUMN")
    events, report = clean_events(raw.interactions, items, time_unit=time_unit, now=now)
    if labels is not None:
        labelled = label_events(events, labels)
        report.add("rating_between", events.height - labelled.height, labelled)
        events = labelled
    events = order_events(events)
    splits, split = split_events(events, settings, raw.user_splits)
    report_dropped(report, splits)

    for table, name in ((events, "interactions.parquet"), (splits, "splits.parquet")):
        with writing(directory / name):
            table.write_parquet(directory / name)
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
    if labels is not None:
        counts = label_counts(events.select("liked").with_columns(splits["split"]))
        manifest["labels"] = {**labels.describe(), "counts": counts}
    write_manifest(directory, manifest)
    return manifest, report
