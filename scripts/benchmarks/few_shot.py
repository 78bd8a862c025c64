"""How a judge of likes gets better from 16 to 64 to 256 labelled pairs, over several seeds.

    llmrec prepare --source movielens-small --split users --like_at_least 4 --dislike_at_most 3 --output_dir LIKES
    python scripts/benchmarks/few_shot.py --data_dir LIKES --head cross --dual_gate 0 --template likes --output_dir OUT

Every size and seed trains anew on pairs drawn from the training users, for the same number of epochs (as many steps for
16 pairs as for 256 would learn the 16 by heart), without looking at other labels; all are judged on the same held-out
users. A draw of fewer pairs is part of every larger draw of its seed. A pair comes with its user's labelled history:
baselines of a size count all that its pairs show, and `item_popularity` stands once more for all training users.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import write_rows
from transformers import HfArgumentParser

from llmrec.commands.arguments import parse_options
from llmrec.commands.evaluate_pairs import baseline_logits, pair_logits
from llmrec.commands.main import report_errors
from llmrec.commands.train_pairs import pair_trainer, training_pairs
from llmrec.data.labelled_cases import LabelledCases
from llmrec.data.like_rates import like_rate_logits
from llmrec.evaluation.pair_metrics import pair_metrics
from llmrec.evaluation.results import SUBJECT
from llmrec.hub.data_sets import open_data
from llmrec.models.adapter import inner
from llmrec.storage import check_writable
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments
from llmrec.training.pairs import PairTrainer

METRICS = ("auc", "user_auc", "log_loss", "accuracy")


@dataclass
class FewShotArguments:
    """What is repeated."""

    data_dir: str = field(metadata={"help": "Data directory with likes, split by users."})
    sizes: list[int] = field(default_factory=lambda: [16, 64, 256], metadata={"help": "Labelled pairs to learn from."})
    seeds: int = field(default=5, metadata={"help": "Draws of each size."})
    split: str = field(default="test", metadata={"help": "Users judged: test or validation."})
    max_users: int | None = field(default=None, metadata={"help": "Of those, drawn by seed; all by default."})


def main(argv: list[str] | None = None) -> None:
    """Parse, repeat, write the table."""
    kinds: Any = (FewShotArguments, ModelArguments, RecTrainingArguments)
    parser = HfArgumentParser(kinds, prog="llmrec few_shot", allow_abbrev=False)
    parser.set_defaults(eval_strategy="no", save_strategy="no", learning_rate=3e-4)
    few_shot(*parse_options(parser, argv))


def few_shot(
    arguments: FewShotArguments, model: ModelArguments, training: RecTrainingArguments
) -> list[dict[str, Any]]:
    """Train on every size and seed, judge, and write to `training.output_dir`, as JSON and as a table.

    Returns:
        What `few_shot.json` holds, see `summary`; `few_shot_runs.json` has a row per system, size and seed.

    Raises:
        ValueError: if the data have no likes, there are fewer pairs than asked for, or the head reads no candidate.
    """
    if not arguments.sizes or min(arguments.sizes) < 2 or arguments.seeds < 1:
        raise ValueError(f"sizes={arguments.sizes!r}, seeds={arguments.seeds!r}: give sizes from 2 and a seed.")
    if training.save_strategy != "no" or training.resume_from_checkpoint is not None:
        raise ValueError(
            "every size and seed trains anew, in one folder, so nothing is saved or resumed: leave --save_strategy and "
            "--resume_from_checkpoint out."
        )
    dataclasses.replace(training).judge_by(PairTrainer.metrics)
    output = Path(training.output_dir)
    check_writable(output)
    directory = open_data(arguments.data_dir)
    cases = LabelledCases.from_directory(directory, arguments.split, arguments.max_users)
    everyone = training_pairs(directory, None, 0)
    runs: list[dict[str, Any]] = []

    def judged(system: str, size: int | None, seed: int, logits: np.ndarray) -> None:
        values = pair_metrics(cases.labels, logits, cases.user)
        named = {name: round(float(values[name]), 4) for name in METRICS}
        runs.append({"system": system, "examples": size or len(everyone), "seed": seed, **named})
        print(f"{system:>18}, {runs[-1]['examples']} examples, seed {seed}: AUC {named['auc']:.4f}", flush=True)

    text = None
    judged("item_popularity", None, 0, like_rate_logits(*everyone.shown_events, everyone.num_items)[cases.targets])
    for seed in range(arguments.seeds):
        for size in sorted(arguments.sizes):
            data = DataArguments(data_dir=arguments.data_dir, task="pointwise", max_train_examples=size)
            trainer = pair_trainer(data, model, dataclasses.replace(training, seed=seed), text)
            trainer.train()
            recommender = trainer.recommender
            text = inner(recommender.model).rec_items.text
            judged(SUBJECT, size, seed, pair_logits(recommender, cases, progress=False))
            for name, logits in baseline_logits(recommender, training_pairs(directory, size, seed), cases).items():
                judged(name, size, seed, logits)
            write_rows(runs, output, "few_shot_runs", "One run each")
            write_rows(summary(runs), output, "few_shot", "Means over seeds")
    return summary(runs)


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and spread (standard deviation over seeds, n - 1) of every system and size.

    >>> runs = [{"system": "a", "examples": 16, **dict.fromkeys(METRICS, value)} for value in (0.5, 0.7)]
    >>> [(row["seeds"], round(row["auc"], 3), round(row["auc_spread"], 3)) for row in summary(runs)]
    [(2, 0.6, 0.141)]
    """
    rows = []
    for system, examples in dict.fromkeys((run["system"], run["examples"]) for run in runs):
        own = [run for run in runs if (run["system"], run["examples"]) == (system, examples)]
        row: dict[str, Any] = {"system": system, "examples": examples, "seeds": len(own)}
        for name in METRICS:
            values = [run[name] for run in own]
            row[name] = round(float(np.mean(values)), 4)
            row[f"{name}_spread"] = round(float(np.std(values, ddof=1)), 4) if len(own) > 1 else None
        rows.append(row)
    return sorted(rows, key=lambda row: (row["examples"], row["system"]))


if __name__ == "__main__":
    sys.exit(report_errors("few_shot", main))
