"""Memory through every way to a score: what it adds is the same, and survives saving, appending and other items."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from safetensors.torch import save_file
from small_data import catalog_of, data_directory
from tiny_recommenders import randomise, rec_model, tiny_recommender

from llmrec.commands.main import run
from llmrec.configuration import MemoryWeights, RecommenderConfig
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.ablations import ablate
from llmrec.evaluation.evaluator import evaluate_system, user_metrics
from llmrec.evaluation.rankings import Questions
from llmrec.evaluation.shuffles import first_targets
from llmrec.models.memory import Memory
from llmrec.recommender import Recommender

WEIGHTS = MemoryWeights(neighbours=9.0, neighbours_decay=0.7, own=2.0, own_decay=0.9)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16))


@pytest.fixture
def plain(checkpoints, data) -> Recommender:
    return randomise(tiny_recommender(checkpoints["bert"], data.catalog))


@pytest.fixture
def memory(data) -> Memory:
    return Memory.counted(TrainingEvents.from_histories(data.histories(), data.catalog), WEIGHTS)


def history_of(data: PreparedData, rows: list[int]) -> list[dict]:
    return [{"item_id": data.catalog.ids[row], "timestamp": 1_600_000_000 + 86_400 * n} for n, row in enumerate(rows)]


def test_every_way_to_a_score_adds_what_is_remembered(plain, memory, data):
    rows = [3, 8, 3, 15]
    history, every = history_of(data, rows), list(data.catalog.ids)
    without = np.array(plain.score(history, every))
    plain.memory = memory
    expected = without + memory.scores([np.array(rows)])[0].numpy()
    assert np.ptp(expected - without) > 1  # it tells items apart
    assert plain.score(history, every) == pytest.approx(expected, abs=1e-4)
    k = len(every)
    for listed in (
        plain.recommend(history, k=k, exclude_seen=False),
        plain.recommend_batch([history[:2], history], k=k, exclude_seen=False)[1],
        plain.recommend(plain.open(history), k=k, exclude_seen=False),
    ):
        found = {one.item_id: one.score for one in listed}
        assert [found[item] for item in every] == pytest.approx(expected, abs=1e-4)
    opened = plain.open(history[:1])
    for event in history[1:]:
        opened.append(event)
    assert opened.score(every) == pytest.approx(expected, abs=1e-4)


def test_the_evaluator_ranks_by_the_same_scores(plain, memory, data):
    cases = Cases.from_histories(data.histories(), data.catalog, "test")
    plain.memory = memory
    for numbers, scores in plain.scorer(batch_size=3).catalogue_scores(cases):
        for case, row in zip(numbers, scores, strict=True):
            history = history_of(data, cases.history(case).tolist())
            times = cases.timestamps[cases.user[case]]
            for event, time in zip(history, times, strict=False):
                event["timestamp"] = int(time)
            now = int(cases.now[case])
            assert plain.score(history, data.catalog.ids[:5], now=now) == pytest.approx(row[:5].tolist(), abs=1e-4)


def test_a_new_item_is_scored_by_its_text_alone(plain, memory, data):
    history, new = history_of(data, [3, 8]), {"title": "red hammer"}
    without = plain.score(history, [new])
    plain.memory = memory
    assert plain.score(history, [new]) == without
    mixed = plain.score([{"title": "red hammer", "timestamp": 1_500_000_000}, *history], ["i01", new])
    assert len(mixed) == 2 and np.isfinite(mixed).all()


def test_saved_and_loaded_it_remembers_the_same(plain, memory, data, tmp_path):
    plain.memory = memory
    plain.save_pretrained(tmp_path / "a")
    loaded = Recommender.from_pretrained(tmp_path / "a", device="cpu")  # replays the probe
    history = history_of(data, [3, 8, 3])
    assert loaded.score(history, data.catalog.ids) == plain.score(history, data.catalog.ids)
    assert loaded.config.memory == WEIGHTS
    merged = loaded.merge()
    assert merged.score(history, data.catalog.ids) == pytest.approx(plain.score(history, data.catalog.ids), rel=1e-4)


def test_without_a_catalogue_nothing_is_remembered(plain, memory, data, tmp_path):
    plain.memory = memory
    plain.save_pretrained(tmp_path / "a", catalog=False)
    assert not (tmp_path / "a" / "memory.safetensors").exists()
    assert RecommenderConfig.load(tmp_path / "a").memory is None
    assert Recommender.from_pretrained(tmp_path / "a", device="cpu", items=data.catalog).memory is None


def test_a_folder_whose_memory_is_missing_or_of_other_items_is_refused(plain, memory, tmp_path):
    plain.memory = memory
    plain.save_pretrained(tmp_path / "a")
    plain.save_pretrained(tmp_path / "b")
    (tmp_path / "a" / "memory.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks memory\.safetensors"):
        Recommender.from_pretrained(tmp_path / "a", device="cpu")
    other = Memory(memory.neighbours, WEIGHTS).select(list(range(len(memory) - 1)))
    save_file(other.tensors(), tmp_path / "b" / "memory.safetensors")
    with pytest.raises(ValueError, match=r"memory\.safetensors was made of another items\.parquet"):
        Recommender.from_pretrained(tmp_path / "b", device="cpu")


def test_other_items_keep_what_was_counted_of_those_that_stay(plain, memory, data):
    plain.memory = memory
    history = history_of(data, [3, 8])
    before = dict(zip(data.catalog.ids, plain.score(history, data.catalog.ids), strict=True))
    held = plain.snapshot()
    plain.items.remove(["i05"])
    plain.items.add([{"item_id": "n1", "title": "green drill"}])
    assert len(plain.memory) == len(plain.items) and len(held.model.rec_items.memory) == len(data.catalog)
    ids = [item for item in plain.items.ids if item in before]
    assert plain.score(history, ids) == pytest.approx([before[item] for item in ids], abs=1e-4)
    assert np.isfinite(plain.score(history, ["n1"])).all()


def test_setting_a_memory_makes_another_snapshot_and_open_histories_take_it(plain, memory, data):
    opened, version = plain.open(history_of(data, [3, 8])), plain.version
    before = opened.score(["i04"])
    plain.memory = memory
    assert plain.version is not version
    assert opened.score(["i04"]) != before
    plain.memory = None
    assert opened.score(["i04"]) == before and plain.config.memory is None


def test_a_memory_of_another_catalogue_is_refused(plain, memory):
    with pytest.raises(ValueError, match=r"the memory is of 3 items, the catalogue has 24"):
        plain.memory = memory.select([0, 1, 2])


@pytest.mark.parametrize("repeats", [False, True])
def test_training_weighs_the_memory_on_validation(checkpoints, tmp_path, repeats, capsys):
    folder = data_directory(tmp_path / "data", num_users=24, length=12)
    options = ["--data_dir", str(folder), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path / "r")]
    small = "--max_tokens 64 --lora_r 2 --max_steps 2 --bf16 false --disable_tqdm true --use_cpu true"
    assert run("train", [*options, *small.split(), "--mask_seen", str(not repeats).lower()]) == 0
    values = pl.read_json(tmp_path / "r" / "train_results.json")
    assert "memory" in capsys.readouterr().out.splitlines()[-1]
    best, before = values["best_validation_with_memory"][0], values["best_validation"][0]
    assert best >= before - 1e-6  # no memory is among what is tried
    recommender = Recommender.from_pretrained(tmp_path / "r", device="cpu")
    assert (recommender.memory is None) == (recommender.config.memory is None)
    cases = Cases.from_histories(PreparedData.open(folder).histories(), recommender.items.catalog, "validation")
    ranks = evaluate_system(recommender.scorer(), cases, not repeats)
    assert user_metrics(ranks, cases, [10])["ndcg@10"].mean() == pytest.approx(best, abs=1e-6)


def test_without_memory_on_request(checkpoints, data, tmp_path):
    assert rec_model(tiny_recommender(checkpoints["bert"], catalog_of("abc"))).rec_items.memory is None
    options = ["--data_dir", str(data.path), "--base_model", str(checkpoints["bert"]), "--output_dir", str(tmp_path)]
    small = "--max_tokens 64 --lora_r 2 --max_steps 1 --bf16 false --disable_tqdm true --use_cpu true --memory false"
    assert run("train", [*options, *small.split()]) == 0
    assert RecommenderConfig.load(tmp_path).memory is None and not (tmp_path / "memory.safetensors").exists()


def test_an_ablation_takes_the_memory_away_and_nothing_else(plain, memory, data):
    cases = first_targets(Cases.from_histories(data.histories(), data.catalog, "test"))
    expected = [evaluate_system(plain.scorer(), cases, True)]
    plain.memory = memory
    expected.insert(0, evaluate_system(plain.scorer(), cases, True))
    questions = Questions.about(cases, data.catalog, (), 0, plain.processor.serializer)
    found = ablate(plain, questions, ["memory"], True, {})
    assert list(found) == ["full", "no memory"]
    for row, ranks in zip(found.values(), expected, strict=True):
        assert (row["ranks"] == ranks).all()
    assert plain.memory is memory and (expected[0] != expected[1]).any()
    plain.memory = None
    with pytest.raises(ValueError, match="remembers nothing"):
        ablate(plain, questions, ["memory"], True, {})
