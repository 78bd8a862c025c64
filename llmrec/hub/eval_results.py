"""`eval_results.json`: all that an adapter's card says in numbers, without anything of any user.

It joins what `llmrec evaluate` measured, what the data directory says of itself and how the adapter was trained, and
names what this is true of by a hash: weights, settings, and of a hybrid its items with all that was learned of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from llmrec.configuration import RecommenderConfig, read_json
from llmrec.data.catalog import Catalog
from llmrec.hub.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ITEM_TABLES, ITEMS, MEMORY
from llmrec.storage import sha256_of
from llmrec.text.template import TEMPLATE_NAME
from llmrec.untrusted import holds

EVAL_RESULTS = "eval_results.json"
FORMAT_VERSION = 2
SUBJECT = "llmrec"
WEIGHTS = {False: (ADAPTER_WEIGHTS,), True: ("model.safetensors", "head.safetensors")}
"""Names of the files of weights, by whether the adapter was merged."""
NO_SCORE = ("base_model", "base_revision", "mask_seen")
"""Settings on which no score depends: where the base model lies (`base_sha256` says which it is), and which items leave
a ranking, which every result says of itself."""
PERSONAL = "examples"
"""Examples of an audit's findings name users and what they did."""
LORA = ("r", "lora_alpha", "lora_dropout", "target_modules")
TRAINED = ("epoch", "steps", "best_step", "best_validation", "train_loss", "train_runtime", "peak_memory_mib")

Record = Mapping[str, Any]


def condense(
    folder: Path,
    results: Record | None = None,
    manifest: Record | None = None,
    audit: Record | None = None,
    training: Record | None = None,
) -> dict[str, Any]:
    """Return what `eval_results.json` holds.

    Args:
        folder: the saved folder that it is about.
        results: `results.json` or `pair_results.json` of an evaluation.
        manifest: `manifest.json` of the data directory.
        audit: `audit.json` of it.
        training: `train_results.json` of the run.

    Returns:
        A part for each of these, None where there is none; `model` names by a hash what the results are true of.

    Raises:
        ValueError: if the results are those of another model or other data, or of baselines alone.
    """
    model = describe_model(folder)
    if results is not None:
        check_subject(results, model, manifest)
    audit = audit if audit is not None else (results or {}).get("audit")
    return {
        "format_version": FORMAT_VERSION,
        "model": model,
        "results": None if results is None else _results(results),
        "data": None if manifest is None else _data(manifest),
        "audit": None if audit is None else _audit(audit),
        "training": None if training is None else _training(training),
    }


def describe_model(folder: Path) -> dict[str, Any]:
    """Return the settings of a saved folder, its number of items, and the hash of what its scores depend on.

    That hash is another one after more training, after a merge and under another popularity weight. For a hybrid, whose
    scores hold what was learned of single items, it is also another one after these changed or stayed behind; without
    residuals results hold for any items, for they name the data whose items were ranked.
    """
    config = RecommenderConfig.load(folder)
    described = {name: value for name, value in asdict(config).items() if name != "format_version"}
    if not config.merged:
        lora = read_json(folder / ADAPTER_CONFIG)
        described["lora"] = {name: lora[name] for name in LORA if name in lora}
    decides = {name: value for name, value in described.items() if name not in NO_SCORE}
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for name in (*WEIGHTS[config.merged], TEMPLATE_NAME):
        digest.update(bytes.fromhex(sha256_of(folder / name)))
    items = Catalog.read(folder / ITEMS) if (folder / ITEMS).is_file() else None
    tables = [name for name in (ITEM_TABLES, MEMORY) if (folder / name).is_file()]
    if items is not None and tables:
        digest.update(items.frame.write_ndjson().encode())
        for name in tables:
            for _, tensor in sorted(load_file(folder / name).items()):
                digest.update(tensor.numpy().tobytes())
    described["num_items"] = None if items is None else len(items)
    described["model_sha256"] = digest.hexdigest()
    return described


def check_subject(results: Record, model: Record, manifest: Record | None) -> None:
    """Raise ValueError unless the results are those of this model, and of the data of this manifest."""
    subject = results.get("subject")
    if not subject or not subject.get("model_sha256"):
        raise ValueError(
            "the results name no adapter: give those of `llmrec evaluate --model FOLDER`, of this release (by its name "
            "on the Hub a model is not told from others)."
        )
    if subject["model_sha256"] != model["model_sha256"]:
        raise ValueError(
            f"the results are those of another model ({str(subject['model_sha256'])[:12]}) than the folder's "
            f"({model['model_sha256'][:12]}): its weights, items or popularity weight are not what was evaluated.\n"
            "Evaluate this model, and give its results."
        )
    if manifest is not None and manifest["sha256"] != results["protocol"].get("manifest_sha256"):
        raise ValueError(
            f"the results are those of other data than the data directory's ({manifest['sha256'][:12]}).\n"
            "Give the directory that was evaluated."
        )


def read_eval_results(folder: Path) -> dict[str, Any] | None:
    """Return what the folder's `eval_results.json` holds, None where there is none or it is of another format."""
    if not holds(folder, EVAL_RESULTS):
        return None
    try:
        record = read_json(folder / EVAL_RESULTS)
    except ValueError:
        return None
    return record if record.get("format_version") == FORMAT_VERSION else None


def as_json(record: Record) -> str:
    """Write a record as sorted JSON; ValueError for a number that is not finite."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _results(results: Record) -> dict[str, Any]:
    """Return means, intervals, the subject's differences, strata and protocol; no ranks, users or curves."""
    best = results["best_baseline"]
    return {
        "task": results.get("task", "ranking"),
        "subject": results["subject"],
        "protocol": results["protocol"],
        "systems": results["systems"],
        "differences": results["comparisons"].get(SUBJECT, {}),
        "best_baseline": best,
        "tests": {metric: rows[SUBJECT] for metric, rows in results.get("tests", {}).items() if SUBJECT in rows},
        "strata": [
            {**stratum, "groups": [_group(group, best) for group in stratum["groups"]]}
            for stratum in results.get("strata", [])
        ],
    }


def _group(group: Record, best: str | None) -> dict[str, Any]:
    shown = {name: group["systems"][name] for name in (SUBJECT, best) if name in group["systems"]}
    return {
        **{name: group[name] for name in ("label", "num_cases", "num_users")},
        "systems": shown,
        "difference": group["differences"].get(SUBJECT),
    }


def _data(manifest: Record) -> dict[str, Any]:
    """Return where the data come from, their counts and hashes."""
    kept = ("source", "licence", "citation", "notes", "clock", "filters", "split", "counts", "versions", "sha256")
    hashes = {side: {name: file["sha256"] for name, file in manifest[side].items()} for side in ("inputs", "outputs")}
    return {**{name: manifest[name] for name in kept if name in manifest}, **hashes}


def _audit(audit: Record) -> dict[str, Any]:
    """Return what was found, without the examples."""
    return {
        "findings": [
            {name: value for name, value in finding.items() if name != PERSONAL} for finding in audit["findings"]
        ],
        "passed": audit.get("passed", []),
        "skipped": audit.get("skipped", []),
    }


def _training(training: Record) -> dict[str, Any]:
    """Return settings, environment and the end of a run; no log."""
    return {
        "settings": training.get("settings"),
        "environment": training.get("environment"),
        "end": {name: training[name] for name in TRAINED if training.get(name) is not None},
    }
