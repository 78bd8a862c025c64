"""`llmrec fit`: from an events table to a recommender with report and card, within a time that is given.

llmrec fit --interactions events.csv --items items.csv --minutes 30 --output_dir RUN
llmrec fit --data_dir data --minutes 10 --output_dir RUN

What nobody has to choose is decided from the data (repeats, time, how many events are read) or by a short search on
validation among a few settings that have served sparse and dense data; what is given with --train is never overridden.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from llmrec.commands.arguments import parse_arguments, parse_pairs, print_settings
from llmrec.commands.card import main as write_card
from llmrec.commands.evaluate import evaluate
from llmrec.commands.evaluate_arguments import EvaluateArguments
from llmrec.commands.train import RESULT, train, train_parser
from llmrec.data.directory import PreparedData
from llmrec.data.interactions import Interactions
from llmrec.data.schema import parse_mapping
from llmrec.hub.data_sets import open_data
from llmrec.hub.settings import ModelArguments
from llmrec.recommender import Recommender
from llmrec.storage import check_writable, write_text

CHOICES = "fit.json"
MANY_EVENTS = 500_000
"""Training events above which each user's newest alone are read."""
MANY_USERS = 2_000
"""Validation users above which as many are drawn."""
FEW_USERS = 1_500
"""Users below which small batches are tried first: a pass over them has few steps."""
SHARE_OF_SEARCH = 0.75
"""Share of the minutes in which training may begin or go on; the rest is for the report."""
USUAL: dict[str, Any] = {}
SMALL_BATCHES: dict[str, Any] = {"per_device_train_batch_size": 4}
SPARSE: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "item_learning_rate": 1e-3,
    "residual_dropout": 0.5,
    "vector_dropout": 0.0,
    "num_train_epochs": 4,
}


