"""The baselines of a report: those of a folder, and the trivial ones, which no report is without."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from llmrec.baselines.baseline import METRIC, validation_quality
from llmrec.baselines.content import ContentBaseline, spread
from llmrec.baselines.folder import check_record, read_baselines
from llmrec.baselines.search import Settings, System, search
from llmrec.baselines.systems import OF_REPEATS, Fitter, grid
from llmrec.data.cases import Cases
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import CatalogueScorer
from llmrec.storage import sha256_of

MAX_SEARCH_CASES = 2000
"""Validation targets, evenly spread over the users, by which settings of the trivial baselines are chosen."""
WITHOUT_VALIDATION: dict[str, Settings] = {
    "popularity": {},
    "own_items": {"decay": 0.995, "popularity_weight": 1.0},
    "item_knn": {"num_neighbours": 100, "decay": 0.9},
}
"""The trivial baselines that know ids alone, and their settings where there is nothing to choose them by."""

Search = dict[str, Any]


def load_baselines(
    directory: PreparedData, folder: str | None
) -> tuple[dict[str, CatalogueScorer], dict[str, Search], dict[str, bool]]:
    """Return the fitted baselines of a folder; none without a folder.

    Returns:
        By name: the systems, the search of each, and whether it was chosen for rankings with seen items masked.

    Raises:
        ValueError: if they were fitted to other data.
        FileNotFoundError: if a file is missing.
    """
    if folder is None:
        return {}, {}, {}
    check_record(folder, sha256_of(directory.path / MANIFEST))
    baselines, record = read_baselines(folder)
    entries = {name: record["systems"][name] for name in baselines}
    masks = {name: entry["run"].get("arguments", {}).get("mask_seen") for name, entry in entries.items()}
    searches = {name: entry["search"] for name, entry in entries.items()}
    return baselines, searches, {name: mask for name, mask in masks.items() if isinstance(mask, bool)}


def trivial_names(mask_seen: bool, with_texts: bool) -> list[str]:
    """Return the names of the baselines that stand in every report.

    >>> trivial_names(mask_seen=False, with_texts=True), trivial_names(mask_seen=True, with_texts=False)
    (['popularity', 'own_items', 'item_knn', 'content'], ['popularity', 'item_knn'])
    """
    names = [name for name in WITHOUT_VALIDATION if not (mask_seen and name in OF_REPEATS)]
    return [*names, "content"] if with_texts else names


def fit_trivial(
    names: list[str],
    directory: PreparedData,
    events: TrainingEvents,
    text: np.ndarray | None,
    mask_seen: bool,
    seed: int,
) -> tuple[dict[str, System], dict[str, Search]]:
    """Fit some of the trivial baselines, in seconds; content compares whitened texts as training starts from them.

    Args:
        names: Of `trivial_names`.
        directory: The data, by whose validation targets settings are chosen, where there are any.
        events: Its training events.
        text: (N, D) embeddings of the items' texts, which content compares.
        mask_seen: Whether items of the history leave the ranking.
        seed: Seed of the fit.

    Returns:
        By name: the systems, and the searches of those that had settings to choose, with the `num_cases` that chose.
    """
    systems: dict[str, System] = {}
    searches: dict[str, Search] = {}
    cases = search_cases(directory)
    quality = None if cases is None else partial(validation_quality, cases=cases, mask_seen=mask_seen)
    fitter = Fitter(events, events, lambda: np.empty(0), quality or (lambda system: 0.0), seed)
    for name in names:
        tried = grid(name, directory.has_clock, mask_seen)
        if name == "content":
            assert text is not None
            systems[name] = ContentBaseline(spread(text))
        elif len(tried) == 1 or quality is None:
            systems[name] = fitter.fit(name, WITHOUT_VALIDATION[name])[0]
        else:
            systems[name], found = search(partial(fitter.fit, name), tried, quality, METRIC)
            searches[name] = {**asdict(found), "num_cases": len(cases or ())}
            for trial in searches[name]["trials"]:
                del trial["seconds"]  # equal evaluations give equal files
    return systems, searches


def search_cases(directory: PreparedData) -> Cases | None:
    """Return validation targets to choose settings by, some of them where there are many; None where there are none."""
    try:
        cases = Cases.from_histories(directory.histories(), directory.catalog, "validation")
    except ValueError:
        return None
    return cases.take(np.unique(np.linspace(0, len(cases) - 1, MAX_SEARCH_CASES).astype(np.int64)))
