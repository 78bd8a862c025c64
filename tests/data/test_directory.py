from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from llmrec import storage
from llmrec.data import directory as directory_module
from llmrec.data.directory import TABLES, PreparedData, staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.data.schema import RawTables
from llmrec.storage import sha256_of

LEAVE_ONE_OUT = SplitSettings(kind="leave_one_out")


def raw_tables(title: str = "Heat") -> RawTables:
    events = pl.DataFrame({"user_id": ["a"] * 3, "item_id": ["1", "2", "1"], "timestamp": [5, 6, 7]})
    items = pl.DataFrame({"item_id": ["1", "2"], "title": [title, "Babe"]})
    return RawTables(events, items, "files", "none", "none", {})


def write_data(path: Path, title: str = "Heat", overwrite: bool = False) -> PreparedData:
    with staged_directory(path, overwrite=overwrite) as staging:
        prepare(raw_tables(title), staging, LEAVE_ONE_OUT)
    return PreparedData.open(path)


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def title_at(path: Path) -> str:
    return PreparedData.open(path).catalog.attributes(0)["title"]


def test_a_directory_opens_with_everything_it_promises(tmp_path: Path) -> None:
    data = write_data(tmp_path / "new" / "data")
    assert data.interactions.columns == ["user_id", "item_id", "timestamp"]
    assert data.splits.columns == ["user_id", "item_id", "timestamp", "split", "reason"]
    assert data.splits.select("user_id", "item_id", "timestamp").equals(data.interactions)
    assert data.catalog.ids == ["1", "2"]
    assert data.histories()[0]["split"] == ["train", "validation", "test"]
    outputs = data.manifest["outputs"]
    assert {name: outputs[name]["sha256"] for name in TABLES} == {name: sha256_of(data.path / name) for name in TABLES}
    assert not leftovers(tmp_path) and not leftovers(tmp_path / "new")


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_that_the_manifest_vouches_for_is_refused(tmp_path: Path, name: str) -> None:
    data = write_data(tmp_path / "data")
    file = data.path / name
    file.write_bytes(file.read_bytes()[:40])
    manifest = json.loads((data.path / "manifest.json").read_text())
    manifest["outputs"][name]["sha256"] = sha256_of(file)
    (data.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"cannot be|is no Parquet file"):
        opened = PreparedData.open(data.path)
        _ = opened.interactions, opened.splits, opened.catalog, opened.histories()


def test_histories_whose_offsets_lead_out_of_memory_are_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    file = data.path / "histories.arrow"
    content, offsets = file.read_bytes(), struct.pack("<4i", 0, 1, 2, 3)  # of the lists' item ids, one letter each
    assert content.count(offsets) == 1
    file.write_bytes(content.replace(offsets, struct.pack("<4i", 0, 1, 1 << 30, 3)))
    manifest = json.loads((data.path / "manifest.json").read_text())
    manifest["outputs"]["histories.arrow"]["sha256"] = sha256_of(file)
    (data.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"data directory .* cannot be used: ArrowInvalid"):
        PreparedData.open(data.path).histories()


def test_a_manifest_of_other_values_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    (data.path / "manifest.json").write_text(json.dumps({**data.manifest, "outputs": 0.5}))
    with pytest.raises(ValueError, match=r"data directory .* cannot be used: AttributeError"):
        PreparedData.open(data.path)


