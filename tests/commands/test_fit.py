from __future__ import annotations

import json

import pytest
from small_data import DAY, START, data_directory, items_frame, prepared

from llmrec import PreparedData, Recommender, fit
from llmrec.commands.fit import SPARSE, decisions, portfolio
from llmrec.commands.main import run

SMALL = "max_tokens=64,lora_r=2,max_steps=2,bf16=false,use_cpu=true"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16, length=12))


def test_from_tables_to_a_recommender_with_report_and_card(checkpoints, data, tmp_path, capsys):
    data.interactions.write_parquet(tmp_path / "events.parquet")
    items_frame().write_csv(tmp_path / "items.csv")
    tables = ["--interactions", str(tmp_path / "events.parquet"), "--items", str(tmp_path / "items.csv")]
    options = ["--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "out"), "--train", SMALL]
    assert run("fit", [*tables, *options, "--split", "leave_one_out", "--minutes", "2"]) == 0
    record = json.loads((tmp_path / "out" / "fit.json").read_text())
    qualities = [trial["quality"] for trial in record["trials"]]
    assert len(qualities) == 3
    best = record["trials"][qualities.index(max(qualities))]
    assert record["chosen"].items() >= best["settings"].items() and record["chosen"]["mask_seen"] is True
    told = json.loads((tmp_path / "out" / "adapter" / "train_results.json").read_text())
    assert max(qualities) in (told["best_validation"], told["best_validation_with_memory"])
    assert told["settings"]["max_steps"] == 2  # what was given stands
    assert (tmp_path / "out" / "results" / "results.html").is_file()
    assert "NDCG@10" in (tmp_path / "out" / "adapter" / "README.md").read_text()
    assert not (tmp_path / "out" / "trial").exists() and not (tmp_path / "out" / "best").exists()
    assert "chosen: template=vectors" in capsys.readouterr().out
    assert run("fit", [*tables, *options]) == 2
    assert "holds an adapter already" in capsys.readouterr().err


def test_from_python_what_was_given_is_never_overridden(checkpoints, data, tmp_path):
    given = f"{SMALL},template=default,per_device_train_batch_size=2,item_learning_rate=0.5"
    model = fit(data, tmp_path / "out", minutes=0.2, base_model=str(checkpoints["bert"]), train=given)
    assert isinstance(model, Recommender)
    settings = json.loads((tmp_path / "out" / "adapter" / "training_settings.json").read_text())
    assert settings["item_learning_rate"] == 0.5 and model.processor.serializer.template.event
    assert "template" not in json.loads((tmp_path / "out" / "fit.json").read_text())["chosen"]
    assert settings["batch"].startswith("2 windows")


def test_what_the_data_decide(data, tmp_path):
    decided, reasons = decisions(data)
    assert decided == {"template": "vectors", "mask_seen": True} and "0.0% of the training events" in reasons[1]
    places = [(user, place) for user in range(9) for place in range(8)]
    events = [(f"u{user}", f"i{(place // 2 + user) % 9:02}", START + place * DAY) for user, place in places]
    again = PreparedData.open(prepared(tmp_path / "data", events, items_frame(9)))
    decided, _ = decisions(again)
    assert decided == {"template": "vectors", "mask_seen": False, "time_embedding": "all"}
    assert SPARSE in portfolio(again)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing given: give one of"),
        (["--source", "movielens-small", "--data_dir", "x"], "give one of"),
        (["--source", "movielens-small", "--minutes", "0"], "minutes=0.0: give more than 0"),
        (["--source", "movielens-small", "--train", "learning_rat=1"], "did you mean --learning_rate"),
    ],
)
def test_bad_options_are_refused(options, words, tmp_path, capsys):
    assert run("fit", [*options, "--output_dir", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_training_stops_when_the_time_is_over(checkpoints, data, tmp_path):
    options = ["--data_dir", str(data.path), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    small = "--max_tokens 64 --lora_r 2 --bf16 false --use_cpu true --disable_tqdm true --num_train_epochs 50"
    assert run("train", [*options, *small.split(), "--max_minutes", "0.0001"]) == 0
    told = json.loads((tmp_path / "train_results.json").read_text())
    assert told["steps"] == 1 and told["best_step"] == 1 and told["best_validation"] is not None
