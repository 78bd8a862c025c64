"""The files of a folder are replaced together: whoever opens it finds the old ones or the new ones, never a mixture.

Files cannot be renamed all at once, and a folder that holds other things (a training run's checkpoints) cannot be
exchanged as a whole. So they are written to `.saving`, which is then renamed to `.saved`: that is the moment of the
save. What is left, moving them to their places, anybody can finish who finds a `.saved`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

STAGED = ".saving"
COMMITTED = ".saved"
GONE = ".gone.json"
"""In a staged folder: names of files that the new save no longer has."""
PLAIN_NAME = re.compile(r"\w[\w.-]*")


@contextmanager
def replaced_together(folder: Path, owned: Iterable[str]) -> Iterator[Path]:
    """Yield an empty folder whose files take their places in `folder` when the block ends without an error.

    After an error, or when the process is killed before that, the folder is as it was.

    Args:
        folder: Where the files go; other files in it are left alone.
        owned: Names of files that leave `folder` if the block does not write them.

    Raises:
        NotADirectoryError: if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output folder {str(folder)!r} is a file; give another name.")
    finish(folder)
    staged = folder / STAGED
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
    staged.mkdir(parents=True)
    try:
        yield staged
        gone = sorted(name for name in owned if (folder / name).is_file() and not (staged / name).exists())
        (staged / GONE).write_text(json.dumps(gone), encoding="utf-8")
        os.rename(staged, folder / COMMITTED)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    finish(folder)


def finish(folder: Path) -> None:
    """Put the files of a save that was interrupted, or of one that is being finished, in their places.

    Two processes may do it at once. The folder may be a stranger's: nothing outside it is written or deleted.

    Raises:
        ValueError: if what stands there names files outside the folder; nothing was touched then.
    """
    committed, root = folder / COMMITTED, folder.resolve()
    if not committed.is_dir():
        return
    gone = _gone(committed)
    paths = sorted(path for path in committed.rglob("*") if path.is_file() and path.name != GONE)
    places = [folder / path.relative_to(committed) for path in paths]
    inside = all(place.parent.resolve().is_relative_to(root) for place in places)
    if committed.is_symlink() or not inside or not all(isinstance(n, str) and PLAIN_NAME.fullmatch(n) for n in gone):
        raise ValueError(
            f"{str(committed)!r} is no save that was interrupted: it names files outside the folder.\n"
            "Delete it if you trust the other files, or get the adapter again."
        )
    for path, place in zip(paths, places, strict=True):
        with suppress(FileNotFoundError):  # another process was faster
            place.parent.mkdir(exist_ok=True)
            os.replace(path, place)
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(committed, ignore_errors=True)


def _gone(committed: Path) -> list[Any]:
    try:
        found = json.loads((committed / GONE).read_text(encoding="utf-8"))
    except FileNotFoundError:  # another process was faster
        return []
    except (ValueError, RecursionError):
        return [None]
    return found if isinstance(found, list) else [found]