def test_prepared_data_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "data"
    write_data(path, "old")
    with pytest.raises(FileExistsError, match="--overwrite true"):
        write_data(path, "new")
    assert title_at(path) == "old"
    write_data(path, "new", overwrite=True)
    assert title_at(path) == "new" and not leftovers(tmp_path)


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert write_data(tmp_path / "data").catalog.ids == ["1", "2"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_prepared_data_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    path = tmp_path / "data"
    write_data(path)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'notes.txt', which is no part"):
        write_data(path, overwrite=overwrite)
    (path / "manifest.json").unlink()
    (path / "notes.txt").unlink()
    with pytest.raises(FileExistsError, match="no part of a data directory"):
        write_data(path, overwrite=overwrite)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"name": "an app"}')
    with pytest.raises(ValueError, match="no manifest of a data directory"):
        write_data(tmp_path / "other", overwrite=overwrite)


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(NotADirectoryError, match="is a file"):
            write_data(path)
    if Path("/proc/self").exists():
        with pytest.raises(PermissionError, match="cannot be written"):
            write_data(Path("/proc/data"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_error_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "data"
    write_data(path, "old")
    with pytest.raises(RuntimeError), staged_directory(path, overwrite=True) as staging:
        (staging / "interactions.parquet").write_text("half")
        raise RuntimeError
    assert title_at(path) == "old" and not leftovers(tmp_path)
    with pytest.raises(RuntimeError), staged_directory(tmp_path / "deep" / "down"):
        raise RuntimeError
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_replacement_that_fails_puts_the_old_directory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    path = tmp_path / "data"
    write_data(path, "old")
    if not can_exchange:
        monkeypatch.setattr(storage, "exchange", lambda first, second: False)
    write_data(path, "new", overwrite=True)
    assert title_at(path) == "new" and not leftovers(tmp_path)
    real_replace = os.replace

    def refuse_the_new(source: Path, target: Path) -> None:
        if ".partial" in str(source):
            raise OSError("disk gone")
        real_replace(source, target)

    monkeypatch.setattr(storage, "exchange", lambda first, second: False)
    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(OSError, match="disk gone"):
        write_data(path, "newest", overwrite=True)
    assert title_at(path) == "new" and not leftovers(tmp_path)


@pytest.mark.parametrize("moment", ["staged", "while putting in place"])
def test_a_kill_at_any_time_leaves_a_whole_directory(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "data"
    write_data(path, "old")
    program = f"""
import os, shutil, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_directory as t
kill = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
if {moment!r} == "staged":
    t.storage.put_in_place = kill
else:
    put = t.storage.put_in_place
    t.storage.put_in_place = lambda *paths: kill(put(*paths))
t.write_data(t.Path({str(path)!r}), "new", overwrite=True)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert title_at(path) == ("old" if moment == "staged" else "new")
    assert leftovers(tmp_path)
    write_data(path, "newest", overwrite=True)
    assert title_at(path) == "newest" and not leftovers(tmp_path)


def test_of_two_that_prepare_at_once_the_slower_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with pytest.raises(FileExistsError, match="--overwrite true"), staged_directory(path) as staging:
        prepare(raw_tables("slow"), staging, LEAVE_ONE_OUT)
        write_data(path, "fast")
        assert len(leftovers(tmp_path)) == 1  # of a process that lives
    assert title_at(path) == "fast" and not leftovers(tmp_path)


def test_data_that_are_prepared_again_are_not_mixed_with_those_that_were_opened(tmp_path: Path) -> None:
    """Tables are read when they are asked for: the path may hold others by then."""
    data = write_data(tmp_path / "data", "old")
    assert len(data.interactions) == 3
    write_data(tmp_path / "data", "new", overwrite=True)
    for read in (lambda: data.catalog, lambda: data.splits, data.histories):
        with pytest.raises(ValueError, match=r"data' was replaced by another process(.|\n)*Run this again"):
            read()


def test_data_that_are_replaced_while_they_are_opened_are_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "data", directory_module.read_manifest
    write_data(path, "old")

    def overtaken(folder: Path) -> dict:
        manifest = real(folder)
        monkeypatch.setattr(directory_module, "read_manifest", real)
        write_data(path, "new", overwrite=True)
        return manifest

    monkeypatch.setattr(directory_module, "read_manifest", overtaken)
    assert title_at(path) == "new"


def test_a_process_that_was_killed_in_its_audit_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "data"
    data = write_data(path)
    (path / storage.COMMITTED).mkdir()
    (path / storage.COMMITTED / "audit.json").write_text('{"findings": ["new"]}')
    (path / storage.COMMITTED / storage.GONE).write_text("[]")
    assert data.audit != {"findings": ["new"]}
    assert PreparedData.open(path).audit == {"findings": ["new"]}
    write_data(path, overwrite=True)


def test_directories_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PreparedData.open(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no manifest.json"):
        PreparedData.open(tmp_path / "empty")
    path = write_data(tmp_path / "data").path
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(ValueError, match="format_version 99, this llmrec reads 1"):
        PreparedData.open(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        PreparedData.open(path)
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "items.parquet").rename(path / "aside.parquet")
    with pytest.raises(FileNotFoundError, match=r"lacks items.parquet"):
        PreparedData.open(path)
    (path / "items.parquet").write_bytes((path / "splits.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"items.parquet' is not the file that the manifest describes"):
        PreparedData.open(path)
