"""A save that is killed at any moment leaves the old folder or the new one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import START
from tiny_recommenders import randomise, tiny_recommender

from llmrec.hub import folder as folder_module
from llmrec.hub import pretrained
from llmrec.hub import probe as probe_module
from llmrec.hub.folder import TOKENIZER
from llmrec.recommender import Recommender
from llmrec.storage import COMMITTED, GONE, STAGED, clean, finish, replaced_together

TOUCHING = {
    "open",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "shutil.rmtree",
    "os.listdir",
    "os.scandir",
}
"""Audit events of what can change a folder; a process is killed just before each."""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def killed_at(moment: int, folder: Path, work: Callable[[], None]) -> bool:
    """Run `work` in a forked process, killed at the `moment`-th touch of `folder`; say whether it came to that."""
    child = os.fork()
    if child == 0:
        count = 0

        def watch(event: str, arguments: tuple) -> None:
            nonlocal count
            if event in TOUCHING and str(arguments[0]).startswith(str(folder)):
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        try:
            sys.addaudithook(watch)
            work()
            os._exit(0)
        finally:
            os._exit(1)  # pytest must not go on in two processes
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def write(folder: Path, texts: dict[str, str], owned: tuple[str, ...] = ()) -> None:
    with replaced_together(folder, owned) as staged:
        for name, text in texts.items():
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_text(text)


def test_killed_at_any_moment_files_are_all_old_or_all_new(tmp_path):
    old = {"a.json": "old a", "b.json": "old b", "only_old.json": "old"}
    new = {"a.json": "new a", "b.json": "new b", "deep/c.json": "new c"}
    both, moment, killed = [], 0, True
    while killed:
        folder = tmp_path / str(moment)
        write(folder, old)
        (folder / "notes.txt").write_text("mine")
        killed = killed_at(moment, folder, lambda at=folder: write(at, new, ("only_old.json",)))
        finish(folder)
        clean(folder, STAGED)
        found = {name: content.decode() for name, content in files(folder).items()}
        assert found.pop("notes.txt") == "mine"
        assert found in (old, new), moment
        both.append(found == new)
        moment += 1
    assert moment > 20
    assert both == sorted(both) and both[0] is False and both[-1] is True  # one moment parts the old from the new


def test_finishing_may_be_killed_and_done_again(tmp_path):
    new = {"a.json": "new a", "b.json": "new b"}
    moment, killed = 0, True
    while killed:
        folder = tmp_path / str(moment)
        write(folder, {"a.json": "old a", "b.json": "old b", "gone.json": "old"})
        write(folder / COMMITTED, new)
        (folder / COMMITTED / ".gone.json").write_text('["gone.json"]')
        killed = killed_at(moment, folder, lambda at=folder: finish(at))
        finish(folder)
        assert {name: content.decode() for name, content in files(folder).items()} == new
        moment += 1
    assert moment > 5


def test_an_adapter_whose_save_is_killed_loads_with_the_old_or_the_new_scores(checkpoints, tmp_path, monkeypatch):
    history = [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + 300_000}]
    one, two = (randomise(tiny_recommender(checkpoints["bert"], hybrid=hybrid)) for hybrid in (True, False))
    for name, recommender in (("old", one), ("new", two)):
        recommender.save_pretrained(tmp_path / name)
    old, new = files(tmp_path / "old"), files(tmp_path / "new")
    scores = [recommender.score(history, ["i03", "i07"]) for recommender in (one, two)]
    assert set(old) - set(new) == {"item_tables.safetensors"}
    # Polars and its threads do not survive a fork: the child copies the table, probe and card are made already.
    monkeypatch.setattr(pretrained, "check_tables_work", lambda what: None)
    table = tmp_path / "new" / "items.parquet"
    monkeypatch.setattr(two.items.catalog, "write", lambda path: shutil.copyfile(table, path))
    card = new["README.md"].decode()
    monkeypatch.setattr(folder_module, "renewed_card", lambda *_: card)
    probe = json.loads(new["probe.json"])
    monkeypatch.setattr(probe_module, "make_probe", lambda *_: {name: probe[name] for name in set(probe) - {TOKENIZER}})
    target, moment, killed, loads = tmp_path / "run", 0, True, 0
    while killed:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(tmp_path / "old", target)
        killed = killed_at(moment, target, lambda: two.save_pretrained(target))
        committed = (target / COMMITTED).exists()
        if (committed and moment % 5 == 0) or moment % 50 == 0:
            loads += 1
            found = Recommender.from_pretrained(target).score(history, ["i03", "i07"])
            assert any(found == pytest.approx(each, abs=1e-6) for each in scores), moment
        finish(target)
        clean(target, STAGED)
        assert files(target) in (old, new), moment
        moment += 1 if committed or moment < 8 else 6
    assert loads > 5
    assert files(target) == new


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    write(tmp_path / "run", {"a.json": "old"})
    with pytest.raises(OSError, match="disk full"), replaced_together(tmp_path / "run", ["a.json"]) as staged:
        (staged / "a.json").write_text("half")
        raise OSError("disk full")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"a.json"}
    assert (tmp_path / "run" / "a.json").read_text() == "old"


def escape_by_name(folder: Path) -> None:
    (folder / COMMITTED).mkdir()
    (folder / COMMITTED / GONE).write_text(json.dumps(["a.json", "../mine/letter.txt"]))


def escape_by_absolute_name(folder: Path) -> None:
    (folder / COMMITTED).mkdir()
    (folder / COMMITTED / GONE).write_text(json.dumps([str(folder.parent / "mine" / "letter.txt")]))


def escape_by_linked_folder(folder: Path) -> None:
    (folder / COMMITTED / "out").mkdir(parents=True)
    (folder / COMMITTED / "out" / "letter.txt").write_text("theirs")
    (folder / "out").symlink_to(folder.parent / "mine")


def escape_by_linked_save(folder: Path) -> None:
    (folder / COMMITTED).symlink_to(folder.parent / "mine")


@pytest.mark.parametrize("content", ["..", ["x"], {"x": 1}, None])
def test_names_that_are_none_are_refused(tmp_path, content):
    write(tmp_path, {"a.json": "a"})
    (tmp_path / COMMITTED).mkdir()
    (tmp_path / COMMITTED / GONE).write_text(json.dumps([content]))
    with pytest.raises(ValueError, match="names files outside the folder"):
        finish(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "link", "device", "large"])
def test_what_is_no_file_of_a_save_is_not_opened(tmp_path, kind):
    write(tmp_path, {"a.json": "a"})
    write(tmp_path / COMMITTED, {"b.json": "b"})
    names = tmp_path / COMMITTED / GONE
    if kind == "pipe":
        os.mkfifo(names)
    elif kind == "large":
        with names.open("wb") as file:
            file.truncate(8 << 30)
    elif kind == "device":
        names.symlink_to("/dev/zero")
    else:
        names.write_text("[]")
        (tmp_path / COMMITTED / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="or holds a link or a pipe"):
        finish(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", COMMITTED}


@pytest.mark.parametrize(
    "escape", [escape_by_name, escape_by_absolute_name, escape_by_linked_folder, escape_by_linked_save]
)
def test_a_strangers_folder_cannot_reach_outside_itself(tmp_path, escape):
    """`finish` runs whenever a folder is loaded: a folder that came from elsewhere may hold any journal."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    write(tmp_path / "theirs", {"a.json": "a"})
    escape(tmp_path / "theirs")
    with pytest.raises(ValueError, match=r"(files outside the folder|a link out of the folder)(.|\n)*[Dd]elete it"):
        Recommender.from_pretrained(tmp_path / "theirs")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "mine"
    assert (tmp_path / "theirs" / "a.json").read_text() == "a"  # nothing was done of the rest either
