"""The short search that every baseline gets: some settings, each judged on validation, all of them on record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from llmrec.data.cases import Cases


class System(Protocol):
    """A fitted baseline: it scores cases, and goes to disk and back with equal scores, bit for bit."""

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once."""

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return settings that JSON can hold, and arrays."""


AnySystem = TypeVar("AnySystem", bound=System)
Settings = dict[str, Any]
Curve = list[dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One setting and what it came to."""

    settings: Settings
    value: float
    """Quality on validation, higher is better."""
    seconds: float
    """Time of fitting and judging."""
    curve: Curve = field(default_factory=list)
    """Rows of `epoch`, `loss` and `value`; empty for what is not trained in epochs."""


@dataclass(frozen=True)
class Search:
    """What was tried and what was taken."""

    metric: str
    chosen: Settings
    trials: list[Trial]

    @property
    def best(self) -> Trial:
        """The trial that was taken."""
        return next(trial for trial in self.trials if trial.settings == self.chosen)


def search(
    fit: Callable[[Settings], tuple[AnySystem, Curve]],
    grid: Sequence[Settings],
    quality: Callable[[AnySystem], float],
    metric: str = "ndcg@10",
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> tuple[AnySystem, Search]:
    """Fit every setting of a grid, one after another, and take the best; the first of equally good ones.

    Args:
        fit: Settings to a fitted system and its learning curve.
        grid: Settings to try, in the order in which they win ties.
        quality: Value of a system on validation data, higher is better.
        metric: Name of that value.
        on_trial: Called after each trial.

    Returns:
        The best system and the record.

    Raises:
        ValueError: If the grid is empty or a quality is not a finite number.

    >>> class Constant:
    ...     def __init__(self, value):
    ...         self.value = value
    >>> best, record = search(
    ...     lambda settings: (Constant(settings["a"]), []), [{"a": 1}, {"a": 3}], lambda system: system.value
    ... )
    >>> best.value, record.chosen, [trial.value for trial in record.trials]
    (3, {'a': 3}, [1, 3])
    """
    if not grid:
        raise ValueError("the grid is empty: give at least one setting to try")
    trials: list[Trial] = []
    best: tuple[AnySystem, Trial] | None = None
    for settings in grid:
        began = time.perf_counter()
        system, curve = fit(settings)
        value = quality(system)
        if not np.isfinite(value):
            raise ValueError(f"the {metric} of {settings!r} is {value!r}: a search needs finite numbers")
        trials.append(Trial(settings, value, time.perf_counter() - began, curve))
        on_trial(trials[-1])
        if best is None or value > best[1].value:
            best = system, trials[-1]
    assert best is not None
    return best[0], Search(metric, best[1].settings, trials)
