"""The metrics as modules of the `evaluate` library: collect batch by batch, compute once.

    metric = load_metric("ndcg", k=10)
    for batch in batches:
        metric.add_batch(predictions=ranks_of(batch))
    metric.compute()  # {"ndcg@10": …}

A module keeps what it is given and averages at the end over cases (not users), so that the size of a batch cannot move
a number. It needs no network. It works in one process: with several, gather first and compute in one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Features, Value

from llmrec.evaluation.metrics import AT_CUTOFF, reciprocal_rank
from llmrec.evaluation.pair_metrics import PAIR_METRICS

if TYPE_CHECKING:
    import evaluate

RANKS = Features({"predictions": Value("float64")})
PAIRS = Features({"predictions": Value("float64"), "references": Value("float64")})
PAIR_PREFIX = "pair_"


def load_metric(name: str, k: int | None = None) -> evaluate.Metric:
    """Make a module of the `evaluate` library from a metric.

    Metrics of ranks take `predictions`, the rank of each target (`ranking.ranks.target_ranks`), infinity for a miss.
    Metrics of labelled pairs take `predictions`, logits, and `references`, labels 0 or 1.

    Args:
        name: Of ranks: `ndcg`, `recall`, `hit`, `precision`, `f1`, `map`, each with a cutoff, and `mrr` without one.
            Of pairs: `pair_accuracy`, `pair_precision`, `pair_recall`, `pair_f1`, `pair_auc`, `pair_log_loss`.
        k: Cutoff.

    Returns:
        A module whose `compute` gives one number under the metric's name, `ndcg@10` or `pair_auc`.

    Raises:
        ImportError: If `evaluate` is not installed.
        ValueError: If there is no such metric, or a cutoff is missing or too much.
    """
    metric, features = _find(name, k)
    key = name if k is None else f"{name}@{k}"
    settings = {} if k is None else {"k": k}
    try:
        import evaluate  # takes seconds, and only this function needs it
    except ImportError as error:
        raise ImportError("load_metric needs the package 'evaluate': pip install 'evaluate>=0.4.6'") from error

    class Module(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            description = (metric.__doc__ or "").strip()
            return evaluate.MetricInfo(description=description, citation="", inputs_description="", features=features)

        def compute(self, **inputs: Any) -> dict[str, float]:
            """Compute the metric of everything that was added, and start again."""
            if not len(self) and all(values is None or not len(values) for values in inputs.values()):
                raise ValueError(f"{key} of nothing: add predictions, or give them to compute")
            return super().compute(**inputs)

        def _compute(self, **columns: list[float]) -> dict[str, float]:
            labels_first = [np.asarray(columns[column]) for column in sorted(features, reverse=True)]
            return {key: float(np.mean(metric(*labels_first, **settings)))}

    Module.__name__ = name  # the library calls a module by its class
    return Module(config_name=key, keep_in_memory=True)


def _find(name: str, k: int | None) -> tuple[Callable[..., Any], Features]:
    """Return a metric's function and its input columns."""
    if name in AT_CUTOFF:
        if k is None or k < 1:
            raise ValueError(f"metric {name!r} with cutoff {k!r}: it reads the first k items of a ranking; give k=10")
        return AT_CUTOFF[name], RANKS
    pair = name.removeprefix(PAIR_PREFIX) if name.startswith(PAIR_PREFIX) else None
    if name != "mrr" and pair not in PAIR_METRICS:
        known = [*AT_CUTOFF, "mrr", *(PAIR_PREFIX + pair for pair in PAIR_METRICS)]
        raise ValueError(f"metric {name!r}: choose one of {', '.join(known)}")
    if k is not None:
        raise ValueError(f"metric {name!r} with cutoff {k!r}: it has none; leave k out (MRR at a cutoff is map)")
    return (PAIR_METRICS[pair], PAIRS) if pair else (reciprocal_rank, RANKS)
