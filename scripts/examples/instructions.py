"""Rows of `instruction`, `input` and `output`, in which the field exchanges few-shot data: one row, one user.

The input names what a user liked, what they disliked, and an item to judge (see `questions`); the output is "Yes." or
"No.".

References:
    Bao et al., "TALLRec: An effective and efficient tuning framework to align large language model with
    recommendation", RecSys 2023, arXiv:2305.00447, whose data (https://github.com/SAI990323/TALLRec) this reads.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from questions import question_of

from llmrec.commands.main import report_errors
from llmrec.data.directory import staged_directory
from llmrec.data.labels import LabelSettings
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables

FILE_NAMES = {"train": ("train",), "validation": ("valid", "validation"), "test": ("test",)}
ENDINGS = (".json", ".jsonl")
ANSWERS = {"yes": 1.0, "no": 0.0}


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield each row of a JSON list or of JSON Lines, numbered from 1.

    Raises:
        ValueError: The file is no JSON, or holds no row.
    """
    text = path.read_text(encoding="utf-8-sig")
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{path.name!r} is empty; give rows of instruction, input and output")
    try:
        if text.lstrip().startswith("["):
            yield from enumerate(json.loads(text), 1)
            return
    except ValueError as error:
        raise ValueError(f"{path.name!r} is no JSON list ({error})") from None
    for number, line in lines:
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: no JSON ({error})") from None


def events_of(path: Path, prefix: str = "") -> list[dict[str, Any]]:
    """Read a file: for each row the liked items, the disliked ones and the question, in this order.

    Args:
        path: A JSON list or JSON Lines.
        prefix: Written before each row's number to make its `user_id`.

    Returns:
        Dicts of `user_id`, `item_id`, `timestamp` (0, 1, …), `rating` (1 liked, 0 disliked), `title`, `author`.

    Raises:
        ValueError: A row does not read so; the text names it and what was expected.
    """
    rows = list(rows_of(path))
    width = len(str(rows[-1][0]))
    events = []
    for number, row in rows:
        try:
            if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("input", "output")):
                raise ValueError(f"expected the texts instruction, input and output, and found {str(row)[:80]!r}")
            answer = row["output"].strip().strip('".').strip().lower()
            if answer not in ANSWERS:
                raise ValueError(f"expected 'Yes.' or 'No.' as output and found {row['output']!r}")
            liked, disliked, target = question_of(row["input"])
        except ValueError as error:
            raise ValueError(f"{path.name}, row {number}: {error}") from None
        judged = [*((item, 1.0) for item in liked), *((item, 0.0) for item in disliked), (target, ANSWERS[answer])]
        for place, ((title, author), rating) in enumerate(judged):
            events.append(
                {
                    "user_id": f"{prefix}{number:0{width}}",
                    "item_id": item_id_of(title, author),
                    "timestamp": place,
                    "rating": rating,
                    "title": title,
                    "author": author,
                }
            )
    return events


def item_id_of(title: str, author: str | None) -> str:
    """Return the id of an item known by its words: the same for the same words, but for case, width and spaces.

    >>> item_id_of("The  Bean Trees", "Barbara KINGSOLVER")
    'the bean trees by barbara kingsolver'
    """
    text = unicodedata.normalize("NFKC", f"{title} by {author}" if author else title)
    return " ".join(text.casefold().split())


def split_paths(path: Path) -> dict[str, Path]:
    """Return the file of each split in a folder: train, valid (or validation) and test, .json or .jsonl.

    Raises:
        ValueError: A split has no file, or several.
    """
    paths = {}
    for split, stems in FILE_NAMES.items():
        found = [path / f"{stem}{ending}" for stem in stems for ending in ENDINGS]
        found = [file for file in found if file.is_file()]
        if len(found) != 1:
            raise ValueError(
                f"folder {os.fspath(path)!r} holds {len(found)} files for {split}; give one, named "
                f"{' or '.join(stem + ending for stem in stems for ending in ENDINGS)}"
            )
        paths[split] = found[0]
    return paths


def read_instructions(path: str | os.PathLike[str]) -> RawTables:
    """Read a file of instruction rows, or a folder of three that part the users already.

    Args:
        path: `.json` (a list) or `.jsonl`; a folder holds `train`, `valid` and `test` so.

    Raises:
        FileNotFoundError: There is nothing there.
        ValueError: A file is missing in the folder, or a row cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {os.fspath(path)!r}")
    user_splits = None
    if path.is_dir():
        paths = split_paths(path)
        parts = {split: events_of(file, f"{split}-") for split, file in paths.items()}
        user_splits = {event["user_id"]: split for split, part in parts.items() for event in part}
        events = [event for part in parts.values() for event in part]
    else:
        paths, events = {"file": path}, events_of(path)
    kinds = {"timestamp": pl.Int64, "rating": pl.Float64, "author": pl.String}
    table = pl.DataFrame(events, schema_overrides=kinds)
    return RawTables(
        interactions=table.select("user_id", "item_id", "timestamp", "rating"),
        items=table.select("item_id", "title", "author"),
        source="instructions",
        licence="not stated: the files are the caller's",
        citation="not stated: the files are the caller's",
        inputs={file.name: file for file in paths.values()},
        columns={"interactions": {"rating": "output"}, "items": {"title": "input"}},
        notes=[
            "one row is one user: rows of the same person cannot be told, and where they overlap, as sliding windows "
            "do, one person may stand in training and test, and intervals over rows are too narrow",
            "a row's order is liked, disliked, question; times count events",
        ],
        labels=LabelSettings(like_at_least=1.0, dislike_at_most=0.0, cases="last"),
        user_splits=user_splits,
    )


def main(rows: str, folder: str) -> None:
    """Prepare rows of instruction, input and output as a data directory of likes."""
    with staged_directory(folder) as staging:
        prepare(read_instructions(rows), staging, SplitSettings(kind="users"))


if __name__ == "__main__":
    sys.exit(report_errors("instructions", lambda: main(*sys.argv[1:3])))
