"""`llmrec baselines`: fit what a recommender has to beat, each after a short search on validation.

llmrec baselines --data_dir DATA --systems all --output_dir RUN
llmrec evaluate --data_dir DATA --model ADAPTER --baselines RUN --output_dir RESULTS
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version

import numpy as np

from llmrec.baselines.baseline import METRIC, PACKAGES, validation_quality
from llmrec.baselines.folder import RECORD, check_record, write_baseline
from llmrec.baselines.search import Search, Trial, search
from llmrec.baselines.systems import SYSTEMS, Fitter, choose_systems, grid
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.memory import peak_memory_mib
from llmrec.data.cases import Cases
from llmrec.data.directory import MANIFEST, PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.hub.data_sets import open_data
from llmrec.models.adapter import inner
from llmrec.storage import check_writable, sha256_of
from llmrec.training.arguments import ModelArguments
from llmrec.training.assemble import new_recommender


@dataclass
class BaselinesArguments:
    """Which baselines are fitted to what, and where they go."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`, or hub:owner/name."})
    output_dir: str = field(metadata={"help": "Folder for baselines.json and a file per system; systems add up in it."})
    systems: list[str] = field(
        default_factory=lambda: ["all"],
        metadata={"help": f"all, or some of: {', '.join(SYSTEMS)}; own_items with --mask_seen false."},
    )
    base_model: str = field(
        default=ModelArguments.base_model,
        metadata={"help": "Checkpoint whose frozen embeddings of item texts `content` compares; as in training."},
    )
    base_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the checkpoint."})
    template: str = field(
        default=ModelArguments.template, metadata={"help": "Prompt template that writes those texts; as in training."}
    )
    max_item_tokens: int = field(
        default=ModelArguments.max_item_tokens, metadata={"help": "Tokens of an item's text that are read."}
    )
    max_train_events: int | None = field(
        default=None,
        metadata={"help": "Newest training events of each user that sequence systems learn from; all by default."},
    )
    max_eval_users: int | None = field(
        default=None, metadata={"help": "Validation users by which settings are chosen, drawn by seed; all by default."}
    )
    mask_seen: bool | None = field(
        default=None,
        metadata={
            "help": "Learn and choose for rankings that leave items of the history out; by default where fewer than "
            "a tenth of the training events repeat an item."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of that draw and of training."})


def main(argv: list[str] | None = None) -> None:
    """Parse, fit, report."""
    fit_baselines(parse_arguments("baselines", BaselinesArguments, argv))


def fit_baselines(arguments: BaselinesArguments) -> dict[str, Search]:
    """Search and fit the systems one after another, each on disk before the next begins.

    Learns from the split `train` and chooses by the split `validation`; nothing else is read.

    Returns:
        The search of each system.

    Raises:
        ValueError: if a name or setting is wrong, or the folder holds baselines of other data.
        FileNotFoundError: if data, checkpoint or template are missing.
    """
    directory = open_data(arguments.data_dir)
    if arguments.mask_seen is None:
        arguments = replace(arguments, mask_seen=directory.mask_seen)
    masked = bool(arguments.mask_seen)
    names = choose_systems(arguments.systems, masked)
    print_settings(arguments)
    digest = sha256_of(directory.path / MANIFEST)
    check_writable(arguments.output_dir)
    check_record(arguments.output_dir, digest)
    histories, catalog = directory.histories(), directory.catalog
    cases = Cases.from_histories(histories, catalog, "validation", arguments.max_eval_users, arguments.seed)
    events = TrainingEvents.from_histories(histories, catalog)
    recent = TrainingEvents.from_histories(histories, catalog, arguments.max_train_events)
    has_clock = directory.has_clock
    quality = partial(validation_quality, cases=cases, mask_seen=masked)
    fitter = Fitter(events, recent, item_vectors(arguments, directory), quality, arguments.seed)
    report_sizes(events, recent, cases)
    run = {
        "arguments": {name: value for name, value in asdict(arguments).items() if not name.endswith("_dir")},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    searches = {}
    for name in names:
        print(f"\n{name}", flush=True)
        settings = grid(name, has_clock, masked)
        system, searches[name] = search(partial(fitter.fit, name), settings, quality, METRIC, print_trial)
        write_baseline(arguments.output_dir, name, system, searches[name], digest, run)
    print()
    for name, found in searches.items():
        seconds = sum(trial.seconds for trial in found.trials)
        print(f"{name:>18}  {METRIC} {found.best.value:.4f}  {seconds:7.1f} s  {found.chosen}")
    print(f"wrote {RECORD} and {len(names)} systems to {arguments.output_dir}; peak memory {peak_memory_mib():,} MiB")
    return searches


def item_vectors(arguments: BaselinesArguments, directory: PreparedData) -> Callable[[], np.ndarray]:
    """Return what encodes the catalogue (N, D) as a training with these settings does at its start."""

    def encode() -> np.ndarray:
        model = ModelArguments(
            base_model=arguments.base_model,
            base_revision=arguments.base_revision,
            template=arguments.template,
            max_item_tokens=arguments.max_item_tokens,
            hybrid=False,
        )
        catalog, has_clock = directory.catalog, directory.has_clock
        recommender = new_recommender(model, catalog, has_clock, np.zeros(len(catalog), dtype=np.int64))
        return inner(recommender.model).rec_items.text.cpu().numpy()

    return encode


def report_sizes(events: TrainingEvents, recent: TrainingEvents, cases: Cases) -> None:
    """Print what is learnt from and what no baseline but `content` can know."""
    num_events, num_recent = (sum(map(len, source.items)) for source in (events, recent))
    cold = ~events.known
    print(
        f"{num_events} training events of {len(events.items)} users ({num_recent} for sequence systems); "
        f"{len(cases)} validation targets of {len(cases.users)} users"
    )
    print(
        f"{events.num_items} items, {int(cold.sum())} of them cold, without a training event: all but content rank "
        f"them last; they are {cold[cases.targets].mean():.1%} of the validation targets",
        flush=True,
    )


def print_trial(trial: Trial) -> None:
    """Print one line."""
    shown = ", ".join(f"{name}={value}" for name, value in trial.settings.items()) or "no settings"
    epochs = f"  best of {trial.curve[-1]['epoch']} epochs" if trial.curve else ""
    print(f"  {METRIC} {trial.value:.4f}  {trial.seconds:7.1f} s  {shown}{epochs}", flush=True)
