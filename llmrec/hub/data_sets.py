"""Data directories on the Hub, where their licence permits it: `hub:owner/name` stands for one in place of a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrec.data.directory import KNOWN_FILES, TABLES, PreparedData, write_manifest
from llmrec.hub.repository import explained, push_folder

PREFIX = "hub:"
CARD = "README.md"


def open_data(name: str) -> PreparedData:
    """Open a data directory: a folder, or `hub:owner/name`, with `@revision` behind it if need be.

    Raises:
        FileNotFoundError: if there is none.
        PermissionError: if the Hub refuses.
        ValueError: if it is none that this release reads, or a table is not the one that its manifest describes.
    """
    if not name.startswith(PREFIX):
        return PreparedData.open(name)
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    with explained("data set", repository, revision or None):
        folder = snapshot_download(
            repository, repo_type="dataset", revision=revision or None, allow_patterns=sorted(KNOWN_FILES)
        )
    return PreparedData.open(folder)


def push_data(
    data: PreparedData,
    repo_id: str,
    licence: str | None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    tag: str | None = None,
) -> str:
    """Upload a data directory as a data set and return the commit.

    Args:
        data: Events of people: see that they may be known.
        repo_id: Name of the data set, `owner/name`.
        licence: The terms under which others may have it, as it stands in the pushed manifest.
        private: Whether a new repository is private; unless False it is.
        revision: Branch.
        token: Hub token.
        tag: Name for the commit.

    Raises:
        ValueError: as `data_set`.
        PermissionError: if the Hub refuses.
    """
    with data_set(data, repo_id, licence) as folder:
        hidden, files = private is not False, (*sorted(KNOWN_FILES), CARD)
        return push_folder(folder, repo_id, hidden, revision, token, tag, "dataset", files)


@contextmanager
def data_set(data: PreparedData, repo_id: str, licence: str | None) -> Iterator[Path]:
    """Make the folder that a data directory is pushed as, and take it away again.

    Raises:
        ValueError: if the data may not be given to others, or nobody says that they may.
    """
    check_redistribution(data.manifest, "the data")
    if not licence:
        raise ValueError(
            f"nobody says that the data ({data.manifest['source']}: {data.manifest['licence']}) may be given to others."
            "\nIf they may, name their licence with --licence."
        )
    with tempfile.TemporaryDirectory() as folder:
        for name in [*TABLES, *sorted(KNOWN_FILES - set(TABLES))]:
            if (data.path / name).is_file():
                shutil.copyfile(data.path / name, Path(folder, name))
        kept = {name: value for name, value in data.manifest.items() if name not in ("format", "format_version")}
        write_manifest(Path(folder), {**kept, "licence": licence})
        Path(folder, CARD).write_text(data_card(data.manifest, repo_id, licence), encoding="utf-8")
        yield Path(folder)


def data_card(manifest: Mapping[str, Any], repo_id: str, licence: str) -> str:
    """Return the page of a data set: what it is, its terms, whom to cite, how to use it."""
    read = manifest["counts"]["events"][-1]
    return "\n".join(
        [
            "---\ntags:\n- llmrec\n- sequential-recommendation\n---",
            f"# {repo_id.rpartition('/')[2]}\n",
            f"{manifest['source']}, prepared by llmrec: {read['events']:,} events of {read['users']:,} users with "
            f"{read['items']:,} items, {manifest['split']['kind']} split.\n",
            f"Licence: {licence}\n\nCitation: {manifest['citation']}\n",
            f"```bash\nllmrec train --data_dir {PREFIX}{repo_id} --base_model BASE --output_dir RUN\n```\n",
        ]
    )


def check_redistribution(manifest: Mapping[str, Any], what: str) -> None:
    """Refuse to give to others what its publisher does not let them have.

    Args:
        manifest: Of the data, as `llmrec prepare` wrote it.
        what: What is given, in words.

    Raises:
        ValueError: if it is of MovieLens.
    """
    if str(manifest.get("source", "")).startswith("movielens"):
        raise ValueError(
            f"{what} may not be pushed: {manifest['licence']}.\nOthers can make the same data with `llmrec prepare "
            f"--source {manifest['source']}`; an adapter goes without its items (--catalog false)."
        )
