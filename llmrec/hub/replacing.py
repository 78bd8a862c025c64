"""The files of a folder are replaced together: whoever opens it finds the old ones or the new ones, never a mixture.

Files cannot be renamed all at once, and a folder that holds other things (a training run's checkpoints) cannot be
exchanged as a whole. So they are written to `.saving`, which is then renamed to `.saved`: that is the moment of the
save. What is left, moving them to their places, anybody can finish who finds a `.saved`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STAGED = ".saving"
COMMITTED = ".saved"
GONE = ".gone.json"
"""In a staged folder: names of files that the new save no longer has."""


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

    Two processes may do it at once.
    """
    committed = folder / COMMITTED
    if not committed.is_dir():
        return
    for path in sorted(path for path in committed.rglob("*") if path.is_file() and path.name != GONE):
        place = folder / path.relative_to(committed)
        place.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(path, place)
    with suppress(FileNotFoundError):
        for name in json.loads((committed / GONE).read_text(encoding="utf-8")):
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(committed, ignore_errors=True)
