"""`llmrec evaluate`: rank the whole catalogue for held-out events, beside the baselines, and write the report.

llmrec evaluate --data_dir DATA --model RUN --baselines BASELINES --output_dir RESULTS
accelerate launch scripts/evaluate.py … shares the histories over processes; the numbers are the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState

from llmrec.baselines.content import ContentBaseline
from llmrec.baselines.counting import Popularity
from llmrec.baselines.folder import check_record, read_baselines
from llmrec.baselines.training_events import TrainingEvents
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.evaluate_pairs import evaluate_pairs
from llmrec.commands.subject import describe_subject, load_subject, training_curve, use_popularity_weight
from llmrec.data.directory import MANIFEST, DataDirectory, sha256_of
from llmrec.evaluation.ablations import ablate, variants
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import CatalogueScorer, user_metrics
from llmrec.evaluation.list_metrics import list_metrics, users_per_item
from llmrec.evaluation.rankings import Questions, Rankings
from llmrec.evaluation.report import case_table, check_report_folder, write_report
from llmrec.evaluation.results import (
    AGAINST,
    NOW_LAST,
    PROPOSER,
    SUBJECT,
    ablation_results,
    build_results,
    describe_protocol,
    near_duplicate_results,
    shuffle_results,
    stratified_results,
)
from llmrec.evaluation.strata import strata_of
from llmrec.evaluation.table import headline
from llmrec.hub.data_sets import open_data
from llmrec.models.adapter import inner
from llmrec.recommender import NUM_CANDIDATES, Recommender

ORDERLESS = ("popularity", "recent_popularity")
"""Baselines that read no history: shuffling one cannot change them."""


@dataclass
class EvaluateArguments:
    """What is ranked, by whom, and how."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`, or hub:owner/name."})
    output_dir: str = field(metadata={"help": "Folder for results.json, results.md, results.html and the tables."})
    task: Literal["ranking", "pointwise"] = field(
        default="ranking",
        metadata={"help": "Rank the catalogue for the next item, or judge likes and dislikes (pointwise)."},
    )
    model: str | None = field(
        default=None, metadata={"help": "Adapter: output folder of `llmrec train`, or a Hub name; none for baselines."}
    )
    baselines: str | None = field(
        default=None,
        metadata={"help": "Output folder of `llmrec baselines`; without it content and popularity stand in."},
    )
    split: str = field(default="test", metadata={"help": "Targets: test or validation."})
    targets: Literal["all", "first"] = field(
        default="all", metadata={"help": "All targets, or those a person has not had before (first purchases)."}
    )
    mask_seen: bool = field(default=True, metadata={"help": "Leave items of the history out of the ranking."})
    popularity_weight: float | None = field(
        default=None,
        metadata={"help": "Share of popularity in the adapter's scores, in [0, 1]; by default as it was saved."},
    )
    head: Literal["saved", "dual", "cross", "verbalizer"] = field(
        default="saved",
        metadata={"help": "Head that ranks: the one the adapter was saved with, or its dual head alone."},
    )
    candidates: str = field(
        default=str(NUM_CANDIDATES),
        metadata={
            "help": "Items that the dual head proposes to a candidate head, in the whole-catalogue ranking; `all` has "
            "it rank every item, exactly: for small catalogues."
        },
    )
    proposer: str | None = field(
        default=None,
        metadata={
            "help": "Another adapter on the same data whose dual head proposes what this one's candidate head ranks; "
            "by default the adapter proposes by itself."
        },
    )
    shuffles: bool = field(
        default=True, metadata={"help": "Also rank each user's first target after shuffled order and shuffled times."}
    )
    ablate: str | None = field(
        default=None,
        metadata={
            "help": "Inputs taken from the adapter, for a table of what each is worth: time, order, or time,order."
        },
    )
    against: str | None = field(
        default=None,
        metadata={"help": "Another adapter on the same data, compared user by user (row llmrec_against)."},
    )
    max_users: int | None = field(default=None, metadata={"help": "Users evaluated, drawn by seed; all by default."})
    seed: int = field(default=0, metadata={"help": "Seed of samples, bootstrap, permutations and shuffles."})
    batch_size: int = field(default=32, metadata={"help": "Windows of histories read at once; changes no number."})
    base_model: str | None = field(
        default=None, metadata={"help": "Base checkpoint, if it is not where the adapter says: Hub name or folder."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the adapter on the Hub."})


def main(argv: list[str] | None = None) -> None:
    """Parse, evaluate, print the table."""
    arguments = parse_arguments("evaluate", EvaluateArguments, argv)
    (judge if arguments.task == "pointwise" else evaluate)(arguments)


def judge(arguments: EvaluateArguments) -> dict[str, Any]:
    """Judge likes and dislikes by an adapter; see `evaluate_pairs`.

    Raises:
        ValueError: if there is no adapter, or the data have no likes.
        FileNotFoundError: if the data directory or the adapter are missing.
    """
    if arguments.model is None:
        raise ValueError("--task pointwise without --model: give an adapter of `llmrec train --task pointwise`.")
    state = join_processes()
    if state.num_processes > 1:
        raise ValueError("--task pointwise runs in one process: call `llmrec evaluate` without accelerate launch.")
    print_settings(arguments)
    directory = open_data(arguments.data_dir)
    recommender = load_subject(
        arguments.model, arguments.revision, arguments.base_model, directory.catalog, state.device
    )
    subject = describe_subject(recommender, arguments.model, arguments.revision, recommender.popularity_weight)
    return evaluate_pairs(
        directory, recommender, arguments.split, arguments.max_users, arguments.seed, arguments.output_dir, subject
    )


def evaluate(arguments: EvaluateArguments) -> dict[str, Any]:
    """Evaluate an adapter and the baselines, and write the report.

    Returns:
        What `results.json` holds, on the main process; an empty dict on the others.

    Raises:
        ValueError: if the split or data do not allow it, or there is neither a model nor baselines.
        FileNotFoundError: if the data directory, the adapter or the baselines are missing.
    """
    state = join_processes()
    if arguments.model is None and arguments.baselines is None:
        raise ValueError("neither --model nor --baselines: give an adapter, a folder of `llmrec baselines`, or both.")
    if state.is_main_process:
        print_settings(arguments)
    directory = open_data(arguments.data_dir)
    questions = read_questions(directory, arguments)
    baselines, searches = load_baselines(directory, arguments.baselines)
    recommender = None
    if arguments.model is not None:
        recommender = load_subject(
            arguments.model, arguments.revision, arguments.base_model, directory.catalog, state.device
        )
    elif arguments.ablate is not None or arguments.against is not None:
        raise ValueError("--ablate and --against ask about an adapter: give it with --model.")
    saved_weight = use_popularity_weight(recommender, arguments.popularity_weight)
    num_candidates = read_num_candidates(arguments, recommender)
    proposer = load_proposer(directory, arguments, num_candidates, state)
    scorers = {} if recommender is None else subject_scorers(recommender, arguments, num_candidates, state, proposer)
    if arguments.against is not None:
        scorers |= against_scorer(directory, arguments, state)
    ablated = None if arguments.ablate is None else [kind.strip() for kind in arguments.ablate.split(",")]
    if recommender is not None and ablated is not None:
        variants(recommender, questions.firsts, ablated, arguments.seed)  # refused before any work
    check_report_folder(arguments.output_dir)
    if state.is_main_process:
        sizes = f"{len(questions.cases)} targets of {len(questions.firsts)} users, {len(directory.catalog)} items"
        print(sizes, flush=True)

    rankings = Rankings(questions, arguments.mask_seen)
    for name, scorer in scorers.items():
        kinds = ("order", "time") if name == SUBJECT else ()
        rankings.add(name, scorer, kinds, shared=True, at_last_event=name == NOW_LAST)
    ablations = None
    if recommender is not None and ablated is not None:
        settings = scorer_settings(arguments, num_candidates, state)
        ablations = ablate(recommender, questions, ablated, arguments.mask_seen, settings)
    if not state.is_main_process:
        return {}
    events = TrainingEvents.from_histories(directory.histories(), directory.catalog)
    text = None if recommender is None else inner(recommender.model).rec_items.text.cpu().numpy()
    if arguments.baselines is None and text is not None:
        baselines = {"content": ContentBaseline(text), "popularity": Popularity.from_events(events)}
    for name, system in baselines.items():
        print(f"ranking by {name}", flush=True)
        rankings.add(name, system, kinds=() if name in ORDERLESS else ("order",))

    about: dict[str, Any] = {"subject": None, "training": {}, "searches": searches, "audit": directory.audit}
    if recommender is not None and arguments.model is not None:
        about["subject"] = describe_subject(recommender, arguments.model, arguments.revision, saved_weight)
        about["training"] = {SUBJECT: training_curve(arguments.model)}
    if arguments.against is not None:
        about["against"] = Path(arguments.against).name
    if PROPOSER in scorers:
        about["cascade"] = cascade_results(rankings, num_candidates)
        if proposer is not None and arguments.proposer is not None:
            weight = proposer.popularity_weight
            about["cascade"]["proposer"] = describe_subject(proposer, arguments.proposer, None, weight, PROPOSER)
    results = report(arguments, directory, rankings, events, text, about, ablations)
    print(headline(results))
    print(f"wrote results.json, results.md, results.html, results.png and the tables to {arguments.output_dir}")
    return results


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


def cascade_results(rankings: Rankings, num_candidates: int | None) -> dict[str, Any]:
    """Return how many items were proposed and the share of targets among them: no re-ranking finds the others."""
    proposed = rankings.whole[PROPOSER].ranks <= (num_candidates or np.inf)
    per_user = np.bincount(rankings.questions.cases.user, proposed) / np.bincount(rankings.questions.cases.user)
    return {"num_candidates": num_candidates, "recall_ceiling": float(np.nanmean(per_user))}


def join_processes() -> PartialState:
    """Return the state of this process among those it was launched with.

    Raises:
        ValueError: if it was launched with others and knows of none.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    if int(os.environ.get("WORLD_SIZE", "1")) != state.num_processes:
        raise ValueError("launched as several processes that do not know each other: set ACCELERATE_USE_CPU=true.")
    return state


def read_questions(directory: DataDirectory, arguments: EvaluateArguments) -> Questions:
    """Return what every system is asked; times are shuffled only where there is a clock.

    Raises:
        ValueError: if there is nothing to ask.
    """
    cases = read_cases(directory, arguments)
    kinds = ("order", "time") if has_clock(directory) else ("order",)
    return Questions.about(cases, directory.catalog, kinds if arguments.shuffles else (), arguments.seed)


def read_cases(directory: DataDirectory, arguments: EvaluateArguments) -> Cases:
    """Return the targets that are asked for.

    Raises:
        ValueError: if there are none.
    """
    cases = Cases.from_histories(
        directory.histories(), directory.catalog, arguments.split, arguments.max_users, arguments.seed
    )
    if arguments.targets == "first":
        cases = cases.take(np.flatnonzero(~cases.repeated))
        if not len(cases):
            raise ValueError("--targets first leaves no target: every target was seen before; use --targets all.")
    return cases


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


def report(
    arguments: EvaluateArguments,
    directory: DataDirectory,
    rankings: Rankings,
    events: TrainingEvents,
    text: np.ndarray | None,
    about: dict[str, Any],
    ablations: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Compute everything that the report says and write it; return what `results.json` holds.

    Args:
        arguments: What was asked for, and where the files go.
        directory: The data.
        rankings: What the systems answered.
        events: The training events of the data.
        text: (N, D) embeddings of the items' texts, by which lists are diverse; None for no diversity.
        about: Sections of the results that no ranking tells.
        ablations: What the adapter answers without some of its inputs, from `ablate`.
    """
    questions, whole = rankings.questions, rankings.whole
    cases, details = questions.cases, questions.details
    protocol = describe_protocol(
        directory,
        cases,
        arguments.mask_seen,
        events.counts,
        seed=arguments.seed,
        targets=arguments.targets,
        reads_now=NOW_LAST in whole,
    )
    strata = strata_of(cases, events.counts, has_clock(directory))
    shown_to = users_per_item(events.items, events.num_items)
    per_user = {name: user_metrics(ranking.ranks, cases) for name, ranking in whole.items()}
    results = build_results(protocol, per_user) | about
    results |= {
        "strata": stratified_results(results, cases, whole, strata),
        "near_duplicates": near_duplicate_results(results, cases, whole, details.groups),
        "shuffles": shuffle_results(protocol, questions.firsts, rankings.of_firsts) if questions.shuffled else None,
        "ablations": None if ablations is None else ablation_results(protocol, questions.firsts, ablations),
        "lists": {
            name: list_metrics(ranking.lists[details.listed], shown_to, len(events.items), text, details.list_length)
            for name, ranking in whole.items()
        },
    }
    write_report(results, per_user, case_table(cases, whole, strata, directory.catalog.ids), arguments.output_dir)
    return results


def has_clock(directory: DataDirectory) -> bool:
    """Return whether timestamps are seconds, not ordinals."""
    return directory.manifest["clock"] != "ordinal"
