"""Compare the `sasrec` baseline with the SASRec of RecTools: one split, one run, each for as long as the other.

python -m venv peer && peer/bin/pip install torch "rectools[torch]==0.19.0"
python scripts/compare_sasrec.py --data_dir DATA --peer_python peer/bin/python --output_dir OUT

llmrec searches its grid and keeps the best epoch on validation. RecTools gets the seconds of that whole search or as
many epochs, whichever lasts longer, for its own default settings and again for those that llmrec chose. It too looks at
validation after every epoch, gives up after twice as many looks without a better one, and keeps its best epoch.
Both are ranked over the whole catalogue of a leave-one-out split, seen items left out.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.baselines.search import Search, System, search
from llmrec.baselines.sequence_training import SEQUENCE_GRIDS, SequenceSettings, train_sequence
from llmrec.baselines.training_events import TrainingEvents
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.baselines import validation_quality
from llmrec.commands.benchmark import write_rows
from llmrec.commands.outputs import check_writable
from llmrec.data.directory import DataDirectory
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.evaluation.intervals import bootstrap_means, percentile_interval
from llmrec.evaluation.metrics import ndcg_at_k

PEER = Path(__file__).with_name("rectools_sasrec.py")


@dataclass
class CompareArguments:
    """What to compare on."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare --split leave_one_out`."})
    peer_python: str = field(metadata={"help": "Interpreter of the environment that has rectools[torch]."})
    output_dir: str = field(metadata={"help": "Folder for compare_sasrec.json and its table."})
    seed: int = field(default=0, metadata={"help": "Seed of both trainings."})


def main() -> None:
    """Train both, rank both, write a row for each."""
    arguments = parse_arguments("compare_sasrec", CompareArguments, None)
    print_settings(arguments)
    check_writable(arguments.output_dir)
    directory = DataDirectory.open(arguments.data_dir)
    if directory.manifest["split"]["kind"] != "leave_one_out":
        raise SystemExit(f"{arguments.data_dir!r} has another split: prepare it with --split leave_one_out.")
    histories, catalog = directory.histories(), directory.catalog
    events = TrainingEvents.from_histories(histories, catalog)
    validation, test = (Cases.from_histories(histories, catalog, split) for split in ("validation", "test"))
    system, found = own_search(events, validation, arguments.seed)
    seconds = sum(trial.seconds for trial in found.trials)
    own = ndcg_at_k(evaluate_system(system, test, mask_seen=True), 10)
    rows = [row("llmrec sasrec", found.chosen, seconds, found.best.value, own, own)]
    chosen = SequenceSettings(**found.chosen)
    same = {
        "n_blocks": chosen.num_layers,
        "n_heads": chosen.num_heads,
        "n_factors": chosen.hidden_size,
        "session_max_len": min(chosen.max_length, max(map(len, events.items))),  # padding costs it time
        "batch_size": max(
            1, round(chosen.batch_size / np.mean([min(len(row), chosen.max_length) for row in events.items]))
        ),
        "dropout_rate": chosen.dropout,
        "lr": chosen.learning_rate,
    }
    for settings in ({}, same):
        given = {"model": settings, "seconds": seconds, "epochs": chosen.num_epochs, "seed": arguments.seed}
        given["patience"] = 2 * chosen.patience  # its first epochs can stay at popularity
        curve, lists = peer(Path(arguments.peer_python), events, validation, test, given)
        value = max(look["value"] for look in curve)
        ranks = np.where(lists == test.targets[:, None], np.arange(1, lists.shape[1] + 1), np.inf).min(axis=1)
        test_ndcg = ndcg_at_k(ranks, 10)
        name = "chosen by llmrec" if settings else "its defaults"
        rows.append(row(f"RecTools SASRec, settings {name}", settings, curve[-1]["seconds"], value, test_ndcg, own))
    write_rows(rows, Path(arguments.output_dir), "compare_sasrec", "One run")


def own_search(events: TrainingEvents, cases: Cases, seed: int) -> tuple[System, Search]:
    """Return the best SASRec of the grid, as `llmrec baselines --systems sasrec` does."""
    quality = partial(validation_quality, cases=cases)

    def fit(settings: dict[str, Any]) -> tuple[System, list[dict[str, Any]]]:
        return train_sequence(events, SequenceSettings(**settings, seed=seed), quality, progress=True)

    return search(fit, SEQUENCE_GRIDS["sasrec"], quality)


def peer(
    python: Path, events: TrainingEvents, validation: Cases, test: Cases, given: dict[str, Any]
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Train RecTools' SASRec in its own interpreter, as `given`; return its curve and ten items for each test case."""
    arrays = {"train_user": np.repeat(np.arange(len(events.items)), [len(row) for row in events.items])}
    arrays["train_item"] = np.concatenate(events.items)
    for cases in (validation, test):
        rows = [cases.items[user][:end] for user, end in zip(cases.user, cases.position, strict=True)]
        arrays[f"{cases.split}_user"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        arrays[f"{cases.split}_item"] = np.concatenate(rows)
        arrays[f"{cases.split}_targets"] = cases.targets
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.savez(folder / "events.npz", **arrays)
        (folder / "settings.json").write_text(json.dumps(given), encoding="utf-8")
        subprocess.run([python, PEER, folder], check=True)
        return json.loads((folder / "curve.json").read_text(encoding="utf-8")), np.load(folder / "lists.npz")["test"]


def row(
    system: str, settings: dict[str, Any], seconds: float, value: float, test: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
    """Return what is reported of one system; `own` holds llmrec's NDCG@10 of the same cases."""
    low, high = percentile_interval(bootstrap_means((own - test)[:, None]))
    return {
        "system": system,
        "settings": json.dumps(settings),
        "seconds": round(seconds, 1),
        "validation_ndcg@10": round(value, 4),
        "test_ndcg@10": round(float(test.mean()), 4),
        "llmrec_minus_it": f"{float((own - test).mean()):+.4f} [{low.item():+.4f}, {high.item():+.4f}]",
    }


if __name__ == "__main__":
    main()
