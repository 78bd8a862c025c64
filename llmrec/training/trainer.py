"""`RecTrainer`: `transformers.Trainer` with our loss, full-catalogue evaluation, and saved folders that are whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from accelerate.utils import gather_object
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.evaluation.cases import Cases
from llmrec.evaluation.evaluator import RankedPart, collect, score_ranks, user_metrics
from llmrec.hub.folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ITEM_TABLES, ITEMS, load_tables
from llmrec.models.adapter import inner
from llmrec.models.modeling import RecModelOutput
from llmrec.ranking.dual import catalogue_scoring
from llmrec.recommender import Recommender
from llmrec.text.batch import PADDING
from llmrec.text.template import PromptTemplate
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.collators import LengthGroupedBatchSampler, WindowCollator
from llmrec.training.dataset import WindowDataset
from llmrec.training.losses import IGNORED, full_softmax

CUTOFF = 10
POPULARITY_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of these the one best on validation is kept, unless one was given."""


class SamplerEpoch(TrainerCallback):
    """Tells the sampler its epoch: resumed on several processes, it is wrapped too deep for Trainer to reach."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Unwrap the sampler and set its epoch."""
        sampler = train_dataloader.batch_sampler
        while not isinstance(sampler, LengthGroupedBatchSampler):
            sampler = sampler.batch_sampler
        sampler.set_epoch(int(state.epoch or 0))


