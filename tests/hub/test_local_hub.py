"""The stand-in behaves as the Hub does where llmrec depends on it; the client is the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError


@pytest.fixture
def repo(hub, tmp_path):
    """A repository with a text and weights, and the folder they were pushed from."""
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (folder / "deep" / "b.txt").write_text("b")
    (folder / "w.safetensors").write_bytes(b"weights" * 1000)
    name = f"{hub.user}/{tmp_path.name}"
    HfApi().create_repo(name)
    HfApi().upload_folder(repo_id=name, folder_path=folder)
    return name, folder


def test_what_is_pushed_comes_back(repo, hub):
    name, folder = repo
    found = snapshot_download(name)
    for path in ("a.json", "deep/b.txt", "w.safetensors"):
        assert (folder / path).read_bytes() == Path(found, path).read_bytes()
    assert list(hub.lfs.values()).count(b"weights" * 1000) == 1  # weights by LFS, texts in the commit
    assert b"{}" not in hub.lfs.values()


def test_branches_tags_and_commits_name_what_was_there(repo, hub):
    name, folder = repo
    first = HfApi().model_info(name).sha
    HfApi().create_tag(name, tag="v1")
    HfApi().create_branch(name, branch="trial")
    (folder / "a.json").write_text('{"a": 1}')
    HfApi().upload_folder(repo_id=name, folder_path=folder, revision="trial", delete_patterns=["*.txt", "*.json"])
    for revision, text in (("v1", "{}"), ("main", "{}"), ("trial", '{"a": 1}'), (first, "{}"), (first[:8], "{}")):
        assert Path(hf_hub_download(name, "a.json", revision=revision)).read_text() == text
    assert {each.name for each in HfApi().list_repo_refs(name).branches} == {"main", "trial"}
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(name, "a.json", revision="v2")


def test_nobody_without_the_token_writes_or_reads_what_is_private(repo, hub):
    name, folder = repo
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(token="hf_wrong").upload_folder(repo_id=name, folder_path=folder)
    hub.repositories["model", name].private = True
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download(name, token="hf_wrong")
    assert snapshot_download(name)


def test_a_gate_opens_for_those_admitted(repo, hub):
    name, _ = repo
    hub.repositories["model", name].gated = True
    with pytest.raises(GatedRepoError):
        hf_hub_download(name, "a.json")
    hub.admitted.add(hub.token)
    try:
        assert hf_hub_download(name, "a.json")
    finally:
        hub.admitted.clear()


def test_a_card_with_a_path_for_a_base_is_refused(hub):
    ModelCard("---\nbase_model: somebody/model\n---\nfine\n").validate()
    with pytest.raises(ValueError, match="base_model"):
        ModelCard("---\nbase_model: /home/me/model\n---\nno\n").validate()


def test_a_data_set_and_a_model_of_one_name_are_two(hub, tmp_path):
    name = f"{hub.user}/{tmp_path.name}"
    for kind in ("model", "dataset"):
        HfApi().create_repo(name, repo_type=kind)
        HfApi().upload_file(path_or_fileobj=kind.encode(), path_in_repo="x.txt", repo_id=name, repo_type=kind)
    for kind in ("model", "dataset"):
        assert Path(hf_hub_download(name, "x.txt", repo_type=kind)).read_text() == kind
