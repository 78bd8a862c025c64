from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import load, load_file, save
from small_data import START, cases_of, random_histories

from llmrec.baselines.content import ContentBaseline
from llmrec.baselines.counting import DAY, Popularity, RecentPopularity
from llmrec.baselines.folder import RECORD, read_baselines, read_record, write_baseline
from llmrec.baselines.neighbours import ItemKNN
from llmrec.baselines.own_items import OwnItems
from llmrec.baselines.search import Search, Trial
from llmrec.data.training_events import TrainingEvents
from llmrec.storage import sha256_of

NUM_ITEMS = 20
SEARCH = Search("ndcg@10", {"a": None}, [Trial({"a": None}, 0.25, 1.5, [{"epoch": 1, "loss": 0.5, "value": 0.25}])])
DIGEST = "ab" * 32
RUN = {"arguments": {"seed": 3}}


def fitted() -> dict:
    rows = random_histories(num_users=9, num_items=NUM_ITEMS - 1, length=8)
    events = TrainingEvents(
        [np.array(row) for row in rows],
        [START + user + DAY * np.arange(len(row)) for user, row in enumerate(rows)],
        NUM_ITEMS,
    )
    vectors = np.random.default_rng(0).normal(size=(NUM_ITEMS, 7))
    vectors[3] = vectors[5]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "popularity": Popularity.from_events(events),
        "recent_popularity": RecentPopularity.from_events(events, 7 * DAY),
        "own_items": OwnItems.from_events(events, 0.9, 0.1),
        "item_knn": ItemKNN.from_events(events, 5, 0.7),
        "content": ContentBaseline(vectors, 0.5),
    }


def cases():
    rows = random_histories(num_users=6, num_items=NUM_ITEMS, length=9, seed=1)
    found = cases_of(rows, [(user, len(row) - 1) for user, row in enumerate(rows)], NUM_ITEMS)
    for user, timestamps in enumerate(found.timestamps):
        timestamps[:] = START + 2 * DAY * timestamps + user
    return found


def write(folder, name: str = "popularity", digest: str = DIGEST) -> None:
    write_baseline(folder, name, fitted()[name], SEARCH, digest, RUN)


@pytest.mark.parametrize("name", fitted())
def test_a_system_scores_the_same_after_the_way_to_disk_and_back(tmp_path, name):
    write(tmp_path / "new" / "folder", name)
    systems, record = read_baselines(tmp_path / "new" / "folder")
    assert list(systems) == [name] and type(systems[name]) is type(fitted()[name])
    pairs = zip(fitted()[name].catalogue_scores(cases()), systems[name].catalogue_scores(cases()), strict=True)
    for (numbers, scores), (read_numbers, read_scores) in pairs:
        assert numbers.tolist() == read_numbers.tolist() and torch.equal(scores, read_scores)
    entry = record["systems"][name]
    assert entry["run"] == RUN
    assert entry["search"] == {
        "metric": "ndcg@10",
        "chosen": {"a": None},
        "trials": [
            {
                "settings": {"a": None},
                "value": 0.25,
                "seconds": 1.5,
                "curve": [{"epoch": 1, "loss": 0.5, "value": 0.25}],
            }
        ],
    }


def test_systems_add_up_and_nothing_else_lies_there(tmp_path):
    for name in reversed(fitted()):
        write(tmp_path, name)
    write(tmp_path, "content")
    systems, record = read_baselines(tmp_path)
    assert list(systems) == list(fitted()) and record["manifest_sha256"] == DIGEST
    assert {path.name for path in tmp_path.iterdir()} == {RECORD, *(f"{name}.safetensors" for name in fitted())}
    for name, entry in record["systems"].items():
        path = tmp_path / f"{name}.safetensors"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert load_file(path)
    assert (tmp_path / RECORD).read_text() == json.dumps(record, indent=2, sort_keys=True) + "\n"


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        for name in fitted():
            write(tmp_path / folder, name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_other_data_are_refused_and_nothing_changes(tmp_path):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="fitted to other data"):
        write(tmp_path, "content", digest="cd" * 32)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_unknown_name_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"'\.\./x' is unknown"):
        write_baseline(tmp_path, "../x", fitted()["popularity"], SEARCH, DIGEST, RUN)
    assert not list(tmp_path.iterdir())


def change(folder, **changes) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, **changes}))


def test_arrays_of_another_write_are_refused(tmp_path):
    write(tmp_path / "one", "popularity")
    write(tmp_path / "one", "content")
    (tmp_path / "one" / "popularity.safetensors").write_bytes((tmp_path / "one" / "content.safetensors").read_bytes())
    with pytest.raises(ValueError, match="SHA-256 differs"):
        read_baselines(tmp_path / "one")
    (tmp_path / "one" / "popularity.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks popularity\.safetensors"):
        read_baselines(tmp_path / "one")


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_refused_and_not_run_even_if_the_record_vouches_for_it(tmp_path):
    write(tmp_path)
    content = pickle.dumps(Touch(tmp_path / "ran"))
    (tmp_path / "popularity.safetensors").write_bytes(content)
    entry = {**read_record(tmp_path)["systems"]["popularity"], "sha256": hashlib.sha256(content).hexdigest()}
    change(tmp_path, systems={"popularity": entry})
    with pytest.raises(ValueError, match="no safetensors file"):
        read_baselines(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "else"}, "no record of baselines"),
        ({"format_version": 2}, "format_version 2, this llmrec reads 1"),
        ({"systems": {"bert4rec": {}}}, "names the system 'bert4rec'"),
        ({"systems": {"popularity": {}}}, "lacks what was searched"),
        ({"systems": 3}, "lacks what was searched"),
        ({"manifest_sha256": None}, "lacks what was searched"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, changes, message):
    write(tmp_path)
    change(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        read_baselines(tmp_path)
    with pytest.raises(ValueError, match=message):
        write(tmp_path)


def test_settings_that_lack_something_are_refused(tmp_path):
    write(tmp_path, "content")
    entry = {**read_record(tmp_path)["systems"]["content"], "settings": {}}
    change(tmp_path, systems={"content": entry})
    with pytest.raises(ValueError, match="lack 'decay'"):
        read_baselines(tmp_path)


def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path):
    write(tmp_path, "content")
    path = tmp_path / "content.safetensors"
    arrays = load(path.read_bytes())
    arrays["inverse"] = arrays["inverse"] + 10**9
    path.write_bytes(save(arrays))
    entry = {**read_record(tmp_path)["systems"]["content"], "sha256": sha256_of(path)}
    change(tmp_path, systems={"content": entry})
    with pytest.raises(ValueError, match=r"baselines folder .* cannot be used: IndexError"):
        read_baselines(tmp_path)


def test_no_record_and_no_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="llmrec baselines"):
        read_baselines(tmp_path)
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        read_baselines(tmp_path)