@dataclass
class FitArguments:
    """Options of `llmrec fit`."""

    output_dir: str = field(metadata={"help": "Folder for data, adapter, results and fit.json."})
    interactions: str | None = field(
        default=None, metadata={"help": "Table of events: CSV, TSV, Parquet or JSON Lines, one event a row."}
    )
    items: str | None = field(default=None, metadata={"help": "Table of items; without it the events hold their text."})
    columns: str | None = field(
        default=None, metadata={"help": "Columns that are not recognised: user_id=uid,item_id=sku,title=label."}
    )
    source: str | None = field(default=None, metadata={"help": "Public data by name, instead of --interactions."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Data directory of `llmrec prepare`, instead of --interactions."}
    )
    split: str = field(default="temporal", metadata={"help": "Split of tables: temporal or leave_one_out."})
    minutes: float = field(default=30.0, metadata={"help": "Minutes for everything, about."})
    base_model: str = field(
        default=ModelArguments.base_model, metadata={"help": "Pretrained checkpoint: Hub name or local folder."}
    )
    train: str = field(
        default="", metadata={"help": "Options of `llmrec train` that are not searched: name=value,name=value."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of training."})


@dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Attributes:
        settings: Options of `llmrec train`, without those that all trials share.
        quality: NDCG@10 on validation, memory included.
        seconds: Time that it took.
    """

    settings: dict[str, Any]
    quality: float
    seconds: float


def main(argv: list[str] | None = None) -> None:
    """Parse, prepare, search, report."""
    arguments = parse_arguments("fit", FitArguments, argv)
    print_settings(arguments)
    began = time.perf_counter()
    check(arguments.minutes, arguments.train, Path(arguments.output_dir))
    fit(prepared(arguments), arguments.output_dir, **_shared(arguments), began=began)


def prepared(arguments: FitArguments) -> PreparedData:
    """Return the data that are named, prepared in the output folder where they are tables.

    Raises:
        ValueError: if not exactly one thing to read is given.
    """
    given = [name for name in ("interactions", "source", "data_dir") if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise ValueError(f"{', '.join(given) or 'nothing'} given: give one of --interactions, --source and --data_dir.")
    if arguments.data_dir is not None:
        return open_data(arguments.data_dir)
    folder = Path(arguments.output_dir, "data")
    if folder.is_dir():
        return PreparedData.open(folder)
    if arguments.source is not None:
        raw = Interactions.from_source(arguments.source)
    else:
        raw = Interactions.from_files(arguments.interactions, arguments.items, parse_mapping(arguments.columns))  # type: ignore[arg-type]
    return raw.split(arguments.split, folder=folder)  # type: ignore[arg-type]


def check(minutes: float, train: str, output: Path) -> None:
    """Raise what `fit` would raise, before anything is read or written."""
    if not minutes > 0:
        raise ValueError(f"minutes={minutes!r}: give more than 0.")
    if (output / "adapter").exists():
        raise FileExistsError(f"{str(output)!r} holds an adapter already: give another --output_dir.")
    parse_pairs(train_parser(), train, {"data_dir": "data", "output_dir": output / "trial"})


def _shared(arguments: FitArguments) -> dict[str, Any]:
    names = ("minutes", "base_model", "train", "seed")
    return {name: getattr(arguments, name) for name in names}


def fit(
    data: PreparedData,
    output_dir: str | Path,
    minutes: float = 30.0,
    base_model: str = ModelArguments.base_model,
    train: str = "",
    seed: int = 42,
    began: float | None = None,
) -> Recommender:
    """Return a trained recommender, and write it to `output_dir` with a report, a card, what was chosen, and why.

    Args:
        data: Prepared data with a validation and a test split.
        output_dir: Folder for `adapter`, `results` and `fit.json`.
        minutes: Time for everything, about; the first training is cut short where it would take longer.
        base_model: Pretrained checkpoint.
        train: Options of `llmrec train` that are not searched, `name=value,…`.
        seed: Seed of training.
        began: `time.perf_counter` when the minutes began; None is now.

    Raises:
        ValueError: if a setting is refused.
        FileExistsError: if the folder holds an adapter already.
    """
    began = time.perf_counter() if began is None else began
    output = Path(output_dir)
    check(minutes, train, output)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output)
    decided, reasons = decisions(data)
    trials: list[Trial] = []
    for settings in portfolio(data):
        left = SHARE_OF_SEARCH * minutes * 60 - (time.perf_counter() - began)
        longest = max((trial.seconds for trial in trials), default=0.0)
        if trials and longest > left:
            reasons.append(f"{len(portfolio(data)) - len(trials)} settings were not tried: no time was left")
            break
        trial = _tried(data, output, {**decided, **settings}, train, base_model, seed, left / 60)
        trials.append(replace(trial, settings=settings))
        print(f"{settings or 'defaults'}: ndcg@10 {trial.quality:.4f} on validation, {trial.seconds:.0f} s", flush=True)
        best = max(trials, key=lambda one: one.quality)
        if best is trials[-1]:
            shutil.rmtree(output / "best", ignore_errors=True)
            (output / "trial").rename(output / "best")
        else:
            shutil.rmtree(output / "trial")
    (output / "best").rename(output / "adapter")
    named = {pair.partition("=")[0].strip() for pair in train.split(",")}
    chosen = {name: value for name, value in {**decided, **best.settings}.items() if name not in named}
    record = {"chosen": chosen, "reasons": reasons, "trials": [asdict(trial) for trial in trials], "given": train}
    write_text(output / CHOICES, json.dumps(record, indent=2, sort_keys=True) + "\n")
    adapter, results = str(output / "adapter"), str(output / "results")
    evaluate(EvaluateArguments(data_dir=str(data.path), model=adapter, output_dir=results, shuffles=False, seed=seed))
    write_card(
        ["--model", adapter, "--results", results, "--data_dir", str(data.path)],
    )
    print("\n".join(f"chosen: {name}={value}" for name, value in chosen.items()) + "\n" + "\n".join(reasons))
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes; adapter, results and {CHOICES} are in {output}")
    return Recommender.from_pretrained(output / "adapter")


def decisions(data: PreparedData) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that the data decide, and why."""
    decided: dict[str, Any] = {"template": "vectors", "mask_seen": data.mask_seen}
    kept = "masked" if data.mask_seen else "kept"
    reasons = [
        "template vectors: an event stands as its item vector, which costs a tenth of its words and ranks as well",
        f"seen items are {kept}: {data.repeat_share:.1%} of the training events repeat an item",
    ]
    if data.has_clock and not data.mask_seen:
        decided["time_embedding"] = "all"
        reasons.append("time embedding: where items are had again, when matters")
    if (events := data.manifest["split"]["counts"]["train"]["events"]) > MANY_EVENTS:
        decided["max_train_events"] = 50
        reasons.append(f"the newest 50 events of each user are read: there are {events:,}")
    if len(data.validation.users) > MANY_USERS:
        decided["max_eval_users"] = MANY_USERS
        reasons.append(f"{MANY_USERS:,} of {len(data.validation.users):,} validation users choose")
    return decided, reasons


def portfolio(data: PreparedData) -> list[dict[str, Any]]:
    """Return the settings to try, the most promising for data of this size first."""
    few = data.manifest["split"]["counts"]["train"]["users"] < FEW_USERS
    return [SMALL_BATCHES, USUAL, SPARSE] if few else [USUAL, SPARSE, SMALL_BATCHES]


def _tried(
    data: PreparedData, output: Path, settings: dict[str, Any], given: str, base_model: str, seed: int, minutes: float
) -> Trial:
    """Train once, at most for some minutes, into `output/trial`."""
    shutil.rmtree(output / "trial", ignore_errors=True)
    fixed = {
        "data_dir": data.path,
        "output_dir": output / "trial",
        "base_model": base_model,
        "seed": seed,
        "max_minutes": max(minutes, 0.05),
        "disable_tqdm": "true",
    }
    pairs = ",".join([*(f"{name}={value}" for name, value in settings.items()), given])
    began = time.perf_counter()
    train(*parse_pairs(train_parser(), pairs, fixed))
    result = json.loads((output / "trial" / RESULT).read_text(encoding="utf-8"))
    quality = result["best_validation_with_memory"] or result["best_validation"] or 0.0
    for checkpoint in (output / "trial").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    return Trial(settings, quality, time.perf_counter() - began)
