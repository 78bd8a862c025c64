"""Several processes and threads that save and load one folder: it is always one whole save."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_results import fake_results
from small_data import START
from tiny_recommenders import randomise, tiny_recommender

from llmrec import storage
from llmrec.commands import card as card_module
from llmrec.commands.main import run
from llmrec.configuration import CONFIG_NAME
from llmrec.evaluation import report
from llmrec.evaluation.report import read_results, write_views
from llmrec.recommender import Recommender
from llmrec.storage import finish, generation, locked, read_whole, replaced_file, replaced_together, write_texts

NAMES = ("a.txt", "b.txt", "c.txt")
HISTORY = [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + 300_000}]


def texts(folder: Path) -> set[str]:
    """What the files of a folder say, without their order: of one save, one text."""
    return {path.read_text() for path in folder.iterdir() if path.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def forked(work: Callable[[], None]) -> int:
    """Run `work` in a process and return its id; it exits with 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def test_two_processes_save_and_one_reads(tmp_path):
    """Every reading is of one save, and so is what stays; the second process has a file that the first has not."""
    write_texts(tmp_path, dict.fromkeys(NAMES, "0"))

    def save(number: int) -> None:
        wait = random.Random(number)
        mine = (*NAMES, "d.txt") if number == 2 else NAMES
        for turn in range(40):
            with replaced_together(tmp_path, ["d.txt"]) as staged:
                for name in mine:
                    (staged / name).write_text(f"{number} {turn}")
                    time.sleep(wait.random() / 2000)

    def slowly() -> tuple[set[str], set[str]]:
        return {(tmp_path / name).read_text() for name in NAMES if not time.sleep(0.001)}, names(tmp_path)

    children = [forked(lambda number=number: save(number)) for number in (1, 2)]
    seen, running = set(), set(children)
    while running:
        (said,), _ = read_whole(tmp_path, NAMES, slowly)
        seen.add(said[0])
        for child in sorted(running):
            if (ended := os.waitpid(child, os.WNOHANG))[0]:
                assert ended[1] == 0
                running.discard(child)
    assert seen >= {"1", "2"}
    ((last, turn),) = (said.split() for said in texts(tmp_path))
    assert turn == "39" and names(tmp_path) == {*NAMES, *(["d.txt"] if last == "2" else [])}


def test_what_is_replaced_while_it_is_read_is_read_again(tmp_path):
    write_texts(tmp_path, dict.fromkeys(NAMES, "old"))
    attempts = []

    def read() -> set[str]:
        attempts.append(texts(tmp_path))
        if len(attempts) == 1:
            write_texts(tmp_path, dict.fromkeys(NAMES, "new"))
            raise ValueError("what a mixture makes of a reader")
        return texts(tmp_path)

    assert read_whole(tmp_path, NAMES, read) == {"new"} and len(attempts) == 2
    with pytest.raises(ZeroDivisionError):  # an error of its own is raised at once
        read_whole(tmp_path, NAMES, lambda: attempts.append({"again"}) or 1 / 0)
    assert len(attempts) == 3


def test_who_reads_again_keeps_others_from_saving_meanwhile(tmp_path):
    write_texts(tmp_path, dict.fromkeys(NAMES, "old"))
    readings, savers = [], []

    def read() -> set[str]:
        readings.append(texts(tmp_path))
        savers.append(
            threading.Thread(target=write_texts, args=(tmp_path, {name: str(len(readings)) for name in NAMES}))
        )
        savers[-1].start()
        savers[-1].join(0.2)
        return texts(tmp_path)

    assert read_whole(tmp_path, NAMES, read) == {"1"} and len(readings) == 2
    for saver in savers:
        saver.join()
    assert texts(tmp_path) == {"2"} and names(tmp_path) == set(NAMES)


def test_reading_writes_nothing(tmp_path):
    write_texts(tmp_path, dict.fromkeys(NAMES, "old"))
    before = tmp_path.stat().st_mtime_ns
    with pytest.raises(TimeoutError, match=rf"each of {storage.MAX_READS} times(.|\n)*read a copy"):
        read_whole(tmp_path, NAMES, lambda: os.utime(tmp_path / "a.txt", ns=(0, time.time_ns())))
    assert tmp_path.stat().st_mtime_ns == before


def test_a_lock_ends_with_its_process_and_waits_no_longer_than_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MAX_WAIT", 0.05)
    ready, told = os.pipe()

    def hold() -> None:
        with locked(tmp_path):
            os.write(told, b".")
            time.sleep(60)

    child = forked(hold)
    os.read(ready, 1)
    with pytest.raises(TimeoutError, match=r"saved or loaded by another process(.|\n)*Wait"):
        write_texts(tmp_path, {"a.txt": "a"})
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    write_texts(tmp_path, {"a.txt": "a"})
    assert names(tmp_path) == {"a.txt"}


