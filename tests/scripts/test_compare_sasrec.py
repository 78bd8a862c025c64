"""The comparison with RecTools, with a stand-in for it whose lists are known, and so every number of its rows."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import compare_sasrec
import numpy as np
import pytest
from run_scripts import run_script
from small_data import data_directory

from llmrec.baselines import systems
from llmrec.baselines.folder import read_baselines
from llmrec.commands.main import run
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system

NUM_USERS, NUM_ITEMS = 14, 40  # so many items that nobody walks past one twice
GRID = {"sasrec": [{"num_epochs": 2, "hidden_size": 8, "num_layers": 1, "max_length": 6, "batch_size": 20}]}
STAND_IN = """
import json, shutil, sys
from pathlib import Path
import numpy as np

here = Path(__file__).parent
for folder in map(Path, sys.argv[1:]):
    call = len(list(here.glob("given-*")))
    shutil.copytree(folder, here / f"given-{call}")
    targets = np.array(json.loads((here / "targets.json").read_text()))
    lists = (targets[:, None] + np.arange(1, 11)) % 40  # without the target
    if call == 0:
        lists[:, 1] = targets
    np.savez(folder / "lists.npz", validation=lists, test=lists)
    values = (0.1, 0.3, 0.2)
    curve = [{"epoch": n + 1, "value": value, "seconds": 3.0 * n} for n, value in enumerate(values)]
    (folder / "curve.json").write_text(json.dumps(curve))
"""


@pytest.fixture(autouse=True)
def short_grid(monkeypatch):
    monkeypatch.setattr(compare_sasrec, "SEQUENCE_GRIDS", GRID)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", NUM_USERS, NUM_ITEMS)


def cases_of(data: Path, split: str) -> Cases:
    directory = PreparedData.open(data)
    return Cases.from_histories(directory.histories(), directory.catalog, split)


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory) -> Path:
    """A folder with the results of a comparison in `out` and what the stand-in was given in `given-0`, `given-1`."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "peer.py").write_text(STAND_IN)
    (folder / "targets.json").write_text(json.dumps(cases_of(data, "test").targets.tolist()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_sasrec, "SEQUENCE_GRIDS", GRID)
        assert run_script("compare_sasrec", options(data, folder, seed="3")) == 0
    return folder


def options(data: Path, folder: Path, **changes: str) -> list[str]:
    given = {
        "data_dir": str(data),
        "peer_python": sys.executable,
        "peer_script": str(folder / "peer.py"),
        "output_dir": str(folder / "out"),
    }
    return [part for name, value in {**given, **changes}.items() for part in (f"--{name}", value)]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "out" / "compare_sasrec.json").read_text())


def per_user(user: np.ndarray, item: np.ndarray) -> list[list[int]]:
    return [item[user == number].tolist() for number in range(user.max() + 1)]


def test_the_peers_rows_follow_from_its_lists_by_hand(compared):
    """Every target stands second in the lists of the first run, and in none of the second."""
    own, second, nowhere = rows_of(compared)
    assert second["test_ndcg@10"] == round(1 / math.log2(3), 4) == 0.6309
    assert nowhere["test_ndcg@10"] == 0
    for row in (second, nowhere):
        assert (row["validation_ndcg@10"], row["seconds"]) == (0.3, 6.0)  # the best look; all of the time
        value, low, high = map(float, row["llmrec_minus_it"].replace(",", " ").replace("[", "").strip("]").split())
        assert value == pytest.approx(own["test_ndcg@10"] - row["test_ndcg@10"], abs=1.01e-4)
        assert low <= value <= high
    assert own["llmrec_minus_it"] == "+0.0000 [+0.0000, +0.0000]"
    table = (compared / "out" / "compare_sasrec.md").read_text()
    assert "| RecTools SASRec, settings its defaults | {} | 6.0 | 0.3 | 0.6309 |" in table


