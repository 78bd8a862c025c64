"""Arguments of the verbs: one dataclass each, parsed by transformers and printed as they were resolved."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

Arguments = TypeVar("Arguments")


def parse_arguments(verb: str, kind: type[Arguments], argv: list[str] | None) -> Arguments:
    """Parse a verb's options into its dataclass, whose fields carry their help in `metadata["help"]`.

    Raises:
        ValueError: An option is unknown.
    """
    from transformers import HfArgumentParser

    parser = HfArgumentParser(kind, prog=f"llmrec {verb}", allow_abbrev=False)  # type: ignore[arg-type]
    (arguments,) = parser.parse_args_into_dataclasses(args=argv)
    return arguments


def print_settings(arguments: Any) -> None:
    """Print every setting of a run, one a line, before the run starts."""
    width = max(len(field.name) for field in fields(arguments))
    for field in fields(arguments):
        print(f"  {field.name:<{width}}  {getattr(arguments, field.name)}", flush=True)
