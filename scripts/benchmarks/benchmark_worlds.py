"""`python scripts/benchmark.py worlds --output_dir DIR`: what reading the time is worth, where the answer is known.

In the worlds of `data.worlds` every probability is written down, so the best attainable NDCG@10 is computed: for who
knows the rule and the times (the oracle), and for who sees the order of items alone (the blind ceiling). Two models
are trained in each world, with equal checkpoint, budget and settings: one reads times, the other does not. All four
rank the same targets, every event but the first of people that training never saw; seen items stay in the ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from world_odds import NUM_USERS, forecasts, make_world, world_tables
from worlds import WORLDS, World

from llmrec.commands.arguments import parse_pairs
from llmrec.commands.train import train, train_parser
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData, staged_directory
from llmrec.data.preparation import SplitSettings, prepare
from llmrec.evaluation.evaluator import CatalogueScorer, evaluate_system, user_metrics
from llmrec.evaluation.intervals import bootstrap_means, percentile_interval
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments

METRIC = "ndcg@10"
MODELS = ("time_reading", "time_blind")
WHAT = "NDCG@10 of one run, mean over the people of the test; gain: time_reading − time_blind, 95 % bootstrap interval"


@dataclass
class BenchmarkArguments:
    """Which worlds, and how both models are trained."""

    output_dir: str = field(metadata={"help": "Folder for worlds.json, worlds.md, and each world's data and adapters."})
    worlds: list[str] = field(default_factory=lambda: list(WORLDS), metadata={"help": "Worlds."})
    num_users: int = field(default=NUM_USERS, metadata={"help": "People of a world: 7 of 10 train, 2 are the test."})
    time_reading: str = field(
        default="template=vectors,time_embedding=all",
        metadata={"help": "Options of `llmrec train` for the model that reads times."},
    )
    time_blind: str = field(
        default="template=vectors", metadata={"help": "Options of `llmrec train` for the model that does not."}
    )
    both: str = field(
        default="num_train_epochs=24,per_device_train_batch_size=16",
        metadata={
            "help": "Options for both, such as num_train_epochs=8,base_model=FOLDER; values of a list by spaces."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the worlds and of training."})


@dataclass(frozen=True)
class Forecaster:
    """Ranks a world's items by what is known of their probabilities.

    Equal probabilities are told apart by the item's index, as any ranking must: a mid-rank would be charged for the
    tie, and what is attainable understated.
    """

    world: World
    reads_times: bool

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield each user's case numbers (B,) and scores (B, N): N for the most likely item down to 1."""
        for user in np.unique(cases.user):
            numbers = np.flatnonzero(cases.user == user)
            items, times = cases.items[user], cases.timestamps[user]
            odds = forecasts(self.world, items, times if self.reads_times else None)[cases.position[numbers]]
            order = np.argsort(-odds.round(12), axis=1, kind="stable")
            places = np.argsort(order, axis=1, kind="stable")
            yield numbers, torch.from_numpy(len(self.world.titles) - places).float()


def measure(arguments: BenchmarkArguments) -> Iterator[dict[str, Any]]:
    """Yield a row per world.

    Raises:
        ValueError: if a world or an option is unknown.
        FileExistsError: if the folder holds a world's data already.
    """
    for name in arguments.worlds:  # all is tried before the first is trained
        make_world(name, arguments.seed)
    for model in MODELS:
        settings_of(arguments, Path(arguments.output_dir), model)
    for name in arguments.worlds:
        yield measure_world(arguments, name)


def measure_world(arguments: BenchmarkArguments, name: str) -> dict[str, Any]:
    """Draw a world, train both models in it, and rank its test by them and by what is known of it."""
    folder = Path(arguments.output_dir) / name
    with staged_directory(folder / "data") as staging:
        raw = world_tables(name, arguments.seed, arguments.num_users)
        prepare(raw, staging, SplitSettings("users", validation_fraction=0.1, test_fraction=0.2))
    directory = PreparedData.open(folder / "data")
    world, cases = (
        make_world(name, arguments.seed),
        Cases.from_histories(directory.histories(), directory.catalog, "test"),
    )
    found = {
        "oracle": ndcg_of_users(Forecaster(world, reads_times=True), cases),
        "blind_ceiling": ndcg_of_users(Forecaster(world, reads_times=False), cases),
    }
    for model in MODELS:
        print(f"\n{name}: training the {model.replace('_', '-')} model", flush=True)
        recommender = train(*settings_of(arguments, folder, model))
        found[model] = ndcg_of_users(recommender.scorer(mask_seen=False), cases)
    means = {system: float(values.mean()) for system, values in found.items()}
    gains = found["time_reading"] - found["time_blind"]
    low, high = percentile_interval(bootstrap_means(gains[:, None]))
    row = {
        "world": name,
        "targets": len(cases),
        **{system: round(means[system], 4) for system in ("oracle", "time_reading", "time_blind", "blind_ceiling")},
        "share_of_oracle": round(means["time_reading"] / means["oracle"], 3),
        "share_of_ceiling": round(means["time_blind"] / means["blind_ceiling"], 3),
        "gain": round(means["time_reading"] - means["time_blind"], 4),
        "gain_low": round(low.item(), 4),
        "gain_high": round(high.item(), 4),
    }
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def ndcg_of_users(system: CatalogueScorer, cases: Cases, mask_seen: bool = False) -> np.ndarray:
    """Return the mean NDCG@10 of every user, (number of users,)."""
    return user_metrics(evaluate_system(system, cases, mask_seen), cases, [10])[METRIC].to_numpy()


def settings_of(
    arguments: BenchmarkArguments, folder: Path, model: str
) -> tuple[DataArguments, ModelArguments, RecTrainingArguments]:
    """Return the settings of one training.

    Args:
        arguments: Whose `name=value` pairs `llmrec train` knows; those of the model come after those of both, and the
            last of a name counts.
        folder: Of the world; its `data` is learned from.
        model: A name in `MODELS`, which is also that of the adapter's folder.

    Raises:
        ValueError: if a pair has no `=`, `train` has no such option, or it is set here.
    """
    options = f"seed={arguments.seed},mask_seen=false,{arguments.both},{getattr(arguments, model)}"
    data, model_arguments, training = parse_pairs(
        train_parser(), options, {"data_dir": folder / "data", "output_dir": folder / model}
    )
    return data, model_arguments, training
