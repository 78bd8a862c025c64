"""The baselines by name: what a search tries for each, how a setting is fitted, and which class reads it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from llmrec.baselines import content, counting, neighbours, own_items
from llmrec.baselines.content import ContentBaseline
from llmrec.baselines.counting import Popularity, RecentPopularity
from llmrec.baselines.neighbours import ItemKNN
from llmrec.baselines.own_items import OwnItems
from llmrec.baselines.search import Curve, Settings, System
from llmrec.baselines.sequence import SequenceBaseline
from llmrec.baselines.sequence_training import SEQUENCE_GRIDS, SequenceSettings, train_sequence
from llmrec.data.item_neighbours import Neighbours, item_neighbours
from llmrec.data.training_events import TrainingEvents

SYSTEMS: dict[str, Any] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "own_items": OwnItems,
    "item_knn": ItemKNN,
    "content": ContentBaseline,
    "lstm": SequenceBaseline,
    "sasrec": SequenceBaseline,
    "gsasrec": SequenceBaseline,
}


OF_REPEATS = ("own_items",)
"""Systems that rank what the user had before: nothing is left of them where that leaves the ranking."""


def choose_systems(names: list[str], mask_seen: bool = True) -> list[str]:
    """Return the named systems in the order of `SYSTEMS`, each once; `all` names every one that goes with the mask.

    Raises:
        ValueError: If a name is unknown, or that of a system that ranks nothing but what the mask takes out.

    >>> choose_systems(["content", "popularity"])
    ['popularity', 'content']
    """
    if unknown := [name for name in names if name not in SYSTEMS and name != "all"]:
        raise ValueError(
            f"system {unknown[0]!r} is unknown: give all, or some of these, with spaces: {' '.join(SYSTEMS)}"
        )
    if mask_seen and (masked := [name for name in names if name in OF_REPEATS]):
        raise ValueError(
            f"system {masked[0]!r} ranks the items of the history, which leave the ranking with mask_seen true:\n"
            "give --mask_seen false, or leave it out"
        )
    everyone = [name for name in SYSTEMS if not (mask_seen and name in OF_REPEATS)]
    return [name for name in everyone if name in names or "all" in names]


def grid(name: str, has_clock: bool, mask_seen: bool = True) -> list[Settings]:
    """Return the settings that a search tries for a system; what is learned for masked rankings only where they are.

    >>> grid("popularity", has_clock=True), grid("recent_popularity", has_clock=False)
    ([{}], [{'window': None}])
    """
    grids: dict[str, list[Settings]] = {
        "popularity": [{}],
        "recent_popularity": [{"window": window} for window in (counting.WINDOWS if has_clock else (None,))],
        "own_items": [
            {"decay": decay, "popularity_weight": weight}
            for decay in own_items.DECAYS
            for weight in own_items.POPULARITY_WEIGHTS
        ],
        "item_knn": [
            {"num_neighbours": number, "decay": decay}
            for number in neighbours.NUM_NEIGHBOURS
            for decay in neighbours.DECAYS
        ],
        "content": [{"decay": decay, "whiten": whiten} for whiten in (False, True) for decay in content.DECAYS],
        **SEQUENCE_GRIDS,
    }
    return [{key: value for key, value in one.items() if mask_seen or key != "mask_seen"} for one in grids[name]]


@dataclass
class Fitter:
    """Fits a setting of any system to one data set; what several settings share is computed once."""

    events: TrainingEvents
    """What the counting systems learn from: everything."""
    recent_events: TrainingEvents
    """What the sequence systems learn from: each user's newest events, where that is limited."""
    encode_items: Callable[[], np.ndarray]
    """Computes the item vectors (N, D) that `content` compares."""
    quality: Callable[[System], float]
    """Validation value by which a sequence system keeps its best epoch."""
    seed: int = 0

    @cached_property
    def _item_vectors(self) -> np.ndarray:
        return self.encode_items()

    @cached_property
    def _spread_vectors(self) -> np.ndarray:
        return content.spread(self._item_vectors)

    @cached_property
    def _all_neighbours(self) -> Neighbours:
        return item_neighbours(self.events, max(neighbours.NUM_NEIGHBOURS))

    def fit(self, name: str, settings: Settings) -> tuple[System, Curve]:
        """Return the fitted system and its learning curve, which is empty where nothing is trained in epochs."""
        if name == "popularity":
            return Popularity.from_events(self.events), []
        if name == "recent_popularity":
            return RecentPopularity.from_events(self.events, settings["window"]), []
        if name == "own_items":
            return OwnItems.from_events(self.events, **settings), []
        if name == "item_knn":
            nearest = self._all_neighbours.nearest(settings["num_neighbours"])
            return ItemKNN(nearest, self.events.known, settings["decay"]), []
        if name == "content":
            vectors = self._spread_vectors if settings["whiten"] else self._item_vectors
            return ContentBaseline(vectors, settings["decay"]), []
        chosen = SequenceSettings(**settings, seed=self.seed)
        return train_sequence(self.recent_events, chosen, self.quality, progress=True)
