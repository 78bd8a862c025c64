"""The data directory that every command passes to the next: written whole or not at all, checked when it is opened."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.data.histories import read_histories, training_histories
from llmrec.data.schema import INTERACTIONS_SCHEMA, SPLITS_SCHEMA, check_schema
from llmrec.storage import finish, read_whole, replaced_folder, sha256_of, unless_changed
from llmrec.untrusted import refusals, regular_files

if TYPE_CHECKING:
    from datasets import Dataset

    from llmrec.data.cleaning import CleaningReport

FORMAT = "llmrec-data"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TABLES = ("interactions.parquet", "items.parquet", "splits.parquet", "histories.arrow")
AUDIT = "audit.json"
TOLD = (
    *("citation", "clock", "counts", "filters", "format_version", "inputs", "labels", "licence", "notes", "outputs"),
    *("source", "split", "ties", "versions"),
)
"""Parts of a manifest that hold hashes, counts and settings alone."""
Table = TypeVar("Table")
MASK_BELOW = 0.1
"""Share of repeated training events below which rankings leave seen items out, unless told otherwise."""
KNOWN_FILES = {MANIFEST, *TABLES, AUDIT, "audit.md"}


def describe_files(paths: dict[str, Path]) -> dict[str, dict[str, int | str]]:
    """Return size and SHA-256 of files by name."""
    return {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in sorted(paths.items())}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check the manifest of a data directory.

    Raises:
        FileNotFoundError: There is no directory or no manifest.
        ValueError: The manifest is no JSON of this format or of a version that this llmrec reads.
    """
    file = path / MANIFEST
    if not file.is_file():
        what = "holds no manifest.json" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"data directory {os.fspath(path)!r} {what};\nmake one with `llmrec prepare --output_dir {path.name}`"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{os.fspath(file)!r} is no JSON ({error}); run `llmrec prepare` again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{os.fspath(file)!r} is no manifest of a data directory; run `llmrec prepare`")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"data directory {os.fspath(path)!r} has format_version {manifest.get('format_version')!r}, "
            f"this llmrec reads {FORMAT_VERSION};\nrun `llmrec prepare` again, or install the llmrec that wrote it"
        )
    return manifest


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with sorted keys, describing the tables that stand in the directory."""
    outputs = describe_files({name: directory / name for name in TABLES})
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest, "outputs": outputs}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


class PreparedData:
    """Cleaned events, split in time, with their catalogue; made by `Interactions.split`, or by `PreparedData.open`.

    Attributes:
        path: Where it lies.
        manifest: Source, licence, filters, counts, split and versions (see `preparation.prepare`).
        report: What cleaning dropped, where the data were prepared here and now.
        temporary: The folder that goes with the object, where the data were saved nowhere else.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.report: CleaningReport | None = None
        self.temporary: tempfile.TemporaryDirectory[str] | None = None
        self._check_unchanged = unless_changed(path, [MANIFEST])

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PreparedData:
        """Open a data directory, checking its files against the manifest.

        Raises:
            FileNotFoundError: The directory, the manifest or a table is missing.
            ValueError: The manifest cannot be read, or a table is not the one it describes.
        """
        directory = Path(path)
        regular_files(directory)

        def read() -> PreparedData:
            with refusals("data directory", directory):
                return cls._open(directory)

        return read_whole(directory, [MANIFEST], read)

    @classmethod
    def _open(cls, directory: Path) -> PreparedData:
        manifest = read_manifest(directory)
        for name in TABLES:
            file = directory / name
            if not file.is_file():
                raise FileNotFoundError(f"data directory {str(directory)!r} lacks {name}; run `llmrec prepare` again")
            if sha256_of(file) != manifest.get("outputs", {}).get(name, {}).get("sha256"):
                raise ValueError(
                    f"{os.fspath(file)!r} is not the file that the manifest describes (its SHA-256 differs);\n"
                    "run `llmrec prepare` again"
                )
        data = cls(directory, manifest)
        for name, schema in (("interactions.parquet", INTERACTIONS_SCHEMA), ("splits.parquet", SPLITS_SCHEMA)):
            check_schema(pl.read_parquet_schema(directory / name), schema, name)
        return data

    @cached_property
    def interactions(self) -> pl.DataFrame:
        """Events sorted by user, time and a salted hash: `user_id`, `item_id`, `timestamp`, optional columns, `liked`.

        `nanosecond` (Int64, within the second) is there where any time has a fraction of a second; the order within a
        second, and what is a tie, is that of both.
        `liked` (Boolean) is there where the data were prepared with likes and dislikes, as `manifest["labels"]` says.
        """
        return self._read(lambda: pl.read_parquet(self.path / "interactions.parquet"))

    @cached_property
    def splits(self) -> pl.DataFrame:
        """For each row of `interactions`, in the same order, its keys, `split` and the `reason` if it was dropped."""
        return self._read(lambda: pl.read_parquet(self.path / "splits.parquet"))

    @cached_property
    def catalog(self) -> Catalog:
        """Every item with text, cold ones included."""
        return self._read(lambda: Catalog.read(self.path / "items.parquet"))

    @property
    def items(self) -> Catalog:
        """The catalogue."""
        return self.catalog

    @property
    def train(self) -> Dataset:
        """Training events, one row per user: `user_id`, and lists `item_id`, `timestamp`, oldest first."""
        return training_histories(self.histories())

    @cached_property
    def validation(self) -> Cases:
        """Targets of the validation split, each with the history before it."""
        return Cases.from_histories(self.histories(), self.catalog, "validation")

    @cached_property
    def test(self) -> Cases:
        """Targets of the test split; look at them once, when everything is decided."""
        return Cases.from_histories(self.histories(), self.catalog, "test")

    @cached_property
    def repeat_share(self) -> float:
        """Share of the training events whose user had the item before."""
        keys = self.interactions.select("user_id", "item_id").with_columns(self.splits["split"])
        train = keys.filter(pl.col("split") == "train")
        return float((pl.Series(train.select(pl.int_range(pl.len()).over("user_id", "item_id"))) > 0).mean() or 0.0)

    @property
    def mask_seen(self) -> bool:
        """Whether rankings leave items of the history out: where fewer than `MASK_BELOW` of the events repeat one."""
        return self.repeat_share < MASK_BELOW

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Copy the data directory to another folder.

        Raises:
            FileExistsError: Something else stands there.
        """
        with staged_directory(folder, overwrite=overwrite) as staging:
            for name in sorted(KNOWN_FILES):
                if (self.path / name).is_file():
                    shutil.copyfile(self.path / name, staging / name)

    @property
    def has_clock(self) -> bool:
        """Whether timestamps are seconds, not ordinals."""
        return self.manifest["clock"] != "ordinal"

    @property
    def audit(self) -> dict[str, Any] | None:
        """What `audit.audit` found when the data were prepared or last audited; None in a directory without it.

        Raises:
            ValueError: audit.json is no JSON object.
        """
        file = self.path / AUDIT
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{os.fspath(file)!r} is no JSON ({error}); run `llmrec audit` again") from None
        if not isinstance(found, dict):
            raise ValueError(f"{os.fspath(file)!r} is no audit; run `llmrec audit` again")
        return found

    @property
    def provenance(self) -> dict[str, Any]:
        """What may be told of the data wherever an adapter goes: source, terms, hashes, counts; nobody's events."""
        told = {name: self.manifest[name] for name in TOLD if name in self.manifest}
        return {**told, "manifest_sha256": sha256_of(self.path / MANIFEST)}

    def histories(self) -> Dataset:
        """Open the histories, memory-mapped.

        Returns:
            One row per user, sorted by `user_id`, with lists `item_id` (string), `timestamp` (int64, seconds) and
            `split` (string), in the order of `interactions`, and `nanosecond` (int64) and `liked` (bool) where
            `interactions` has them; dropped events are not in it.
        """
        return self._read(lambda: read_histories(self.path / "histories.arrow"))

    def _read(self, read: Callable[[], Table]) -> Table:
        """Return a table, unless other data were prepared at the path since it was opened.

        Raises:
            ValueError: They were, or the table is damaged.
        """
        try:
            with refusals("data directory", self.path):
                return read()
        finally:
            self._check_unchanged()


