"""Arguments of the verbs: one dataclass each, parsed by transformers and printed as they were resolved."""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
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
    grouped(parser)
    words: list[str] = []
    for word in sys.argv[1:] if argv is None else argv:
        named = word.replace("-", "_").removeprefix("__no_")
        denies = word.startswith(("--no_", "--no-")) and word not in parser._option_string_actions
        words += [f"--{named}", "false"] if denies and f"--{named}" in parser._option_string_actions else [word]
    if "--help_all" in words:
        for action in parser._actions:
            action.help = getattr(action, "whole_help", action.help)
        parser.print_help()
        parser.exit()
    words = with_config(parser, words)
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
    if parsed and type(parsed[-1]).__name__ == "Namespace":
        parsed.pop()
    if stray:
        raise ValueError(f"value {stray[0]!r} belongs to no option of `{parser.prog}`; see `{parser.prog} --help`.")
    return tuple(parsed)


def grouped(parser: Any) -> None:
    """Part a parser's help by dataclass, and leave options that llmrec only inherits to `--help_all`."""
    if getattr(parser, "parted", False):
        return
    parser.parted, parser.usage = True, f"{parser.prog} [options]"
    by_name: dict[str, list[Any]] = {}
    for action in parser._actions:
        by_name.setdefault(action.dest, []).append(action)
    general = parser._optionals._group_actions
    inherited = 0
    for kind in parser.dataclass_types:
        title = kind.__name__.removesuffix("Arguments").removeprefix("Rec").lower() or "options"
        group = parser.add_argument_group(f"{title} options")
        own = set(vars(kind).get("__annotations__", {}))
        for one in fields(kind):
            for action in by_name.get(one.name, []):
                if action in general:
                    general.remove(action)
                group._group_actions.append(action)
                if one.name not in own:
                    action.whole_help, action.help = action.help, SUPPRESS
                    inherited += 1
    parser.add_argument("--config", metavar="FILE.yaml", help="Options by name; those on the command line win.")
    if inherited:
        parser.add_argument("--help_all", action="store_true", help="Show also the options of transformers' Trainer.")


def with_config(parser: Any, words: list[str]) -> list[str]:
    """Return the words of a command line with those of its `--config` file before them, where they are not given.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no options, or one that there is not.
    """
    places = [place for place, word in enumerate(words) if word == "--config" or word.startswith("--config=")]
    if not places:
        return words
    place = places[0]
    inline = words[place].partition("=")[2]
    if not inline and place + 1 >= len(words):
        raise ValueError("--config names no file: give a YAML file of options.")
    name = inline or words[place + 1]
    rest = words[:place] + words[place + (1 if inline else 2) :]
    import yaml

    if not Path(name).is_file():
        raise FileNotFoundError(f"--config {name!r} is no file.")
    try:
        values = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"--config {name!r} is no YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(values, dict):
        raise ValueError(f"--config {name!r} holds no options: give lines such as `learning_rate: 0.001`.")
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in rest if word.startswith("--")}
    read: list[str] = []
    for option, value in values.items():
        if f"--{option}" not in parser._option_string_actions:
            near = get_close_matches(str(option), [action.dest for action in parser._actions])
            meant = f"; did you mean {' or '.join(near[:2])}?" if near else "."
            raise ValueError(f"--config {name!r}: option {option!r} is none of `{parser.prog}`{meant}")
        if option not in given and value is not None:
            parts = value if isinstance(value, list) else [value]
            read += [f"--{option}", *(str(part).lower() if isinstance(part, bool) else str(part) for part in parts)]
    return read + rest


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
