"""`llmrec <verb>`: find the verb's file, run it, and turn a user's error into one line instead of a traceback.

`scripts/<verb>.py` call the same `run`, so `accelerate launch scripts/train.py …` and `llmrec train …` are one thing.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable

from llmrec.formatting import printable
from llmrec.storage import REMEDIES

VERBS = {
    "fit": "prepare, choose settings, train, evaluate and report, within a time that is given",
    "prepare": "clean an events table and split it by time into a data directory",
    "audit": "find leaks, duplicates and ties in prepared data or in split files",
    "pretrain": "adapt a checkpoint to unlabelled histories before it learns to rank",
    "train": "train a LoRA adapter and a scoring head on a data directory",
    "baselines": "fit what a recommender has to beat, each after a search on validation",
    "evaluate": "rank the whole catalogue for held-out events, beside the baselines",
    "redraw": "draw the views of a report again, from its results.json alone",
    "export": "merge an adapter into its base model, as a plain transformers folder",
    "card": "write the model card of an adapter, and the numbers that it shows",
    "recommend": "rank the catalogue for the histories in a JSON Lines file",
    "push": "upload an adapter or prepared data to the Hub",
    "inspect": "say what loading an adapter would download and do",
    "quickstart": "prepare, train, evaluate and recommend on movielens-small",
}

MOVED = {
    **dict.fromkeys(("benchmark", "compare_sasrec", "few_shot", "transfer"), "scripts/benchmarks"),
    "describe": "scripts/examples",
}
"""Verbs of release 0.1 that are scripts of the repository now, by their folder."""
USER_ERRORS = (ValueError, TypeError, OSError)


def usage() -> str:
    """Return the text of `llmrec --help`, one line per verb."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {purpose}" for verb, purpose in VERBS.items())
    return f"usage: llmrec <verb> [options]\n\n{verbs}\n\n`llmrec <verb> --help` lists the options of a verb."


def run(verb: str, argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code.

    Args:
        verb: A name in `VERBS`.
        argv: The options after the verb; `None` takes those of the process.

    Returns:
        0 on success, 2 after a user's error, 130 after an interrupt. With `LLMREC_TRACEBACK=1` in the environment the
        error is raised instead, with its traceback.
    """
    if verb in MOVED:
        script = f"{MOVED[verb]}/{verb}.py"
        print(f"llmrec: error: {verb!r} is a script now: python {script} … in a checkout of llmrec", file=sys.stderr)
        return 2
    if verb not in VERBS:
        print(f"llmrec: error: unknown verb {verb!r}; known verbs: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return report_errors(verb, lambda: importlib.import_module(f"llmrec.commands.{verb}").main(argv))


def report_errors(name: str, call: Callable[[], int | None]) -> int:
    """Call what a command does and return its exit code, a user's error told in one line; see `run`."""
    usual, warnings.formatwarning = warnings.formatwarning, format_warning
    try:
        return call() or 0
    except USER_ERRORS as error:
        if os.environ.get("LLMREC_TRACEBACK") == "1":
            raise
        print(f"llmrec {name}: error: {printable(error_text(error), keep_lines=True)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"llmrec {name}: interrupted", file=sys.stderr)
        return 130
    finally:
        warnings.formatwarning = usual


def error_text(error: Exception) -> str:
    """Return what an error says; one of the operating system with its file and a remedy.

    >>> error_text(OSError(28, "No space left on device", "data/items.parquet"))
    "'data/items.parquet': No space left on device. Free some space, or give a folder on another disk."
    """
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    file = "" if error.filename is None else f"{error.filename!r}: "
    remedy = REMEDIES.get(error.errno, "Give another file or folder")
    return f"{file}{error.strerror or error}. {remedy}."


def format_warning(message: Warning | str, *place: object, **more: object) -> str:
    """Return a warning without the line of code that gave it: who runs a command reads no code."""
    return f"warning: {printable(str(message), keep_lines=True)}\n"


def main(argv: list[str] | None = None) -> int:
    """Run the console command: `llmrec <verb> [options]`, `llmrec --help` or `llmrec --version`."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from llmrec import __version__

        print(f"llmrec {__version__}")
        return 0
    return run(arguments[0], arguments[1:])
