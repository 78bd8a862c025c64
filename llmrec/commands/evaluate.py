"""`llmrec evaluate`: rank the whole catalogue for held-out events, beside the baselines, and write the report.

llmrec evaluate --data_dir DATA --model RUN --output_dir RESULTS
accelerate launch scripts/evaluate.py … shares the histories over processes; the numbers are the same.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from llmrec.baselines.content import ContentBaseline
from llmrec.baselines.counting import Popularity
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.data.directory import DataDirectory
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import CatalogueScorer, collect, evaluate_system, score_ranks, user_metrics
from llmrec.evaluation.report import build_results, check_report_folder, describe_protocol, write_report
from llmrec.evaluation.table import results_table
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender

logger = logging.getLogger(__name__)


@dataclass
class EvaluateArguments:
    """What is ranked, by whom, and how."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`."})
    model: str = field(metadata={"help": "Adapter: output folder of `llmrec train`, or a Hub name."})
    output_dir: str = field(metadata={"help": "Folder for results.json, per_user.parquet, results.md and results.png."})
    split: str = field(default="test", metadata={"help": "Targets: test or validation."})
    mask_seen: bool = field(default=True, metadata={"help": "Leave items of the history out of the ranking."})
    max_users: int | None = field(default=None, metadata={"help": "Users evaluated, drawn by seed 0; all by default."})
    batch_size: int = field(default=32, metadata={"help": "Windows of histories read at once; changes no number."})
    base_model: str | None = field(
        default=None, metadata={"help": "Base checkpoint, if it is not where the adapter says: Hub name or folder."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the adapter on the Hub."})


def main(argv: list[str] | None = None) -> None:
    """Parse, evaluate, print the table."""
    evaluate(parse_arguments("evaluate", EvaluateArguments, argv))


def evaluate(arguments: EvaluateArguments) -> dict[str, Any]:
    """Evaluate an adapter and write the report.

    Returns:
        What `results.json` holds, on the main process; an empty dict on the others.

    Raises:
        ValueError: if the split or data do not allow it.
        FileNotFoundError: if the data directory or the adapter is missing.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    if int(os.environ.get("WORLD_SIZE", "1")) != state.num_processes:
        raise ValueError("launched as several processes that do not know each other: set ACCELERATE_USE_CPU=true.")
    if state.is_main_process:
        print_settings(arguments)
    directory = DataDirectory.open(arguments.data_dir)
    histories = directory.histories()
    cases = Cases.from_histories(histories, directory.catalog, arguments.split, arguments.max_users)
    recommender = Recommender.from_pretrained(
        arguments.model, revision=arguments.revision, base_model=arguments.base_model, device=state.device
    )
    recommender.replace_items(directory.catalog)
    scorer = recommender.scorer(
        arguments.batch_size, (state.process_index, state.num_processes), progress=state.is_main_process
    )
    check_report_folder(arguments.output_dir)
    if state.is_main_process:
        print(f"{len(cases)} targets of {len(cases.users)} users, {len(directory.catalog)} items", flush=True)
    parts = gather_object([score_ranks(scorer, cases, arguments.mask_seen)])
    if not state.is_main_process:
        return {}
    ranks = {"llmrec": collect(parts, len(cases))}
    text = inner(recommender.model).rec_items.text.cpu().numpy()
    baselines: dict[str, CatalogueScorer] = {
        "content": ContentBaseline(text),
        "popularity": Popularity.from_histories(histories, directory.catalog),
    }
    for name, system in baselines.items():
        ranks[name] = evaluate_system(system, cases, arguments.mask_seen)
    per_user = {name: user_metrics(values, cases) for name, values in ranks.items()}
    results = build_results(describe_protocol(directory, cases, arguments.mask_seen), per_user)
    write_report(results, per_user, arguments.output_dir)
    print(results_table(results))
    print(f"wrote results.json, results.md, results.png and per_user.parquet to {arguments.output_dir}")
    return results