def test_what_killed_processes_left_is_deleted_and_nothing_else(tmp_path):
    def begin() -> None:
        with replaced_together(tmp_path) as staged, replaced_file(tmp_path / "out.json") as scratch:
            (staged / "a.txt").write_text("half")
            scratch.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(begin), 0)
    (tmp_path / ".saving").mkdir()  # of older releases
    (tmp_path / ".report-abc_1234").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / ".saving.00000000.partial").symlink_to(tmp_path / "far")
    assert len(names(tmp_path)) == 6
    with replaced_together(tmp_path) as alive:
        write_texts(tmp_path, {"a.txt": "a"})
        storage.write_text(tmp_path / "out.json", "{}")
        assert alive.is_dir()
    assert names(tmp_path) == {"a.txt", "out.json", "far", ".saving.00000000.partial"}


def test_a_folder_that_is_no_interrupted_save_is_left_alone(tmp_path):
    (tmp_path / ".saved").mkdir()
    (tmp_path / ".saved" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="has no list of files"):
        finish(tmp_path)
    assert names(tmp_path / ".saved") == {"letter.txt"}


def test_an_interrupted_save_that_cannot_be_finished_is_named(tmp_path, monkeypatch):
    (tmp_path / ".saved").mkdir()
    for name, text in (("a.txt", "new"), (storage.GONE, "[]")):
        (tmp_path / ".saved" / name).write_text(text)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"interrupted, which cannot be finished(.|\n)*can be written"):
        read_whole(tmp_path, ["a.txt"], lambda: 1)


# Adapters


@pytest.fixture(scope="module")
def two(checkpoints) -> list[Recommender]:
    return [
        randomise(tiny_recommender(checkpoints["bert"], hybrid=hybrid), seed=seed)
        for seed, hybrid in ((1, True), (2, False))
    ]


def test_two_threads_save_adapters_while_they_are_loaded(two, tmp_path):
    expected = [one.score(HISTORY, ["i03", "i07"]) for one in two]
    for number, one in enumerate(two):
        one.save_pretrained(tmp_path / str(number))
    two[0].save_pretrained(tmp_path / "run")
    errors: list[BaseException] = []

    def save(one: Recommender) -> None:
        try:
            for _ in range(2):
                one.save_pretrained(tmp_path / "run")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(one,)) for one in two]
    for thread in threads:
        thread.start()
    for verify in (True, False):
        found = Recommender.from_pretrained(tmp_path / "run", verify=verify).score(HISTORY, ["i03", "i07"])
        assert any(found == pytest.approx(scores, abs=1e-5) for scores in expected)
    for thread in threads:
        thread.join()
    assert errors == []
    assert files(tmp_path / "run") in [files(tmp_path / str(number)) for number in range(2)]


def test_an_adapter_and_a_merged_model_are_never_in_one_folder(two, tmp_path, monkeypatch):
    """Whichever is saved first: the other began when the folder was empty."""
    merged, overtaken = two[0].merge(), []
    save = merged.processor.tokenizer.save_pretrained

    def overtake(folder: Path) -> None:
        save(folder)
        if not overtaken:
            overtaken.append(True)
            two[0].save_pretrained(tmp_path)

    monkeypatch.setattr(merged.processor.tokenizer, "save_pretrained", overtake)
    with pytest.raises(FileExistsError, match="holds an adapter"):
        merged.save_pretrained(tmp_path)
    assert "adapter_config.json" in names(tmp_path) and "model.safetensors" not in names(tmp_path)


def test_a_card_is_not_written_beside_other_weights(two, tmp_path, monkeypatch, capsys):
    two[0].save_pretrained(tmp_path)
    real = card_module.condense

    def overtaken(*args: object, **kwargs: object) -> object:
        record = real(*args, **kwargs)
        two[1].save_pretrained(tmp_path)
        return record

    monkeypatch.setattr(card_module, "condense", overtaken)
    assert run("card", ["--model", str(tmp_path)]) == 2
    assert "was replaced by another process" in capsys.readouterr().err
    assert "eval_results.json" not in names(tmp_path)


# Reports


def test_a_report_that_was_killed_between_two_files_is_finished_by_its_readers(tmp_path, monkeypatch):
    write_texts(tmp_path, {report.RESULTS: '{"number": 1}', "results.md": "one"})
    real, moved = os.replace, []

    def killed_later(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(real(source, target))

    monkeypatch.setattr(os, "replace", killed_later)
    with pytest.raises(KeyboardInterrupt):
        write_texts(tmp_path, {report.RESULTS: '{"number": 2}', "results.md": "two"})
    monkeypatch.setattr(os, "replace", real)
    assert (tmp_path / "results.md").read_text() == "one"
    assert read_results(tmp_path) == {"number": 2} and (tmp_path / "results.md").read_text() == "two"
    assert names(tmp_path) == {report.RESULTS, "results.md"}


def test_views_are_not_drawn_beside_other_results(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_draw_views", lambda *_: None)
    with pytest.raises(ValueError, match=r"holds other results(.|\n)*draw again"):
        write_texts(tmp_path, {report.RESULTS: "{}"})
        write_views(fake_results(), tmp_path)
    assert names(tmp_path) == {report.RESULTS}


def test_generations_differ(tmp_path):
    write_texts(tmp_path, {CONFIG_NAME: "{}"})
    before = generation(tmp_path, [CONFIG_NAME, "missing"])
    assert before[1] is None and before == generation(tmp_path, [CONFIG_NAME, "missing"])
    write_texts(tmp_path, {CONFIG_NAME: "{}"})
    assert before != generation(tmp_path, [CONFIG_NAME, "missing"])
