"""What is asked of every folder from elsewhere before a file of it is opened: kind, place and size; and how it fails.

The libraries that read a folder open whichever names they know, and follow links. So all entries of a folder are
checked, not only those that llmrec names: an entry is a regular file, a directory, or a link to one of them that stays
in the folder. `LIMITS` is the one table of budgets; `docs/security.md` repeats it.

Files are checked and opened afterwards: who can write to the folder in between can exchange them.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from llmrec.formatting import printable

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limit:
    """Budget of a file.

    Attributes:
        bytes: Size on disk.
        counts: What it may hold at most, by what is counted.
    """

    bytes: int
    counts: Mapping[str, int] = field(default_factory=dict)


TENSORS = {"tensors": 20_000, "numbers along one side of a tensor": 1 << 20}
LIMITS: Mapping[str, Limit] = {
    "llmrec_config.json": Limit(MIB),
    "adapter_config.json": Limit(MIB, {"target modules": 512, "numbers of rank": 512}),
    "prompt.json": Limit(64 * KIB, {"fields": 256}),
    "probe.json": Limit(
        MIB, {"histories": 16, "events of a history": 64, "candidates of a history": 64, "seconds to replay": 600}
    ),
    "items.parquet": Limit(
        4 * GIB,
        {
            **{"rows": 10_000_000, "columns": 256, "row groups": 10_000},
            **{"bytes when unpacked": 8 * GIB, "bytes of text": 4 * GIB},
        },
    ),
    "item_tables.safetensors": Limit(64 * GIB, {"tensors": 16}),
    "memory.safetensors": Limit(16 * GIB, {"tensors": 3}),
    "item_embeddings.safetensors": Limit(64 * GIB, {"tensors": 16}),
    "adapter_model.safetensors": Limit(4 * GIB, TENSORS),
    "adaptation.safetensors": Limit(4 * GIB, TENSORS),
    "head.safetensors": Limit(4 * GIB, TENSORS),
    "tokenizer.json": Limit(
        64 * MIB, {"parts of the pipeline": 1_000, "growth of a text": 1_024, "tokens to pad to": 1 << 20}
    ),
    "tokenizer_config.json": Limit(16 * MIB),
    "special_tokens_map.json": Limit(4 * MIB),
    "added_tokens.json": Limit(4 * MIB),
    "config.json": Limit(
        4 * MIB, {"modules": 50_000, "modules for each stored tensor": 10, "weights for each stored byte": 4}
    ),
    "README.md": Limit(MIB),
    "data_manifest.json": Limit(16 * MIB),
    "training_settings.json": Limit(16 * MIB),
    "eval_results.json": Limit(16 * MIB),
    "manifest.json": Limit(16 * MIB),
    "*.json": Limit(128 * MIB),
    "*.txt": Limit(128 * MIB),
    "*.jinja": Limit(MIB),
    "*.model": Limit(64 * MIB),
}
"""Budgets by name of file; a file of another name has that of its ending, and none where it has none.

