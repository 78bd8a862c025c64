"""`python scripts/benchmark.py SUITE --output_dir DIR`: what is claimed against the usual way, measured in one run.

The suites are `training`, `pretraining` and `scoring`, which take times, and `worlds`, which ranks where the best
attainable is known (`benchmark_*.py`). A suite's rows go, with the machine they were measured on, to `DIR/SUITE.json`
and as a table to `DIR/SUITE.md`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import benchmark_pretraining
import benchmark_scoring
import benchmark_training
import benchmark_worlds
import torch

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.main import report_errors
from llmrec.storage import check_writable, write_texts

SUITES: dict[str, ModuleType] = {
    "training": benchmark_training,
    "pretraining": benchmark_pretraining,
    "scoring": benchmark_scoring,
    "worlds": benchmark_worlds,
}
MEDIANS = "Medians of one run"


def main(argv: list[str] | None = None) -> None:
    """Measure, compare, write, print; rows that were measured are written even when a later one fails."""
    values = sys.argv[1:] if argv is None else list(argv)
    name = values.pop(0) if values and not values[0].startswith("-") else None
    if name is None and {"-h", "--help"} & set(values):
        name = "training"
    if name not in SUITES:
        raise ValueError(f"benchmark {name!r}: the first word says what to measure; give one of {', '.join(SUITES)}.")
    suite = SUITES[name]
    arguments = parse_arguments(f"benchmark {name}", suite.BenchmarkArguments, values)
    print_settings(arguments)
    check_writable(arguments.output_dir)
    rows: list[dict[str, Any]] = []
    try:
        rows.extend(suite.measure(arguments))
    finally:
        if rows:
            write_rows(rows, Path(arguments.output_dir), name, getattr(suite, "WHAT", MEDIANS))


def write_rows(rows: list[dict[str, Any]], folder: Path, name: str, what: str = MEDIANS) -> None:
    """Write the rows as JSON, and as a Markdown table that says what they are and on which machine; print it."""
    machine = describe_machine()
    rows = [{**row, "machine": machine} for row in rows]
    columns = [column for column in rows[0] if column != "machine"]
    table = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    table += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    text = "\n".join(table) + f"\n\n{what}, on {machine}.\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_texts(folder, {f"{name}.json": json.dumps(rows, indent=2) + "\n", f"{name}.md": text})
    print(text)


def describe_machine() -> str:
    """Say on what was measured."""
    return f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if isinstance(value, float) and 0 < value < 0.01 else str(value)


if __name__ == "__main__":
    sys.exit(report_errors("benchmark", main))
