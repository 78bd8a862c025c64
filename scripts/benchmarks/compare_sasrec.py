"""Compare the `sasrec` baseline with the SASRec of RecTools: one split, one run, each for as long as the other.

python -m venv peer && peer/bin/pip install torch "rectools[torch]==0.19.0"
python scripts/compare_sasrec.py --data_dir DATA --peer_python peer/bin/python --output_dir OUT

llmrec searches its grid and keeps the best epoch on validation. RecTools gets the seconds of that whole search or as
many epochs, whichever lasts longer, for its own default settings and again for those that llmrec chose. It too looks at
validation after every epoch, gives up after twice as many looks without a better one, and keeps its best epoch.
Both are ranked over the whole catalogue of a leave-one-out split, seen items left out.

RecTools pins an older numpy than llmrec uses, so it runs in an interpreter of its own: `rectools_sasrec.py`, beside
this file, imports nothing of llmrec, reads a folder of arrays and settings and leaves its curve and its lists there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark import write_rows

from llmrec.baselines.baseline import validation_quality
from llmrec.baselines.search import Search, System, search
from llmrec.baselines.sequence_training import SEQUENCE_GRIDS, SequenceSettings, train_sequence
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.main import report_errors
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.data.training_events import TrainingEvents
from llmrec.evaluation.evaluator import evaluate_system
from llmrec.evaluation.intervals import bootstrap_means, percentile_interval
from llmrec.evaluation.metrics import ndcg_at_k
from llmrec.storage import check_writable

CUTOFF = 10
NAME = "compare_sasrec"


@dataclass
class CompareArguments:
    """What to compare on."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare --split leave_one_out`."})
    peer_python: str = field(metadata={"help": "Interpreter of the environment that has rectools[torch]."})
    output_dir: str = field(metadata={"help": f"Folder for {NAME}.json and its table."})
    peer_script: str = field(
        default="scripts/benchmarks/rectools_sasrec.py",
        metadata={"help": "What that interpreter runs; it lies in a checkout of llmrec, not in the wheel."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of both trainings."})


def main(argv: list[str] | None = None) -> None:
    """Parse, compare, write, print."""
    compare(parse_arguments(NAME, CompareArguments, argv))


def compare(arguments: CompareArguments) -> list[dict[str, Any]]:
    """Train both, rank both, and write a row for each.

    Returns:
        The rows: llmrec, RecTools with its default settings, RecTools with those that llmrec chose.

    Raises:
        ValueError: if the data are split otherwise, or the peer cannot start.
        FileNotFoundError: if the data, the peer's interpreter or its script are missing.
    """
    print_settings(arguments)
    check_writable(arguments.output_dir)
    directory = PreparedData.open(arguments.data_dir)
    if (kind := directory.manifest["split"]["kind"]) != "leave_one_out":
        raise ValueError(
            f"data directory {arguments.data_dir!r} is split {kind!r}: one target per user is compared;\n"
            "prepare it with --split leave_one_out."
        )
    peer = Peer.find(arguments.peer_python, arguments.peer_script)
    histories, catalog = directory.histories(), directory.catalog
    events = TrainingEvents.from_histories(histories, catalog)
    validation, test = (Cases.from_histories(histories, catalog, split) for split in ("validation", "test"))

    system, found = search_sasrec(events, validation, arguments.seed)
    seconds = sum(trial.seconds for trial in found.trials)
    own = ndcg_at_k(evaluate_system(system, test, mask_seen=True), CUTOFF)
    rows = [describe("llmrec sasrec", found.chosen, seconds, found.best.value, own, own)]
    chosen = SequenceSettings(**found.chosen)
    budget = {"seconds": seconds, "epochs": chosen.num_epochs, "seed": arguments.seed}
    budget["patience"] = 2 * chosen.patience  # its first epochs can stay at popularity
    for whose, settings in (("its defaults", {}), ("chosen by llmrec", as_peer_settings(chosen, events))):
        curve, lists = peer.train(events, validation, test, {"model": settings, **budget})
        value = max(look["value"] for look in curve)
        name = f"RecTools SASRec, settings {whose}"
        theirs = ndcg_at_k(ranks_in_lists(lists, test.targets), CUTOFF)
        rows.append(describe(name, settings, curve[-1]["seconds"], value, theirs, own))
    write_rows(rows, Path(arguments.output_dir), NAME, "One run")
    return rows


def search_sasrec(events: TrainingEvents, cases: Cases, seed: int) -> tuple[System, Search]:
    """Return the best SASRec of the grid, as `llmrec baselines --systems sasrec` does."""
    quality = partial(validation_quality, cases=cases, mask_seen=True)

    def fit(settings: dict[str, Any]) -> tuple[System, list[dict[str, Any]]]:
        return train_sequence(events, SequenceSettings(**settings, seed=seed), quality, progress=True)

    return search(fit, SEQUENCE_GRIDS["sasrec"], quality)


def as_peer_settings(chosen: SequenceSettings, events: TrainingEvents) -> dict[str, Any]:
    """Return settings of our SASRec as RecTools names them."""
    lengths = [len(items) for items in events.items]
    targets_per_window = np.mean([min(length, chosen.max_length) for length in lengths])
    return {
        "n_blocks": chosen.num_layers,
        "n_heads": chosen.num_heads,
        "n_factors": chosen.hidden_size,
        "session_max_len": min(chosen.max_length, max(lengths)),  # padding costs it time
        "batch_size": max(1, round(chosen.batch_size / targets_per_window)),  # it counts windows, we count targets
        "dropout_rate": chosen.dropout,
        "lr": chosen.learning_rate,
    }


class Peer(NamedTuple):
    """RecTools' SASRec in its own interpreter."""

    python: str
    script: str

    @classmethod
    def find(cls, python: str, script: str) -> Peer:
        """Find the interpreter and its script, and start it once, before anything is trained.

        Raises:
            FileNotFoundError: if one of them is missing.
            ValueError: if the script cannot start there.
        """
        found = shutil.which(python)
        if found is None:
            raise FileNotFoundError(
                f"peer_python {python!r} is no interpreter. Make one and give its path:\n"
                'python -m venv peer && peer/bin/pip install torch "rectools[torch]==0.19.0"'
            )
        if not Path(script).is_file():
            raise FileNotFoundError(
                f"peer_script {script!r} is no file: it lies in llmrec's repository, in scripts/;\n"
                "run this from a checkout, or give its path with --peer_script."
            )
        started = subprocess.run([found, script], capture_output=True, text=True, check=False)
        if started.returncode:
            reason = (started.stderr.strip().splitlines() or [f"exit code {started.returncode}"])[-1]
            raise ValueError(
                f"peer_script {script!r} cannot start under {python!r}: {reason}\n"
                'Install what it needs there: pip install torch "rectools[torch]==0.19.0"'
            )
        return cls(found, script)

    def train(
        self, events: TrainingEvents, validation: Cases, test: Cases, given: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Train as `given` on the events.

        Returns:
            The curve, a row of `epoch`, validation `value` and `seconds` so far for each look, and the item indices
            (number of test cases, K), best first, that the best epoch shows for each test case; -1 where none is.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            arrays: dict[str, Any] = dict(as_arrays(events, validation, test))
            np.savez(folder / "events.npz", **arrays)
            (folder / "settings.json").write_text(json.dumps(given), encoding="utf-8")
            subprocess.run([self.python, self.script, folder], check=True)
            curve = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
            with np.load(folder / "lists.npz") as lists:
                return curve, lists["test"]


def as_arrays(events: TrainingEvents, validation: Cases, test: Cases) -> dict[str, np.ndarray]:
    """Return what the peer learns from, chooses by and ranks, flat: `…_user` and `…_item` of each event, in order.

    Users of `train` are rows of the training events, those of `validation` and `test` are case numbers, each with the
    history before its target. Targets go with the validation alone: those of the test stay here.
    """
    histories = {
        "train": events.items,
        "validation": [validation.history(case) for case in range(len(validation))],
        "test": [test.history(case) for case in range(len(test))],
    }
    arrays = {"validation_targets": validation.targets}
    for name, rows in histories.items():
        arrays[f"{name}_user"] = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        arrays[f"{name}_item"] = np.concatenate(rows)
    return arrays


def ranks_in_lists(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return each target's place in its list, (B,), infinite where it is not among the K.

    >>> ranks_in_lists(np.array([[4, 7], [4, 7]]), np.array([7, 5])).tolist()
    [2.0, inf]
    """
    return np.where(lists == targets[:, None], np.arange(1, lists.shape[1] + 1), np.inf).min(axis=1)


def describe(
    system: str, settings: dict[str, Any], seconds: float, value: float, test: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
    """Return the row of one system.

    Args:
        system: Its name.
        settings: Those it was trained with.
        seconds: Time of its training, validation included.
        value: Its mean NDCG@10 on validation.
        test: (B,) its NDCG@10 of each test case.
        own: (B,) that of llmrec on the same cases.
    """
    low, high = percentile_interval(bootstrap_means((own - test)[:, None]))
    return {
        "system": system,
        "settings": json.dumps(settings),
        "seconds": round(seconds, 1),
        f"validation_ndcg@{CUTOFF}": round(value, 4),
        f"test_ndcg@{CUTOFF}": round(float(test.mean()), 4),
        "llmrec_minus_it": f"{float((own - test).mean()):+.4f} [{low.item():+.4f}, {high.item():+.4f}]",
    }


if __name__ == "__main__":
    sys.exit(report_errors("compare_sasrec", main))
