"""`llmrec train`: adapt a pretrained checkpoint to a data directory.

accelerate launch scripts/train.py --data_dir DATA --base_model sentence-transformers/all-MiniLM-L6-v2 --output_dir RUN
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import HfArgumentParser

from llmrec.commands.arguments import parse_options
from llmrec.commands.environment import environment
from llmrec.commands.memory import peak_memory_mib
from llmrec.commands.train_pairs import pair_trainer
from llmrec.configuration import CONFIG_NAME, TRAINING_SETTINGS
from llmrec.data.cases import Cases
from llmrec.data.histories import draw_users
from llmrec.data.training_events import TrainingEvents
from llmrec.hub.data_sets import open_data
from llmrec.hub.folder import DATA_MANIFEST
from llmrec.models.adapter import inner
from llmrec.models.memory import Memory
from llmrec.recommender import Recommender
from llmrec.storage import check_writable, write_text
from llmrec.text.unknown_tokens import token_coverage
from llmrec.training.adapter_trainer import AdapterTrainer
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments
from llmrec.training.assemble import learn_items, new_recommender
from llmrec.training.dataset import WindowDataset
from llmrec.training.pairs import PairTrainer
from llmrec.training.run_checkpoints import checkpoint_to_resume
from llmrec.training.trainer import WITH_MEMORY, RecTrainer

RESULT = "train_results.json"
TASKS = ("ranking", "pointwise")
PLACES = ("data_dir", "base_model", "template", "init_adapter")
"""Settings that may be paths of this machine; what they stand for is recorded with the adapter."""


def main(argv: list[str] | None = None) -> None:
    """Parse, train, save, report."""
    train(*parse_options(train_parser(), argv))


def train_parser() -> HfArgumentParser:
    """Return what reads the options of `train`."""
    kinds: Any = (DataArguments, ModelArguments, RecTrainingArguments)
    return HfArgumentParser(kinds, prog="llmrec train", allow_abbrev=False)


def train(
    data: DataArguments, model: ModelArguments, training: RecTrainingArguments, text: Tensor | None = None
) -> Recommender:
    """Train on a data directory and save the adapter to `training.output_dir`.

    Args:
        data: What to learn from.
        model: What reads.
        training: The run.
        text: (N, D) the items' frozen text embeddings, where they were computed already.

    Returns:
        The recommender as saved: the best on validation, where there is validation.

    Raises:
        ValueError: if a setting or the data do not allow training.
        FileExistsError: if the output folder holds an adapter already and this is no resumed run.
        FileNotFoundError: if data, checkpoint, template or the checkpoint to resume from are missing.
    """
    check_launch(training)
    check_task(data, model, training)
    output = check_output(training)
    checkpoint = checkpoint_to_resume(training.resume_from_checkpoint, output)
    if training.process_index == 0:
        report_settings(data, model, training)
    trainer = (pair_trainer if data.task == "pointwise" else ranking_trainer)(data, model, training, text)
    coverage = report_coverage(trainer.recommender, training.process_index == 0)
    settings = settings_record(data, model, training)
    trainer.recommender.records[TRAINING_SETTINGS] = {**settings, "item_texts": coverage}
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    if trainer.is_world_process_zero():
        report_end(trainer, result.metrics, output, resolved_settings(data, model, training))
    # On CPUs the end of the program does it. Here it can hang: gloo's threads, still letting go of the tensors they
    # gathered last, wait for the interpreter, which the destructor of the process group does not share.
    if training.device.type != "cpu":
        trainer.accelerator.end_training()
    return trainer.recommender


def ranking_trainer(
    data: DataArguments, model: ModelArguments, training: RecTrainingArguments, text: Tensor | None = None
) -> RecTrainer:
    """Assemble what trains on the next item of every position of a data directory's training events."""
    directory = open_data(data.data_dir)
    if training.mask_seen is None:
        training.mask_seen = directory.mask_seen
    training.set_seed()
    histories, catalog = directory.histories(), directory.catalog
    learned = histories
    if data.max_train_users is not None:
        learned = draw_users(histories, data.max_train_users, training.seed)
    events = TrainingEvents.from_histories(learned, catalog, data.max_train_events)
    counts = events.user_counts if training.mask_seen else events.counts  # as often as it is a target
    recommender = new_recommender(model, catalog, directory.manifest["clock"] != "ordinal", counts, text)
    recommender.records[DATA_MANIFEST] = directory.provenance
    inner(recommender.model).to(training.device)  # type: ignore[arg-type]
    shown = not training.disable_tqdm and training.process_index == 0
    item_loss = learn_items(recommender, events.items, model, training.seed, training.mask_seen, shown)
    if training.process_index == 0 and item_loss is not None:
        print(f"items start where histories put them: loss {item_loss:.3f} against items drawn at random", flush=True)
    dataset = WindowDataset(
        learned,
        catalog,
        recommender.processor,
        data.train_overlap,
        data.max_train_events,
        training.mask_seen,
        data.last_positions,
        data.recency_half_life,
    )
    cases = None
    if training.eval_strategy != "no":
        cases = Cases.from_histories(histories, catalog, "validation", data.max_eval_users, training.seed)
    memory = Memory.counted(events) if model.memory and cases is not None else None
    trainer = RecTrainer(
        recommender, training, dataset, cases, popularity_weight=model.popularity_weight, memory=memory
    )
    if trainer.is_world_process_zero():
        report_sizes(recommender, dataset, cases)
    return trainer


