"""`llmrec pretrain`: adapt a checkpoint to unlabelled histories before it learns to rank.

accelerate launch scripts/pretrain.py --data_dir DATA [MORE …] --output_dir ADAPTED
accelerate launch scripts/train.py --data_dir DATA --init_adapter ADAPTED --output_dir RUN

Last it learns where the items of the first directory lie (`--item_epochs`), which training on them goes on from.

With `--full true` ADAPTED is a checkpoint itself, and training starts with `--base_model ADAPTED`; so it is with what
`llmrec export` makes of an adapter. Then the texts of items are embedded by adapted weights too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from transformers import HfArgumentParser

from llmrec.commands.arguments import parse_options
from llmrec.commands.train import check_launch, check_output, report_coverage, report_settings, settings_record
from llmrec.configuration import TRAINING_SETTINGS
from llmrec.data.directory import MANIFEST
from llmrec.evaluation.intervals import bootstrap_means, percentile_interval
from llmrec.hub.data_sets import open_data
from llmrec.hub.folder import DATA_MANIFEST
from llmrec.models.adapter import inner
from llmrec.models.backbone import load_backbone
from llmrec.models.capabilities import is_causal
from llmrec.models.item_projection import ItemHistories
from llmrec.models.language import LanguageModel, token_head
from llmrec.storage import sha256_of, write_text
from llmrec.text.processor import Processor
from llmrec.text.serializer import Serializer
from llmrec.training.adaptation import AdaptationTrainer
from llmrec.training.adaptation_data import (
    MaskedEvents,
    NextTokens,
    PackedCollator,
    PackedDataset,
    history_passes,
    mixed,
)
from llmrec.training.arguments import ModelArguments, RecTrainingArguments
from llmrec.training.assemble import new_recommender
from llmrec.training.run_checkpoints import checkpoint_to_resume

RESULT = "pretrain_results.json"


@dataclass
class PretrainArguments:
    """What is read, and what is asked of it."""

    data_dir: list[str] = field(
        metadata={"help": "Data directories. The adapter's folder holds the items of the first; all are read."}
    )
    mixing_temperature: float = field(
        default=1.0,
        metadata={"help": "Of several directories each is drawn by tokens ** (1 / this): 1 as large as they are."},
    )
    max_train_events: int | None = field(
        default=None, metadata={"help": "Newest training events read of each user; all by default."}
    )
    item_texts: bool = field(default=True, metadata={"help": "Also read the text of every item, alone."})
    mask_rate: float = field(default=0.15, metadata={"help": "Share of events masked whole (encoders), in (0, 1)."})
    contrast_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of telling one half of a user's items from other users' by the other half, beside the loss "
            "of a token; 0 leaves it out."
        },
    )
    full: bool = field(
        default=False,
        metadata={
            "help": "Train all weights of the checkpoint but its token embeddings, instead of LoRA, at a lower "
            "learning rate, such as 5e-5. The output is a checkpoint, for --base_model."
        },
    )
    row_tokens: int | None = field(
        default=256, metadata={"help": "Tokens of a row into which several histories are packed."}
    )
    held_out: float = field(default=0.1, metadata={"help": "Share of users whose histories are kept to measure by."})
    max_held_out: int = field(default=500, metadata={"help": "The most such users."})

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            raise ValueError(f"mask_rate={self.mask_rate!r} is not in (0, 1): it is the share of events masked.")
        if not self.mixing_temperature >= 1:
            raise ValueError(f"mixing_temperature={self.mixing_temperature!r}: give 1 (as large as they are) or more.")
        if self.contrast_weight < 0:
            raise ValueError(f"contrast_weight={self.contrast_weight!r}: give 0 or more.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out={self.held_out!r} is not in (0, 1): it is the share of users measured by.")
        if self.max_held_out < 1:
            raise ValueError(f"max_held_out={self.max_held_out!r}: give at least 1 user to measure by.")
        if self.max_train_events is not None and self.max_train_events < 2:
            raise ValueError(f"max_train_events={self.max_train_events!r}: give at least 2, or leave it out for all.")


def main(argv: list[str] | None = None) -> None:
    """Parse, adapt, save, report."""
    pretrain(*parse_options(pretrain_parser(), argv))


def pretrain_parser() -> HfArgumentParser:
    """Return what reads the options of `pretrain`."""
    kinds: Any = (PretrainArguments, ModelArguments, RecTrainingArguments)
    parser = HfArgumentParser(kinds, prog="llmrec pretrain", allow_abbrev=False)
    parser.set_defaults(
        hybrid=False,
        learning_rate=5e-4,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
    )
    return parser


def pretrain(data: PretrainArguments, model: ModelArguments, training: RecTrainingArguments) -> dict[str, Any]:
    """Adapt the checkpoint and save the adapter to `training.output_dir`.

    Returns:
        What `pretrain_results.json` holds.

    Raises:
        ValueError: if a setting or the data do not allow it.
        FileExistsError: if the output folder holds an adapter already and this is no resumed run.
        FileNotFoundError: if data, checkpoint or template are missing.
    """
    check_launch(training)
    if model.head != "dual" or model.hybrid:
        raise ValueError("pretrain adapts the checkpoint alone: leave --head and --hybrid to train.")
    if data.full and model.init_adapter is not None:
        raise ValueError("--full trains a checkpoint: `llmrec export` the adapter, and give that as --base_model.")
    training.judge_by(AdaptationTrainer.metrics)
    output = check_output(training)
    checkpoint = checkpoint_to_resume(training.resume_from_checkpoint, output)
    if training.process_index == 0:
        report_settings(data, model, training)
    trainer, drawn = assemble(data, model, training)
    coverage = report_coverage(trainer.recommender, training.process_index == 0)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    losses = trainer.held_out_losses()
    objective = "next tokens" if is_causal(trainer.language.backbone) else "masked events"
    recommender = trainer.recommender
    recommender.config = replace(
        recommender.config,
        adapted_on={
            "objective": objective,
            "contrast_weight": data.contrast_weight,
            "steps": trainer.state.global_step,
            "item_epochs": model.item_epochs,
            "weights": "all but token embeddings" if data.full else "LoRA",
            "data": [{name: one[name] for name in ("source", "manifest_sha256", "events_read")} for one in drawn],
            "after": recommender.config.adapted_on,
        },
    )
    recommender.records[TRAINING_SETTINGS] = {**settings_record(data, model, training), "item_texts": coverage}
    item_loss = trainer.settle_items(model.whiten, model.item_epochs)
    trainer.save_model()
    results = {
        "objective": objective,
        "base_head": "learned beside, on the same batches" if trainer.language.learned else "the checkpoint's own",
        "held_out": held_out_results(losses),
        "item_loss": item_loss,
        "drawn": drawn,
        "tokens_per_second": throughput(trainer.state.log_history),
        "log": trainer.state.log_history,
        **result.metrics,
    }
    if trainer.is_world_process_zero():
        write_text(output / RESULT, json.dumps(results, indent=2, sort_keys=True) + "\n")
        print(summary(results))
        option = "--base_model" if data.full else "--init_adapter"
        print(f"saved {output}; continue with llmrec train {option} {output}")
    return results


def assemble(
    data: PretrainArguments, model: ModelArguments, training: RecTrainingArguments
) -> tuple[AdaptationTrainer, list[dict[str, Any]]]:
    """Return the trainer, and of each data directory what was drawn of it."""
    training.set_seed()
    directories = [open_data(name) for name in data.data_dir]
    first = directories[0]
    counts = np.zeros(len(first.catalog), dtype=np.int64)
    recommender = new_recommender(model, first.catalog, first.has_clock, counts)
    recommender.records[DATA_MANIFEST] = first.provenance  # whose items the folder holds
    processor = recommender.processor
    parts = [
        history_passes(
            directory,
            Processor(
                Serializer(processor.serializer.template, directory.has_clock), processor.tokenizer, processor.config
            ),
            data.held_out,
            data.max_held_out,
            data.item_texts,
            data.max_train_events,
            training.seed,
            source,
        )
        for source, directory in enumerate(directories)
    ]
    passes, drawn = mixed(parts, processor, data.mixing_temperature, training.seed)
    dataset = PackedDataset(passes, processor, data.row_tokens)
    away = PackedDataset([one for part in parts for one in part.held_out], processor, data.row_tokens)
    causal = is_causal(inner(recommender.model).backbone)
    objective = NextTokens() if causal else masked_objective(processor, data.mask_rate)
    catalogs = [directory.catalog for directory in directories] if data.contrast_weight else []
    collator = PackedCollator(processor, objective, training.seed, catalogs)
    head, learned = token_head(recommender.checkpoint, causal)
    base = None
    if data.full:
        base = load_backbone(recommender.checkpoint, model.attn_implementation, model.attention_dropout)
        recommender = recommender.merge()
        inner(recommender.model).adaptation = {}  # what is trained is no more told from the base
    language = LanguageModel(recommender.model, head.to(training.device), learned, base)
    for one, directory in zip(drawn, directories, strict=True):
        one["source"] = directory.manifest["source"]
        one["manifest_sha256"] = sha256_of(directory.path / MANIFEST)
    if training.process_index == 0:
        report_drawn(drawn, dataset, data.row_tokens)
    cases = away if training.eval_strategy != "no" else None
    if training.mask_seen is None:
        training.mask_seen = all(directory.mask_seen for directory in directories)
    learned_from = ItemHistories.of(dataset.histories(0)) if model.item_epochs else None
    if learned_from is not None and not learned_from.suffice:
        raise ValueError(
            f"{data.data_dir[0]!r}: histories of two different items hold {len(learned_from.known)} in all, and there "
            "is no other to tell the next one from.\nGive --item_epochs 0, or more data."
        )
    trainer = AdaptationTrainer(
        recommender, language, training, dataset, cases, collator, data.contrast_weight, learned_from
    )
    trainer.cases = away
    return trainer, drawn


def report_drawn(drawn: list[dict[str, Any]], dataset: PackedDataset, row_tokens: int | None) -> None:
    """Print what is read of each data directory, and how full the rows are."""
    for one in drawn:
        print(
            f"{one['source']}: {one['users']} users, of whom {one['held_out_users']} are held out; drawn "
            f"{one['events_read']} events, {one['tokens']} tokens of {one['tokens_there']}, {one['share']:.1%} of all",
            flush=True,
        )
    fill = dataset.lengths.sum() / (len(dataset) * (row_tokens or dataset.lengths.max()))
    number = sum(map(len, dataset.rows))
    print(f"{number} histories and texts in {len(dataset)} rows, {fill:.1%} filled", flush=True)


def masked_objective(processor: Processor, rate: float) -> MaskedEvents:
    """Return the objective of an encoder.

    Raises:
        ValueError: if its tokenizer has no mask token.
    """
    tokenizer = processor.tokenizer
    if tokenizer.mask_token_id is None:
        raise ValueError("the checkpoint's tokenizer has no mask token: an encoder is adapted by masking events.")
    return MaskedEvents(tokenizer.mask_token_id, tuple({*tokenizer.all_special_ids, *processor.separator}), rate)


def held_out_results(losses: np.ndarray) -> dict[str, Any]:
    """Return means over users of losses (U, 2) of adapted and base, their perplexities and the paired margin.

    >>> found = held_out_results(np.array([[1.0, 1.5], [2.0, 2.5]]))
    >>> found["adapted"]["loss"]["value"], found["margin"]["value"], found["margin"]["low"]
    (1.5, 0.5, 0.5)
    """
    columns = np.column_stack([losses, losses[:, 1] - losses[:, 0]])
    low, high = percentile_interval(bootstrap_means(columns))
    values = [
        {"value": float(value), "low": float(below), "high": float(above)}
        for value, below, above in zip(columns.mean(0), low, high, strict=True)
    ]
    named = {
        name: {"loss": value, "perplexity": float(np.exp(value["value"]))}
        for name, value in zip(("adapted", "base"), values, strict=False)
    }
    return {**named, "margin": values[2], "users": len(losses)}


def throughput(log: list[dict[str, float]]) -> float | None:
    """Return the median tokens per second of the logged steps, None where none was logged."""
    rates = [entry["tokens_per_second"] for entry in log if "tokens_per_second" in entry]
    return float(np.median(rates)) if rates else None


def summary(results: dict[str, Any]) -> str:
    """Say how the held-out loss stands."""
    held_out = results["held_out"]
    adapted, base, margin = held_out["adapted"], held_out["base"], held_out["margin"]
    interval = f"{margin['value']:+.4f} [{margin['low']:+.4f}, {margin['high']:+.4f}]"
    return (
        f"held-out loss per token ({results['objective']}, {held_out['users']} users): "
        f"{adapted['loss']['value']:.4f} (perplexity {adapted['perplexity']:.1f}), base {base['loss']['value']:.4f} "
        f"({base['perplexity']:.1f}); base − adapted {interval}"
    )
