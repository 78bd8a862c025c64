"""Trainers of tiny recommenders, and what they trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_recommenders import tiny_recommender

from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.dataset import WindowDataset
from llmrec.training.trainer import RecTrainer


def make_trainer(
    checkpoint: Path,
    data: PreparedData,
    output: Path,
    *,
    seed: int = 0,
    kind: type[RecTrainer] = RecTrainer,
    num_windows: int | None = None,
    model: dict[str, Any] | None = None,
    weight: float | None = None,
    **settings: Any,
) -> RecTrainer:
    """A trainer with everything random switched on: dropout in backbone, LoRA and residuals."""
    recommender = tiny_recommender(checkpoint, data.catalog, seed, **{"lora_dropout": 0.1, **(model or {})})
    dataset = WindowDataset(data.histories(), data.catalog, recommender.processor)
    if num_windows is not None:
        dataset.windows, dataset.lengths = dataset.windows[:num_windows], dataset.lengths[:num_windows]
    defaults = {
        "per_device_train_batch_size": 3,
        "num_train_epochs": 3,
        "residual_dropout": 0.3,
        "bf16": False,
        "disable_tqdm": True,
        "eval_strategy": "no",
        "save_strategy": "no",
        "save_total_limit": None,
        "logging_steps": 1,
    }
    args = RecTrainingArguments(output_dir=str(output), **{**defaults, **settings})
    cases = None
    if args.eval_strategy != "no":
        cases = Cases.from_histories(data.histories(), data.catalog, "validation")
    return kind(recommender, args, dataset, cases, popularity_weight=weight)


def trained_weights(trainer: RecTrainer) -> dict[str, torch.Tensor]:
    """LoRA, head and item tables, copied."""
    named = trainer.recommender.model.named_parameters()
    return {name: weight.detach().clone() for name, weight in named if weight.requires_grad}


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different
