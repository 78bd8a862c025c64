"""`llmrec inspect`: what loading an adapter would download and do, before it is done.

llmrec inspect --model somebody/movies-minilm-lora
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrec.commands.arguments import parse_arguments
from llmrec.formatting import printable
from llmrec.hub.inspection import inspect


@dataclass
class InspectArguments:
    """What to look at."""

    model: str = field(metadata={"help": "Adapter: Hub name or folder."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit on the Hub."})


def main(argv: list[str] | None = None) -> int:
    """Look, print, and return 0 if nothing speaks against loading."""
    if argv and not argv[0].startswith("-"):
        argv = ["--model", *argv]
    arguments = parse_arguments("inspect", InspectArguments, argv)
    found = inspect(arguments.model, arguments.revision)
    print(f"{arguments.model}" + (f", commit {found.commit}" if found.commit else ""))
    for name, size in found.files.items():
        print(f"  {size:>13,} bytes  {name}")
    print(f"  {sum(found.files.values()):>13,} bytes  in all")
    if found.ignored:
        outermost = dict.fromkeys(name.partition("/")[0] + "/" * ("/" in name) for name in found.ignored)
        print(printable(f"never read: {', '.join(outermost)}"))
    for name, fact in found.facts.items():
        print(printable(f"{name}: {fact}"))
    for problem in found.problems:
        print(printable(f"refused: {problem}", keep_lines=True))
    return 2 if found.problems else 0
