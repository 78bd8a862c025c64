"""`llmrec train --task pointwise`: learn from likes and dislikes whether a user will like an item."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from llmrec.data.directory import PreparedData
from llmrec.data.labelled_cases import LabelledCases
from llmrec.data.like_rates import item_log_odds, odds_without_own, overall_rate, pair_log_odds
from llmrec.hub.data_sets import open_data
from llmrec.hub.folder import DATA_MANIFEST
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments
from llmrec.training.assemble import new_recommender
from llmrec.training.pairs import PairDataset, PairTrainer


def pair_trainer(
    data: DataArguments, model: ModelArguments, training: RecTrainingArguments, text: Tensor | None = None
) -> PairTrainer:
    """Assemble what trains on the labelled pairs of a data directory.

    What is counted of items is what those pairs show, so that a few examples stay a few.

    Args:
        data: where the pairs are, and how many are drawn.
        model: what reads them.
        training: the run.
        text: (N, D) the items' frozen text embeddings, where they were computed already.

    Raises:
        ValueError: if the data have no likes, or the head is one that reads no candidate.
        FileNotFoundError: if data, checkpoint or template are missing.
    """
    if model.head == "dual":
        raise ValueError("head 'dual' reads no candidate: give --head cross or verbalizer for --task pointwise.")
    directory = open_data(data.data_dir)
    pairs = training_pairs(directory, data.max_train_examples, training.seed)
    cases = None
    if training.eval_strategy != "no":
        cases = LabelledCases.from_directory(directory, "validation", data.max_eval_users, training.seed)
    training.set_seed()
    items, liked = pairs.shown_events
    counts, overall = np.bincount(items, minlength=pairs.num_items), overall_rate(liked)
    likes = starts = None
    if model.like_prior:
        likes = overall, item_log_odds(items, liked, pairs.num_items)
        starts = pair_log_odds(pairs, odds_without_own(pairs, items, liked), overall)
    recommender = new_recommender(model, directory.catalog, directory.has_clock, counts, text, likes)
    recommender.records[DATA_MANIFEST] = directory.provenance
    dataset = PairDataset(pairs, recommender.processor, directory.catalog, starts)
    print(
        f"{len(pairs)} labelled pairs of {len(np.unique(pairs.user))} users, {pairs.labels.mean():.1%} liked, in "
        f"{len(dataset)} passes of {int(dataset.lengths.sum())} tokens; {0 if cases is None else len(cases)} to "
        "validate by",
        flush=True,
    )
    return PairTrainer(recommender, training, dataset, cases)


def training_pairs(directory: PreparedData, max_examples: int | None, seed: int) -> LabelledCases:
    """Return the labelled pairs of the training users, or a few of them drawn by seed.

    Raises:
        ValueError: if the data have no likes, or not as many pairs.
    """
    pairs = LabelledCases.from_directory(directory, "train")
    return pairs if max_examples is None else pairs.draw(max_examples, seed)
