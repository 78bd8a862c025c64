"""An adapter that reads time, from `train` to `recommend`: what it is told of now, and what the report says of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from small_data import DAY, START, data_directory
from tiny_recommenders import randomise, rec_model

from llmrec.commands.main import run
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.recommender import Recommender

SMALL = shlex.split(
    "--max_tokens 64 --max_vector_events 4 --lora_r 2 --lora_alpha 4 --per_device_train_batch_size 4 --bf16 false "
    "--disable_tqdm true --seed 3 --num_train_epochs 2"
)
TIMED = shlex.split("--template time --time_embedding gap hour weekday")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16, irregular=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, checkpoints, data) -> dict[str, Path]:
    """Adapters trained with and without time; what they learnt is drowned by random weights, so that time matters."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for name, options in (("timed", TIMED), ("timeless", ["--template", "vectors"])):
        where = folder / f"{name}-trained"
        base = ["--data_dir", str(data), "--base_model", str(checkpoints["bert"]), "--output_dir", str(where)]
        assert run("train", [*base, *SMALL, *options]) == 0
        recommender = Recommender.from_pretrained(where, device="cpu")
        if name == "timed":
            assert rec_model(recommender).rec_time.weight.any()  # it began at zero, and learnt
        for weight_name, weight in recommender.model.named_parameters():
            weight.requires_grad_(any(part in weight_name for part in ("lora_", "rec_head", "rec_time", "rec_items")))
        made[name] = folder / name
        randomise(recommender).save_pretrained(made[name])
    return made


@pytest.fixture(scope="module")
def results(runs, data, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("results")
    options = ["--data_dir", str(data), "--model", str(runs["timed"]), "--output_dir", str(folder)]
    assert run("evaluate", [*options, "--ablate", "reading,time,order", "--against", str(runs["timeless"])]) == 0
    assert "asked at the time of the last event" in (folder / "results.md").read_text()
    return json.loads((folder / "results.json").read_text())


def mean_mrr(ranks: np.ndarray) -> float:
    return float((1 / ranks).mean())


def test_the_report_has_the_rows_of_now_and_of_the_other_adapter(results, runs, data):
    """Each is what a recommender loaded anew ranks when it is asked so."""
    assert set(results["systems"]) == {
        "llmrec",
        "llmrec_now_last",
        "llmrec_against",
        "item_knn",
        "content",
        "popularity",
    }
    assert results["protocol"]["now"] == "target" and results["variants"] == ["llmrec_now_last"]
    assert results["best_baseline"] in ("item_knn", "content", "popularity") and results["against"] == "timeless"
    directory = PreparedData.open(data)
    cases = Cases.from_histories(directory.histories(), directory.catalog, "test")
    timed, timeless = (Recommender.from_pretrained(runs[name]) for name in ("timed", "timeless"))
    expected = {
        "llmrec": evaluate_system(timed.scorer(), cases, True),
        "llmrec_now_last": evaluate_system(timed.scorer(), cases.asked_at_last_event(), True),
        "llmrec_against": evaluate_system(timeless.scorer(), cases, True),
    }
    for name, ranks in expected.items():
        assert results["systems"][name]["mrr"]["value"] == pytest.approx(mean_mrr(ranks), abs=1e-9)
    assert expected["llmrec"].tolist() != expected["llmrec_now_last"].tolist()
    assert "llmrec_against" in results["comparisons"]["llmrec"]


def test_the_ablations_hold_every_variant(results):
    names = [row["name"] for row in results["ablations"]["rows"]]
    assert names[:4] == ["full", "no reading", "no time words", "no time embedding"]
    assert names[4:] == ["no time", "now = last event", "times shuffled", "order shuffled"]
    shuffled = results["shuffles"]["systems"]["llmrec"]
    other = results["shuffles"]["systems"]["llmrec_against"]
    assert other["time_difference"]["ndcg@10"]["value"] == 0 and other["order"] != other["as_is"]  # it is timeless
    by_name = {row["name"]: row for row in results["ablations"]["rows"]}
    for name, kind in (("full", "as_is"), ("times shuffled", "time"), ("order shuffled", "order")):
        assert by_name[name]["metrics"]["ndcg@10"] == pytest.approx(shuffled[kind]["ndcg@10"])  # another way there
    assert len({row["metrics"]["ndcg@10"]["value"] for row in results["ablations"]["rows"]}) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ablate", "time"], "reads no time"),
        (["--ablate", "order,space"], "'space' is not one of reading, memory, time, order"),
        (["--against", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, data, tmp_path, capsys, options, message):
    base = ["--data_dir", str(data), "--model", str(runs["timeless"]), "--output_dir", str(tmp_path)]
    assert run("evaluate", [*base, *options]) == 2
    assert message in capsys.readouterr().err


def test_recommend_asks_when_a_line_says(runs, tmp_path):
    history = [{"item_id": "i00", "timestamp": START}, {"item_id": "i05", "timestamp": START + DAY}]
    lines = [{"history": history}, {"history": history, "now": START + 90 * DAY}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert run("recommend", ["--model", str(runs["timed"]), *files, "--k", "5"]) == 0
    recommender = Recommender.from_pretrained(runs["timed"])
    written = [json.loads(line)["recommendations"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for line, found in zip(lines, written, strict=True):
        expected = recommender.recommend(history, k=5, now=line.get("now"))
        assert [entry["score"] for entry in found] == pytest.approx([entry.score for entry in expected], abs=1e-5)
    assert written[0] != written[1]
    (tmp_path / "in.jsonl").write_text(json.dumps({"history": history, "now": START}))
    assert run("recommend", ["--model", str(runs["timed"]), *files]) == 2
