"""What every system is asked, and what each answered: all cases, and each user's first target after shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from accelerate.utils import gather_object

from llmrec.data.cases import Cases
from llmrec.data.catalog import Catalog
from llmrec.data.near_duplicates import near_duplicate_groups
from llmrec.evaluation.evaluator import CatalogueScorer, Details, Ranking, collect, rank_system, score_ranks
from llmrec.evaluation.shuffles import first_targets, shuffle_order, shuffle_times
from llmrec.text.serializer import Serializer

SHUFFLES = {"order": shuffle_order, "time": shuffle_times}


@dataclass(frozen=True, eq=False)
class Questions:
    """The cases, and the same histories shuffled; alike for every system."""

    cases: Cases
    details: Details
    """What is recorded of the cases besides ranks: twins, and the lists of each user's first case."""
    firsts: Cases
    """The first case of each user, which the shuffles ask for again."""
    shuffled: dict[str, Cases]
    """Those by kind of shuffle."""
    seed: int = 0
    """Seed of the shuffles."""
    compared: dict[str, Any] = field(default_factory=dict)
    """By which `columns` of the items twins were found, and whether they are those that a `template` reads."""

    @classmethod
    def about(
        cls, cases: Cases, catalog: Catalog, kinds: Sequence[str], seed: int, serializer: Serializer | None = None
    ) -> Questions:
        """Prepare the questions.

        Args:
            cases: What is ranked.
            catalog: The items, whose texts tell which are twins.
            kinds: Names in `SHUFFLES`; times without a clock have nothing to shuffle.
            seed: Seed of the shuffles.
            serializer: Writes what the model under test reads of items, by which twins are found; without it by all
                text columns.
        """
        read, columns = None, catalog.frame.columns[1:]
        if serializer is not None:
            read = [serializer.all_of(catalog.attributes(index)) for index in range(len(catalog))]
            columns = [name for name in columns if name in serializer.template.fields]
        listed = np.isin(np.arange(len(cases)), cases.first_of_each_user)
        firsts = first_targets(cases)
        shuffled = {kind: SHUFFLES[kind](firsts, seed) for kind in kinds}
        details = Details(near_duplicate_groups(catalog, read), listed)
        return cls(cases, details, firsts, shuffled, seed, {"columns": columns, "template": serializer is not None})


@dataclass(frozen=True, eq=False)
class Rankings:
    """The answers of every system, by its name."""

    questions: Questions
    mask_seen: bool
    """Whether items of the history leave the ranking."""
    whole: dict[str, Ranking] = field(default_factory=dict)
    """What was recorded of all cases."""
    of_firsts: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Ranks of each user's first target (number of users,), `as_is` and by kind of shuffle, where one was asked."""

    def add(
        self,
        name: str,
        system: CatalogueScorer,
        kinds: Sequence[str],
        shared: bool = False,
        at_last_event: bool = False,
    ) -> None:
        """Let a system answer.

        Args:
            name: What it is called in the report.
            system: Scores the catalogue.
            kinds: Shuffles that can change it; those that nobody asks for are skipped.
            shared: Whether every process calls this with a system that yields its own part of the cases.
            at_last_event: Whether it is asked at the time of the last event, not at that of the target.

        Raises:
            ValueError: If a case is missing or scored more than once.
        """
        rank = rank_together if shared else rank_system
        asked = self.questions
        cases = asked.cases.asked_at_last_event() if at_last_event else asked.cases
        self.whole[name] = rank(system, cases, self.mask_seen, asked.details)
        ranks = {
            kind: rank(system, asked.shuffled[kind], self.mask_seen).ranks for kind in kinds if kind in asked.shuffled
        }
        if ranks:
            self.of_firsts[name] = {"as_is": self.whole[name].ranks[asked.cases.first_of_each_user], **ranks}


def rank_together(system: CatalogueScorer, cases: Cases, mask_seen: bool, details: Details | None = None) -> Ranking:
    """Rank every target in all processes, each its part, and return the whole to all of them; see `rank_system`."""
    return collect(gather_object([score_ranks(system, cases, mask_seen, details)]), len(cases))
