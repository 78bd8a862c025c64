"""`AdapterTrainer`: `transformers.Trainer` for adapters, with saved folders that are whole; what is learned is open."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput

from llmrec.hub.folder import load_tables
from llmrec.hub.names import ADAPTER_WEIGHTS
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender
from llmrec.storage import finish
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.collators import SamplerEpoch, TimeLimit, WindowBatchSampler
from llmrec.training.parameter_groups import parameter_groups
from llmrec.training.run_checkpoints import checkpoint_to_resume, clean, discard, publish, rotate, staged_for
from llmrec.training.same_run import check_same_run

Optimizers = tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LRScheduler | None]


class AdapterTrainer(Trainer):
    """Trains a recommender's adapter; subclasses say with what loss, and how well it does.

    Args:
        recommender: freshly assembled or loaded; its model is trained in place.
        args: settings of the run.
        train_dataset: examples, with their `lengths` in tokens.
        cases: what it is evaluated on, or None to train without evaluation.
        data_collator: examples to tensors, `labels` among them, -100 where there is none.
        model: what is trained, where the recommender's model is a part of it.
        callbacks: further callbacks, as of `transformers.Trainer`.
        optimizers: an optimizer of the model's trainable weights and a scheduler, each None for the default.
    """

    args: RecTrainingArguments
    model: PeftModel
    train_dataset: Any
    metrics: ClassVar[Mapping[str, bool]]
    """What `evaluate` reports, the default of `metric_for_best_model` first, and whether greater is better."""
    kind_of_cases: ClassVar[type]
    """What `evaluate` takes."""

    @classmethod
    def metrics_of(cls, head: str) -> Mapping[str, bool]:
        """Return `metrics` of a recommender with this head."""
        return cls.metrics

    def __init__(
        self,
        recommender: Recommender,
        args: RecTrainingArguments,
        train_dataset: Any,
        cases: Any,
        data_collator: Any,
        model: nn.Module | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
    ) -> None:
        args.judge_by(self.metrics_of(recommender.config.head))
        super().__init__(
            model=recommender.model if model is None else model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=cases,
            data_collator=data_collator,
            callbacks=None if callbacks is None else list(callbacks),
            optimizers=optimizers,
        )
        self.recommender = recommender
        if args.mask_seen is None:
            args.mask_seen = recommender.config.mask_seen
        recommender.config = replace(recommender.config, mask_seen=args.mask_seen)  # what it learns to rank
        self.cases = cases
        # The loss is a sum over labels, divided by the labels of the whole step.
        self.model_accepts_loss_kwargs = True
        self._tokens = self._targets = 0
        self._began = time.perf_counter()
        reader = inner(recommender.model)
        reader.rec_items.residual_dropout, reader.vector_dropout = args.residual_dropout, args.vector_dropout
        self.add_callback(SamplerEpoch)
        if args.max_minutes is not None:
            self.add_callback(TimeLimit(args.max_minutes))
        if cases is not None and args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def loss_of_step(
        self, summed: Tensor, num_labels: Tensor, num_items_in_batch: Any, inputs: dict[str, Any]
    ) -> Tensor:
        """Return a batch's summed loss per label of the whole step, however the step is cut; and count the batch.

        Args:
            summed: () loss summed over the labels of this batch.
            num_labels: () how many those are.
            num_items_in_batch: labels of the whole step, of all processes; None where there is no step.
            inputs: the batch.
        """
        self._tokens += int((inputs["block"] >= 0).sum())
        self._targets += int(num_labels)
        if num_items_in_batch is None:
            return summed / num_labels
        # Gradients are averaged over processes, while the divisor counts the labels of all of them.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return summed * processes / num_items_in_batch

    def cases_of(self, eval_dataset: Any) -> Any:
        """Return what is to be evaluated: what is given, else the trainer's own cases.

        Raises:
            TypeError: if it is given as something else than `kind_of_cases`.
            ValueError: if there is neither.
        """
        cases = self.cases if eval_dataset is None else eval_dataset
        if cases is None:
            raise ValueError("this trainer was given no validation cases: prepare data with a validation split.")
        if not isinstance(cases, self.kind_of_cases):
            raise TypeError(
                f"eval_dataset is {type(cases).__name__!r}: {type(self).__name__} evaluates "
                f"{self.kind_of_cases.__name__}, or its own validation cases with None."
            )
        return cases

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: what a trainer would return here are not recommendations.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no predict: `evaluate` cases, or ask `trainer.recommender`: recommend, score."
        )

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: it would upload the whole output folder, whatever the items' licence.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} pushes nothing: use `trainer.recommender.push_to_hub`, or `llmrec push`."
        )

    def report_evaluation(self, metrics: dict[str, float], prefix: str, began: float) -> dict[str, float]:
        """Log an evaluation by names with a prefix, tell the callbacks and return it with its seconds."""
        metrics = {f"{prefix}_{name}": float(value) for name, value in metrics.items()}
        metrics[f"{prefix}_runtime"] = round(time.perf_counter() - began, 2)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._began += time.perf_counter() - began
        return metrics

    def get_train_dataloader(self) -> DataLoader:
        """Return batches of windows, the same for a seed and epoch whether the run was interrupted or not."""
        dataset, args = self.train_dataset, self.args
        sampler = WindowBatchSampler(
            dataset.lengths,
            self._train_batch_size,
            args.seed if args.data_seed is None else args.data_seed,
            strategy=args.train_sampling_strategy,
            drop_last=args.dataloader_drop_last,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            in_order=args.dataloader_in_order,
        )
        self._began = time.perf_counter()
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Build AdamW with a learning rate of its own for the item tables."""
        if self.optimizer is None:
            args = self.args
            groups = parameter_groups(self.model, args.learning_rate, args.item_learning_rate, args.weight_decay)
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(groups, **settings)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add throughput since the last loss line, without evaluations: targets and tokens per second.

        Those of all processes together, taken to be as fast as this one.
        """
        if "loss" in logs and self._tokens:
            now = time.perf_counter()
            rate = self.accelerator.num_processes / (now - self._began)
            logs = {
                **logs,
                "events_per_second": round(self._targets * rate, 1),
                "tokens_per_second": round(self._tokens * rate, 1),
            }
            self._tokens = self._targets = 0
            self._began = now
        super().log(logs, start_time)

    def train(  # type: ignore[override]
        self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any
    ) -> TrainOutput:
        """Train; resumed from a checkpoint, as if the run had not been interrupted.

        Args:
            resume_from_checkpoint: folder of a checkpoint, or True for the newest whole one of the output folder;
                None asks `args.resume_from_checkpoint`.
            **kwargs: those of `transformers.Trainer.train`.

        Raises:
            FileNotFoundError: if the checkpoint was not finished.
        """
        asked = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        checkpoint = checkpoint_to_resume(asked, self.args.output_dir)
        if self.args.should_save:
            clean(Path(self.args.output_dir))
        self.accelerator.wait_for_everyone()
        return super().train(checkpoint, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint where resuming does not look, and give it its name last."""
        args, state, run = self.args, self.state, Path(self.args.output_dir)
        folder = run / f"checkpoint-{state.global_step}"
        staged = str(staged_for(folder))
        self.store_flos()
        self.save_model(staged, _internal_call=True)
        if not args.save_only_model:
            self._save_optimizer_and_scheduler(staged)
            self._save_scaler(staged)
            self._save_rng_state(staged)
        best = run / f"checkpoint-{state.best_global_step}"
        if best == folder or best.is_dir():
            state.best_model_checkpoint = str(best)
        if args.should_save:
            saved: dict[str, list[Any]] = defaultdict(list)
            for one in (*self.callback_handler.callbacks, self.control):
                if isinstance(one, ExportableState):
                    saved[type(one).__name__].append(one.state())
            state.stateful_callbacks = dict(saved)  # type: ignore[assignment]
            state.save_to_json(str(Path(staged, TRAINER_STATE_NAME)))
        self.accelerator.wait_for_everyone()  # every process has written what it keeps of randomness
        if args.should_save:
            publish(folder)
            rotate(run, args.save_total_limit, state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the recommender whole; Trainer's own way pickles its arguments and forgets the item tables."""
        if self.args.should_save:
            self.recommender.save_pretrained(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._load_weights(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_weights(Path(self.state.best_model_checkpoint))
        if self.args.should_save and self.args.save_total_limit == 1:  # Trainer would delete it file by file
            for path in Path(self.args.output_dir).glob("checkpoint-*"):
                if path.name != Path(self.state.best_model_checkpoint).name:
                    discard(path)

    def _load_weights(self, folder: Path) -> None:
        """Load LoRA, head and item tables into the model that is being trained.

        Raises:
            ValueError: if the checkpoint belongs to other items or settings.
        """
        finish(folder)
        check_same_run(folder, self.recommender)
        result: Any = set_peft_model_state_dict(self.recommender.model, load_file(folder / ADAPTER_WEIGHTS))
        if result.unexpected_keys:
            raise ValueError(f"checkpoint {folder.name!r} has unexpected weights: {result.unexpected_keys[:3]}")
        load_tables(folder, inner(self.recommender.model).rec_items, self.recommender.config)
