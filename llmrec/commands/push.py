"""`llmrec push`: an adapter or prepared data to the Hub.

llmrec push --model RUN --repo_id NAME --results RESULTS
llmrec push --data_dir DATA --repo_id NAME --licence "CC BY 4.0"
The token is that of `hf auth login`, or HF_TOKEN.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.data.directory import PreparedData
from llmrec.hub.data_sets import data_set, push_data
from llmrec.hub.eval_results import EVAL_RESULTS, condense
from llmrec.hub.repository import check_repo_id
from llmrec.recommender import Recommender
from llmrec.storage import finish

RESULTS = "results.json"


@dataclass
class PushArguments:
    """What goes where."""

    repo_id: str = field(metadata={"help": "Repository, owner/name; made if it is not there."})
    model: str | None = field(default=None, metadata={"help": "Adapter: output folder of `llmrec train`."})
    data_dir: str | None = field(default=None, metadata={"help": "Data directory, pushed as a data set."})
    private: bool | None = field(
        default=None,
        metadata={"help": "Whether a new repository is private; by default as your account says, and data always."},
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, made if it is not there; main by default."})
    tag: str | None = field(default=None, metadata={"help": "Tag for what is pushed."})
    catalog: bool = field(
        default=True, metadata={"help": "Push the items, and what was learned of each, with the adapter."}
    )
    results: str | None = field(
        default=None, metadata={"help": "Output folder of `llmrec evaluate`, whose results go with the adapter."}
    )
    base_model: str | None = field(
        default=None, metadata={"help": "Hub name of the base checkpoint, if the adapter was trained on a folder."}
    )
    licence: str | None = field(default=None, metadata={"help": "Terms under which others may have the data."})
    dry_run: bool = field(default=False, metadata={"help": "Say what would be pushed, and push nothing."})


def main(argv: list[str] | None = None) -> None:
    """Parse, check, push, and print the commit."""
    arguments = parse_arguments("push", PushArguments, argv)
    if (arguments.model is None) == (arguments.data_dir is None):
        raise ValueError(f"--model {arguments.model!r} and --data_dir {arguments.data_dir!r}: give one of the two.")
    check_repo_id(arguments.repo_id)
    print_settings(arguments)
    (push_model if arguments.data_dir is None else push_directory)(arguments)


def push_model(arguments: PushArguments) -> None:
    """Load the adapter, which verifies it, and push it.

    Raises:
        ValueError: if it is not what was saved, the results are of another adapter, or its items may not be given to
            others.
    """
    assert arguments.model is not None
    recommender = Recommender.from_pretrained(arguments.model, base_model=arguments.base_model)
    if arguments.results is not None:
        record = condense(Path(arguments.model), read_results(Path(arguments.results)))
        earlier = recommender.records.get(EVAL_RESULTS)
        if earlier is None or earlier["results"] != record["results"]:  # `llmrec card` knew more about the same
            recommender.records[EVAL_RESULTS] = record
    if arguments.dry_run:
        recommender.check_pushable(arguments.catalog)
        with tempfile.TemporaryDirectory() as folder:
            recommender.save_pretrained(folder, arguments.catalog, arguments.repo_id)
            list_files(Path(folder), arguments.repo_id)
        return
    commit = recommender.push_to_hub(
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        tag=arguments.tag,
        catalog=arguments.catalog,
    )
    print(f'pushed {arguments.repo_id}\nRecommender.from_pretrained("{arguments.repo_id}", revision="{commit}")')


def push_directory(arguments: PushArguments) -> None:
    """Push a data directory.

    Raises:
        ValueError: if its licence does not permit it, or none is given.
    """
    assert arguments.data_dir is not None
    data = PreparedData.open(arguments.data_dir)
    if arguments.dry_run:
        with data_set(data, arguments.repo_id, arguments.licence) as folder:
            list_files(folder, arguments.repo_id)
        return
    commit = push_data(
        data, arguments.repo_id, arguments.licence, arguments.private, arguments.revision, tag=arguments.tag
    )
    print(f"pushed {arguments.repo_id}\n--data_dir hub:{arguments.repo_id}@{commit}")


def list_files(folder: Path, repo_id: str) -> None:
    """Print what would be pushed."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    print(f"would push to {repo_id}:")
    for path in paths:
        print(f"  {path.stat().st_size:>13,} bytes  {path.relative_to(folder)}")
    print(f"  {sum(path.stat().st_size for path in paths):>13,} bytes  in all")


def read_results(folder: Path) -> dict[str, Any]:
    """Return what `llmrec evaluate` wrote, without the audit's examples, which name people.

    Raises:
        FileNotFoundError: if the folder has no results.
    """
    finish(folder)
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"no {RESULTS} in {str(folder)!r}: give the output folder of `llmrec evaluate`.")
    results = json.loads(path.read_text(encoding="utf-8"))
    for finding in (results.get("audit") or {}).get("findings", []):
        finding["examples"] = []
    return results
