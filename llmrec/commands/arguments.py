"""Arguments of the verbs: one dataclass each, parsed by transformers and printed as they were resolved."""

from __future__ import annotations

from collections.abc import Mapping
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


def parse_pairs(parser: Any, pairs: str, fixed: Mapping[str, Any]) -> tuple[Any, ...]:
    """Parse `name=value,…`, as one option of a verb holds the options of another, into that one's dataclasses.

    Args:
        parser: The other verb's; its `prog` is named in errors.
        pairs: The last of a name counts; values of a list are separated by spaces.
        fixed: Options that the calling verb sets, lists among them, and that no pair may.

    Raises:
        ValueError: A pair has no `=`, names a fixed option, or one that the other verb does not have.
    """
    argv = [
        word
        for name, value in fixed.items()
        for word in (f"--{name}", *map(str, value if isinstance(value, list) else [value]))
    ]
    for pair in filter(None, map(str.strip, pairs.split(","))):
        name, equals, values = pair.partition("=")
        if not equals:
            raise ValueError(f"option {pair!r} is not name=value, for example num_train_epochs=8.")
        if name in fixed:
            raise ValueError(f"option {name!r} is set here to {fixed[name]!r}: leave it out.")
        argv += [f"--{name}", *values.split()]
    *parsed, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        raise ValueError(f"option {unknown[0]!r} is none of `{parser.prog}`; see `{parser.prog} --help`.")
    return tuple(parsed)


def print_settings(arguments: Any) -> None:
    """Print every setting of a run, one a line, before the run starts."""
    width = max(len(field.name) for field in fields(arguments))
    for field in fields(arguments):
        print(f"  {field.name:<{width}}  {getattr(arguments, field.name)}", flush=True)
