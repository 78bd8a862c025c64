"""Fitted baselines in a folder: `baselines.json`, the record, and one safetensors file for each system.

| key of `baselines.json` | content |
|---|---|
| `format`, `format_version` | what it is, and which llmrec reads it |
| `manifest_sha256` | digest of the manifest of the data directory, which names its tables' digests |
| `systems` | for each: `settings` and the `sha256` of its arrays, its `search`, and the `run` that made it |
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from llmrec.baselines.search import Search, System
from llmrec.baselines.systems import SYSTEMS
from llmrec.storage import read_whole, replaced_together
from llmrec.untrusted import refusals, regular_files

FORMAT = "llmrec-baselines"
FORMAT_VERSION = 1
RECORD = "baselines.json"


def write_baseline(
    folder: str | os.PathLike, name: str, system: System, search: Search, manifest_sha256: str, run: dict[str, Any]
) -> None:
    """Add a system to a folder, which is made if need be, or take the place of the one of that name.

    The arrays and the record are replaced together; processes that add systems to one folder lose none of them.

    Args:
        folder: Where to.
        name: A name in `SYSTEMS`.
        system: The fitted system.
        search: How it was chosen.
        manifest_sha256: Digest of the manifest of the data it was fitted to.
        run: What else made it: settings of the command, seed, versions. JSON.

    Raises:
        ValueError: If the name is unknown, or the folder holds baselines of other data.
    """
    if name not in SYSTEMS:
        raise ValueError(f"system {name!r} is unknown: it is none of {', '.join(SYSTEMS)}")
    path = Path(folder)
    check_record(path, manifest_sha256)
    settings, arrays = system.state()
    content = save({key: array.copy(order="C") for key, array in sorted(arrays.items())})

    def add_to_record(staged: Path) -> None:
        record = check_record(path, manifest_sha256)
        record["systems"][name] = {
            "settings": settings,
            "sha256": hashlib.sha256(content).hexdigest(),
            "search": asdict(search),
            "run": run,
        }
        text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (staged / RECORD).write_text(text + "\n", encoding="utf-8")

    with replaced_together(path, before=add_to_record) as staged:
        (staged / f"{name}.safetensors").write_bytes(content)


def check_record(folder: str | os.PathLike, manifest_sha256: str) -> dict[str, Any]:
    """Return the record of a folder, a new one without systems if it has none.

    Raises:
        ValueError: If the folder holds baselines of other data, or a record that cannot be read.
    """
    if not (Path(folder) / RECORD).exists():
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "manifest_sha256": manifest_sha256,
            "systems": {},
        }
    record = read_record(folder)
    if record["manifest_sha256"] != manifest_sha256:
        raise ValueError(
            f"{os.fspath(folder)!r} holds baselines fitted to other data: their manifest's SHA-256 begins "
            f"{record['manifest_sha256'][:12]}, this one's {manifest_sha256[:12]};\n"
            "give each data directory a folder of its own"
        )
    return record


def read_record(folder: str | os.PathLike) -> dict[str, Any]:
    """Read and check `baselines.json`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no record, or one that this llmrec does not read.
    """
    path = Path(folder) / RECORD
    regular_files(path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{os.fspath(folder)!r} holds no {RECORD};\nmake one with `llmrec baselines`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is no JSON ({error}); run `llmrec baselines` again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"{os.fspath(path)!r} is no record of baselines; run `llmrec baselines`")
    if record.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} has format_version {record.get('format_version')!r}, this llmrec reads "
            f"{FORMAT_VERSION};\nrun `llmrec baselines` again, or install the llmrec that wrote it"
        )
    if isinstance(record.get("systems"), dict) and (unknown := sorted(set(record["systems"]) - set(SYSTEMS))):
        raise ValueError(
            f"{os.fspath(path)!r} names the system {unknown[0]!r}, which is none of {', '.join(SYSTEMS)};\n"
            "install the llmrec that wrote it"
        )
    if not _is_complete(record):
        raise ValueError(
            f"{os.fspath(path)!r} lacks what was searched, or how, or holds it in another form;\n"
            "run `llmrec baselines` again"
        )
    return record


def _is_complete(record: dict[str, Any]) -> bool:
    """Tell whether a record has what a report says of every system."""
    try:
        for entry in record["systems"].values():
            search, parts = entry["search"], [entry["settings"], entry["run"], entry["search"]["chosen"]]
            for trial in search["trials"]:
                parts += [trial["settings"], *trial.get("curve", [])]
            texts = [entry["sha256"], search["metric"], record["manifest_sha256"]]
            values = [trial["value"] for trial in search["trials"]]
            if not all(isinstance(part, dict) for part in parts) or not all(isinstance(text, str) for text in texts):
                return False
            if not all(isinstance(value, (int, float)) for value in values):
                return False
    except (KeyError, TypeError, AttributeError):
        return False
    return True


def read_baselines(folder: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read every system of a folder; nothing in it is executed.

    Returns:
        The systems by name, in the order of `SYSTEMS`, and the record.

    Raises:
        FileNotFoundError: If the record or a system's arrays are missing.
        ValueError: If a file is not what the record says, or cannot be read.
    """

    def read() -> tuple[dict[str, Any], dict[str, Any]]:
        with refusals("baselines folder", Path(folder)):
            return _read_baselines(Path(folder))

    return read_whole(Path(folder), [RECORD], read)


def _read_baselines(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    record = read_record(folder)
    systems = {}
    for name in (name for name in SYSTEMS if name in record["systems"]):
        entry = record["systems"][name]
        path = Path(folder) / f"{name}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{os.fspath(folder)!r} lacks {path.name};\n{_again(name)}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError(
                f"{os.fspath(path)!r} is not the file that {RECORD} describes (its SHA-256 differs);\n{_again(name)}"
            )
        try:
            arrays = load(content)
        except SafetensorError as error:
            raise ValueError(f"{os.fspath(path)!r} is no safetensors file ({error});\n{_again(name)}") from None
        try:
            systems[name] = SYSTEMS[name].from_state(entry["settings"], arrays)
        except KeyError as error:
            raise ValueError(f"{os.fspath(path)!r} or its settings lack {error};\n{_again(name)}") from None
    return systems, record


def _again(name: str) -> str:
    return f"run `llmrec baselines --systems {name}` again"
