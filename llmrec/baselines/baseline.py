"""`Baseline`: what a rival of one's own is, in one class; and `fit`, which searches and fits any of them."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from llmrec.data.cases import Cases, case_batches
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.ranking.ranks import target_ranks
from llmrec.storage import sha256_of

if TYPE_CHECKING:
    from llmrec.baselines.search import Search, System, Trial

METRIC = "ndcg@10"
"""By which settings are chosen: its mean over the validation users."""
PACKAGES = ("llmrec", "numpy", "torch", "implicit")


class Baseline(ABC):
    """A rival of one's own: a class that is fitted to training events and scores the catalogue.

    Attributes:
        name: What it is called in reports.
        grid: Settings of its constructor among which validation chooses, where the class is given to `fit`.

    Example:
        >>> class Newest(Baseline):
        ...     name = "newest"
        ...
        ...     def fit(self, data):
        ...         self.num_items = len(data.items)
        ...         return self
        ...
        ...     def scores(self, cases, numbers):
        ...         return np.tile(np.arange(self.num_items, dtype=np.float32), (len(numbers), 1))
    """

    name: ClassVar[str]
    grid: ClassVar[Sequence[dict[str, Any]]] = ({},)

    @abstractmethod
    def fit(self, data: PreparedData) -> Baseline:
        """Learn from `data.train` alone and return itself."""

    @abstractmethod
    def scores(self, cases: Cases, numbers: np.ndarray) -> np.ndarray:
        """Return scores of all items, (B, N), higher is better, for cases by number (B,).

        What may be read of a case is `cases.history(number)`, the item indices before its target.
        """

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield case numbers (B,) and scores (B, N) float32, every case once."""
        for numbers in case_batches(len(cases), cases.num_items):
            yield numbers, torch.as_tensor(self.scores(cases, numbers)).float()


class Baselines(dict[str, Any]):
    """Fitted baselines by name, with the search that chose each one's settings.

    Attributes:
        searches: What was tried for each.
        made_for: Digest of the manifest of the data that they were fitted to.
        run: Settings and versions that they were made with.
    """

    def __init__(self, made_for: str, run: dict[str, Any]) -> None:
        super().__init__()
        self.searches: dict[str, Search] = {}
        self.made_for, self.run = made_for, run

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the systems and the record of their searches to a folder, beside those that are there.

        Raises:
            ValueError: A system is one of the caller's own, or the folder holds baselines of other data.
        """
        from llmrec.baselines.folder import write_baseline
        from llmrec.baselines.systems import SYSTEMS

        if own := [name for name in self if name not in SYSTEMS]:
            raise ValueError(f"baseline {own[0]!r} is not one of {', '.join(SYSTEMS)}: only those are saved.")
        for name, system in self.items():
            write_baseline(folder, name, system, self.searches[name], self.made_for, self.run)


def load(folder: str | os.PathLike[str]) -> dict[str, System]:
    """Read the baselines of a folder that `llmrec baselines` or `Baselines.save` wrote; nothing in it is executed.

    Raises:
        FileNotFoundError: The folder holds none.
        ValueError: A file is not what the record says.
    """
    from llmrec.baselines.folder import read_baselines

    return read_baselines(folder)[0]


def fit(
    data: PreparedData,
    systems: str | Sequence[str | Baseline | type[Baseline]] = ("popularity", "item_knn"),
    *,
    vectors: np.ndarray | None = None,
    mask_seen: bool | None = None,
    max_train_events: int | None = None,
    max_eval_users: int | None = None,
    seed: int = 0,
    on_trial: Callable[[str, Trial], None] | None = None,
) -> Baselines:
    """Fit baselines to the training events, each after a search on validation; the test split is not read.

    Args:
        data: Prepared data with a validation split.
        systems: Names, `all` of them, or baselines of one's own: instances are fitted as they are, classes for every
            setting of their grid.
        vectors: (N, D) vectors of the items that `content` compares, such as `recommender.text_vectors`.
        mask_seen: Whether rankings leave items of the history out; None takes what the data suggest.
        max_train_events: Newest training events of each user that sequence systems learn from; None for all.
        max_eval_users: Validation users by which settings are chosen, drawn by seed; None for all.
        seed: Seed of that draw and of training.
        on_trial: Called with the system's name after each setting that was tried.

    Raises:
        ValueError: A name is unknown, or `content` has no vectors.
        TypeError: A system is neither a name nor a `Baseline`.
    """
    from llmrec.baselines.search import search
    from llmrec.baselines.systems import Fitter, choose_systems, grid

    mask_seen = data.mask_seen if mask_seen is None else mask_seen
    asked = [systems] if isinstance(systems, str) else list(systems)
    names = choose_systems([name for name in asked if isinstance(name, str)], mask_seen)
    if "all" in asked and vectors is None:
        names.remove("content")
    if "content" in names and vectors is None:
        raise ValueError("content compares vectors of the items: give vectors=recommender.text_vectors, or your own.")
    histories, cases = data.histories(), data.validation
    if max_eval_users is not None:
        cases = Cases.from_histories(histories, data.items, "validation", max_eval_users, seed)
    events = TrainingEvents.from_histories(histories, data.items)
    recent = TrainingEvents.from_histories(histories, data.items, max_train_events)
    quality = partial(validation_quality, cases=cases, mask_seen=mask_seen)
    fitter = Fitter(events, recent, lambda: np.asarray(vectors), quality, seed)
    fitted = Baselines(
        sha256_of(data.path / MANIFEST),
        {
            "arguments": {"mask_seen": mask_seen, "max_train_events": max_train_events, "seed": seed},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        },
    )
    for name in names:
        report = partial(on_trial or _silent, name)
        tried = grid(name, data.has_clock, mask_seen)
        fitted[name], fitted.searches[name] = search(partial(fitter.fit, name), tried, quality, METRIC, report)
    for own in (system for system in asked if not isinstance(system, str)):
        if isinstance(own, Baseline):
            fitted[own.name] = own.fit(data)
        elif isinstance(own, type) and issubclass(own, Baseline):
            report = partial(on_trial or _silent, own.name)
            fitted[own.name], fitted.searches[own.name] = search(
                lambda settings, own=own: (own(**settings).fit(data), []),  # type: ignore[misc]
                [dict(settings) for settings in own.grid],
                quality,
                METRIC,
                report,
            )
        else:
            raise TypeError(f"system {own!r} is neither a name nor a Baseline: subclass llmrec.Baseline.")
    return fitted


def validation_quality(system: System, cases: Cases, mask_seen: bool) -> float:
    """Return the mean over users of NDCG@10 on cases, seen items masked or not."""
    ranks = np.empty(len(cases))
    for numbers, scores in system.catalogue_scores(cases):
        excluded = [cases.history(case) if mask_seen else np.empty(0, dtype=np.int64) for case in numbers]
        ranks[numbers] = target_ranks(scores, torch.from_numpy(cases.targets[numbers]), excluded)
    gains, counts = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0), np.bincount(cases.user)
    return float((np.bincount(cases.user, gains) / counts.clip(min=1))[counts > 0].mean())


def _silent(name: str, trial: Trial) -> None:
    """Say nothing of a trial."""
