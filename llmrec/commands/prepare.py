"""`llmrec prepare`: an events table, by source name or from files, becomes a data directory.

llmrec prepare --source movielens-small --output_dir data
llmrec prepare --interactions events.csv --items items.csv --columns user_id=uid,item_id=sku --output_dir data
llmrec prepare --source movielens-small --split users --like_at_least 4 --dislike_at_most 3 --output_dir likes
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.data.attributes import MAX_CHARACTERS
from llmrec.data.audit_page import audit_summary
from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.files import read_tables
from llmrec.data.labels import LabelSettings, labels_table
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables, parse_mapping
from llmrec.data.sources import SOURCES, load_source
from llmrec.formatting import printable
from llmrec.text.template import TIME_FIELDS, PromptTemplate, field_names


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
    name: str | None = field(
        default=None, metadata={"help": "What one's own data are called, in reports and on cards; `files` by default."}
    )
    licence: str | None = field(default=None, metadata={"help": "Terms of one's own data, for the same places."})
    citation: str | None = field(default=None, metadata={"help": "Whom to cite for them."})
    time_unit: Literal["s", "ms", "us", "ns"] | None = field(
        default=None, metadata={"help": "Unit of numeric times; without it seconds, and others are refused."}
    )
    like_at_least: float | None = field(
        default=None,
        metadata={"help": "Keep likes and dislikes: ratings from here on are likes; without it no labels."},
    )
    dislike_at_most: float | None = field(
        default=None,
        metadata={"help": "Ratings up to here are dislikes, those between are dropped; without it all below a like."},
    )
    split: Literal["temporal", "leave_one_out", "users"] = field(
        default="temporal",
        metadata={
            "help": "One cut in time for all users, each user's last two events, or whole users, drawn, with no cut in "
            "time."
        },
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of events by time before the test (temporal), or of users (users)."}
    )
    test_fraction: float = field(
        default=0.1, metadata={"help": "Share of events by time after the last cut (temporal), or of users (users)."}
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the draw of users (users)."})
    min_user_events: int = field(default=0, metadata={"help": "Fewest training events of a user; 0 keeps all."})
    min_item_events: int = field(default=0, metadata={"help": "Fewest training events of an item; 0 keeps all."})
    template: str = field(
        default="default",
        metadata={"help": "Prompt template, by name or file, of which the summary says what columns it reads."},
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace prepared data at --output_dir."})


def columns_read(name: str, template: PromptTemplate, items: Sequence[str], events: Sequence[str]) -> str:
    """Say of every column of both tables whether a template reads it, a line for each table.

    >>> template = PromptTemplate(event="{title}[, {gap}]")
    >>> print(columns_read("default", template, ["title", "size"], ["timestamp", "rating"]))
    items: template default reads title; not size
    events: template default reads timestamp; not rating
    """
    told = field_names(template.event) | field_names(template.query)
    known = {
        *template.fields,
        *(["timestamp"] if told & TIME_FIELDS else []),
        *(["rating"] if "verdict" in told else []),
    }
    lines = []
    for table, columns in (("items", items), ("events", events)):
        read, unread = ([column for column in columns if (column in known) is asked] for asked in (True, False))
        rest = f"; not {', '.join(unread)}" if unread else ""
        lines.append(f"{table}: template {name} reads {', '.join(read) or 'nothing'}{rest}")
    return "\n".join(lines)


def read_raw(arguments: PrepareArguments) -> RawTables:
    """Read the source or the files that the arguments name."""
    if arguments.source is not None:
        return load_source(arguments.source)
    assert arguments.interactions is not None
    raw = read_tables(arguments.interactions, arguments.items, parse_mapping(arguments.columns))
    raw.source, raw.licence = arguments.name or raw.source, arguments.licence or raw.licence
    raw.citation = arguments.citation or raw.citation
    return raw


def check_arguments(arguments: PrepareArguments) -> None:
    """Raise unless exactly one thing to read is given, with options that go with it."""
    given = [name for name in ("source", "interactions") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"source {arguments.source!r}, interactions {arguments.interactions!r}: give exactly one of\n--source "
            f"({', '.join(SOURCES)}) and --interactions FILE"
        )
    (kind,) = given
    stray = [name for name in ("items", "columns") if kind != "interactions" and getattr(arguments, name)]
    if stray:
        raise ValueError(f"--{stray[0]} {getattr(arguments, stray[0])!r} goes with --interactions, not with --{kind}")
    own = [name for name in ("name", "licence", "citation") if getattr(arguments, name) is not None]
    if empty := [name for name in own if not getattr(arguments, name).strip()]:
        raise ValueError(f"--{empty[0]} {getattr(arguments, empty[0])!r} says nothing: give a text, or leave it out")
    if own and kind == "source":
        raise ValueError(f"--{own[0]} {getattr(arguments, own[0])!r} is of one's own files; --source has its own")
    if arguments.dislike_at_most is not None and arguments.like_at_least is None:
        raise ValueError(f"--dislike_at_most {arguments.dislike_at_most!r} goes with --like_at_least; give both")


def label_settings(arguments: PrepareArguments) -> LabelSettings | None:
    """Return how ratings become likes and dislikes, None where nobody asks for it."""
    if arguments.like_at_least is None:
        return None
    return LabelSettings(arguments.like_at_least, arguments.dislike_at_most)


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
        seed=arguments.split_seed,
    )
    labels = label_settings(arguments)
    start = time.perf_counter()
    template = PromptTemplate.load(arguments.template)
    with staged_directory(arguments.output_dir, overwrite=arguments.overwrite) as staging:
        raw = read_raw(arguments)
        manifest, report = prepare(raw, staging, settings, labels=labels, time_unit=arguments.time_unit)
    items, ties, split = manifest["counts"]["items"], manifest["ties"], manifest["split"]
    for table, columns in raw.columns.items():
        print(
            f"\n{table}: " + printable(", ".join(f"{name} from {column}" for name, column in columns.items())), end=""
        )
    print(f"\n\n{report}\n")
    print(
        f"items: {items['read']:,} read, {items['without_id']:,} without id, {items['joined']:,} joined to one of the "
        f"same id, {items['without_text']:,} without text, {items['kept']:,} kept"
    )
    if items.get("texts_cut"):
        print(f"texts: {items['texts_cut']:,} cut at {MAX_CHARACTERS:,} characters")
    attributes = [column for column in raw.items.columns if column != "item_id"]
    told = [column for column in raw.interactions.columns if column not in ("user_id", "item_id", "left_out")]
    print(printable(columns_read(arguments.template, template, attributes, told), keep_lines=True))
    print(f"ties: {ties['events']:,} events ({ties['share']:.1%}) share user and time with another; hashed order")
    print(f"clock: {manifest['clock']}")
    for cut in ("validation_from", "test_from"):
        if cut in split:
            print(f"{cut}: {split[cut]['timestamp']} ({split[cut]['iso']})")
    print(f"\n{split_table(split)}\n")
    if "labels" in manifest:
        print(f"{labels_table(manifest['labels'])}\n")
    data = PreparedData(Path(arguments.output_dir), manifest)
    kept = "leave seen items out" if data.mask_seen else "keep seen items"
    print(f"repeats: {data.repeat_share:.1%} of the training events repeat an item: rankings {kept} by default")
    found = data.audit
    print(f"{audit_summary(found)}\n" if found else "audit: left out, for there is no test event\n")
    print(f"{arguments.output_dir}: {split['kind']} split, written in {time.perf_counter() - start:.1f} s")