class OneBatch(NamedTuple):
    """Scores (B, N) of some cases, by number (B,), as a system that answers with them."""

    numbers: np.ndarray
    scores: Tensor

    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield them."""
        yield self


class RecTrainer(Trainer):
    """Trains a recommender on all positions of all windows.

    Args:
        recommender: freshly assembled or loaded; its model is trained in place.
        args: settings of the run.
        train_dataset: windows of the training events.
        cases: validation targets, or None to train without evaluation.
        popularity_weight: share of popularity in scores (`RecommenderConfig.popularity_weight`); None chooses at every
            evaluation, among `POPULARITY_WEIGHTS`.
    """

    args: RecTrainingArguments
    train_dataset: WindowDataset
    model: PeftModel

    def __init__(
        self,
        recommender: Recommender,
        args: RecTrainingArguments,
        train_dataset: WindowDataset,
        cases: Cases | None,
        popularity_weight: float | None = None,
    ) -> None:
        super().__init__(
            model=recommender.model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=cases,
            data_collator=WindowCollator(recommender.processor),
        )
        self.recommender = recommender
        self.cases = cases
        given = recommender.popularity_weight if popularity_weight is None else popularity_weight
        choose = popularity_weight is None and recommender.config.hybrid
        self.popularity_weights = POPULARITY_WEIGHTS if choose else (given,)
        wanted = np.unique(np.concatenate(train_dataset.labels))
        never = wanted[(wanted >= 0) & (inner(recommender.model).rec_items.counts.cpu().numpy()[wanted] == 0)]
        if never.size:
            raise ValueError(
                f"item {recommender.items.ids[never[0]]!r} is a target but counts as never seen: "
                "assemble the recommender with the counts of the events it is trained on."
            )
        # The loss is a sum over labels, divided by the labels of the whole step.
        self.model_accepts_loss_kwargs = True
        self._tokens = self._targets = 0
        self._began = time.perf_counter()
        model = inner(recommender.model)
        model.rec_items.residual_dropout, model.vector_dropout = args.residual_dropout, args.vector_dropout
        self.add_callback(SamplerEpoch)
        if cases is not None and args.load_best_model_at_end and args.early_stopping_patience:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the cross-entropy summed over this batch's labels, per label of the whole step."""
        labels = inputs.pop("labels")
        output = model(**inputs)
        seen = inputs["items"] if self.args.mask_seen else None
        with torch.autocast(labels.device.type, enabled=False):
            loss = self._softmax_over_known_items(output, labels, seen)
        num_labels = (labels >= 0).sum()
        self._tokens += int((inputs["block"] >= 0).sum())
        self._targets += int(num_labels)
        if num_items_in_batch is None:
            return (loss / num_labels, output) if return_outputs else loss / num_labels
        # Gradients are averaged over processes, while the divisor counts the labels of all of them.
        processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        loss = loss * processes / num_items_in_batch
        return (loss, output) if return_outputs else loss

    def _softmax_over_known_items(self, output: RecModelOutput, labels: Tensor, seen: Tensor | None) -> Tensor:
        """Sum the cross-entropy against the items that have a training event: of others there is nothing to learn."""
        known, number = (rows.to(labels.device) for rows in self._known_items)
        labels = torch.where(labels >= 0, number[labels.clamp(min=0)], IGNORED)
        seen = None if seen is None else torch.where(seen >= 0, number[seen.clamp(min=0)], PADDING)
        bias = None if output.bias is None else output.bias[known]
        return full_softmax(output.states, output.embeddings[known], output.scale, bias, labels, seen)

    @cached_property
    def _known_items(self) -> tuple[Tensor, Tensor]:
        """Rows of the known items (M,), and each item's place among them (N,), negative where it is not."""
        counts = inner(self.recommender.model).rec_items.counts
        known = torch.nonzero(counts)[:, 0]
        number = torch.full_like(counts, PADDING)
        number[known] = torch.arange(len(known), device=counts.device)
        return known, number

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
            trained = [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]
            decayed = {name for name, weight in trained if weight.ndim > 1}
            groups = []
            for tables in (False, True):
                for decay in (True, False):
                    weights = [w for n, w in trained if ("rec_items" in n) == tables and (n in decayed) == decay]
                    if weights:
                        rate = self.args.item_learning_rate if tables else self.args.learning_rate
                        weight_decay = self.args.weight_decay if decay else 0.0
                        groups.append({"params": weights, "lr": rate, "weight_decay": weight_decay})
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(groups, **settings)
        return self.optimizer

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Rank the whole catalogue for the validation cases, shared over processes, in float32."""
        if self.cases is None:
            raise ValueError("this trainer was given no validation cases: prepare data with a validation split.")
        began = time.perf_counter()
        self.model.eval()
        shard = (self.accelerator.process_index, self.accelerator.num_processes)
        progress = self.is_world_process_zero() and not self.args.disable_tqdm
        scorer = self.recommender.scorer(self.args.per_device_eval_batch_size, shard, progress)
        per_user = self._rank_with_best_weight(scorer.states(self.cases))
        self.model.train()
        names = (f"ndcg@{CUTOFF}", f"hit@{CUTOFF}", "mrr")
        metrics = {f"{metric_key_prefix}_{name}": float(per_user[name].to_numpy().mean()) for name in names}
        if self.recommender.config.hybrid:
            metrics[f"{metric_key_prefix}_popularity_weight"] = self.recommender.popularity_weight
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - began, 2)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._began += time.perf_counter() - began  # no training happened meanwhile
        return metrics

    def _rank_with_best_weight(self, states: Iterable[tuple[np.ndarray, Tensor]]) -> pl.DataFrame:
        """Choose the popularity weight, unless it was given, and return each user's metrics with it.

        Histories are read and products computed once; only what popularity adds differs between the weights.
        """
        assert self.cases is not None
        recommender, weights = self.recommender, self.popularity_weights
        recommender.popularity_weight = 0.0
        score = catalogue_scoring(inner(recommender.model))
        table = inner(recommender.model).rec_items
        prior = torch.log1p(table.counts.cpu()) if table.hybrid else torch.zeros(len(table))
        parts: dict[float, list[RankedPart]] = {weight: [] for weight in weights}
        for numbers, read in states:
            scores = score(read)
            for weight in weights:
                batch = OneBatch(numbers, scores + weight * prior)
                parts[weight].append(score_ranks(batch, self.cases, self.args.mask_seen))
        looks = []
        for weight in weights:
            ranks = collect(gather_object(parts[weight]), len(self.cases)).ranks
            per_user = user_metrics(ranks, self.cases, [CUTOFF])
            looks.append((float(per_user[f"ndcg@{CUTOFF}"].to_numpy().mean()), weight, per_user))
        _, recommender.popularity_weight, best = max(looks, key=itemgetter(0))
        return best

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
        self._check_same_run(folder)
        result: Any = set_peft_model_state_dict(self.recommender.model, load_file(folder / ADAPTER_WEIGHTS))
        if result.unexpected_keys:
            raise ValueError(f"checkpoint {folder.name!r} has unexpected weights: {result.unexpected_keys[:3]}")
        tables = inner(self.recommender.model).rec_items
        if tables.hybrid:
            load_tables(folder, tables)
        if len(self.popularity_weights) > 1:
            self.recommender.popularity_weight = RecommenderConfig.load(folder).popularity_weight

    def _check_same_run(self, folder: Path) -> None:
        """Raise ValueError, naming what differs, unless a checkpoint's items and settings are this run's."""
        own = self.recommender
        adapter = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        lora: Any = own.model.peft_config[own.model.active_adapter]
        saved, config = asdict(RecommenderConfig.load(folder)), asdict(own.config)
        elsewhere = {"popularity_weight", "base_model", "base_revision", "base_sha256"}
        differ = [name for name in sorted(config) if name not in elsewhere and saved[name] != config[name]]
        others = {
            "base_model": saved["base_sha256"] == config["base_sha256"],
            "items": Catalog.read(folder / ITEMS).frame.equals(own.items.frame),
            "template": PromptTemplate.load(folder) == own.processor.serializer.template,
            "training events": not config["hybrid"] or _same_counts(folder, inner(own.model).rec_items.counts),
            "lora_r": adapter["r"] == lora.r,
            "lora_target_modules": adapter["target_modules"] == sorted(lora.target_modules),
        }
        differ += [name for name, same in others.items() if not same]
        if differ:
            raise ValueError(
                f"checkpoint {folder.name!r} was trained with other {', '.join(differ)}.\n"
                "Resume with the data and settings it was started with, or give another output folder."
            )


def _same_counts(folder: Path, counts: Tensor) -> bool:
    return torch.equal(load_file(folder / ITEM_TABLES)["counts"], counts.cpu())