def report_coverage(recommender: Recommender, shown: bool) -> dict[str, float]:
    """Say how much of the items' texts the checkpoint can read, warn where that is too little, return the numbers."""
    coverage = token_coverage(recommender.processor, recommender.items)
    if shown:
        share = coverage.unknown / max(coverage.tokens, 1)
        print(f"item texts: {share:.1%} of tokens unknown, {coverage.alike} of {coverage.items} items read alike")
        if warning := coverage.warning(recommender.checkpoint.name):
            warnings.warn(warning, stacklevel=2)
    return coverage.record


def check_task(data: DataArguments, model: ModelArguments, training: RecTrainingArguments) -> None:
    """Raise ValueError if the task is unknown or an option or metric belongs to another."""
    if data.task not in TASKS:
        raise ValueError(f"task {data.task!r} is not one of {', '.join(TASKS)}.")
    if model.popularity_weight is not None and not model.hybrid:
        raise ValueError(f"popularity_weight={model.popularity_weight!r} goes with a hybrid: leave it out.")
    if data.task == "ranking" and data.max_train_examples is not None:
        raise ValueError(
            f"max_train_examples={data.max_train_examples!r} goes with --task pointwise; to learn from less, give "
            "--max_train_users."
        )
    if data.task == "pointwise" and data.max_train_users is not None:
        raise ValueError(f"max_train_users={data.max_train_users!r} is of --task ranking; give --max_train_examples.")
    for name in ("last_positions", "recency_half_life"):
        if data.task == "pointwise" and (value := getattr(data, name)) is not None:
            raise ValueError(f"{name}={value!r} is of --task ranking, whose targets have an order: leave it out.")
    training.judge_by((PairTrainer if data.task == "pointwise" else RecTrainer).metrics_of(model.head))


def check_launch(training: RecTrainingArguments) -> None:
    """Raise ValueError where a launcher meant several processes and each would train on its own."""
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != training.world_size:
        raise ValueError(
            f"launched as one of {asked} processes, but training would run as {training.world_size}.\n"
            "On CPUs set ACCELERATE_USE_CPU=true and use `accelerate launch --multi_gpu --num_processes N`."
        )
    if training.n_gpu > 1:
        raise ValueError(
            f"one process sees {training.n_gpu} GPUs and would use DataParallel, which is not supported.\n"
            "Use `accelerate launch --multi_gpu scripts/train.py …`, or let it see one: CUDA_VISIBLE_DEVICES=0."
        )


def check_output(training: RecTrainingArguments) -> Path:
    """Return the output folder; raise if it cannot be written or holds a run that this one would replace."""
    if not training.output_dir:
        raise ValueError("no --output_dir: give a folder for the adapter.")
    output = Path(training.output_dir)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"output_dir {str(output)!r} is a file; give another name.")
    earlier = [*output.glob(CONFIG_NAME), *output.glob("checkpoint-*")]
    if earlier and training.resume_from_checkpoint in (None, "False", "false"):
        raise FileExistsError(
            f"output_dir {str(output)!r} holds a run already ({earlier[0].name}).\n"
            "Give another folder, or continue that run with --resume_from_checkpoint true."
        )
    check_writable(output)
    return output


