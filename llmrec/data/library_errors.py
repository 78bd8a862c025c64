"""What Polars and decoders raise on a file, turned into errors that name the file and say what to do."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

OF_SYSTEM = re.compile(r"\(os error (\d+)\)")
"""How Polars tells the number of an error of the operating system."""
OF_POLARS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
OF_CONTENT = (*OF_POLARS, zlib.error, EOFError, OSError, UnicodeError, OverflowError, RecursionError)
REMEDY = "it may be damaged, or of another format than its name says; write it again"


@contextmanager
def reading(path: str | os.PathLike[str], remedy: str = REMEDY) -> Iterator[None]:
    """Turn what a library raises on the content of a file into a ValueError.

    Raises:
        ValueError: The content cannot be read.
        OSError: The operating system refuses, not the content.
    """
    name = Path(path).name
    try:
        yield
    except pl.exceptions.NoDataError:
        raise ValueError(f"{name!r} is empty; give a table with a header and at least one row") from None
    except OF_CONTENT as error:
        _raise_system_error(error, path)
        deep = isinstance(error, RecursionError)
        raise ValueError(
            f"{name!r} cannot be read: {'it is nested too deep' if deep else first_line(error)};\n{remedy}"
        ) from None


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what Polars raises where a file cannot be written into the error of the operating system.

    Raises:
        OSError: The disk is full, or too many files are open, and the like.
    """
    try:
        yield
    except (*OF_POLARS, OSError) as error:
        _raise_system_error(error, path)
        raise


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _raise_system_error(error: BaseException, path: str | os.PathLike[str]) -> None:
    told = OF_SYSTEM.search(str(error))
    number = int(told[1]) if told else getattr(error, "errno", None)
    if number is not None:
        raise OSError(number, os.strerror(number), os.fspath(path)) from None
