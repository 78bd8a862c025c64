"""SASRec of RecTools, trained and ranked for `compare_sasrec.py`, in an environment of its own.

RecTools pins an older numpy than llmrec uses, so this file imports nothing of llmrec: arrays come in and go out.
Started without a folder it only shows that it can start.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

CUTOFF = 10


def interactions(user: np.ndarray, item: np.ndarray) -> Dataset:
    """Return a dataset of events (number of events,) that stand in their order."""
    moment = pd.to_datetime(np.arange(len(user)), unit="s")  # RecTools sorts by time; the given order is what counts
    frame = pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0, Columns.Datetime: moment})
    return Dataset.construct(frame)


def ranked(model: SASRecModel, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Return (number of users, CUTOFF) items, best first, -1 where there is none; seen items are left out."""
    found = np.full((user.max() + 1, CUTOFF), -1)  # every user has a history
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown items in a history
        lists = model.recommend(np.unique(user), interactions(user, item), CUTOFF, True, on_unsupported_targets="warn")
    found[lists[Columns.User], lists[Columns.Rank] - 1] = lists[Columns.Item]
    return found


def ndcg(lists: np.ndarray, targets: np.ndarray) -> float:
    """Return NDCG@10 of one target for each user."""
    return float(((lists == targets[:, None]) / np.log2(np.arange(CUTOFF) + 2)).sum(1).mean())


def main(folder: Path) -> None:
    """Train for the seconds and the epochs of `settings.json`, whichever ends last; write `lists.npz`, `curve.json`."""
    given, settings = np.load(folder / "events.npz"), json.loads((folder / "settings.json").read_text())
    targets = given["validation_targets"]
    seed_everything(settings["seed"], workers=True)
    model = SASRecModel(**settings["model"], deterministic=True)
    training = interactions(given["train_user"], given["train_item"])
    best, curve, seconds, idle = -1.0, [], 0.0, 0
    while idle < settings["patience"] and (seconds < settings["seconds"] or len(curve) < settings["epochs"]):
        began = time.perf_counter()
        model.fit_partial(training, 1, 1)
        lists = ranked(model, given["validation_user"], given["validation_item"])
        seconds += time.perf_counter() - began
        curve.append({"epoch": len(curve) + 1, "value": ndcg(lists, targets), "seconds": seconds})
        idle += 1
        if curve[-1]["value"] > best:
            best, idle = curve[-1]["value"], 0
            test = ranked(model, given["test_user"], given["test_item"])
            np.savez(folder / "lists.npz", validation=lists, test=test)
    (folder / "curve.json").write_text(json.dumps(curve))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        main(Path(folder))
