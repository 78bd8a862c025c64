"""A cascade of two adapters, as the console command runs it: one proposes, the other ranks what was proposed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_data import DAY, START, data_directory
from tiny_recommenders import randomise, tiny_recommender

from llmrec.commands.main import run
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.recommender import Recommender

C = 5
HISTORY = [{"item_id": "i03", "timestamp": START}, {"item_id": "i08", "timestamp": START + DAY}]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16, irregular=True)


@pytest.fixture(scope="module")
def folders(checkpoints, data, tmp_path_factory) -> dict[str, Path]:
    """A proposer with a dual head and a ranker of another family, whose candidate head counts for itself."""
    catalog, root = PreparedData.open(data).catalog, tmp_path_factory.mktemp("adapters")
    made = {
        "proposer": randomise(tiny_recommender(checkpoints["llama"], catalog, seed=3), seed=7),
        "ranker": randomise(tiny_recommender(checkpoints["bert"], catalog, head="cross", dual_gate=-0.5)),
    }
    for name, recommender in made.items():
        recommender.save_pretrained(root / name)
    return {name: root / name for name in made}


def evaluated(data: Path, folders: dict[str, Path], output: Path, *options: str) -> dict:
    files = ["--data_dir", str(data), "--model", str(folders["ranker"]), "--output_dir", str(output)]
    assert run("evaluate", [*files, "--candidates", str(C), "--shuffles", "false", *options]) == 0
    return json.loads((output / "results.json").read_text())


def test_the_report_holds_the_ranks_of_the_hand_made_cascade_and_the_proposers_ceiling(data, folders, tmp_path):
    found = evaluated(data, folders, tmp_path, "--proposer", str(folders["proposer"]))
    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    proposer, ranker = (Recommender.from_pretrained(folders[name], device="cpu") for name in ("proposer", "ranker"))
    proposed = evaluate_system(proposer.scorer(), cases, True)
    whole = evaluate_system(ranker.scorer(num_candidates=None), cases, True)  # every item's own score
    ranks = pl.read_parquet(tmp_path / "per_case.parquet")["rank_llmrec"].to_numpy()
    inside = proposed <= C
    assert 0 < inside.sum() < len(cases)
    assert np.array_equal(ranks[~inside], proposed[~inside])
    assert (ranks[inside] <= C).all() and (ranks[inside] <= whole[inside]).all()
    assert not np.array_equal(ranks[inside], proposed[inside])
    assert found["cascade"]["recall_ceiling"] == pytest.approx(inside.mean())  # one target of each user
    assert found["systems"]["llmrec_dual"]["mrr"]["value"] == pytest.approx((1 / proposed).mean())
    own = evaluated(data, folders, tmp_path / "own")
    assert own["systems"]["llmrec_dual"] != found["systems"]["llmrec_dual"] and "proposer" not in own["cascade"]


def test_the_report_names_both(data, folders, tmp_path):
    found = evaluated(data, folders, tmp_path, "--proposer", str(folders["proposer"]))
    assert (found["subject"]["model"], found["cascade"]["proposer"]["model"]) == ("ranker", "proposer")
    assert found["subject"]["adapter_sha256"] != found["cascade"]["proposer"]["adapter_sha256"]
    page = (tmp_path / "results.md").read_text()
    assert f"the {C} items that the proposer's dual head puts first" in page
    assert "llmrec: adapter ranker" in page and "llmrec_dual: adapter proposer" in page


def test_recommend_takes_a_proposer(folders, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"history": HISTORY}) + "\n")
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    adapters = ["--model", str(folders["ranker"]), "--proposer", str(folders["proposer"])]
    assert run("recommend", [*adapters, *files, "--k", "4"]) == 0
    written = json.loads((tmp_path / "out.jsonl").read_text())["recommendations"]
    proposer, ranker = (Recommender.from_pretrained(folders[name], device="cpu") for name in ("proposer", "ranker"))
    expected = ranker.recommend(HISTORY, k=4, proposer=proposer)
    assert [entry["item_id"] for entry in written] == [entry.item_id for entry in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--head", "dual"], "proposes what a candidate head ranks"),
        (["--candidates", "all"], "proposes what a candidate head ranks"),
        (["--ablate", "order"], "leave --proposer out"),
    ],
)
def test_a_proposer_that_would_mean_nothing_is_refused(data, folders, tmp_path, options, message, capsys):
    files = ["--data_dir", str(data), "--model", str(folders["ranker"]), "--output_dir", str(tmp_path / "out")]
    assert run("evaluate", [*files, "--proposer", str(folders["proposer"]), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
