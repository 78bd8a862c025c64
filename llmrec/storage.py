"""Files and folders that are written whole or not at all, whoever else reads or writes them at the same time.

All are finished in a private folder `.NAME.1a2b3c4d.partial` beside their place, locked while its process lives, and
then moved. Several files of a folder that holds others too cannot be moved in one step: their private folder is renamed
to `.saved`, which is the moment of the save, and whoever finds a `.saved` can move its files to their places.
Locks are those of flock(2), on the folders themselves: no lock file is made, and a killed process holds none.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:  # Windows: folders are written as elsewhere, but no process waits for another
    fcntl = None  # type: ignore[assignment]

Result = TypeVar("Result")

STAGED = "saving"
NEW = "new"
COMMITTED = ".saved"
GONE = ".gone.json"
"""In a staged folder: names of files that the new save no longer has."""
MAX_GONE = 1 << 20
"""Bytes of that file at most."""
PLAIN_NAME = re.compile(r"\w[\w.-]*")
MAX_WAIT = 120.0
"""Seconds that a process waits for others to finish with a folder."""
MAX_READS = 4
NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What flock says on file systems that lock no folders."""
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space, or give a folder on another disk"),
    errno.EFBIG: "Raise the limit on the size of a file (`ulimit -f`), or give a folder on another disk",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Close files, or raise their number (`ulimit -n 4096`)"),
    **dict.fromkeys((errno.EROFS, errno.EIO), "Give a folder on another disk"),
}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(folder: str | os.PathLike) -> None:
    """Raise unless a file can be made in `folder`, or in the nearest folder above it that exists; nothing stays behind.

    Raises:
        NotADirectoryError: if a part of the path is a file.
        PermissionError: if nothing can be written there.
    """
    existing = _existing(Path(folder))
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise PermissionError(
            f"output folder {os.fspath(folder)!r} cannot be written ({error.strerror}); give another."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text: a reader finds the old one or the new one, never a part."""
    with replaced_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Replace several files of a folder together (`replaced_together`), by texts by name."""
    with replaced_together(folder) as staged:
        for name, text in texts.items():
            (staged / name).write_text(text, encoding="utf-8")


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file there takes its place at `path` when the block ends without an error."""
    with _explained(path), _staged(path.parent, path.name) as folder:
        yield folder / path.name
        os.replace(folder / path.name, path)


@contextmanager
def replaced_folder(path: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yield an empty folder that takes its place at `path` when the block ends without an error.

    Until then, and after an error, whatever stood at `path` is untouched.

    Args:
        path: Where the folder goes; its parents are made.
        check: Raises if what stands at `path` may not be replaced; called before and after the block.

    Raises:
        NotADirectoryError: if a part of the path is a file.
        PermissionError: if nothing can be written there.
    """
    target = path.resolve()
    check()
    with _explained(path), _staged(_existing(target.parent), target.name) as folder:
        yield folder
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent):
            check()  # another process may have been faster
            put_in_place(folder, target)


def put_in_place(staged: Path, target: Path) -> None:
    """Rename a folder to `target`; one that stands there ends at `staged`, and at no moment is neither in place.

    Where the system cannot exchange two folders in one step, the old one is renamed aside first and back again if the
    second rename fails.
    """
    if not target.exists() or not any(target.iterdir()):
        os.replace(staged, target)
    elif not exchange(staged, target):
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.replaced")
        os.replace(target, aside)
        try:
            os.replace(staged, target)
        except OSError:
            os.replace(aside, target)
            raise
        shutil.rmtree(aside)


def exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step where Linux offers it (renameat2), and say whether it was done."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd, rename_exchange = -100, 2
    return renameat2 is not None and not renameat2(
        at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), rename_exchange
    )