def test_our_row_is_what_the_baselines_command_fits(compared, data, tmp_path, monkeypatch):
    monkeypatch.setattr(systems, "SEQUENCE_GRIDS", {**systems.SEQUENCE_GRIDS, **GRID})
    fitted = ["--systems", "sasrec", "--seed", "3", "--output_dir", str(tmp_path / "fitted")]
    assert run("baselines", ["--data_dir", str(data), *fitted]) == 0
    baselines, record = read_baselines(tmp_path / "fitted")
    ranks = evaluate_system(baselines["sasrec"], cases_of(data, "test"), mask_seen=True)
    row = rows_of(compared)[0]
    assert row["test_ndcg@10"] == pytest.approx(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean(), abs=1e-4)
    trial = record["systems"]["sasrec"]["search"]["trials"][0]
    assert row["validation_ndcg@10"] == pytest.approx(trial["value"], abs=1e-4)
    assert json.loads(row["settings"]) == GRID["sasrec"][0]


def test_the_peer_learns_and_chooses_without_the_test(compared, data):
    directory = PreparedData.open(data)
    histories, index = directory.histories(), directory.catalog.index
    events = [[index(item) for item in items] for items in histories["item_id"]]
    targets = [items[-1] for items in events]
    assert all(len(set(items)) == len(items) for items in events)
    for call in (0, 1):
        with np.load(compared / f"given-{call}" / "events.npz") as given:
            assert "test_targets" not in given
            assert given["validation_targets"].tolist() == [items[-2] for items in events]
            for name, end in (("train", -2), ("validation", -2), ("test", -1)):
                rows = per_user(given[f"{name}_user"], given[f"{name}_item"])
                assert rows == [items[:end] for items in events], name
                assert not any(target in row for target, row in zip(targets, rows, strict=True))


def test_the_peer_gets_as_long_and_once_its_own_once_our_settings(compared, data):
    seconds = rows_of(compared)[0]["seconds"]
    defaults, same = (json.loads((compared / f"given-{call}" / "settings.json").read_text()) for call in (0, 1))
    assert defaults.pop("model") == {}
    lengths = [min(len(items) - 2, 6) for items in PreparedData.open(data).histories()["item_id"]]
    assert same.pop("model") == {
        "n_blocks": 1,
        "n_heads": 1,
        "n_factors": 8,
        "session_max_len": 6,
        "batch_size": round(20 / (sum(lengths) / len(lengths))),
        "dropout_rate": 0.2,
        "lr": 2e-3,
    }
    assert defaults == same
    assert same["seconds"] > 0 and round(same.pop("seconds"), 1) == seconds
    assert same == {"epochs": 2, "patience": 10, "seed": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_dir": "temporal"}, "'temporal' is split 'temporal'"),
        ({"data_dir": "no-such"}, "data directory 'no-such' does not exist"),
        ({"peer_python": "no-such/python"}, "peer_python 'no-such/python' is no interpreter"),
        ({"peer_python": "empty.py"}, "peer_python 'empty.py' is no interpreter"),
        ({"peer_script": "no-such.py"}, "peer_script 'no-such.py' is no file"),
        ({"peer_script": "lacking.py"}, "cannot start under"),
        ({"peer_script": "lacking.py"}, "No module named 'no_such_package'"),
        ({"output_dir": "empty.py"}, "output folder 'empty.py'"),
        ({"typo": "1"}, "--typo"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(data, tmp_path, monkeypatch, capsys, changes, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare_sasrec, "train_sequence", lambda *_, **__: 1 / 0)
    data_directory(tmp_path / "temporal", split="temporal")
    (tmp_path / "lacking.py").write_text("import no_such_package\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "peer.py").write_text(STAND_IN)
    assert run_script("compare_sasrec", options(data, tmp_path, **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith("llmrec compare_sasrec: error: ") and message in error and "Traceback" not in error
    assert len(error.splitlines()) <= 3
    assert not (tmp_path / "out").exists()


def test_a_peer_that_fails_does_not_pass_for_a_result(data, tmp_path):
    (tmp_path / "peer.py").write_text("import sys\nsys.exit(len(sys.argv) > 1)\n")
    with pytest.raises(compare_sasrec.subprocess.CalledProcessError):
        run_script("compare_sasrec", options(data, tmp_path))
    assert not (tmp_path / "out").exists()


def test_the_default_script_is_in_the_repository_and_imports_nothing_of_llmrec():
    script = Path(__file__).parents[2] / compare_sasrec.CompareArguments.peer_script
    assert "import llmrec" not in script.read_text() and "from llmrec" not in script.read_text()
