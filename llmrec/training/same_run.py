"""Whether a checkpoint belongs to a run: same items, template, settings, training events and base weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.hub.names import ADAPTER_CONFIG, ITEM_TABLES, ITEMS
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender
from llmrec.text.template import PromptTemplate

ELSEWHERE = frozenset({"popularity_weight", "memory", "base_model", "base_revision", "base_sha256"})
"""Settings that may differ: the weight is chosen anew, and a base checkpoint is the same wherever it lies."""


def check_same_run(folder: Path, recommender: Recommender) -> None:
    """Refuse a checkpoint whose weights would mean something else in this recommender.

    Args:
        folder: The checkpoint.
        recommender: What is being trained.

    Raises:
        ValueError: if its items or settings are others; the message names those that differ.
    """
    model: Any = recommender.model
    saved, config = asdict(RecommenderConfig.load(folder)), asdict(recommender.config)
    differ = [name for name in sorted(config) if name not in ELSEWHERE and saved[name] != config[name]]
    counts = inner(recommender.model).rec_items.counts
    others = {
        "base_model": saved["base_sha256"] == config["base_sha256"],
        "items": Catalog.read(folder / ITEMS).frame.equals(recommender.items.frame),
        "template": PromptTemplate.load(folder) == recommender.processor.serializer.template,
        "training events": not config["hybrid"] or _same_counts(folder, counts),
    }
    if isinstance(model, PeftModel):
        adapter = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        lora: Any = model.peft_config[model.active_adapter]
        others["lora_r"] = adapter["r"] == lora.r
        others["lora_target_modules"] = adapter["target_modules"] == sorted(lora.target_modules)
    differ += [name for name, same in others.items() if not same]
    if differ:
        raise ValueError(
            f"checkpoint {folder.name!r} was trained with other {', '.join(differ)}.\n"
            "Resume with the data and settings it was started with, or give another output folder."
        )


def _same_counts(folder: Path, counts: Tensor) -> bool:
    return torch.equal(load_file(folder / ITEM_TABLES)["counts"], counts.cpu())
