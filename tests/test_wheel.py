"""The wheel that users install: built here without network or isolation."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(REPOSITORY)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = directory.glob("llmrec-*.whl")
    return zipfile.ZipFile(path)


def test_every_prompt_is_inside_with_the_same_bytes(wheel: zipfile.ZipFile) -> None:
    prompts = sorted(path for path in (REPOSITORY / "prompts").rglob("*") if path.is_file())
    assert prompts
    for path in prompts:
        assert wheel.read(f"llmrec/{path.relative_to(REPOSITORY).as_posix()}") == path.read_bytes()


def test_every_module_is_inside_and_typed(wheel: zipfile.ZipFile) -> None:
    modules = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "llmrec").rglob("*.py")}
    assert modules | {"llmrec/py.typed"} <= set(wheel.namelist())


def test_nothing_else_is_inside(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (metadata,) = tops - {"llmrec"}
    assert metadata.endswith(".dist-info")
    assert not [name for name in wheel.namelist() if "tests" in name.split("/") or name.endswith(".pyc")]


def test_the_console_command_and_the_licence_are_declared(wheel: zipfile.ZipFile) -> None:
    (metadata,) = {name.split("/")[0] for name in wheel.namelist()} - {"llmrec"}
    assert "llmrec = llmrec.commands.main:main" in wheel.read(f"{metadata}/entry_points.txt").decode()
    text = wheel.read(f"{metadata}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Apache License" in wheel.read(f"{metadata}/licenses/LICENSE").decode()
