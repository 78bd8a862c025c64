"""`llmrec evaluate`: rank the whole catalogue for held-out events, beside the baselines, and write the report.

llmrec evaluate --data_dir DATA --model RUN --baselines BASELINES --output_dir RESULTS
accelerate launch scripts/evaluate.py … shares the histories over processes; the numbers are the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from llmrec.baselines.content import ContentBaseline
from llmrec.baselines.counting import Popularity
from llmrec.baselines.folder import check_record, read_baselines
from llmrec.baselines.training_events import TrainingEvents
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.subject import describe_subject, training_curve
from llmrec.data.directory import MANIFEST, DataDirectory, sha256_of
from llmrec.data.near_duplicates import near_duplicate_groups
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import (
    CatalogueScorer,
    Details,
    Ranking,
    collect,
    evaluate_system,
    rank_system,
    score_ranks,
    user_metrics,
)
from llmrec.evaluation.list_metrics import list_metrics, users_per_item
from llmrec.evaluation.report import case_table, check_report_folder, write_report
from llmrec.evaluation.results import (
    SUBJECT,
    build_results,
    describe_protocol,
    near_duplicate_results,
    shuffle_results,
    stratified_results,
)
from llmrec.evaluation.shuffles import first_targets, shuffle_order, shuffle_times
from llmrec.evaluation.strata import strata_of
from llmrec.evaluation.table import headline
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender

ORDERLESS = ("popularity", "recent_popularity")
"""Baselines that read no history: shuffling one cannot change them."""


@dataclass
class EvaluateArguments:
    """What is ranked, by whom, and how."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`."})
    output_dir: str = field(metadata={"help": "Folder for results.json, results.md, results.html and the tables."})
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
    shuffles: bool = field(
        default=True, metadata={"help": "Also rank each user's first target after shuffled order and shuffled times."}
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
    evaluate(parse_arguments("evaluate", EvaluateArguments, argv))


def evaluate(arguments: EvaluateArguments) -> dict[str, Any]:
    """Evaluate an adapter and the baselines, and write the report.

    Returns:
        What `results.json` holds, on the main process; an empty dict on the others.

    Raises:
        ValueError: if the split or data do not allow it, or there is neither a model nor baselines.
        FileNotFoundError: if the data directory, the adapter or the baselines are missing.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    if int(os.environ.get("WORLD_SIZE", "1")) != state.num_processes:
        raise ValueError("launched as several processes that do not know each other: set ACCELERATE_USE_CPU=true.")
    if arguments.model is None and arguments.baselines is None:
        raise ValueError("neither --model nor --baselines: give an adapter, a folder of `llmrec baselines`, or both.")
    if state.is_main_process:
        print_settings(arguments)
    directory = DataDirectory.open(arguments.data_dir)
    cases = read_cases(directory, arguments)
    has_clock = directory.manifest["clock"] != "ordinal"
    details = Details(
        near_duplicate_groups(directory.catalog), np.isin(np.arange(len(cases)), cases.first_of_each_user)
    )
    firsts = first_targets(cases)
    altered = {"order": shuffle_order(firsts, arguments.seed)} if arguments.shuffles else {}
    if arguments.shuffles and has_clock:
        altered["time"] = shuffle_times(firsts, arguments.seed)
    record: dict[str, Any] = {}
    baselines: dict[str, CatalogueScorer] = {}
    if arguments.baselines is not None:
        check_record(arguments.baselines, sha256_of(directory.path / MANIFEST))
        baselines, record = read_baselines(arguments.baselines)
    recommender = load_recommender(arguments, directory, state.device)
    saved_weight = use_popularity_weight(recommender, arguments.popularity_weight)
    scorer = None
    if recommender is not None:
        shard = (state.process_index, state.num_processes)
        scorer = recommender.scorer(arguments.batch_size, shard, progress=state.is_main_process)
    check_report_folder(arguments.output_dir)
    if state.is_main_process:
        print(f"{len(cases)} targets of {len(firsts)} users, {len(directory.catalog)} items", flush=True)

    rankings: dict[str, Ranking] = {}
    shuffled: dict[str, dict[str, np.ndarray]] = {}
    if scorer is not None:

        def rank(asked: Cases, recorded: Details | None = None) -> Ranking | None:
            parts = gather_object([score_ranks(scorer, asked, arguments.mask_seen, recorded)])
            return collect(parts, len(asked)) if state.is_main_process else None

        whole, changed = rank(cases, details), {kind: rank(asked) for kind, asked in altered.items()}
        if whole is not None:
            rankings[SUBJECT] = whole
            shuffled[SUBJECT] = {kind: ranking.ranks for kind, ranking in changed.items() if ranking is not None}
    if not state.is_main_process:
        return {}

    events = TrainingEvents.from_histories(directory.histories(), directory.catalog)
    text = None if recommender is None else inner(recommender.model).rec_items.text.cpu().numpy()
    if arguments.baselines is None and text is not None:
        baselines = {"content": ContentBaseline(text), "popularity": Popularity.from_events(events)}
    for name, system in baselines.items():
        print(f"ranking by {name}", flush=True)
        rankings[name] = rank_system(system, cases, arguments.mask_seen, details)
        if "order" in altered and name not in ORDERLESS:
            shuffled[name] = {"order": evaluate_system(system, altered["order"], arguments.mask_seen)}
    for name, kinds in shuffled.items():
        kinds["as_is"] = rankings[name].ranks[cases.first_of_each_user]

    per_user = {name: user_metrics(ranking.ranks, cases) for name, ranking in rankings.items()}
    protocol = describe_protocol(
        directory, cases, arguments.mask_seen, events.counts, seed=arguments.seed, targets=arguments.targets
    )
    strata = strata_of(cases, events.counts, has_clock)
    shown_to = users_per_item(events.items, events.num_items)
    results = build_results(protocol, per_user)
    results |= {
        "subject": None,
        "strata": stratified_results(results, cases, rankings, strata),
        "near_duplicates": near_duplicate_results(results, cases, rankings, details.groups),
        "shuffles": shuffle_results(protocol, firsts, shuffled) if altered else None,
        "lists": {
            name: list_metrics(ranking.lists[details.listed], shown_to, len(events.items), text, details.list_length)
            for name, ranking in rankings.items()
        },
        "searches": {name: record["systems"][name]["search"] for name in baselines} if record else {},
        "training": {},
        "audit": directory.audit,
    }
    if recommender is not None and arguments.model is not None:
        results["subject"] = describe_subject(recommender, arguments.model, arguments.revision, saved_weight)
        results["training"] = {SUBJECT: training_curve(arguments.model)}
    table = case_table(cases, rankings, strata, directory.catalog.ids)
    write_report(results, per_user, table, arguments.output_dir)
    print(headline(results))
    print(f"wrote results.json, results.md, results.html, results.png and the tables to {arguments.output_dir}")
    return results


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


def load_recommender(
    arguments: EvaluateArguments, directory: DataDirectory, device: torch.device
) -> Recommender | None:
    """Load the adapter, with the data directory's catalogue; None where none is asked for."""
    if arguments.model is None:
        return None
    recommender = Recommender.from_pretrained(
        arguments.model, revision=arguments.revision, base_model=arguments.base_model, device=device
    )
    recommender.replace_items(directory.catalog)
    return recommender


def use_popularity_weight(recommender: Recommender | None, weight: float | None) -> float:
    """Let the adapter rank with the weight that is asked for, if one is; return the one it was saved with.

    Raises:
        ValueError: if a weight is asked for and there is no adapter, or one that is no hybrid; or it is out of range.
    """
    saved = 1.0 if recommender is None else recommender.popularity_weight
    if weight is not None:
        if recommender is None or not recommender.config.hybrid:
            raise ValueError(f"popularity_weight={weight!r} goes with a hybrid adapter: leave it out.")
        recommender.popularity_weight = weight
    return saved
