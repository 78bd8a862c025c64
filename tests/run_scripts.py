"""The scripts of `scripts/benchmarks` and `scripts/examples`, called as the console would."""

from __future__ import annotations

import importlib

from llmrec.commands.main import report_errors


def run_script(name: str, argv: list[str]) -> int:
    """Run the script's main with options and return its exit code."""
    return report_errors(name, lambda: importlib.import_module(name).main(argv))