Each is far above what an honest file needs, and low enough that a refusal takes a moment. Weights of a backbone have no
limit but that of `config.json`, which may ask for no more than they fill.
"""
READ_FOLDERS = re.compile(r"additional_chat_templates|\d+_\w+|\.saved")
"""Sub-folders that are opened: templates of transformers, modules of sentence-transformers, a save that is finished."""
TOLD = (FileNotFoundError, PermissionError, ConnectionError, NotADirectoryError)
"""Errors that llmrec raises with a text of its own, besides ValueError."""


def limit_of(name: str) -> Limit | None:
    """Return the budget of a file.

    >>> limit_of("prompt.json").bytes, limit_of("vocab.json").bytes, limit_of("run.py")
    (65536, 134217728, None)
    """
    return LIMITS.get(name) or LIMITS.get(f"*{Path(name).suffix}")


def check_bytes(name: str, found: int) -> None:
    """Raise ValueError if a file is larger than its budget."""
    limit = limit_of(Path(name).name)
    if limit is not None and found > limit.bytes:
        raise ValueError(_beyond(name, found, "bytes", limit.bytes))


def check_count(name: str, what: str, found: float) -> None:
    """Raise ValueError if a file holds more of something than its budget allows.

    >>> check_count("prompt.json", "fields", 3)
    >>> check_count("prompt.json", "fields", 100_000)
    Traceback (most recent call last):
    ...
    ValueError: prompt.json has 100,000 fields; llmrec reads 256 at most.
    Get the folder again; if it stays so, do not use it.
    """
    limit = LIMITS[name].counts[what]
    if found > limit:
        raise ValueError(_beyond(name, found, what, limit))


def _beyond(name: str, found: float, what: str, limit: int) -> str:
    return (
        f"{name} has {found:,.0f} {what}; llmrec reads {limit:,} at most.\n"
        "Get the folder again; if it stays so, do not use it."
    )


def regular_files(folder: Path) -> dict[str, int]:
    """Return the bytes of every file of a folder that may be opened, by name; sub-folders that no library opens apart.

    Args:
        folder: The folder; it may itself be reached by links. Its entries may be links within it, and those of a
            snapshot in the Hub's cache within the cache of that repository, where the Hub's client keeps files.

    Raises:
        ValueError: if an entry is a link out of the folder, is neither file nor directory, or exceeds its budget.
    """
    root, sizes = _storage(folder), {}
    if not folder.is_dir():
        return {}
    paths = sorted(folder.iterdir())
    for inside in (path for path in list(paths) if READ_FOLDERS.fullmatch(path.name) and path.is_dir()):
        if inside.resolve().is_relative_to(root):  # else refused below
            with suppress(FileNotFoundError):  # of a save that another process has just finished
                paths += sorted(inside.iterdir())
    for path in paths:
        name = str(path.relative_to(folder))
        try:
            real = path.resolve(strict=True)
            found = real.lstat()
        except FileNotFoundError:  # a link to nothing, or a file that is being replaced: there is nothing to read
            continue
        except (OSError, RuntimeError):  # a link to itself
            real, found = Path("/"), folder.lstat()
        if not real.is_relative_to(root):
            raise ValueError(
                f"{name!r} in {str(folder)!r} is a link out of the folder, which llmrec does not follow.\n"
                "Put the file itself in its place, or delete it."
            )
        if stat.S_ISDIR(found.st_mode):
            continue
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(
                f"{name!r} in {str(folder)!r} is a pipe, a socket or a device; llmrec opens files alone.\nDelete it."
            )
        check_bytes(name, found.st_size)
        sizes[name] = found.st_size
    return sizes


def _storage(folder: Path) -> Path:
    """Return what links of a folder may point into: the folder, or the repository's cache that it is a snapshot of."""
    from huggingface_hub import constants

    real, cache = folder.resolve(), Path(constants.HF_HUB_CACHE).resolve()
    parts = real.relative_to(cache).parts if real.is_relative_to(cache) else ()
    return cache / parts[0] if len(parts) == 3 and parts[1] == "snapshots" else real


def holds(folder: Path, name: str) -> bool:
    """Tell whether a folder has a file of that name, which is no link out of it."""
    path = folder / name
    return path.is_file() and path.resolve().is_relative_to(_storage(folder))


@contextmanager
def refusals(what: str, folder: Path) -> Iterator[None]:
    """Turn what a damaged or hostile folder makes of the libraries that read it into a ValueError that names it.

    Compiled readers panic with errors that are not even an `Exception`.

    Args:
        what: Of which kind the folder is, in words.
        folder: Its path.

    Raises:
        ValueError: for all but what says that the machine is at fault, or the caller: `TOLD`, no memory, no space.
    """
    try:
        yield
    except (*TOLD, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if (isinstance(error, OSError) and error.errno is not None) or "OutOfMemory" in type(error).__name__:
            raise
        reason, own = str(error), type(error) is ValueError
        if own and (str(folder) in reason or any(name in reason for name in LIMITS)):
            raise
        if not own:
            first = (reason.strip() or "no reason given").splitlines()[0][:200]
            reason = f"{type(error).__name__}: {first}.\nSave or download it again."
        raise ValueError(f"{what} {str(folder)!r} cannot be used: {printable(reason, keep_lines=True)}") from None
