"""The systems of a report that are adapters: the one it is about, its variants, another one; and the mask of all."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from accelerate import PartialState

from llmrec.commands.evaluate_arguments import EvaluateArguments
from llmrec.commands.subject import load_subject
from llmrec.data.directory import PreparedData
from llmrec.evaluation.evaluator import CatalogueScorer
from llmrec.evaluation.results import AGAINST, NOW_LAST, PROPOSER, SUBJECT
from llmrec.recommender import Recommender

ORDERLESS = ("popularity", "recent_popularity")
"""Baselines that read no history: shuffling one cannot change them."""


def read_num_candidates(arguments: EvaluateArguments, recommender: Recommender | None) -> int | None:
    """Return how many items the candidate head ranks: 0 where none does, None for all of the catalogue.

    Raises:
        ValueError: if the head that is asked for is not the adapter's, or the number is none.
    """
    own = "dual" if recommender is None else recommender.config.head
    if arguments.head not in ("saved", "dual", own):
        raise ValueError(f"head={arguments.head!r}: the adapter was trained with {own!r}; leave it out, or give that.")
    if arguments.candidates != "all" and (not arguments.candidates.isdecimal() or int(arguments.candidates) < 1):
        raise ValueError(f"candidates={arguments.candidates!r}: give a number of items, at least 1, or all.")
    if own == "dual" or arguments.head == "dual":
        return 0
    return None if arguments.candidates == "all" else int(arguments.candidates)


def choose_mask(asked: bool | None, made_for: Mapping[str, bool], warn: bool = True, usual: bool = True) -> bool:
    """Return whether items of the history leave the ranking: as asked, or as the first system was trained or chosen.

    Args:
        asked: What the user said, None where nothing.
        made_for: By name of a system whether it was trained or chosen for masked rankings, the adapter first.
        usual: What the data suggest, where there is neither.
        warn: Whether to warn of systems that were made for the other kind of ranking.

    >>> choose_mask(None, {"llmrec": False}), choose_mask(False, {}), choose_mask(None, {})
    (False, False, True)
    """
    mask_seen = next(iter(made_for.values()), usual) if asked is None else asked
    if warn and (others := [name for name, mask in made_for.items() if mask != mask_seen]):
        warnings.warn(
            f"mask_seen is {mask_seen} here, but {not mask_seen} in the training or search of {', '.join(others)}: "
            "they are ranked in a way that they were not made for.\n"
            f"Give --mask_seen {str(not mask_seen).lower()}, or train or search them again with --mask_seen "
            f"{str(mask_seen).lower()}.",
            stacklevel=3,
        )
    return mask_seen


def load_proposer(
    directory: PreparedData, arguments: EvaluateArguments, num_candidates: int | None, state: PartialState
) -> Recommender | None:
    """Return the other adapter that proposes, if one is asked for.

    Raises:
        FileNotFoundError: if it is no adapter.
        ValueError: if nothing is re-ranked, or the question is about one adapter.
    """
    if arguments.proposer is None:
        return None
    if num_candidates in (0, None):
        raise ValueError(
            "--proposer proposes what a candidate head ranks, and none does here or it ranks all items:\n"
            "give a --model with a candidate head, without --head dual and --candidates all, or leave it out."
        )
    if arguments.ablate is not None:
        raise ValueError("--ablate takes inputs from one adapter: leave --proposer out.")
    return load_subject(arguments.proposer, None, None, directory.catalog, state.device)


def subject_scorers(
    recommender: Recommender,
    arguments: EvaluateArguments,
    num_candidates: int | None,
    state: PartialState,
    proposer: Recommender | None = None,
) -> dict[str, CatalogueScorer]:
    """Return what ranks for the adapter; beside it the proposing dual head alone, and the adapter not told of now."""
    settings = scorer_settings(arguments, num_candidates, state)
    scorers: dict[str, CatalogueScorer] = {SUBJECT: recommender.scorer(**settings, proposer=proposer)}
    if num_candidates != 0:
        scorers[PROPOSER] = (proposer or recommender).scorer(**{**settings, "num_candidates": 0})
    if recommender.processor.asks_now:
        scorers[NOW_LAST] = recommender.scorer(**settings, proposer=proposer)
    return scorers


def scorer_settings(arguments: EvaluateArguments, num_candidates: int | None, state: PartialState) -> dict[str, Any]:
    """Return the settings of `Recommender.scorer` for this process."""
    return {
        "batch_size": arguments.batch_size,
        "shard": (state.process_index, state.num_processes),
        "progress": state.is_main_process,
        "num_candidates": num_candidates,
        "mask_seen": arguments.mask_seen,
    }


def against_scorer(other: Recommender, arguments: EvaluateArguments, state: PartialState) -> dict[str, CatalogueScorer]:
    """Return what ranks for the other adapter, by its own saved head and popularity weight."""
    num_candidates = read_num_candidates(replace(arguments, head="saved"), other)
    return {AGAINST: other.scorer(**scorer_settings(arguments, num_candidates, state))}
