"""`llmrec evaluate`: rank the whole catalogue for held-out events, beside the baselines, and write the report.

llmrec evaluate --data_dir DATA --model RUN --baselines BASELINES --output_dir RESULTS
accelerate launch scripts/evaluate.py … shares the histories over processes; the numbers are the same.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.evaluate_arguments import EvaluateArguments
from llmrec.commands.evaluate_baselines import fit_trivial, load_baselines, trivial_names
from llmrec.commands.evaluate_pairs import evaluate_pairs
from llmrec.commands.evaluate_report import cascade_results, report
from llmrec.commands.evaluate_systems import (
    ORDERLESS,
    against_scorer,
    choose_mask,
    load_proposer,
    read_num_candidates,
    scorer_settings,
    subject_scorers,
)
from llmrec.commands.subject import check_data, describe_subject, load_subject, training_curve, use_popularity_weight
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.ablations import ablate, variants
from llmrec.evaluation.rankings import Questions, Rankings
from llmrec.evaluation.report import check_report_folder
from llmrec.evaluation.results import AGAINST, NOW_LAST, PROPOSER, SUBJECT
from llmrec.evaluation.table import headline
from llmrec.hub.data_sets import open_data
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender


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
    cases = read_cases(directory, arguments)
    baselines, searches, masks = load_baselines(directory, arguments.baselines)
    recommender = None
    if arguments.model is not None:
        recommender = load_subject(
            arguments.model, arguments.revision, arguments.base_model, directory.catalog, state.device
        )
    elif arguments.ablate is not None or arguments.against is not None:
        raise ValueError("--ablate and --against ask about an adapter: give it with --model.")
    if recommender is not None and state.is_main_process and (warning := check_data(recommender, directory)):
        warnings.warn(warning, stacklevel=2)
    questions = read_questions(directory, cases, arguments, recommender)
    saved_weight = use_popularity_weight(recommender, arguments.popularity_weight)
    num_candidates = read_num_candidates(arguments, recommender)
    proposer = load_proposer(directory, arguments, num_candidates, state)
    other = None
    if arguments.against is not None:
        other = load_subject(arguments.against, None, arguments.base_model, directory.catalog, state.device)
    adapters = {SUBJECT: recommender, AGAINST: other, PROPOSER: proposer}
    made_for = {name: one.config.mask_seen for name, one in adapters.items() if one is not None} | masks
    mask_seen = choose_mask(arguments.mask_seen, made_for, state.is_main_process, directory.mask_seen)
    arguments = replace(arguments, mask_seen=mask_seen)
    scorers = {} if recommender is None else subject_scorers(recommender, arguments, num_candidates, state, proposer)
    if other is not None:
        scorers |= against_scorer(other, arguments, state)
    ablated = None if arguments.ablate is None else [kind.strip() for kind in arguments.ablate.split(",")]
    if recommender is not None and ablated is not None:
        variants(recommender, questions.firsts, ablated, arguments.seed)  # refused before any work
    check_report_folder(arguments.output_dir)
    if state.is_main_process:
        sizes = f"{len(questions.cases)} targets of {len(questions.firsts)} users, {len(directory.catalog)} items"
        print(sizes + _left_out(questions.cases), flush=True)

    rankings = Rankings(questions, mask_seen)
    for name, scorer in scorers.items():
        kinds = ("order", "time") if name in (SUBJECT, AGAINST) else ()
        began = time.perf_counter()
        rankings.add(name, scorer, kinds, shared=True, at_last_event=name == NOW_LAST)
        if state.is_main_process:
            report_ranked(name, began)
    ablations = None
    if recommender is not None and ablated is not None:
        settings = scorer_settings(arguments, num_candidates, state)
        ablations = ablate(recommender, questions, ablated, mask_seen, settings)
    if not state.is_main_process:
        return {}
    events = TrainingEvents.from_histories(directory.histories(), directory.catalog)
    text = None if recommender is None else inner(recommender.model).rec_items.text.cpu().numpy()
    missing = [name for name in trivial_names(mask_seen, text is not None) if name not in baselines]
    fitted, found = fit_trivial(missing, directory, events, text, mask_seen, arguments.seed)
    baselines, searches = baselines | fitted, searches | found
    for name, system in baselines.items():
        began = time.perf_counter()
        rankings.add(name, system, kinds=() if name in ORDERLESS else ("order",))
        report_ranked(name, began)

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
    results = report(arguments, directory, rankings, events, text, about, made_for, ablations)
    print(headline(results))
    print(f"wrote results.json, results.md, results.html, results.png and the tables to {arguments.output_dir}")
    return results


def report_ranked(name: str, began: float) -> None:
    """Print how long a system took, shuffles of the histories included, since a time of `time.perf_counter`."""
    print(f"ranked by {name} in {time.perf_counter() - began:.1f} s", flush=True)


def _left_out(cases: Cases) -> str:
    without = cases.num_without_history
    return f" ({without} without an earlier event to rank by are left out)" if without else ""


def join_processes() -> PartialState:
    """Return the state of this process among those it was launched with.

    Raises:
        ValueError: if it was launched with others and knows of none.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    if int(os.environ.get("WORLD_SIZE", "1")) != state.num_processes:
        raise ValueError("launched as several processes that do not know each other: set ACCELERATE_USE_CPU=true.")
    return state


def read_questions(
    directory: PreparedData, cases: Cases, arguments: EvaluateArguments, recommender: Recommender | None
) -> Questions:
    """Return what every system is asked; times are shuffled only where there is a clock.

    Items are alike if the adapter reads the same of them; without one, if all their texts are the same.
    """
    serializer = None if recommender is None else recommender.processor.serializer
    kinds = ("order", "time") if directory.has_clock else ("order",)
    return Questions.about(cases, directory.catalog, kinds if arguments.shuffles else (), arguments.seed, serializer)


def read_cases(directory: PreparedData, arguments: EvaluateArguments) -> Cases:
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
