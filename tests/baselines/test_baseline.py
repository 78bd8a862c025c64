from __future__ import annotations

import numpy as np
import pytest
from small_data import data_directory

from llmrec import Baseline, PreparedData, baselines, evaluate
from llmrec.baselines.baseline import validation_quality
from llmrec.commands.main import run
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import evaluate_system, user_metrics


class LastSeen(Baseline):
    """Item i after item i - step, as the random walks of the data go."""

    name = "last_seen"
    grid = ({"step": 1}, {"step": 2}, {"step": 9})

    def __init__(self, step: int = 1) -> None:
        self.step = step

    def fit(self, data: PreparedData) -> LastSeen:
        self.counts = TrainingEvents.from_histories(data.histories(), data.items).counts
        return self

    def scores(self, cases, numbers):
        scores = np.tile(self.counts / 1e6, (len(numbers), 1))
        for row, case in zip(scores, numbers, strict=True):
            row[(cases.history(case)[-1] + self.step) % len(row)] += 1
        return scores


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return PreparedData.open(data_directory(tmp_path_factory.mktemp("data") / "data", num_users=16))


def test_what_is_fitted_is_what_the_command_fits(data, tmp_path):
    fitted = baselines.fit(data, ["popularity", "item_knn"])
    options = ["--data_dir", str(data.path), "--systems", "popularity", "item_knn", "--output_dir", str(tmp_path / "a")]
    assert run("baselines", options) == 0
    read = baselines.load(tmp_path / "a")
    assert list(fitted) == list(read) == ["popularity", "item_knn"]
    for name in fitted:
        assert (evaluate_system(fitted[name], data.test, True) == evaluate_system(read[name], data.test, True)).all()
    fitted.save(tmp_path / "b")
    again = baselines.load(tmp_path / "b")
    ranks = [evaluate_system(one["item_knn"], data.test, True) for one in (again, read)]
    assert (ranks[0] == ranks[1]).all()


def test_one_of_ones_own_is_fitted_searched_and_evaluated(data):
    fitted = baselines.fit(data, ["popularity", LastSeen])
    values = [validation_quality(LastSeen(**one).fit(data), data.validation, True) for one in LastSeen.grid]
    assert [trial.value for trial in fitted.searches["last_seen"].trials] == values
    assert fitted["last_seen"].step == LastSeen.grid[int(np.argmax(values))]["step"]
    found = evaluate({**fitted, "as it is": baselines.fit(data, [LastSeen(2)])["last_seen"]}, data.test, ["ndcg@10"])
    expected = user_metrics(evaluate_system(LastSeen(2).fit(data), data.test, True), data.test)["ndcg@10"].mean()
    assert found.interval("as it is").value == pytest.approx(expected)


def test_content_compares_the_vectors_that_it_is_given(data):
    vectors = np.random.default_rng(0).normal(size=(len(data.items), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert "content" in baselines.fit(data, ["content"], vectors=vectors)
    with pytest.raises(ValueError, match="give vectors="):
        baselines.fit(data, ["content"])


def test_quality_is_that_of_the_evaluator(data):
    system = baselines.fit(data, "popularity")["popularity"]
    for masked in (True, False):
        expected = user_metrics(evaluate_system(system, data.validation, masked), data.validation)["ndcg@10"].mean()
        assert validation_quality(system, data.validation, masked) == pytest.approx(expected, abs=1e-12)


def test_what_is_no_baseline_is_refused(data, tmp_path):
    with pytest.raises(TypeError, match=r"subclass llmrec\.Baseline"):
        baselines.fit(data, [3])
    with pytest.raises(ValueError, match="system 'popularty' is unknown"):
        baselines.fit(data, ["popularty"])
    with pytest.raises(ValueError, match="'last_seen' is not one of popularity"):
        baselines.fit(data, [LastSeen()]).save(tmp_path)
