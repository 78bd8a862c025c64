"""Outputs: whether one can be written, tried before the work, and files that are replaced whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def check_writable(folder: str | os.PathLike) -> None:
    """Raise unless a file can be made in `folder`, or in the nearest folder above it that exists; nothing stays behind.

    Raises:
        NotADirectoryError: if a part of the path is a file.
        PermissionError: if nothing can be written there.
    """
    path = Path(folder).absolute()
    existing = next(part for part in (path, *path.parents) if part.exists())
    if not existing.is_dir():
        raise NotADirectoryError(
            f"output folder {os.fspath(folder)!r}: {str(existing)!r} is a file; give another name."
        )
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise PermissionError(
            f"output folder {os.fspath(folder)!r} cannot be written ({error.strerror}); give another."
        ) from None


def replace_text(path: Path, text: str) -> None:
    """Write a file beside its place and move it there: a reader finds the old text or the new one, never a part."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)
