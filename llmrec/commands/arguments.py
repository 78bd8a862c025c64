"""Arguments of the verbs: one dataclass each, parsed by transformers and printed as they were resolved."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from llmrec.formatting import printable

Arguments = TypeVar("Arguments")


def parse_arguments(verb: str, kind: type[Arguments], argv: list[str] | None) -> Arguments:
    """Parse a verb's options into its dataclass, whose fields carry their help in `metadata["help"]`.

    Raises:
        ValueError: An option is unknown.
    """
    from transformers import HfArgumentParser

    parser = HfArgumentParser(kind, prog=f"llmrec {verb}", allow_abbrev=False)  # type: ignore[arg-type]
    (arguments,) = parse_options(parser, argv)
    return arguments


def parse_options(parser: Any, argv: list[str] | None) -> tuple[Any, ...]:
    """Parse a verb's options, those of the process by default, into its parser's dataclasses.

    Raises:
        ValueError: An option is unknown, and the error names those that look like it; or a value belongs to none.
    """
    for action in parser._actions:
        if action.const is False:  # transformers gives it the help of its opposite
            action.help = f"The same as --{action.dest} false."
    words: list[str] = []
    for word in sys.argv[1:] if argv is None else argv:
        named = word.replace("-", "_").removeprefix("__no_")
        denies = word.startswith(("--no_", "--no-")) and word not in parser._option_string_actions
        words += [f"--{named}", "false"] if denies and f"--{named}" in parser._option_string_actions else [word]
    names = [word.partition("=")[0] for word in words if word.startswith("--")]
    known = list(dict.fromkeys(action.dest for action in parser._actions))
    for name in names:  # before what is missing: it may be what was meant
        if name not in parser._option_string_actions:
            asked = name.removeprefix("--").replace("-", "_")
            inside = [each for each in known if len(asked) > 2 and asked in each]
            near = list(dict.fromkeys([*inside, *get_close_matches(asked, known)]))[:3]
            meant = f"; did you mean --{' or --'.join(near)}?" if near else f"; see `{parser.prog} --help`."
            raise ValueError(f"option {name!r} is none of `{parser.prog}`{meant}")
    *parsed, stray = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
    if stray:
        raise ValueError(f"value {stray[0]!r} belongs to no option of `{parser.prog}`; see `{parser.prog} --help`.")
    return tuple(parsed)


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
    return parse_options(parser, argv)


def print_settings(arguments: Any) -> None:
    """Print every setting of a run, one a line, before the run starts."""
    width = max(len(field.name) for field in fields(arguments))
    for field in fields(arguments):
        print(f"  {field.name:<{width}}  {printable(str(getattr(arguments, field.name)))}", flush=True)
