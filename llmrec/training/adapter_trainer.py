"""`AdapterTrainer`: `transformers.Trainer` for adapters, with saved folders that are whole; what is learned is open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer

from llmrec.hub.folder import load_tables
from llmrec.hub.names import ADAPTER_WEIGHTS
from llmrec.hub.replacing import finish
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.collators import LengthGroupedBatchSampler, SamplerEpoch
from llmrec.training.parameter_groups import parameter_groups
from llmrec.training.same_run import check_same_run


class AdapterTrainer(Trainer):
    """Trains a recommender's adapter; subclasses say with what loss, and how well it does.

    Args:
        recommender: freshly assembled or loaded; its model is trained in place.
        args: settings of the run.
        train_dataset: examples, with their `lengths` in tokens.
        cases: what it is evaluated on, or None to train without evaluation.
        data_collator: examples to tensors, `labels` among them, -100 where there is none.
        model: what is trained, where the recommender's model is a part of it.
    """

    args: RecTrainingArguments
    model: PeftModel
    train_dataset: Any

    def __init__(
        self,
        recommender: Recommender,
        args: RecTrainingArguments,
        train_dataset: Any,
        cases: Any,
        data_collator: Any,
        model: nn.Module | None = None,
    ) -> None:
        super().__init__(
            model=recommender.model if model is None else model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=cases,
            data_collator=data_collator,
        )
        self.recommender = recommender
        self.cases = cases
        # The loss is a sum over labels, divided by the labels of the whole step.
        self.model_accepts_loss_kwargs = True
        self._tokens = self._targets = 0
        self._began = time.perf_counter()
        reader = inner(recommender.model)
        reader.rec_items.residual_dropout, reader.vector_dropout = args.residual_dropout, args.vector_dropout
        self.add_callback(SamplerEpoch)
        if cases is not None and args.load_best_model_at_end and args.early_stopping_patience:
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

    def report_evaluation(self, metrics: dict[str, float], began: float) -> dict[str, float]:
        """Log an evaluation, tell the callbacks and return it with its seconds, which are none of training."""
        prefix = next(iter(metrics)).partition("_")[0]
        metrics[f"{prefix}_runtime"] = round(time.perf_counter() - began, 2)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._began += time.perf_counter() - began
        return metrics

    def get_train_dataloader(self) -> DataLoader:
        """Return length-grouped batches, the same for a seed and epoch whether the run was interrupted or not."""
        dataset = self.train_dataset
        sampler = LengthGroupedBatchSampler(dataset.lengths, self._train_batch_size, self.args.seed)
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
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

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the recommender whole; Trainer's own way pickles its arguments and forgets the item tables."""
        if self.args.should_save:
            self.recommender.save_pretrained(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._load_weights(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_weights(Path(self.state.best_model_checkpoint))

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
