"""The systems that a report compares: the adapter and its variants, another adapter, the baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accelerate import PartialState

from llmrec.baselines.folder import check_record, read_baselines
from llmrec.commands.evaluate_arguments import EvaluateArguments
from llmrec.commands.subject import load_subject
from llmrec.data.directory import MANIFEST, DataDirectory
from llmrec.evaluation.evaluator import CatalogueScorer
from llmrec.evaluation.results import AGAINST, NOW_LAST, PROPOSER, SUBJECT
from llmrec.recommender import Recommender
from llmrec.storage import sha256_of

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


def load_proposer(
    directory: DataDirectory, arguments: EvaluateArguments, num_candidates: int | None, state: PartialState
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


def against_scorer(
    directory: DataDirectory, arguments: EvaluateArguments, state: PartialState
) -> dict[str, CatalogueScorer]:
    """Return what ranks for the other adapter, by its own saved head and popularity weight.

    Raises:
        FileNotFoundError: if it is no adapter.
        ValueError: if its base checkpoint has other weights than it was trained on.
    """
    other = load_subject(str(arguments.against), None, arguments.base_model, directory.catalog, state.device)
    num_candidates = read_num_candidates(replace(arguments, head="saved"), other)
    return {AGAINST: other.scorer(**scorer_settings(arguments, num_candidates, state))}


def load_baselines(
    directory: DataDirectory, folder: str | None
) -> tuple[dict[str, CatalogueScorer], dict[str, dict[str, Any]]]:
    """Return the fitted baselines of a folder and the search of each, by name; none without a folder.

    Raises:
        ValueError: if they were fitted to other data.
        FileNotFoundError: if a file is missing.
    """
    if folder is None:
        return {}, {}
    check_record(folder, sha256_of(directory.path / MANIFEST))
    baselines, record = read_baselines(folder)
    return baselines, {name: record["systems"][name]["search"] for name in baselines}
