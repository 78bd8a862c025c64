"""A full disk, and what else stops a process that writes: the old files stay, and the error says what to do."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.evaluation import report
from llmrec.recommender import Recommender
from llmrec.storage import finish, write_texts


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def recommender(checkpoints) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"]))


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("size", [0, 300, 3_000, 9_000])
def test_a_disk_that_is_full_leaves_the_old_files(recommender, tmp_path, size, merged):
    """By the limit on a file's size, which every library meets where a full disk would stop it."""
    one = recommender.merge() if merged else recommender
    one.save_pretrained(tmp_path)
    before = files(tmp_path)
    with (
        pytest.raises(OSError, match=r"cannot be written: file too large(.|\n)*Raise the limit") as raised,
        limited(resource.RLIMIT_FSIZE, size),
    ):
        one.save_pretrained(tmp_path)
    assert raised.value.errno == errno.EFBIG
    assert files(tmp_path) == before and names(tmp_path) == set(before)


def test_too_many_open_files_leave_the_old_files(recommender, tmp_path):
    recommender.save_pretrained(tmp_path)
    before, outcomes = files(tmp_path), set()
    for more in (0, 1, 3, 6, 30):
        os.close(free := os.dup(0))  # the next file would have this number
        with limited(resource.RLIMIT_NOFILE, free + more):
            try:
                recommender.save_pretrained(tmp_path)
                outcomes.add("saved")
            except OSError as error:
                outcomes.add("refused")
                assert "too many open files" in str(error).lower()
        finish(tmp_path)
        assert files(tmp_path) == before, more
    recommender.save_pretrained(tmp_path)
    assert outcomes == {"saved", "refused"} and names(tmp_path) == set(before)


def test_a_command_says_that_the_disk_is_full_without_a_traceback(tmp_path, monkeypatch, capsys):
    write_texts(tmp_path, {report.RESULTS: "{}"})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(report, "_draw_views", full)
    assert run("redraw", ["--results", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no space left on device" in said and "Free some space" in said and "Traceback" not in said
    assert names(tmp_path) == {report.RESULTS}
