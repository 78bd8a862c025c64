"""`llmrec recommend`: histories in, ranked items out, as JSON Lines.

    llmrec recommend --model RUN --input histories.jsonl --output recommendations.jsonl --k 10

A line of the input is {"user_id": "…", "history": [{"item_id": "…", "timestamp": 1700000000}, {"title": "…"}, …]},
oldest event first, perhaps with "now": when it is asked, by default at the time of the last event. A line of the output
has the same user_id and "recommendations", best first.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.ranking.recommendation import Recommendation
from llmrec.recommender import Recommender
from llmrec.storage import check_writable, replaced_file

LINES_AT_ONCE = 256
"""Histories recommended for between two steps of the progress bar."""


@dataclass
class RecommendArguments:
    """Whose histories, and how many items."""

    model: str = field(metadata={"help": "Adapter: output folder of `llmrec train`, or a Hub name."})
    input: str = field(metadata={"help": "JSON Lines file with a history per line."})
    output: str = field(metadata={"help": "JSON Lines file to write."})
    k: int = field(default=10, metadata={"help": "Items per history."})
    exclude_seen: bool | None = field(
        default=None,
        metadata={"help": "Leave items of the history out, true or false; by default as the adapter was trained."},
    )
    base_model: str | None = field(
        default=None, metadata={"help": "Base checkpoint, if it is not where the adapter says: Hub name or folder."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the adapter on the Hub."})
    proposer: str | None = field(
        default=None,
        metadata={
            "help": "Another adapter of the same items whose dual head proposes what this one's candidate head ranks: "
            "folder or Hub name; by default the adapter proposes by itself."
        },
    )


def main(argv: list[str] | None = None) -> None:
    """Parse, recommend for every line, write the output whole."""
    arguments = parse_arguments("recommend", RecommendArguments, argv)
    print_settings(arguments)
    lines = list(read_histories(Path(arguments.input)))
    output = Path(arguments.output)
    if not output.parent.is_dir():
        raise FileNotFoundError(f"output {arguments.output!r}: its folder does not exist; make it or give another.")
    check_writable(output.parent)
    if output.is_dir() or output.resolve() == Path(arguments.input).resolve():
        raise FileExistsError(f"output {arguments.output!r} is a folder or the input itself; give another name.")
    recommender = Recommender.from_pretrained(
        arguments.model, revision=arguments.revision, base_model=arguments.base_model
    )
    if arguments.exclude_seen not in (None, recommender.config.mask_seen):
        warnings.warn(
            f"exclude_seen is {arguments.exclude_seen}, but the adapter was trained with mask_seen "
            f"{recommender.config.mask_seen}: it ranks in a way that it was not trained for.\n"
            "Leave --exclude_seen out to recommend as it was trained.",
            stacklevel=2,
        )
    proposer = None if arguments.proposer is None else Recommender.from_pretrained(arguments.proposer)
    if proposer is not None:
        recommender.check_proposer(proposer)
    for number, line in lines:
        try:
            recommender.check_history(line["history"], line.get("now"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{arguments.input}, line {number}: {error}") from None
    # A lone surrogate is written as JSON escapes it.
    with replaced_file(output) as scratch, scratch.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for begin in tqdm(range(0, len(lines), LINES_AT_ONCE), desc="recommending", unit="batch"):
            batch = [line for _, line in lines[begin : begin + LINES_AT_ONCE]]
            histories, now = [line["history"] for line in batch], [line.get("now") for line in batch]
            found = recommender.recommend_batch(
                histories, arguments.k, arguments.exclude_seen, now=now, proposer=proposer
            )
            for line, entries in zip(batch, found, strict=True):
                kept = {name: value for name, value in line.items() if name != "history"}
                record = {**kept, "recommendations": [as_record(entry) for entry in entries]}
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"wrote {len(lines)} lines to {output}")


def read_histories(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of every line that is not blank.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line is no object with a `history` list, or no line has anything.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no input file {str(path)!r}: give a JSON Lines file with a history per line.")
    empty = True
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                line = strict_json(text.decode("utf-8"))
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}.") from None
            except RecursionError:
                raise ValueError(
                    f"{path}, line {number} is nested too deep: give an object as `--help` shows."
                ) from None
            history = line.get("history") if isinstance(line, dict) else None
            if not isinstance(history, list) or not all(isinstance(event, dict) for event in history):
                raise ValueError(f'{path}, line {number}: give an object with "history": a list of objects.')
            empty = False
            yield number, line
    if empty:
        raise ValueError(f"{str(path)!r} has no line: give at least one history.")


def strict_json(text: str) -> Any:
    """Read JSON as its standard has it: no NaN, no number too large for a float, no name twice in an object.

    Raises:
        ValueError: if it is none.

    >>> strict_json('{"a": NaN}')
    Traceback (most recent call last):
    ValueError: NaN is no number
    """

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is no number")
        return value

    def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"{name!r} stands twice in an object")
            found[name] = value
        return found

    return json.loads(text, parse_constant=finite, parse_float=finite, object_pairs_hook=named_once)


def as_record(entry: Recommendation) -> dict[str, Any]:
    """Return a recommendation as it is written: id, rank, score, and the item's text fields."""
    own = {"item_id": entry.item_id, "rank": entry.rank, "score": round(entry.score, 6)}
    return {**own, **entry.text, **own}  # a text field named "score" must not pose as one