@contextmanager
def replaced_together(
    folder: Path, owned: Iterable[str] = (), before: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Yield an empty folder whose files take their places in `folder` when the block ends without an error.

    After an error, or when the process is killed before that, the folder is as it was. Of two processes that save to
    one folder the second waits until the first has moved its files.

    Args:
        folder: Where the files go; other files in it are left alone.
        owned: Names of files that leave `folder` if the block does not write them.
        before: Called with the staged folder when no other process can save to `folder` any more: checks what stands
            there, or adds files that depend on it.

    Raises:
        NotADirectoryError: if `folder` is a file.
        PermissionError: if nothing can be written there.
        TimeoutError: if other processes keep the folder locked.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output folder {str(folder)!r} is a file; give another name.")
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        finish(folder)
        with _staged(folder, STAGED) as staged:
            yield staged
            with locked(folder):
                _finish(folder)
                if before is not None:
                    before(staged)
                gone = sorted(name for name in owned if (folder / name).is_file() and not (staged / name).exists())
                (staged / GONE).write_text(json.dumps(gone), encoding="utf-8")
                os.rename(staged, folder / COMMITTED)
                _finish(folder)


def finish(folder: Path) -> None:
    """Put the files of a save that was interrupted in their places; wait for one that is being finished.

    The folder may be untrusted: nothing outside it is written or deleted.

    Raises:
        PermissionError: if there is such a save and the folder cannot be written.
        TimeoutError: if other processes keep the folder locked.
        ValueError: if what stands there is no such save, or names files outside the folder; nothing was touched then.
    """
    if not (folder / COMMITTED).is_dir():
        return
    with locked(folder):
        try:
            _finish(folder)
        except OSError as error:
            raise PermissionError(
                f"{str(folder)!r} holds a save that was interrupted, which cannot be finished ({error.strerror}).\n"
                "Load it once where the folder can be written."
            ) from error


def _finish(folder: Path) -> None:
    """Do as `finish` says, in a folder that is locked."""
    committed, root = folder / COMMITTED, folder.resolve()
    if not committed.is_dir():
        return
    entries = [] if committed.is_symlink() else sorted(committed.rglob("*"))
    kinds = {stat.S_IFMT(_mode(path)) for path in [committed, *entries]}  # a link, a pipe or a device is no save
    gone = _gone(committed) if kinds <= {stat.S_IFREG, stat.S_IFDIR} else [None]
    paths = [path for path in entries if path.is_file() and path.name != GONE]
    places = [folder / path.relative_to(committed) for path in paths]
    inside = all(place.parent.resolve().is_relative_to(root) for place in places)
    known = gone is not None or not paths
    plain = all(isinstance(name, str) and PLAIN_NAME.fullmatch(name) for name in gone or [])
    if not (known and inside and plain):
        raise ValueError(
            f"{str(committed)!r} is no save that was interrupted: it has no list of files, names files outside the "
            "folder, or holds a link or a pipe.\nDelete it if you trust the other files, or get the folder again."
        )
    for path, place in zip(paths, places, strict=True):
        with suppress(FileNotFoundError):  # another process was faster, where nothing can be locked
            place.parent.mkdir(exist_ok=True)
            os.replace(path, place)
    for name in gone or []:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(committed, ignore_errors=True)


def _mode(path: Path) -> int:
    """Return the kind of an entry, that of a file where there is none (any more)."""
    with suppress(FileNotFoundError):
        return path.lstat().st_mode
    return stat.S_IFREG


def _gone(committed: Path) -> list[Any] | None:
    """Return the names of files that go; None where there is no list, and what is no name where it is none."""
    try:
        if (committed / GONE).stat().st_size > MAX_GONE:
            return [None]
        found = json.loads((committed / GONE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return [None]
    return found if isinstance(found, list) else [found]


def read_whole(folder: Path, names: Iterable[str], read: Callable[[], Result]) -> Result:
    """Return what `read` makes of a folder's files, all of them of one save.

    Nothing is written, so a folder that is read-only will do. If the files were replaced meanwhile it reads again, and
    then keeps others from saving until it is done.

    Args:
        folder: Where the files are.
        names: Files of which every save replaces one at least.
        read: Reads them.

    Raises:
        PermissionError: as `finish`.
        TimeoutError: if the files were replaced every time.
        ValueError: as `finish`.
    """
    names = tuple(names)
    for attempt in range(MAX_READS):
        finish(folder)
        with locked(folder, shared=True) if attempt else nullcontext():
            before = generation(folder, names)
            try:
                result = read()
            except Exception:
                if generation(folder, names) == before and not (folder / COMMITTED).is_dir():
                    raise
            else:
                if generation(folder, names) == before and not (folder / COMMITTED).is_dir():
                    return result
    raise TimeoutError(
        f"{str(folder)!r} was saved anew each of {MAX_READS} times that it was read.\n"
        "Wait for the process that saves to it, or read a copy."
    )


def generation(folder: Path, names: Iterable[str]) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what tells one save of these files from another."""

    def stamp(path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    return tuple(stamp(folder / name) for name in names)


def unless_changed(folder: Path, names: Iterable[str]) -> Callable[..., None]:
    """Return a function that raises ValueError if the files are no longer those of now."""
    names = tuple(names)
    before = generation(folder, names)

    def check(*_: Any) -> None:
        if generation(folder, names) != before:
            raise ValueError(
                f"{str(folder)!r} was replaced by another process after it was read; nothing was written.\n"
                "Run this again when that process has ended."
            )

    return check


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold a folder against other processes and threads, or share it with those that share it, until the block ends.

    On a file system that locks no folders (some network drives), and on Windows, nothing is held.

    Raises:
        TimeoutError: if others hold it for `MAX_WAIT` seconds.
    """
    if fcntl is None:
        yield
        return
    handle, until = os.open(folder, os.O_RDONLY), time.monotonic() + MAX_WAIT
    try:
        while _try_lock(handle, shared) is False:
            if time.monotonic() > until:
                raise TimeoutError(
                    f"{str(folder)!r} is being saved or loaded by another process, for {MAX_WAIT:g} seconds now.\n"
                    "Wait for that process or end it, or give another folder."
                )
            time.sleep(0.01)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a process forked meanwhile has the handle too
        os.close(handle)


def _try_lock(handle: int, shared: bool = False) -> bool | None:
    """Lock an open folder unless others hold it; None where the file system cannot."""
    try:
        fcntl.flock(handle, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


@contextmanager
def _staged(parent: Path, name: str) -> Iterator[Path]:
    """Yield a new folder inside `.NAME.1a2b3c4d.partial`, which is locked while it is in use and deleted at the end."""
    label = name[:80]
    path = parent / f".{label}.{secrets.token_hex(4)}.partial"
    with ExitStack() as held:
        held.callback(shutil.rmtree, path, ignore_errors=True)
        try:
            with locked(parent):  # or another process took it for one that was left
                clean(parent, label)
                (path / NEW).mkdir(parents=True)
                held.enter_context(locked(path))
        except (PermissionError, FileNotFoundError) as error:
            raise PermissionError(
                f"{str(parent / name)!r} cannot be written ({error.strerror}); give another."
            ) from None
        yield path / NEW


def clean(parent: Path, label: str) -> None:
    """Delete the staged folders of this label that killed processes left: those that nobody holds locked.

    Those of older releases (`.saving`, `.report-…`) go too.
    """
    left = re.compile(rf"\.{re.escape(label)}\.\w{{8}}\.partial" + r"|\.saving|\.report-\w{8}" * (label == STAGED))
    found = [] if fcntl is None else [entry.path for entry in os.scandir(parent) if left.fullmatch(entry.name)]
    for path in found:
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _try_lock(handle):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest above it that exists.

    Raises:
        NotADirectoryError: if that is a file.
    """
    path = folder.absolute()
    existing = next(part for part in (path, *path.parents) if part.exists())
    if not existing.is_dir():
        raise NotADirectoryError(
            f"output folder {os.fspath(folder)!r}: {str(existing)!r} is a file; give another name."
        )
    return existing


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Say of a full disk or too many open files what could not be written, and what to do.

    Libraries in Rust and C++ raise exceptions of their own, with the text of the system's error in theirs.
    """
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        if not isinstance(error, OSError):
            code = next((number for number in REMEDIES if os.strerror(number) in str(error)), None)
        if code not in REMEDIES or (isinstance(error, OSError) and error.strerror is None):
            raise
        explained = OSError(
            f"{str(target)!r} cannot be written: {os.strerror(code).lower()}. What it held before is kept.\n"
            f"{REMEDIES[code]}."
        )
        explained.errno = code
        raise explained from error
