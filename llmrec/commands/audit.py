"""`llmrec audit`: leaks, duplicates and ties of a split, in a data directory or in files that others published.

llmrec audit --data_dir data
llmrec audit --train train.csv --validation val.csv --test test.csv --items items.csv --output_dir audit
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.data.audit import audit, write_audit
from llmrec.data.audit_page import audit_summary
from llmrec.data.directory import PreparedData
from llmrec.data.files import check_mapping
from llmrec.data.findings import SEVERITIES
from llmrec.data.schema import parse_mapping
from llmrec.data.split_events import SplitEvents
from llmrec.data.split_files import read_catalog, read_split_files
from llmrec.storage import check_writable, sha256_of

OF_FILES = ("train", "validation", "test", "items", "columns", "time_unit")


@dataclass(kw_only=True)
class AuditArguments:
    """Options of `llmrec audit`."""

    data_dir: str | None = field(default=None, metadata={"help": "Prepared data. Instead of --train and --test."})
    train: str | None = field(
        default=None, metadata={"help": "Training events: CSV, TSV, Parquet or JSON Lines with user, item and time."}
    )
    validation: str | None = field(default=None, metadata={"help": "Validation events, likewise; may be left out."})
    test: str | None = field(default=None, metadata={"help": "Test events, likewise."})
    items: str | None = field(
        default=None, metadata={"help": "Table of items with their text; without it near-duplicate texts go unchecked."}
    )
    columns: str | None = field(
        default=None,
        metadata={"help": "Columns that are not recognised by name: user_id=uid,item_id=sku,timestamp=ts,title=label."},
    )
    time_unit: Literal["s", "ms", "us", "ns"] | None = field(
        default=None, metadata={"help": "Unit of numeric times; without it seconds, and others are refused."}
    )
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for audit.json and audit.md; without it --data_dir."}
    )
    fail_on: Literal["error", "warning"] | None = field(
        default=None, metadata={"help": "Exit with 1 after a finding as grave as this, or graver; without it with 0."}
    )


def check_arguments(arguments: AuditArguments) -> None:
    """Raise unless there is one thing to audit and a place for the result."""
    given = [name for name in OF_FILES if getattr(arguments, name) is not None]
    if arguments.data_dir is not None:
        if given:
            raise ValueError(
                f"--{given[0]} {getattr(arguments, given[0])!r} goes with --train and --test,\n"
                "not with --data_dir; drop one of them"
            )
        return
    for name in ("train", "test", "output_dir"):
        if getattr(arguments, name) is None:
            raise ValueError(f"no --{name}: give --data_dir DATA, or --train FILE --test FILE --output_dir DIR")


def audit_directory(path: str) -> dict[str, Any]:
    """Audit prepared data."""
    data = PreparedData.open(path)
    return audit(SplitEvents(data.splits, data.manifest["split"]["kind"]), data.catalog)


def audit_files(arguments: AuditArguments) -> dict[str, Any]:
    """Audit files of splits; the result also names the files and the rows that were left out."""
    given = {name: getattr(arguments, name) for name in ("train", "validation", "test", "items")}
    paths = {name: Path(path) for name, path in given.items() if path is not None}
    mapping = parse_mapping(arguments.columns)
    check_mapping({path.name: path for path in paths.values()}, mapping)
    splits = {name: path for name, path in paths.items() if name != "items"}
    data, left_out = read_split_files(splits, mapping, arguments.time_unit)
    result = audit(data, read_catalog(paths["items"], mapping) if "items" in paths else None)
    result["counts"]["rows_left_out"] = left_out
    result["inputs"] = {name: {"file": path.name, "sha256": sha256_of(path)} for name, path in paths.items()}
    return result


def main(argv: list[str] | None = None) -> int:
    """Audit, write audit.json and audit.md, print the findings, and return 1 if one is as grave as was asked for."""
    arguments = parse_arguments("audit", AuditArguments, argv)
    print_settings(arguments)
    check_arguments(arguments)
    folder = Path(arguments.output_dir or arguments.data_dir or "")
    check_writable(folder)
    result = audit_files(arguments) if arguments.data_dir is None else audit_directory(arguments.data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_audit(folder, result)
    print(f"\n{audit_summary(result)}\n")
    print(f"wrote audit.json and audit.md to {folder}")
    failing = SEVERITIES[: SEVERITIES.index(arguments.fail_on) + 1] if arguments.fail_on else ()
    return int(any(finding["severity"] in failing for finding in result["findings"]))
