"""`llmrec card`: write the model card of a saved folder, and the numbers that it shows.

    llmrec card --model RUN --results RESULTS --data_dir DATA

RESULTS is an output folder of `llmrec evaluate --model RUN`. What is not given, the card says is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.evaluate_pairs import RESULTS as PAIR_RESULTS
from llmrec.commands.train import RESULT
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.hub.card import CARD, renewed_card
from llmrec.hub.checks import check_folder
from llmrec.hub.eval_results import EVAL_RESULTS, as_json, condense, read_eval_results
from llmrec.hub.folder import FILES
from llmrec.storage import check_writable, finish, replaced_together, sha256_of, unless_changed
from llmrec.untrusted import refusals


@dataclass
class CardArguments:
    """Whose card, and what it may say."""

    model: str = field(metadata={"help": "Saved folder: output folder of `llmrec train` or `llmrec export`."})
    results: str | None = field(
        default=None, metadata={"help": "Output folder of `llmrec evaluate --model` with this very model."}
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Data directory that it was trained and evaluated on."}
    )
    repo_id: str | None = field(
        default=None, metadata={"help": "Name on the Hub, which the card's example then loads: owner/name."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the adapter, such as apache-2.0: often that of the base model."}
    )


def main(argv: list[str] | None = None) -> None:
    """Parse, condense, write both files."""
    arguments = parse_arguments("card", CardArguments, argv)
    print_settings(arguments)
    folder = Path(arguments.model)
    finish(folder)
    unchanged = unless_changed(folder, FILES)
    check_folder(folder, catalog=False)
    check_writable(folder)
    manifest, audit = read_data(arguments.data_dir)
    training = folder / RESULT
    with refusals("what the card tells of", Path(arguments.results or folder)):
        record = condense(
            folder,
            results=None if arguments.results is None else read_results(Path(arguments.results)),
            manifest=manifest,
            audit=audit,
            training=json.loads(training.read_text(encoding="utf-8")) if training.is_file() else None,
        )
        record = with_earlier(record, read_eval_results(folder))
        text = renewed_card(folder, record, folder / CARD, arguments.repo_id, license=arguments.license)
    if text is None:
        raise FileExistsError(f"{str(folder / CARD)!r} was not written by llmrec; move it away first.")
    contents = {EVAL_RESULTS: as_json(record), CARD: text}
    with replaced_together(folder, before=unchanged) as staged:
        for written, content in contents.items():
            (staged / written).write_text(content, encoding="utf-8")
    missing = [name for name in ("results", "data", "audit", "training") if record[name] is None]
    print(f"wrote {EVAL_RESULTS} and {CARD} to {folder}{'; missing: ' + ', '.join(missing) if missing else ''}")


def with_earlier(record: dict[str, Any], earlier: dict[str, Any] | None) -> dict[str, Any]:
    """Fill what was not given from an earlier record of the same model; results and data of different data stay apart.

    >>> given = {"model": {"model_sha256": "m"}, "results": None, "data": {"sha256": "d"}}
    >>> def told_of(data):
    ...     return {**given, "results": {"protocol": {"manifest_sha256": data}}, "data": None}
    >>> with_earlier(given, told_of("d"))["results"], with_earlier(given, told_of("other"))["results"]
    ({'protocol': {'manifest_sha256': 'd'}}, None)
    """
    if earlier is None or earlier["model"].get("model_sha256") != record["model"]["model_sha256"]:
        return record
    filled = {name: earlier.get(name) if part is None else part for name, part in record.items()}
    results, data = filled["results"], filled["data"]
    if results and data and results["protocol"].get("manifest_sha256") != data["sha256"]:
        return record
    return filled


def read_results(folder: Path) -> dict[str, Any]:
    """Return what an evaluation measured: a ranking, or labelled pairs.

    Raises:
        FileNotFoundError: if the folder holds neither.
    """
    finish(folder)
    for name in ("results.json", f"{PAIR_RESULTS}.json"):
        if (folder / name).is_file():
            return json.loads((folder / name).read_text(encoding="utf-8"))
    raise FileNotFoundError(f"{str(folder)!r} holds no results.json: evaluate the model into this folder first.")


def read_data(data_dir: str | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the manifest of a data directory, with its own hash, and its audit; None for what there is not."""
    if data_dir is None:
        return None, None
    directory = PreparedData.open(data_dir)
    return {**directory.manifest, "sha256": sha256_of(directory.path / MANIFEST)}, directory.audit
