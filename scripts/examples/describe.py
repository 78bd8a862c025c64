"""What prepared data are like, in one page: how much, how often, when, again, and whether it drifts.

python scripts/examples/describe.py --data_dir data --output_dir description
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from description import describe
from description_page import description_html, description_markdown, summary_of

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.main import report_errors
from llmrec.hub.data_sets import open_data
from llmrec.storage import check_writable, write_texts


@dataclass(kw_only=True)
class DescribeArguments:
    """Options of `python scripts/examples/describe.py`."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`, or hub:owner/name."})
    output_dir: str = field(metadata={"help": "Folder for describe.json, describe.md and describe.html."})
    events: Literal["train", "all"] = field(
        default="train",
        metadata={"help": "Training events alone, for test events are opened once, by `llmrec evaluate`; or all."},
    )
    attribute: str | None = field(
        default=None,
        metadata={"help": "Item attribute whose drift is shown; by default the first of category, genres, brand, …"},
    )


def main(argv: list[str] | None = None) -> None:
    """Describe, write the three files, print the summary."""
    arguments = parse_arguments("describe", DescribeArguments, argv)
    print_settings(arguments)
    folder = Path(arguments.output_dir)
    check_writable(folder)
    description = describe(open_data(arguments.data_dir), arguments.events, arguments.attribute)
    contents = {
        "describe.json": json.dumps(description, indent=2, ensure_ascii=False) + "\n",
        "describe.md": description_markdown(description),
        "describe.html": description_html(description),
    }
    write_texts(folder, contents)
    print(f"\n{summary_of(description)}\n")
    print(f"wrote {', '.join(contents)} to {folder}")


if __name__ == "__main__":
    sys.exit(report_errors("describe", main))
