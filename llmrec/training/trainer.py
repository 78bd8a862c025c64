"""`RecTrainer`: the next item of every position, against the whole catalogue and against candidates that read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import EvalPrediction, TrainOutput

from llmrec.configuration import RecommenderConfig
from llmrec.data.cases import Cases
from llmrec.evaluation.evaluator import collect, score_ranks, user_metrics
from llmrec.losses.candidates import candidate_softmax
from llmrec.losses.catalogue import CatalogueLoss
from llmrec.models.adapter import inner
from llmrec.models.memory import Memory
from llmrec.ranking.dual import DualScorer
from llmrec.recommender import Recommender
from llmrec.text.batch import Pass
from llmrec.training.adapter_trainer import AdapterTrainer, Optimizers
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.branches import branched
from llmrec.training.collators import WindowCollator
from llmrec.training.dataset import WindowDataset
from llmrec.training.known_items import KnownItems
from llmrec.training.rows import cases_from, windows_from
from llmrec.training.score_weights import MAX_SCORES, POPULARITY_WEIGHTS, best_popularity_weight, best_score_weights

if TYPE_CHECKING:
    import datasets

CUTOFF = 10
WITH_MEMORY = f"memory_ndcg@{CUTOFF}"
"""Name in the log of the validation metric once the memory is weighed."""


class RecTrainer(AdapterTrainer):
    """Trains a recommender on all positions of all windows.

    Args:
        model: from `Recommender.from_backbone` or `from_pretrained`; trained in place.
        args: settings of the run.
        train_dataset: training events, one row per user: `user_id`, and lists `item_id`, `timestamp`, oldest first,
            such as `PreparedData.train`; or windows of them. A model that was not trained takes the counts of its items
            from them and learns its item projection first.
        eval_dataset: targets to rank, such as `PreparedData.validation`, or rows of users as above, whose last events
            are the targets; None trains without evaluation.
        loss: of the dual head, in place of `catalogue_softmax`.
        callbacks: as of `transformers.Trainer`.
        optimizers: as of `transformers.Trainer`; the weights to train are `model.model`'s that require a gradient.
        compute_metrics: of an `EvalPrediction` with the ranks of the targets as predictions and the targets as labels;
            what it returns is logged beside the metrics.
        popularity_weight: how much popularity is in scores (`RecommenderConfig.popularity_weight`); None chooses at
            every evaluation, among `POPULARITY_WEIGHTS`.
        memory: counted on the training events; its weights are chosen on the validation targets once training has
            ended. None leaves out what it would remember.
    """

    train_dataset: WindowDataset
    metrics: ClassVar[Mapping[str, bool]] = {f"ndcg@{CUTOFF}": True, f"hit@{CUTOFF}": True, "mrr": True}
    kind_of_cases = Cases

    @classmethod
    def metrics_of(cls, head: str) -> Mapping[str, bool]:
        """Return the metrics of the scores that decide, and where a candidate head re-ranks also the dual head's."""
        by_dual = {} if head == "dual" else {f"dual_{name}": greater for name, greater in cls.metrics.items()}
        return {**cls.metrics, **by_dual}

    def __init__(
        self,
        model: Recommender,
        args: RecTrainingArguments,
        train_dataset: datasets.Dataset | WindowDataset,
        eval_dataset: Cases | datasets.Dataset | None = None,
        *,
        loss: CatalogueLoss | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        optimizers: Optimizers = (None, None),
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        popularity_weight: float | None = None,
        memory: Memory | None = None,
    ) -> None:
        recommender, cases = model, cases_from(eval_dataset, model.items)
        if not isinstance(train_dataset, WindowDataset):
            train_dataset, counted = windows_from(train_dataset, model, args)
            memory = counted if memory is None and cases is not None else memory
        super().__init__(
            recommender,
            args,
            train_dataset,
            cases,
            WindowCollator(recommender.processor),
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.loss, self.metrics_of_ranks = loss, compute_metrics
        given = recommender.popularity_weight if popularity_weight is None else popularity_weight
        choose = popularity_weight is None and recommender.config.hybrid
        self.popularity_weights = POPULARITY_WEIGHTS if choose else (given,)
        self.memory = memory
        labels = np.concatenate(train_dataset.labels)
        wanted = np.unique(labels[labels >= 0])
        never = wanted[inner(recommender.model).rec_items.counts.cpu().numpy()[wanted] == 0]
        if never.size:
            raise ValueError(
                f"item {recommender.items.ids[never[0]]!r} is a target but counts as never seen: "
                "assemble the recommender with the counts of the events it is trained on."
            )
        self.branch_settings = args.branch_settings() if recommender.config.head != "dual" else None

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the cross-entropy summed over this batch's labels, per label of the whole step."""
        labels, passes, weights = inputs.pop("labels"), inputs.pop("passes"), inputs.pop("weights", None)
        places = None
        if self.branch_settings is not None:
            inputs, places = self._with_candidates(inputs, labels, passes)
        output = model(**inputs, catalogue=self._known_items.rows)
        seen = inputs["items"] if self.args.mask_seen else None
        with torch.autocast(labels.device.type, enabled=False):
            loss = self._known_items.softmax(output, labels, seen, weights, self.loss)
            num_labels = (labels >= 0).sum()
            if places is not None:
                loss = loss + candidate_softmax(output.candidate_scores, places) * num_labels
        loss = self.loss_of_step(loss, num_labels, num_items_in_batch, inputs)
        return (loss, output) if return_outputs else loss

    def _with_candidates(
        self, inputs: dict[str, Any], labels: Tensor, passes: Sequence[Pass]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the batch with candidates, some of which the dual head proposes, and where each position's stand."""
        assert self.branch_settings is not None
        recommender, model = self.recommender, inner(self.recommender.model)
        read = int(inputs["input_ids"].sum())  # tells apart the batches of an accumulated step, also when resumed
        step = self.state.global_step * self.accelerator.num_processes + self.accelerator.process_index
        generator = torch.Generator().manual_seed((self.args.seed * 1_000_003 + step * 7_919 + read) % 2**31)
        with torch.no_grad(), self.accelerator.autocast():  # as the prepared model runs
            states = model(**inputs, catalogue=False).states
            texts, processor = recommender.items, recommender.processor
            batch, places = branched(passes, labels, states, model, processor, texts, self.branch_settings, generator)
        return {name: tensor.to(labels.device) for name, tensor in batch.items()}, places.to(labels.device)

    @cached_property
    def _known_items(self) -> KnownItems:
        return KnownItems.of(inner(self.recommender.model).rec_items.counts)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Rank the whole catalogue for the cases, shared over processes, in float32.

        The popularity weight is chosen on the trainer's own validation cases alone; others are ranked with the one that
        the recommender has.

        Args:
            eval_dataset: cases, or rows of users; None takes the trainer's own.
            ignore_keys: nothing here.
            metric_key_prefix: what the names of the metrics start with.
        """
        cases = self.cases_of(cases_from(eval_dataset, self.recommender.items))
        weights = self.popularity_weights if cases is self.cases else (self.recommender.popularity_weight,)
        began = time.perf_counter()
        self.model.eval()
        shard = (self.accelerator.process_index, self.accelerator.num_processes)
        progress = self.is_world_process_zero() and not self.args.disable_tqdm
        scorer = self.recommender.scorer(self.args.per_device_eval_batch_size, shard, progress)
        assert isinstance(scorer, DualScorer)  # without candidates
        self.recommender.popularity_weight, by_dual, ranks = best_popularity_weight(
            scorer.states(cases),
            inner(self.recommender.model),
            cases,
            weights,
            bool(self.args.mask_seen),
            CUTOFF,
        )
        per_user = {"": by_dual}
        if self.branch_settings is not None:
            per_user["dual_"] = per_user[""]
            cascade = self.recommender.scorer(
                self.args.per_device_eval_batch_size, shard, progress, self.args.num_proposed, self.args.mask_seen
            )
            part = score_ranks(cascade, cases, bool(self.args.mask_seen))
            ranks = collect(gather_object([part]), len(cases)).ranks
            per_user[""] = user_metrics(ranks, cases, [CUTOFF])
        self.model.train()
        metrics = {
            f"{head}{name}": float(values[name].to_numpy().mean())
            for head, values in per_user.items()
            for name in self.metrics
        }
        if self.recommender.config.hybrid:
            metrics["popularity_weight"] = self.recommender.popularity_weight
        if self.metrics_of_ranks is not None:
            metrics |= self.metrics_of_ranks(EvalPrediction(ranks, cases.targets))
        return self.report_evaluation(metrics, metric_key_prefix, began)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:  # type: ignore[override]
        """Train as `AdapterTrainer.train`, then weigh the memory, if there is one and targets to do it on."""
        output = super().train(resume_from_checkpoint, **kwargs)
        if self.memory is not None and self.cases is not None:
            self.weigh_memory(self.memory)
        return output

    def weigh_memory(self, memory: Memory) -> None:
        """Choose how much of popularity and of what is remembered is in scores; remember nothing where it is of no use.

        Args:
            memory: counted on the training events.
        """
        assert self.cases is not None
        model, step = inner(self.recommender.model), -(-len(self.cases) * self.cases.num_items // MAX_SCORES)
        cases = self.cases.take(np.arange(0, len(self.cases), step))
        shard = (self.accelerator.process_index, self.accelerator.num_processes)
        self.recommender.memory = None
        scorer = self.recommender.scorer(self.args.per_device_eval_batch_size, shard)
        assert isinstance(scorer, DualScorer)
        popularity = self.popularity_weights
        masked, states = bool(self.args.mask_seen), scorer.states(cases)
        best, per_user = best_score_weights(states, model, cases, memory, popularity, masked, CUTOFF)
        self.recommender.popularity_weight = best.popularity
        self.recommender.memory = replace(memory, weights=best.memory) if best.memory else None
        quality = float(per_user[f"ndcg@{CUTOFF}"].to_numpy().mean())
        self.log({WITH_MEMORY: quality, "popularity_weight": best.popularity, **asdict(best.memory)})

    def _load_weights(self, folder: Path) -> None:
        super()._load_weights(folder)
        if len(self.popularity_weights) > 1:
            self.recommender.popularity_weight = RecommenderConfig.load(folder).popularity_weight
