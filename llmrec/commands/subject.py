"""The adapter that a report measures: loaded for its data, which one it is, and how its training went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from llmrec.commands.train import RESULT
from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.evaluation.results import SUBJECT
from llmrec.hub.eval_results import describe_model
from llmrec.hub.folder import DATA_MANIFEST
from llmrec.hub.merged import BACKBONE_WEIGHTS
from llmrec.hub.names import ADAPTER_WEIGHTS
from llmrec.recommender import Recommender
from llmrec.storage import sha256_of


def load_subject(
    model: str, revision: str | None, base_model: str | None, catalog: Catalog, device: torch.device
) -> Recommender:
    """Load an adapter, to rank the items of a catalogue.

    Args:
        model: Folder or Hub name.
        revision: Branch, tag or commit on the Hub.
        base_model: Base checkpoint, if it is not where the adapter says.
        catalog: Items of the data directory.
        device: Where to compute.

    Raises:
        FileNotFoundError: if the folder is no adapter, or the base checkpoint cannot be found.
        ValueError: if the base checkpoint has other weights than the adapter was trained on.
    """
    return Recommender.from_pretrained(model, revision=revision, base_model=base_model, device=device, items=catalog)


def use_popularity_weight(recommender: Recommender | None, weight: float | None) -> float:
    """Let the adapter rank with the weight that is asked for, if one is; return the one it was saved with.

    Raises:
        ValueError: if a weight is asked for and there is no adapter, or one that is no hybrid; or it is out of range.
    """
    saved = 1.0 if recommender is None else recommender.popularity_weight
    if weight is not None:
        if recommender is None or not recommender.config.hybrid:
            raise ValueError(f"popularity_weight={weight!r} goes with a hybrid adapter: leave it out.")
        recommender.popularity_weight = weight
    return saved


def describe_subject(
    recommender: Recommender, model: str, revision: str | None, saved_weight: float, name: str = SUBJECT
) -> dict[str, Any]:
    """Name an adapter and its base model; a folder is known by its last name and the hash of its weights.

    Args:
        recommender: The adapter, loaded, perhaps with another popularity weight.
        model: The folder or Hub name it was loaded from.
        revision: Branch, tag or commit on the Hub.
        saved_weight: The popularity weight it was saved with.
        name: What it is called in the report.
    """
    trained_on = recommender.records.get(DATA_MANIFEST, {})
    weights = Path(model) / (BACKBONE_WEIGHTS if recommender.config.merged else ADAPTER_WEIGHTS)
    return {
        "name": name,
        "model": Path(model).resolve().name if weights.is_file() else model,
        "revision": revision,
        "base_model": recommender.config.base_model,
        "adapter_sha256": sha256_of(weights) if weights.is_file() else None,
        "model_sha256": describe_model(Path(model))["model_sha256"] if weights.is_file() else None,
        "mask_seen": recommender.config.mask_seen,
        "popularity_weight": recommender.popularity_weight if recommender.config.hybrid else None,
        "saved_popularity_weight": saved_weight if recommender.config.hybrid else None,
        "trained_on": {name: value for name, value in trained_on.items() if name in ("source", "manifest_sha256")},
    }


def check_data(recommender: Recommender, directory: PreparedData) -> str | None:
    """Return a warning where an adapter says that it was trained on other data than these, None where it does not.

    That is no error: an adapter may be tried on what is new to it. But another split of the same events, say, holds
    targets among what was trained on.
    """
    trained = recommender.records.get(DATA_MANIFEST, {})
    if trained.get("manifest_sha256") in (None, directory.provenance["manifest_sha256"]):
        return None
    return (
        f"the adapter was trained on other data ({trained.get('source')}, manifest {trained['manifest_sha256'][:12]}) "
        "than these: if the two share events, it may have learned the very targets that it is asked for."
    )


def training_curve(model: str) -> list[dict[str, float | None]]:
    """Read the validation values of a training run, with the last loss before each: `epoch`, `loss`, `value`.

    Args:
        model: Output folder of `llmrec train`; anything else has no curve.
    """
    path = Path(model) / RESULT
    if not path.is_file():
        return []
    curve: list[dict[str, float | None]] = []
    loss = None
    for row in json.loads(path.read_text(encoding="utf-8")).get("log", []):
        loss = row.get("loss", loss)
        if "eval_ndcg@10" in row:
            curve.append({"epoch": row["epoch"], "loss": loss, "value": row["eval_ndcg@10"]})
    return curve