def check_output_dir(path: Path, overwrite: bool) -> None:
    """Raise unless a data directory may be written at a path.

    Raises:
        NotADirectoryError: The path, or a part of it, is a file.
        FileExistsError: Something stands there that may not be replaced.
    """
    for part in (path, *path.parents):
        if part.exists():
            if not part.is_dir():
                raise NotADirectoryError(
                    f"output directory {os.fspath(path)!r}: {os.fspath(part)!r} is a file; choose another"
                )
            break
    finish(path)
    if not path.is_dir() or not any(path.iterdir()):
        return
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in KNOWN_FILES)
    if foreign or not (path / MANIFEST).is_file():
        found = foreign[0] if foreign else next(path.iterdir()).name
        raise FileExistsError(
            f"output directory {os.fspath(path)!r} holds {found!r}, which is no part of a data directory;\n"
            "choose an empty or a new one"
        )
    read_manifest(path)
    if not overwrite:
        raise FileExistsError(
            f"output directory {os.fspath(path)!r} already holds prepared data;\nreplace it with --overwrite true"
        )


@contextmanager
def staged_directory(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty directory that takes its place at `path` when the block ends without an error.

    Until then, and after an error, whatever stood at `path` is untouched.

    Raises:
        NotADirectoryError: The path, or a part of it, is a file.
        FileExistsError: Something stands there that may not be replaced.
        PermissionError: Nothing can be written there.
    """
    target = Path(path)
    with replaced_folder(target, lambda: check_output_dir(target, overwrite)) as staging:
        yield staging
