"""`llmrec evaluate --task pointwise`: judge held-out likes and dislikes, beside item popularity and frozen text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.baselines.frozen_text import frozen_text_logits
from llmrec.commands.train_pairs import training_pairs
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.data.labelled_cases import LabelledCases
from llmrec.data.like_rates import item_log_odds, like_rate_logits, overall_rate, pair_log_odds
from llmrec.evaluation.pair_results import pair_results
from llmrec.evaluation.pair_table import pair_table
from llmrec.evaluation.results import SUBJECT
from llmrec.models.adapter import inner
from llmrec.ranking.candidates import CandidateScorer
from llmrec.ranking.pairs import pair_scores
from llmrec.recommender import Recommender
from llmrec.storage import check_writable, sha256_of, write_texts

RESULTS = "pair_results"


def evaluate_pairs(
    directory: PreparedData,
    recommender: Recommender,
    split: str,
    max_users: int | None,
    seed: int,
    output_dir: str,
    subject: dict[str, Any],
) -> dict[str, Any]:
    """Judge the pairs of a split by an adapter and by what it has to beat, and write both JSON and a table.

    Returns:
        What `pair_results.json` holds.

    Raises:
        ValueError: if the data have no likes, or the adapter's head reads no candidate.
    """
    check_writable(output_dir)
    cases = LabelledCases.from_directory(directory, split, max_users, seed)
    systems = {SUBJECT: pair_logits(recommender, cases)}
    systems |= baseline_logits(recommender, training_pairs(directory, None, seed), cases)
    results = pair_results(systems, cases, directory.manifest, seed=seed)
    results |= {"subject": subject, "audit": directory.audit}
    results["protocol"]["manifest_sha256"] = sha256_of(directory.path / MANIFEST)
    write_pair_results(results, Path(output_dir))
    return results


def pair_logits(recommender: Recommender, cases: LabelledCases, progress: bool = True) -> np.ndarray:
    """Return the adapter's logits, (number of cases,)."""
    scorer = CandidateScorer(recommender.model, recommender.processor, recommender.items, progress=progress)
    return pair_scores(scorer, cases)


def baseline_logits(recommender: Recommender, pairs: LabelledCases, cases: LabelledCases) -> dict[str, np.ndarray]:
    """Return what baselines that learn from labelled pairs say of cases, each (number of cases,).

    Args:
        recommender: its frozen text embeddings are those that `frozen_text` compares.
        pairs: what may be learned from. `item_popularity` and `like_rates` count all that they show, histories too;
            the latter also how often the user liked before.
        cases: what is judged.
    """
    vectors = inner(recommender.model).rec_items.text.cpu().numpy()
    items, liked = pairs.shown_events
    odds = item_log_odds(items, liked, pairs.num_items)[cases.targets]
    return {
        "item_popularity": like_rate_logits(items, liked, pairs.num_items)[cases.targets],
        "like_rates": pair_log_odds(cases, odds, overall_rate(liked)),
        "frozen_text": frozen_text_logits(pairs, cases, vectors),
    }


def write_pair_results(results: dict[str, Any], folder: Path) -> None:
    """Write `pair_results.json` and `pair_results.md`, both or neither, and print the table."""
    table = pair_table(results)
    text = json.dumps(results, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_texts(folder, {f"{RESULTS}.json": text, f"{RESULTS}.md": table})
    print(table)
