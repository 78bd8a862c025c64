"""`llmrec prepare`: an events table, by source name or from files, becomes a data directory.

llmrec prepare --source movielens-small --output_dir data
llmrec prepare --interactions events.csv --items items.csv --columns user_id=uid,item_id=sku --output_dir data
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.data.audit_page import audit_summary
from llmrec.data.directory import DataDirectory, staged_directory
from llmrec.data.files import read_files
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables, parse_mapping
from llmrec.data.sources import SOURCES, load_source


@dataclass(kw_only=True)
class PrepareArguments:
    """Options of `llmrec prepare`."""

    output_dir: str = field(metadata={"help": "Data directory to write."})
    source: str | None = field(
        default=None, metadata={"help": f"Data set by name: {', '.join(SOURCES)}. Instead of --interactions."}
    )
    interactions: str | None = field(
        default=None, metadata={"help": "Table of events: CSV, TSV, Parquet or JSON Lines, one event a row."}
    )
    items: str | None = field(
        default=None, metadata={"help": "Table of items with their text; without it the text comes from the events."}
    )
    columns: str | None = field(
        default=None,
        metadata={"help": "Columns that are not recognised by name: user_id=uid,item_id=sku,timestamp=ts,title=label."},
    )
    time_unit: Literal["s", "ms", "us", "ns"] | None = field(
        default=None, metadata={"help": "Unit of numeric times; without it seconds, and others are refused."}
    )
    split: Literal["temporal", "leave_one_out"] = field(
        default="temporal", metadata={"help": "One cut in time for all users, or each user's last two events."}
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of events, by time, between training and test (temporal)."}
    )
    test_fraction: float = field(
        default=0.1, metadata={"help": "Share of events, by time, after the last cut (temporal)."}
    )
    min_user_events: int = field(default=0, metadata={"help": "Fewest training events of a user; 0 keeps all."})
    min_item_events: int = field(default=0, metadata={"help": "Fewest training events of an item; 0 keeps all."})
    overwrite: bool = field(default=False, metadata={"help": "Replace prepared data at --output_dir."})


def read_raw(arguments: PrepareArguments) -> RawTables:
    """Read the source or the files that the arguments name."""
    if arguments.interactions is None:
        assert arguments.source is not None
        return load_source(arguments.source)
    return read_files(arguments.interactions, arguments.items, parse_mapping(arguments.columns))


def check_arguments(arguments: PrepareArguments) -> None:
    """Raise unless exactly one of source and files is given."""
    if (arguments.source is None) == (arguments.interactions is None):
        raise ValueError(
            f"source {arguments.source!r} and interactions {arguments.interactions!r}: give exactly one of\n"
            f"--source ({', '.join(SOURCES)}) and --interactions FILE"
        )
    stray = [name for name in ("items", "columns") if arguments.source is not None and getattr(arguments, name)]
    if stray:
        raise ValueError(f"--{stray[0]} {getattr(arguments, stray[0])!r} goes with --interactions, not with --source")


def split_table(split: dict[str, Any]) -> str:
    """Return the counts of each split as a table.

    >>> counts = {"train": {"events": 1200, "users": 30, "items": 400, "new_users": 0, "cold_items": 0}}
    >>> print(split_table({"kind": "temporal", "counts": counts}))
    split             events      users      items  new_users cold_items
    train              1,200         30        400          0          0
    """
    names = ("events", "users", "items", "new_users", "cold_items")
    lines = [f"{'split':<12}" + " ".join(f"{name:>11}" if name == "events" else f"{name:>10}" for name in names)]
    for part, counts in split["counts"].items():
        cells = (f"{counts[name]:>11,}" if name == "events" else f"{counts[name]:>10,}" for name in names)
        lines.append(f"{part:<12}" + " ".join(cells))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Prepare a data directory and print settings, what cleaning dropped, and the splits."""
    arguments = parse_arguments("prepare", PrepareArguments, argv)
    print_settings(arguments)
    check_arguments(arguments)
    settings = SplitSettings(
        kind=arguments.split,
        validation_fraction=arguments.validation_fraction,
        test_fraction=arguments.test_fraction,
        min_user_events=arguments.min_user_events,
        min_item_events=arguments.min_item_events,
    )
    start = time.perf_counter()
    with staged_directory(arguments.output_dir, overwrite=arguments.overwrite) as staging:
        raw = read_raw(arguments)
        manifest, report = prepare(raw, staging, settings, time_unit=arguments.time_unit)
    items, ties, split = manifest["counts"]["items"], manifest["ties"], manifest["split"]
    for table, columns in raw.columns.items():
        print(f"\n{table}: " + ", ".join(f"{name} from {column}" for name, column in columns.items()), end="")
    print(f"\n\n{report}\n")
    print(
        f"items: {items['read']:,} read, {items['without_id']:,} without id, {items['joined']:,} joined to one of the "
        f"same id, {items['without_text']:,} without text, {items['kept']:,} kept"
    )
    print(f"ties: {ties['events']:,} events ({ties['share']:.1%}) share user and time with another; hashed order")
    print(f"clock: {manifest['clock']}")
    for cut in ("validation_from", "test_from"):
        if cut in split:
            print(f"{cut}: {split[cut]['timestamp']} ({split[cut]['iso']})")
    print(f"\n{split_table(split)}\n")
    found = DataDirectory(Path(arguments.output_dir), manifest).audit
    print(f"{audit_summary(found)}\n" if found else "audit: left out, for there is no test event\n")
    print(f"{arguments.output_dir}: {split['kind']} split, written in {time.perf_counter() - start:.1f} s")