def report_settings(data: Any, model: ModelArguments, training: RecTrainingArguments) -> None:
    """Print the resolved settings, one a line."""
    for name, value in resolved_settings(data, model, training).items():
        print(f"{name:>28}  {value}", flush=True)


def resolved_settings(data: Any, model: ModelArguments, training: RecTrainingArguments) -> dict[str, Any]:
    """Return the settings, those of `transformers.TrainingArguments` that matter most or were given among them."""
    chosen = {**vars(data), **vars(model)}
    dropouts = ("residual_dropout", "vector_dropout")
    for name in ("learning_rate", "item_learning_rate", *dropouts, "mask_seen", "num_train_epochs", "seed", "bf16"):
        chosen[name] = getattr(training, name)
    chosen |= training.given
    chosen["batch"] = f"{training.per_device_train_batch_size} windows x {training.world_size} process(es)"
    return chosen


def settings_record(data: Any, model: ModelArguments, training: RecTrainingArguments) -> dict[str, Any]:
    """Return what the adapter's folder tells of its training: no name that may be a path of this machine."""
    chosen = resolved_settings(data, model, training)
    return {name: value for name, value in chosen.items() if name not in PLACES}


def report_sizes(recommender: Recommender, dataset: WindowDataset, cases: Cases | None) -> None:
    """Print what is trained on what."""
    tables = inner(recommender.model).rec_items
    in_tables = sum(weight.numel() for weight in tables.parameters())
    trained = sum(weight.numel() for weight in recommender.model.parameters() if weight.requires_grad)
    total = sum(weight.numel() for weight in recommender.model.parameters())
    print(f"base model {recommender.checkpoint.name} from {recommender.checkpoint.origin}")
    read = recommender.processor.serializer.template.fields
    if unread := [name for name in recommender.items.frame.columns if name not in ("item_id", *read)]:
        print(f"item columns that the template does not read: {', '.join(unread)}")
    print(
        f"{len(dataset.items)} users, {len(dataset)} windows, {dataset.num_targets} targets and "
        f"{int(dataset.lengths.sum())} tokens an epoch; {len(recommender.items)} items; "
        f"{0 if cases is None else len(cases)} validation cases"
    )
    print(
        f"trainable: {trained - in_tables:,} in LoRA and head, {in_tables:,} in item tables; {total:,} in all",
        flush=True,
    )


def report_end(trainer: AdapterTrainer, metrics: dict[str, float], output: Path, settings: dict[str, Any]) -> None:
    """Write what happened to `train_results.json`, without the places of this machine, and print the essentials."""
    state, memory = trainer.state, trainer.recommender.config.memory
    remembered = [entry[WITH_MEMORY] for entry in state.log_history if WITH_MEMORY in entry]
    values = {
        **metrics,
        "settings": {name: value for name, value in settings.items() if name not in PLACES},
        "environment": environment(trainer.args.device.type),
        "best_validation": state.best_metric,
        "best_step": state.best_global_step,
        "popularity_weight": trainer.recommender.popularity_weight,
        "memory": None if memory is None else asdict(memory),
        "best_validation_with_memory": remembered[-1] if remembered else None,
        "steps": state.global_step,
        "peak_memory_mib": peak_memory_mib(),
        "log": state.log_history,
    }
    write_text(output / RESULT, json.dumps(values, indent=2, sort_keys=True) + "\n")
    best = "none" if state.best_metric is None else f"{state.best_metric:.4f}"
    if state.best_global_step is not None:
        best += f" at step {state.best_global_step}"
    if trainer.recommender.config.hybrid:
        best += f", popularity weight {trainer.recommender.popularity_weight}"
    if remembered:
        best += f"; {remembered[-1]:.4f} with memory" if memory else "; memory does not help"
    metric, peak = trainer.args.metric_for_best_model, values["peak_memory_mib"]
    print(f"saved {output}; best validation {metric}: {best}; peak memory {peak:,} MiB")
