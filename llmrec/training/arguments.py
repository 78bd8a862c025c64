"""Settings of one training run; what the trained recommender needs later is in `RecommenderConfig`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments, enable_full_determinism, set_seed

from llmrec.hub.settings import ModelArguments as ModelArguments
from llmrec.training.branches import BranchSettings
from llmrec.training.collators import SAMPLING
from llmrec.training.negatives import KINDS
from llmrec.training.options import check_options, check_resolved


@dataclass
class DataArguments:
    """What to learn from."""

    data_dir: str = field(metadata={"help": "Data directory made by `llmrec prepare`, or hub:owner/name."})
    task: str = field(
        default="ranking",
        metadata={
            "help": "`ranking` of the next item, or `pointwise`: will the user like this item? Data with likes, and a "
            "candidate head."
        },
    )
    max_train_examples: int | None = field(
        default=None, metadata={"help": "Labelled pairs learned from (`pointwise`), drawn by seed; all by default."}
    )
    max_train_users: int | None = field(
        default=None,
        metadata={
            "help": "Users learned from (`ranking`), drawn by seed from those with two training events, fewer "
            "among more; all by default."
        },
    )
    max_train_events: int | None = field(
        default=None, metadata={"help": "Newest training events kept of each user; all by default."}
    )
    last_positions: int | None = field(
        default=None,
        metadata={"help": "Newest positions of each user that are trained; older events are read. All by default."},
    )
    recency_half_life: float | None = field(
        default=None,
        metadata={
            "help": "Events after which a position counts half as much in the loss, from each user's newest one back; "
            "by default all count alike. Candidate heads count all alike."
        },
    )
    train_overlap: float = field(
        default=0.0,
        metadata={
            "help": "Share of a window's text read again by the next as context, in [0, 1); 0 reads no event twice."
        },
    )
    max_eval_users: int | None = field(
        default=None, metadata={"help": "Validation users evaluated during training, drawn by seed; all by default."}
    )


@dataclass
class RecTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with defaults for adapters, and settings of the item tables and the head."""

    output_dir: str = field(default="", metadata={"help": "Folder for the adapter and its checkpoints."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over the training events."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of LoRA and head."})
    item_learning_rate: float = field(
        default=3e-3, metadata={"help": "Peak learning rate of item residuals and biases."}
    )
    residual_dropout: float = field(
        default=0.1, metadata={"help": "Share of items of which a training step uses nothing learned, in [0, 1)."}
    )
    vector_dropout: float = field(
        default=0.2,
        metadata={"help": "Share of values a training step leaves out of item vectors and what was read, in [0, 1)."},
    )
    branch_positions: int = field(
        default=2, metadata={"help": "Positions of a window at which a candidate head is trained at each step."}
    )
    num_negatives: int = field(default=15, metadata={"help": "Items that each such position's next item stands among."})
    negatives: list[str] = field(
        default_factory=lambda: ["proposed"],
        metadata={
            "help": f"Kinds of them, in equal shares: some of {', '.join(KINDS)}. `proposed` alone trains on what a "
            "cascade ranks: positions whose next item the dual head proposes, against what else it proposes."
        },
    )
    num_proposed: int = field(
        default=50,
        metadata={"help": "Items the dual head proposes: negatives are drawn from them, validation re-ranks them."},
    )
    weight_decay: float = field(default=1e-3, metadata={"help": "Decoupled weight decay (AdamW)."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Shape of the learning rate over the run."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: steps, or a share of the run below 1."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Windows in a training batch, per device."})
    per_device_eval_batch_size: int = field(
        default=32, metadata={"help": "Windows in an evaluation batch, per device."}
    )
    eval_strategy: str = field(
        default="epoch", metadata={"help": "When to evaluate on validation users: no, steps, epoch."}
    )
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, steps, epoch, best."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints kept, the best one always among them."}
    )
    load_best_model_at_end: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Keep the checkpoint best on validation; by default where there is evaluation."}
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "Validation metric that decides; by default ndcg@10, for labelled pairs auc, in pretraining loss."
        },
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Whether a greater metric is better; by default what that metric means."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Evaluations without improvement before training stops, 0 for never; by default 2 with "
            "--load_best_model_at_end, else 0."
        },
    )
    max_minutes: float | None = field(
        default=None, metadata={"help": "Minutes after which training stops, evaluates and saves; without it none."}
    )
    mask_seen: bool | None = field(
        default=None,
        metadata={
            "help": "Leave items of the history out of softmax, targets and rankings; by default where fewer than "
            "a tenth of the training events repeat an item. Saved with the adapter."
        },
    )
    logging_steps: float = field(default=20, metadata={"help": "Steps between two log lines."})
    report_to: None | str | list[str] = field(  # noqa: RUF036 (the argument parser reads this order)
        default="none", metadata={"help": "Loggers, such as tensorboard or wandb."}
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Mixed precision in bfloat16; by default where the hardware computes in it."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "help": "Order of the windows: group_by_length (shuffled batches of similar length), random or sequential."
        },
    )
    do_train: bool = field(default=True, metadata={"help": "Must stay on: training is what this does."})
    do_eval: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Whether to evaluate during training; by default as --eval_strategy says."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "A resumed run goes on counting evaluations without improvement."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off: batches are built by llmrec."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Pin batches in memory, for GPUs."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "For DDP; nothing is unused."})

    def __post_init__(self) -> None:
        if not torch.cuda.is_available() and not torch.backends.mps.is_available():
            self.use_cpu = True
        if self.bf16 is None:
            self.bf16 = not self.fp16 and has_native_bf16(self.use_cpu)
        for name in ("residual_dropout", "vector_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is not in [0, 1).")
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: give at least 1 window.")
        for name in ("item_learning_rate", "weight_decay", "early_stopping_patience"):
            if not (getattr(self, name) or 0) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: give 0 or more.")
        self._check_length()
        self.branch_settings()  # checked before anything is loaded
        self.given = check_options(self)
        evaluates = self.eval_strategy != "no"
        if self.do_eval is not None and self.do_eval != evaluates:
            raise ValueError(
                f"do_eval={self.do_eval!r}, but eval_strategy={str(self.eval_strategy)!r}: --eval_strategy alone says "
                "whether to evaluate."
            )
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = evaluates
        if self.early_stopping_patience is None:
            self.early_stopping_patience = 2 if self.load_best_model_at_end else 0
        if self.early_stopping_patience and not self.load_best_model_at_end:
            raise ValueError(
                f"early_stopping_patience={self.early_stopping_patience!r} has an effect only with "
                "load_best_model_at_end and evaluation: leave it out."
            )
        chosen = self.metric_for_best_model, self.greater_is_better
        super().__post_init__()
        self.metric_for_best_model, self.greater_is_better = chosen  # for `judge_by`; Trainer's default is its own loss
        check_resolved(self)

    def _check_length(self) -> None:
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"max_steps={self.max_steps!r}: give 1 or more, or -1 to train for num_train_epochs.")
        if self.max_steps < 0 and not 0 < self.num_train_epochs < math.inf:
            raise ValueError(f"num_train_epochs={self.num_train_epochs!r}: give more than 0.")
        if self.gradient_accumulation_steps < 1:
            raise ValueError(f"gradient_accumulation_steps={self.gradient_accumulation_steps!r}: give at least 1.")
        if self.train_sampling_strategy not in SAMPLING:
            raise ValueError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} is not supported: give one of "
                f"{', '.join(SAMPLING)}."
            )
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**32:
                raise ValueError(f"{name}={value!r} is not in [0, 2 ** 32).")

    def judge_by(self, metrics: Mapping[str, bool]) -> None:
        """Check the metric that decides, and fill in what was left open.

        Args:
            metrics: what an evaluation reports, the default first, and whether greater is better.

        Raises:
            ValueError: if the metric is none of them, or `greater_is_better` contradicts it.
        """
        asked = self.metric_for_best_model or next(iter(metrics))
        name = asked.removeprefix("eval_")
        if name not in metrics:
            raise ValueError(f"metric_for_best_model={asked!r} is not reported: give one of {', '.join(metrics)}.")
        if self.greater_is_better not in (None, metrics[name]):
            raise ValueError(
                f"greater_is_better={self.greater_is_better!r} with metric_for_best_model={asked!r}, of which "
                f"{'greater' if metrics[name] else 'smaller'} is better: leave greater_is_better out."
            )
        self.metric_for_best_model, self.greater_is_better = name, metrics[name]
        if self.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy"):  # their own default is that smaller is better
            mode = "max" if metrics[name] else "min"
            kwargs: Any = self.lr_scheduler_kwargs or {}
            given = {"mode": mode, **kwargs}
            if given["mode"] != mode:
                raise ValueError(
                    f"lr_scheduler_kwargs={self.lr_scheduler_kwargs!r} with metric_for_best_model={asked!r}: its mode "
                    f"is {mode!r}: leave mode out."
                )
            self.lr_scheduler_kwargs = given

    def set_seed(self) -> None:
        """Seed every generator, and allow deterministic operations alone where `full_determinism` asks for them."""
        (enable_full_determinism if self.full_determinism else set_seed)(self.seed)

    def branch_settings(self) -> BranchSettings:
        """Return what a candidate head is trained on."""
        return BranchSettings(
            self.branch_positions, self.num_negatives, self.negatives, self.num_proposed, bool(self.mask_seen)
        )


def has_native_bf16(use_cpu: bool) -> bool:
    """Tell whether the hardware multiplies in bfloat16; elsewhere it is emulated, and many times slower."""
    if not use_cpu:
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
