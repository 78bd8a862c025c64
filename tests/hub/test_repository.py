"""Push and load: names, branches, tags, gates, the cache, and what is not pushed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from small_data import START, data_directory, items_frame
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.hub.data_sets import open_data
from llmrec.hub.folder import FILES
from llmrec.hub.inspection import inspect
from llmrec.recommender import Recommender

BASE = "tester/pushed-bert"
HISTORY = [{"item_id": "i00", "timestamp": START}, {"title": "green ladder", "timestamp": START + 300_000}]


@pytest.fixture(scope="module")
def recommender(checkpoints):
    HfApi().create_repo(BASE)
    HfApi().upload_folder(repo_id=BASE, folder_path=checkpoints["bert"])
    return randomise(tiny_recommender(BASE))


def scores(recommender: Recommender) -> list[float]:
    return recommender.score(HISTORY, ["i03", "i07", {"title": "red hammer"}])


def test_pushed_and_loaded_it_scores_the_same(hub, recommender):
    commit = recommender.push_to_hub("tester/pushed")
    loaded = Recommender.from_pretrained("tester/pushed", revision=commit)
    assert scores(loaded) == pytest.approx(scores(recommender), abs=1e-6)
    assert loaded.config.base_revision == HfApi().model_info(BASE).sha
    files = hub.repositories["model", "tester/pushed"].files
    assert set(files) <= {*FILES, ".gitattributes", "README.md"}
    for name in ("items.parquet", "item_tables.safetensors", "item_embeddings.safetensors"):
        assert files[name] in hub.lfs.values(), name


def test_branches_and_tags_keep_what_they_named(hub, recommender, checkpoints):
    name = "tester/branches"
    recommender.push_to_hub(name, tag="v1")
    other = randomise(tiny_recommender(BASE, hybrid=False), seed=5)
    other.push_to_hub(name, revision="text-only")
    recommender.popularity_weight = 0.5
    try:
        newest = scores(recommender)
        recommender.push_to_hub(name)
    finally:
        recommender.popularity_weight = 1.0
    for revision, expected in (
        ("v1", scores(recommender)),
        ("text-only", scores(other)),
        ("main", newest),
        (None, newest),
    ):
        assert scores(Recommender.from_pretrained(name, revision=revision)) == pytest.approx(expected, abs=1e-6)
    branch = hub.repositories["model", name]
    assert "item_tables.safetensors" not in branch.commits[branch.branches["text-only"]]  # stale files leave
    with pytest.raises(FileNotFoundError, match=r"has no revision 'v9'.*branch, a tag or a commit"):
        Recommender.from_pretrained(name, revision="v9")


def test_only_the_files_that_are_needed_are_downloaded(hub, recommender, tmp_path):
    name = "tester/crowded"
    recommender.push_to_hub(name)
    for path in ("adapter_model.bin", "run.py", "checkpoint-7/optimizer.pt", "notes.json", "other.safetensors"):
        HfApi().upload_file(repo_id=name, path_or_fileobj=b"x" * 50, path_in_repo=path)
    hub.requests.clear()
    Recommender.from_pretrained(name)
    read = {path.partition("/resolve/")[2].partition("/")[2] for _, path in hub.requests if "/resolve/" in path}
    assert read and read <= set(FILES) | {"config.json", "model.safetensors"}, read


def test_a_gated_repository_says_how_to_get_in(hub, recommender):
    recommender.push_to_hub("tester/gated")
    hub.repositories["model", "tester/gated"].gated = True
    with pytest.raises(PermissionError, match=r"'tester/gated' is gated.*(.|\n)*Ask for access(.|\n)*hf auth login"):
        Recommender.from_pretrained("tester/gated")
    hub.admitted.add(hub.token)
    try:
        assert scores(Recommender.from_pretrained("tester/gated")) == pytest.approx(scores(recommender), abs=1e-6)
    finally:
        hub.admitted.clear()


def test_a_gated_base_says_how_to_get_in(hub, checkpoints):
    HfApi().create_repo("tester/gated-bert")
    HfApi().upload_folder(repo_id="tester/gated-bert", folder_path=checkpoints["bert"])
    hub.repositories["model", "tester/gated-bert"].gated = True
    with pytest.raises(PermissionError, match=r"checkpoint 'tester/gated-bert' is gated"):
        tiny_recommender("tester/gated-bert")


def test_a_wrong_token_is_not_let_in_and_not_told(hub, recommender):
    recommender.push_to_hub("tester/guarded")
    with pytest.raises(PermissionError, match="the Hub refuses you") as caught:
        recommender.push_to_hub("tester/guarded", token="hf_a_wrong_token")
    assert "hf_a_wrong_token" not in str(caught.value)


@pytest.mark.parametrize("stranger", ["hf_a_strangers_token", False])
def test_what_was_downloaded_before_is_used_with_the_reason_told(hub, recommender, stranger):
    """The Hub's client falls back to the cache, which is the user's own: nobody shall take an old copy for new."""
    name = f"tester/hidden-{bool(stranger)}".lower()
    commit = recommender.push_to_hub(name, private=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Recommender.from_pretrained(name)
    if not stranger:
        del hub.repositories["model", name]
    with pytest.warns(
        UserWarning, match=f"no such repository, or it is private(.|\n)*of commit {commit}, is used"
    ) as told:
        cached = Recommender.from_pretrained(name, token=stranger or None)
    assert scores(cached) == pytest.approx(scores(recommender), abs=1e-6)
    assert not any("hf_a_strangers_token" in str(one.message) for one in told)
    with pytest.raises(FileNotFoundError, match="no such repository, or it is private"):
        Recommender.from_pretrained(f"{name}-never-seen", token=stranger or None)


def test_a_private_adapter_that_was_never_downloaded_is_not_read_with_a_strangers_token(hub, recommender):
    recommender.push_to_hub("tester/unseen", private=True)
    with pytest.raises(FileNotFoundError, match="it is private and you are not logged in"):
        Recommender.from_pretrained("tester/unseen", token="hf_a_strangers_token")


def test_without_a_network_the_error_is_a_sentence(hub, recommender, monkeypatch, capsys):
    dead = HfApi(endpoint="http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token=None: dead)
    for ask in (lambda: recommender.push_to_hub("tester/dead"), lambda: inspect("tester/dead")):
        with pytest.raises(ConnectionError, match=r"the Hub cannot be reached \(ConnectError\)"):
            ask()
    assert run("inspect", ["tester/dead"]) == 2 and "cannot be reached" in capsys.readouterr().err


def test_without_the_hub_the_cache_serves(hub, recommender, tmp_path):
    recommender.push_to_hub("tester/cached", tag="v1")
    Recommender.from_pretrained("tester/cached", revision="v1")
    program = (
        "from llmrec import Recommender\nfrom test_repository import HISTORY\n"
        "print(Recommender.from_pretrained('tester/cached', revision='v1').score(HISTORY, ['i03', 'i07']))\n"
        "try:\n    Recommender.from_pretrained('tester/elsewhere')\n"
        "except FileNotFoundError as error:\n    print(error)"
    )
    path = os.pathsep.join(str(Path(__file__).parents[level]) for level in range(3))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "HF_TOKEN": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "of commit" not in done.stderr  # it was asked for
    found, missing = done.stdout.splitlines()[-2:]
    assert json.loads(found) == pytest.approx(scores(recommender)[:2], abs=1e-6)
    assert "no adapter 'tester/elsewhere'" in missing


def test_an_adapter_on_a_folder_is_not_pushed(hub, checkpoints, tmp_path, capsys):
    local = tiny_recommender(checkpoints["bert"])
    with pytest.raises(ValueError, match=r"is a folder of this machine(.|\n)*base_model="):
        local.push_to_hub("tester/nowhere")
    assert ("model", "tester/nowhere") not in hub.repositories
    local.save_pretrained(tmp_path / "run")
    HfApi().create_repo("tester/named-bert")
    commit = HfApi().upload_folder(repo_id="tester/named-bert", folder_path=checkpoints["bert"]).oid
    options = ["--model", str(tmp_path / "run"), "--repo_id", "tester/somewhere", "--base_model", "tester/named-bert"]
    assert run("push", [*options, "--tag", "v1"]) == 0
    pushed = capsys.readouterr().out.splitlines()[-1]
    name, revision = re.search(r'from_pretrained\("(.*)", revision="(.*)"\)', pushed).groups()
    loaded = Recommender.from_pretrained(name, revision=revision)
    assert (loaded.config.base_model, loaded.config.base_revision) == ("tester/named-bert", commit)


def test_a_dry_run_pushes_nothing(hub, recommender, tmp_path, capsys):
    recommender.save_pretrained(tmp_path / "run")
    hub.requests.clear()
    assert run("push", ["--model", str(tmp_path / "run"), "--repo_id", "tester/dry", "--dry_run"]) == 0
    printed = capsys.readouterr().out
    recommender.save_pretrained(tmp_path / "pushed", repo_id="tester/dry")
    for path in (tmp_path / "pushed").iterdir():
        assert f"{path.stat().st_size:,} bytes  {path.name}" in printed
    assert ("model", "tester/dry") not in hub.repositories
    assert not [each for each in hub.requests if each[0] in ("POST", "PUT")]


def test_items_of_movielens_stay_home(hub, recommender, tmp_path):
    frame = {"source": "movielens-small", "licence": "GroupLens: no redistribution"}
    recommender.records["data_manifest.json"] = frame
    try:
        with pytest.raises(
            ValueError, match=r"the items may not be pushed: GroupLens: no redistribution(.|\n)*catalog"
        ):
            recommender.push_to_hub("tester/films")
        assert ("model", "tester/films") not in hub.repositories
        recommender.push_to_hub("tester/films", catalog=False)
    finally:
        recommender.records.clear()
    with pytest.raises(
        FileNotFoundError, match=r"holds no catalogue \(items.parquet\): give the items to rank as items="
    ):
        Recommender.from_pretrained("tester/films")
    loaded = Recommender.from_pretrained("tester/films", items=items_frame())
    assert len(loaded.recommend(HISTORY, k=3)) == 3


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("published") / "data")


def test_data_are_pushed_with_a_licence_and_opened_by_name(hub, data, tmp_path, capsys):
    push = ["--data_dir", str(data), "--repo_id", "tester/events"]
    for more in ([], ["--dry_run"]):
        assert run("push", [*push, *more]) == 2
        assert "name their licence with --licence" in capsys.readouterr().err
    assert run("push", [*push, "--licence", "CC BY 4.0", "--dry_run"]) == 0
    told = capsys.readouterr().out
    assert all(f"bytes  {name}\n" in told for name in (MANIFEST, "README.md"))
    assert ("dataset", "tester/events") not in hub.repositories
    assert run("push", [*push, "--licence", "CC BY 4.0", "--tag", "v1"]) == 0
    assert hub.repositories["dataset", "tester/events"].private  # people's events, unless told otherwise
    for name in ("hub:tester/events", "hub:tester/events@v1"):
        opened = open_data(name)
        assert opened.interactions.equals(PreparedData.open(data).interactions)
        assert opened.histories()[:] == PreparedData.open(data).histories()[:]
        assert opened.manifest["licence"] == "CC BY 4.0"
    with pytest.raises(FileNotFoundError, match="no data set 'tester/nothing'"):
        open_data("hub:tester/nothing")
    with pytest.raises(FileNotFoundError, match="no revision 'v2'"):
        open_data("hub:tester/events@v2")
    options = [
        "--data_dir",
        "hub:tester/events@v1",
        "--output_dir",
        str(tmp_path / "fitted"),
        "--systems",
        "popularity",
    ]
    assert run("baselines", options) == 0


def test_data_of_movielens_are_refused_with_the_reason(hub, data, tmp_path, capsys):
    films = shutil.copytree(data, tmp_path / "films")
    manifest = json.loads((films / MANIFEST).read_text())
    (films / MANIFEST).write_text(json.dumps({**manifest, "source": "movielens-small", "licence": "no redistribution"}))
    for more in ([], ["--licence", "CC0"], ["--dry_run"]):
        assert run("push", ["--data_dir", str(films), "--repo_id", "tester/films-data", *more]) == 2
        assert "the data may not be pushed: no redistribution" in capsys.readouterr().err
    assert ("dataset", "tester/films-data") not in hub.repositories


def test_one_thing_is_pushed_at_a_time(capsys):
    assert run("push", ["--repo_id", "tester/x"]) == 2
    assert "give one of the two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "why"), [("films", "has no owner: give owner/name"), ("a/b/c", "in the form"), ("you/new films", "must")]
)
def test_a_name_that_is_none_is_refused_before_anything_is_loaded_or_sent(hub, recommender, capsys, name, why):
    hub.requests.clear()
    assert run("push", ["--model", "nowhere", "--repo_id", name, "--dry_run"]) == 2
    assert f"repository {name!r}" in (told := capsys.readouterr().err) and why in told
    with pytest.raises(ValueError, match="repository"):
        recommender.push_to_hub(name)
    assert not hub.requests
