"""Which options of `transformers.TrainingArguments` a run honours, and why each of the others is refused.

Nothing is accepted and ignored: an option that no table here names, as of a newer transformers, is refused as well,
unless it has its default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from typing import Any

import torch
import transformers
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.trainer_pt_utils import AcceleratorConfig

HONOURED = {
    "length of the run": "num_train_epochs max_steps gradient_accumulation_steps per_device_train_batch_size",
    "optimizer": "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay "
    "adam_beta1 adam_beta2 adam_epsilon max_grad_norm",
    "loss over processes": "average_tokens_across_devices",
    "order of the windows": "seed data_seed train_sampling_strategy dataloader_drop_last full_determinism",
    "loading of batches": "dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
    "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order",
    "numbers and memory": "bf16 fp16 tf32 torch_empty_cache_steps activation_checkpointing "
    "activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs",
    "evaluation": "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size do_eval "
    "load_best_model_at_end metric_for_best_model greater_is_better",
    "checkpoints": "output_dir save_strategy save_steps save_total_limit save_only_model save_on_each_node "
    "resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint",
    "logs": "logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_on_each_node log_level "
    "log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id "
    "trackio_static_space_id",
    "processes": "use_cpu local_rank ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers "
    "ddp_static_graph ddp_backend ddp_timeout",
}
"""Options that do what the documentation of transformers says, by what they are of."""

_NOT_RECORDED = ("checkpoints", "logs", "processes")
_HUB = "Push the finished adapter with `llmrec push`, which checks its items' licence."
_COMPILE = "Batches differ in shape, so the model is not compiled."
_EVALUATION = "llmrec ranks with an evaluation of its own, in float32, whose numbers it has no effect on."
_LABELS = "llmrec builds batches and labels itself."
_SHARDED = "Weights are not sharded: launch several processes with `accelerate launch --multi_gpu` (DDP)."
_OWN_LOADER = "llmrec builds its data loader itself: see the dataloader_ options."

REFUSED = {
    **dict.fromkeys(
        ("push_to_hub", "hub_model_id", "hub_token", "hub_private_repo", "hub_revision", "hub_strategy"), _HUB
    ),
    "hub_always_push": _HUB,
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), _COMPILE),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval", "prediction_loss_only", "batch_eval_metrics"), _EVALUATION),
    **dict.fromkeys(("eval_use_gather_object", "eval_accumulation_steps", "include_for_metrics"), _EVALUATION),
    "eval_do_concat_batches": _EVALUATION,
    **dict.fromkeys(("remove_unused_columns", "label_names"), _LABELS),
    "length_column_name": "Windows are grouped by the tokens that llmrec counts.",
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _SHARDED),
    "accelerator_config": _OWN_LOADER,
    "label_smoothing_factor": "The loss over the catalogue is not smoothed.",
    "neftune_noise_alpha": "Noise is added by --lora_dropout, --vector_dropout and --residual_dropout.",
    "use_liger_kernel": "llmrec's heads compute their losses themselves.",
    "liger_kernel_config": "llmrec's heads compute their losses themselves.",
    "use_cache": "Training reads every window once and keeps no KV cache.",
    "optim_target_modules": "Low-rank optimizers are not supported; --lora_target_modules chooses what is adapted.",
    "auto_find_batch_size": "Steps before the failed one would count twice: give --per_device_train_batch_size.",
    "enable_jit_checkpoint": "Checkpoints are whole at any time: give --save_strategy steps and --save_steps.",
    "include_num_input_tokens_seen": "The log has tokens_per_second.",
    "skip_memory_metrics": "train_results.json has peak_memory_mib.",
    "debug": "It is not supported.",
    "do_train": "`llmrec train` trains; `llmrec evaluate` measures an adapter that was trained.",
    "do_predict": "`llmrec recommend` answers with an adapter that was trained, `llmrec evaluate` measures it.",
}
"""Options that would have no effect, or a harmful one, and what to do instead."""

_RUN_NAMES = {"wandb", "mlflow", "comet_ml", "swanlab", "trackio"}
_WORKERS = "dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context"
_PROCESSES = "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend"
_NO_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")
_NO_KWARGS = ("constant", "constant_with_warmup")

NEEDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("eval_steps", lambda a: a.eval_strategy == "steps", "eval_strategy steps"),
    ("save_steps", lambda a: a.save_strategy == "steps", "save_strategy steps"),
    ("logging_steps", lambda a: "steps" in (a.logging_strategy, a.eval_strategy), "logging_strategy steps"),
    (
        "eval_delay eval_on_start metric_for_best_model greater_is_better",
        lambda a: a.eval_strategy != "no",
        "eval_strategy epoch or steps",
    ),
    (
        "load_best_model_at_end",
        lambda a: not a.load_best_model_at_end or a.eval_strategy != "no",
        "eval_strategy epoch or steps",
    ),
    ("save_strategy", lambda a: a.save_strategy != "best" or a.eval_strategy != "no", "eval_strategy epoch or steps"),
    (
        "warmup_steps",
        lambda a: not a.warmup_steps or a.lr_scheduler_type not in _NO_WARMUP,
        "an lr_scheduler_type that warms up, such as constant_with_warmup",
    ),
    (
        "lr_scheduler_kwargs",
        lambda a: a.lr_scheduler_type not in _NO_KWARGS,
        "an lr_scheduler_type that takes some, such as cosine_with_min_lr",
    ),
    (f"{_WORKERS} dataloader_in_order", lambda a: a.dataloader_num_workers > 0, "dataloader_num_workers above 0"),
    ("dataloader_pin_memory", lambda a: not a.use_cpu, "a GPU"),
    (f"{_PROCESSES} ddp_timeout", lambda a: _num_processes() > 1, "several processes (`accelerate launch`)"),
    ("ddp_timeout", lambda a: not a.use_cpu, "GPUs"),
    (
        "activation_checkpointing_kwargs gradient_checkpointing_kwargs",
        lambda a: bool(a.activation_checkpointing or a.gradient_checkpointing),
        "activation_checkpointing true",
    ),
    ("run_name", lambda a: bool(_RUN_NAMES & set(_loggers(a))), f"report_to {', '.join(sorted(_RUN_NAMES))}"),
    (
        "project trackio_space_id trackio_bucket_id trackio_static_space_id",
        lambda a: "trackio" in _loggers(a),
        "report_to trackio",
    ),
)
"""Options that have an effect only beside others: names, whether those are there, and what they are."""


def check_options(args: TrainingArguments) -> dict[str, Any]:
    """Refuse an option that would have no effect; before `TrainingArguments.__post_init__`, which fills in values.

    Returns:
        The options of transformers that were given, by name, without those of checkpoints, logs and processes.

    Raises:
        ValueError: the message names the option, its value and what to do instead.
    """
    honoured = {name for names in HONOURED.values() for name in names.split()}
    of_transformers = {field.name for field in fields(TrainingArguments)}
    given = {
        field.name: getattr(args, field.name)
        for field in fields(args)
        if field.name in of_transformers and not _is_default(getattr(args, field.name), field)
    }
    for name, value in given.items():
        if name not in honoured:
            unknown = f"llmrec does not know this option of transformers {transformers.__version__}."
            shown = "…" if name.endswith("_token") else repr(value)  # a secret is not printed
            raise ValueError(f"{name}={shown} is not supported. {REFUSED.get(name, unknown)}\nLeave {name} out.")
    for names, met, needed in NEEDS:
        for name in names.split():
            if name in given and not met(args):
                value = getattr(given[name], "value", given[name])  # of an enumeration
                raise ValueError(f"{name}={value!r} has an effect only with {needed}: add that, or leave {name} out.")
    unavailable = set(_loggers(args)) - {"all", *get_available_reporting_integrations()}
    if unavailable:
        raise ValueError(
            f"report_to={sorted(unavailable)[0]!r} is not installed, or no logger of transformers; available: "
            f"{', '.join(sorted(get_available_reporting_integrations())) or 'none'}.\n"
            "Install its package, or give --report_to none."
        )
    for variable in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(variable, "false").lower() in ("1", "true", "yes"):
            raise ValueError(f"{variable}={os.environ[variable]!r} of the launcher is not supported. {_SHARDED}")
    recorded = {name for kind in HONOURED if kind not in _NOT_RECORDED for name in HONOURED[kind].split()}
    return {name: getattr(value, "value", value) for name, value in given.items() if name in recorded}


def check_resolved(args: TrainingArguments) -> None:
    """Refuse what only resolved values show, and try the optimizer and its schedule on one weight.

    Raises:
        ValueError: if the precision is none of this hardware, or optimizer or schedule cannot be made, or ignore one
            of their options.
    """
    if args.mixed_precision == "fp16" and args.device.type == "cpu":
        raise ValueError("fp16 has no effect on CPUs: give --bf16 true, or neither.")
    kind, settings = _optimizer(args)
    for name, value, without in _optimizer_options(args):
        setattr(args, name, without)
        try:
            ignored = _optimizer(args)[1] == settings
        finally:
            setattr(args, name, value)
        if ignored:
            raise ValueError(f"{name}={value!r} has no effect with optim={_name(args.optim)!r}: leave it out.")
    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        optimizer = kind([{"params": [weight], "weight_decay": args.weight_decay}], **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"optim={_name(args.optim)!r} with its options cannot be made: {error}.\n"
            "Correct what it names: --learning_rate, --weight_decay, --adam_beta1 and the like, or --optim_args."
        ) from None
    try:
        kwargs: Any = args.lr_scheduler_kwargs
        get_scheduler(args.lr_scheduler_type, optimizer, 1, 10, kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"lr_scheduler_type={_name(args.lr_scheduler_type)!r} with lr_scheduler_kwargs="
            f"{args.lr_scheduler_kwargs!r} cannot be made: {error}"
        ) from None


def _optimizer_options(args: TrainingArguments) -> Iterator[tuple[str, Any, Any]]:
    """Yield what is given of the optimizer's own options: name, value, and the value without it."""
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        default = TrainingArguments.__dataclass_fields__[name].default
        if getattr(args, name) != default:
            yield name, getattr(args, name), default
    pairs = (args.optim_args or "").split(",")
    if args.optim_args:
        for index in range(len(pairs)):
            yield "optim_args", args.optim_args, ",".join(pairs[:index] + pairs[index + 1 :])


def _optimizer(args: TrainingArguments) -> tuple[Any, dict[str, Any]]:
    try:
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"optim={_name(args.optim)!r} cannot be used: {error}.\nGive adamw_torch.") from None
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or hasattr(kind, "eval"):
        raise ValueError(
            f"optim={_name(args.optim)!r} is not supported: it is more than an optimizer. Give adamw_torch."
        )
    return kind, settings


def _is_default(value: Any, field: Any) -> bool:
    default = field.default if field.default is not MISSING else field.default_factory()
    if isinstance(value, AcceleratorConfig):  # what None becomes
        return value == AcceleratorConfig()
    if default == "no" and value is False:  # what the command line makes of it
        return True
    return value == default or (not value and not default)


def _loggers(args: TrainingArguments) -> list[str]:
    asked: list[Any] = args.report_to if isinstance(args.report_to, list) else [args.report_to]
    return [] if asked in ([None], ["none"]) else asked


def _name(option: Any) -> str:
    """Return how an option is written whose values transformers enumerates."""
    return option.value


def _num_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
