"""What a report says of the rankings: means and intervals, kinds of target, shuffles, lists, the cascade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmrec.commands.evaluate_arguments import EvaluateArguments
from llmrec.data.directory import PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import user_metrics
from llmrec.evaluation.list_metrics import list_metrics, users_per_item
from llmrec.evaluation.rankings import Rankings
from llmrec.evaluation.report import case_table, write_report
from llmrec.evaluation.results import (
    NOW_LAST,
    PROPOSER,
    ablation_results,
    build_results,
    describe_protocol,
    near_duplicate_results,
    shuffle_results,
    stratified_results,
)
from llmrec.evaluation.strata import strata_of


def report(
    arguments: EvaluateArguments,
    directory: PreparedData,
    rankings: Rankings,
    events: TrainingEvents,
    text: np.ndarray | None,
    about: dict[str, Any],
    made_for: Mapping[str, bool],
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
        made_for: By name of a system whether it was trained or chosen for rankings with seen items masked.
        ablations: What the adapter answers without some of its inputs, from `ablate`.
    """
    questions, whole = rankings.questions, rankings.whole
    cases, details = questions.cases, questions.details
    protocol = describe_protocol(
        directory,
        cases,
        rankings.mask_seen,
        events.counts,
        seed=arguments.seed,
        targets=arguments.targets,
        reads_now=NOW_LAST in whole,
        made_for=made_for,
    )
    strata = strata_of(cases, events.counts, directory.has_clock)
    shown_to = users_per_item(events.items, events.num_items)
    per_user = {name: user_metrics(ranking.ranks, cases) for name, ranking in whole.items()}
    results = build_results(protocol, per_user) | about
    results |= {
        "strata": stratified_results(results, cases, whole, strata),
        "near_duplicates": near_duplicate_results(results, cases, whole, details.groups) | questions.compared,
        "shuffles": shuffle_results(protocol, questions.firsts, rankings.of_firsts) if questions.shuffled else None,
        "ablations": None if ablations is None else ablation_results(protocol, questions.firsts, ablations),
        "lists": {
            name: list_metrics(ranking.lists[details.listed], shown_to, len(events.items), text, details.list_length)
            for name, ranking in whole.items()
        },
    }
    write_report(results, per_user, case_table(cases, whole, strata, directory.catalog.ids), arguments.output_dir)
    return results


def cascade_results(rankings: Rankings, num_candidates: int | None) -> dict[str, Any]:
    """Return how many items were proposed and the share of targets among them: no re-ranking finds the others."""
    proposed = rankings.whole[PROPOSER].ranks <= (num_candidates or np.inf)
    per_user = np.bincount(rankings.questions.cases.user, proposed) / np.bincount(rankings.questions.cases.user)
    return {"num_candidates": num_candidates, "recall_ceiling": float(np.nanmean(per_user))}
