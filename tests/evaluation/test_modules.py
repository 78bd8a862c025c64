from __future__ import annotations

import subprocess
import sys

import evaluate
import numpy as np
import pytest
import torch

from llmrec.evaluation.metrics import AT_CUTOFF, case_metrics
from llmrec.evaluation.modules import load_metric
from llmrec.evaluation.pair_metrics import PAIR_METRICS, pair_metrics

GENERATOR = np.random.default_rng(0)
RANKS = np.append(GENERATOR.integers(2, 60, size=500) / 2, np.inf)
LABELS = GENERATOR.integers(2, size=300)
LOGITS = GENERATOR.normal(size=300)


def test_every_metric_of_ranks_equals_the_mean_of_its_function_bit_for_bit():
    expected = {name: float(values.mean()) for name, values in case_metrics(RANKS, [5, 10]).items()}
    modules = [load_metric(name, k) for k in (5, 10) for name in AT_CUTOFF] + [load_metric("mrr")]
    together = evaluate.combine(modules)
    assert together.compute(predictions=RANKS) == expected
    together.add_batch(predictions=RANKS[:7])
    together.add_batch(predictions=RANKS[7:])
    assert together.compute() == expected


def test_every_metric_of_pairs_equals_its_function_bit_for_bit():
    expected = {f"pair_{name}": value for name, value in pair_metrics(LABELS, LOGITS).items()}
    modules = evaluate.combine([load_metric(f"pair_{name}") for name in PAIR_METRICS])
    assert modules.compute(predictions=LOGITS, references=LABELS) == expected
    for start in range(0, 300, 130):
        modules.add_batch(predictions=LOGITS[start : start + 130], references=LABELS[start : start + 130])
    assert modules.compute() == expected


def test_uneven_batches_give_the_mean_over_cases_not_a_mean_of_batch_means():
    module = load_metric("recall", k=10)
    module.add_batch(predictions=[1, 2, 3, 4, 5, 6, 7, 8, 9])
    module.add_batch(predictions=[np.inf])
    assert module.compute() == {"recall@10": 9 / 10}  # the mean of batch means is 1 / 2


def test_a_module_is_a_metric_that_starts_again_after_each_compute():
    module = load_metric("ndcg", k=10)
    assert isinstance(module, evaluate.Metric)
    assert module.name == "ndcg"
    assert "NDCG@K = [rank ≤ K] / log2(1 + rank)" in module.description
    module.add(prediction=1)
    module.add(prediction=3)
    assert len(module) == 2
    assert module.compute() == {"ndcg@10": 3 / 4}
    assert module.compute(predictions=torch.tensor([3.0, 3.0])) == {"ndcg@10": 1 / 2}
    for nothing in ({}, {"predictions": []}):
        with pytest.raises(ValueError, match="ndcg@10 of nothing"):
            module.compute(**nothing)


def test_ranks_beyond_float32_are_kept():
    assert load_metric("mrr").compute(predictions=[2**24 + 1]) == {"mrr": 1 / (2**24 + 1)}


def test_modules_of_one_metric_collect_apart():
    first, second = load_metric("mrr"), load_metric("mrr")
    first.add_batch(predictions=[1])
    second.add_batch(predictions=[2])
    assert (first.compute(), second.compute()) == ({"mrr": 1.0}, {"mrr": 0.5})


def test_what_the_functions_refuse_the_modules_refuse():
    with pytest.raises(ValueError, match="ranks start at 1"):
        load_metric("mrr").compute(predictions=[1, 0])
    with pytest.raises(ValueError, match=r"label 0\.5"):
        load_metric("pair_auc").compute(predictions=[1, 0], references=[1, 0.5])
    with pytest.raises(ValueError, match="Mismatch"):
        load_metric("pair_auc").compute(predictions=[1, 0], references=[1])


@pytest.mark.parametrize(
    ("name", "k", "message"),
    [
        ("ndgc", 10, "choose one of ndcg, recall, .*mrr, pair_accuracy"),
        ("auc", None, "choose one of"),
        ("pair_ndcg", None, "choose one of"),
        ("ndcg", None, "cutoff None"),
        ("ndcg", 0, "cutoff 0"),
        ("mrr", 10, "MRR at a cutoff is map"),
        ("pair_auc", 10, "it has none"),
    ],
)
def test_names_and_cutoffs_are_checked(name, k, message):
    with pytest.raises(ValueError, match=message):
        load_metric(name, k)


def test_the_library_is_loaded_by_use_alone_and_named_where_it_is_missing():
    program = (
        "import sys; from llmrec.evaluation.modules import load_metric; assert 'evaluate' not in sys.modules\n"
        "sys.modules['evaluate'] = None  # as if it were not installed\n"
        "try: load_metric('mrr')\n"
        "except ImportError as error: print(error)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "load_metric needs the package 'evaluate': pip install 'evaluate>=0.4.6'\n"
