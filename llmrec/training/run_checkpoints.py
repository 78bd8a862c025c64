"""Checkpoints of a training run: each is whole or not there, and the newest whole one is resumed from.

A checkpoint is written to a hidden folder beside its place, with a list of its files, and gets its name by one rename,
which is its last step. One that is to be deleted loses its name first, by a rename as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from transformers.trainer import OPTIMIZER_NAME
from transformers.trainer_utils import sort_checkpoints

from llmrec.configuration import CONFIG_NAME
from llmrec.hub.card import CARD

_UNFINISHED = ".unfinished-"
"""What the names of checkpoints begin with that are being written or deleted."""
FILES = "checkpoint_files.json"
"""In a checkpoint: the size in bytes of every file that it is made of, but for the card, which may be edited."""
_NAME = re.compile(r"checkpoint-(\d+)")


def staged_for(folder: Path) -> Path:
    """Return where a checkpoint is written before it gets its name: as deep as its place, for relative paths in it."""
    return folder.with_name(f"{_UNFINISHED}{folder.name}")


def publish(folder: Path) -> None:
    """List a staged checkpoint's files in it and give it its name; one that has the name already is replaced.

    Args:
        folder: `checkpoint-N` of a run, whose files are in `staged_for(folder)`.
    """
    staged = staged_for(folder)
    files = [path for path in sorted(staged.rglob("*")) if path.is_file() and path.name != CARD]
    sizes = {str(path.relative_to(staged)): path.stat().st_size for path in files}
    (staged / FILES).write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
    if folder.exists():
        discard(folder)
    os.rename(staged, folder)


def discard(folder: Path) -> None:
    """Delete a checkpoint, so that it is never seen in part."""
    gone = folder.with_name(f"{_UNFINISHED}{folder.name}.deleted")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean(run: Path) -> None:
    """Delete what a process that was killed left unfinished in the folder of a run."""
    for path in run.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def rotate(run: Path, limit: int | None, best: str | None) -> None:
    """Delete the oldest checkpoints until `limit` are left, but neither the newest nor the best.

    Args:
        run: the folder of the run.
        limit: how many to keep; all if None or 0.
        best: path of the best one, if there is any.
    """
    if not limit or limit < 0:
        return
    found = [Path(path) for path in sort_checkpoints(str(run), use_mtime=True)]
    kept = {path.name for path in found[-1:]} | ({Path(best).name} if best else set())
    spare = [path for path in found if path.name not in kept]
    for path in spare[: max(0, len(found) - max(limit, len(kept)))]:
        discard(path)


def why_unfinished(folder: Path) -> str | None:
    """Return what a checkpoint lacks to be resumed from, or None where it is whole."""
    try:
        sizes = dict(json.loads((folder / FILES).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return f"it has no {FILES}"
    except (TypeError, ValueError):
        return f"its {FILES} is damaged"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"its {name} is missing"
        if path.stat().st_size != size:
            return f"its {name} has {path.stat().st_size} bytes, not {size}"
    if OPTIMIZER_NAME not in sizes:
        return "it was saved with save_only_model, without the optimizer"
    return None


def checkpoint_to_resume(asked: str | bool | None, output_dir: str | Path) -> str | None:
    """Return the checkpoint folder to resume from: the one named, or with `true` the newest whole one, if there is any.

    Args:
        asked: `TrainingArguments.resume_from_checkpoint`.
        output_dir: the folder of the run.

    Raises:
        FileNotFoundError: if the folder named is no whole checkpoint, or none of the run's checkpoints is whole.
        FileExistsError: if the run's folder holds an adapter but no checkpoint.
    """
    if asked in (None, False, "False", "false"):
        return None
    run = Path(output_dir)
    if asked not in (True, "True", "true"):
        if reason := why_unfinished(Path(str(asked))):
            raise FileNotFoundError(
                f"resume_from_checkpoint {asked!r} is no checkpoint that was finished: {reason}.\n"
                "Give another checkpoint-N folder of an earlier run, or true for the newest that is whole."
            )
        return str(asked)
    found = [(int(name[1]), path) for path in run.glob("checkpoint-*") if (name := _NAME.fullmatch(path.name))]
    reasons: list[str] = []
    for _, path in sorted(found, reverse=True):
        reason = why_unfinished(path)
        if reason is None:
            for line in reasons:
                print(f"passed over {line}", flush=True)
            return str(path)
        reasons.append(f"{path.name}: {reason}")
    if reasons:
        raise FileNotFoundError(
            f"output_dir {str(run)!r} has no checkpoint that was finished ({'; '.join(reasons)[:300]}).\n"
            "Give another folder to start anew."
        )
    if (run / CONFIG_NAME).exists():
        raise FileExistsError(
            f"output_dir {str(run)!r} holds an adapter but no checkpoint to resume from.\n"
            "Training would replace it: give another folder."
        )
    return None
