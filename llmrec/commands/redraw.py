"""`llmrec redraw`: draw the views of a report again, from its results.json alone; nothing is ranked.

llmrec redraw --results RESULTS
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.evaluation.report import read_results, write_views
from llmrec.untrusted import refusals


@dataclass
class RedrawArguments:
    """Which report, and where its views go."""

    results: str = field(metadata={"help": "Output folder of `llmrec evaluate`, which holds results.json."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for results.md, results.html and results.png; by default --results."}
    )


def main(argv: list[str] | None = None) -> None:
    """Read results.json, write the three views."""
    arguments = parse_arguments("redraw", RedrawArguments, argv)
    print_settings(arguments)
    folder = arguments.output_dir or arguments.results
    with refusals("report", Path(arguments.results)):
        write_views(read_results(arguments.results), folder)
    print(f"wrote results.md, results.html and results.png to {folder}")
