"""What a run of `llmrec transfer` is made of, kept beside its folder: it is gone on with if that is still the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmrec.checkpoints import Checkpoint, resolve_checkpoint
from llmrec.configuration import read_json
from llmrec.data.directory import MANIFEST
from llmrec.hub.data_sets import open_data
from llmrec.storage import sha256_of, write_text
from llmrec.text.template import PromptTemplate
from llmrec.training.arguments import ModelArguments, RecTrainingArguments

ELSEWHERE = ("output_dir", "logging_dir", "run_name", "resume_from_checkpoint", "disable_tqdm")
"""Settings of a run that change nothing of what comes out."""


def made_of(data: Any, model: ModelArguments, training: RecTrainingArguments) -> dict[str, Any]:
    """Return every setting that decides what a run comes to; names of folders stand as what those hold."""
    chosen = {**training.to_dict(), **vars(data), **vars(model)}
    names = data.data_dir if isinstance(data.data_dir, list) else [data.data_dir]
    chosen["data_dir"] = [sha256_of(open_data(name).path / MANIFEST) for name in names]
    chosen["base_model"] = resolve_checkpoint(model.base_model, model.base_revision).sha256()
    chosen["template"] = asdict(PromptTemplate.load(model.template))
    chosen["init_adapter"] = None if model.init_adapter is None else weights_of(Path(model.init_adapter))
    return {name: value for name, value in chosen.items() if name not in ELSEWHERE}


def weights_of(folder: Path) -> str:
    """Return the SHA-256 of the weights in a folder of llmrec."""
    return Checkpoint(folder.name, folder, None, "folder").sha256()


def claim(folder: Path, content: Mapping[str, Any]) -> None:
    """Record beside a folder what it is about to be made of; one that stands there has to be made of the same.

    Raises:
        FileExistsError: if it is made of something else, or nothing says of what.
    """
    record = folder.with_name(f"{folder.name}.json")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_text(record, json.dumps(content, indent=2, sort_keys=True) + "\n")
        return
    if not record.is_file():
        raise FileExistsError(
            f"{str(folder)!r} is there, but no {record.name} beside it says what it was made of: give another "
            "--output_dir."
        )
    saved, now = read_json(record), json.loads(json.dumps(content))
    others = [name for name in sorted({*saved, *now}) if saved.get(name) != now.get(name)]
    if others:
        raise FileExistsError(
            f"{str(folder)!r} holds a run with other {', '.join(others)}: give another --output_dir, or the settings "
            "that it was made with."
        )
