"""Training on labelled pairs: windows of histories whose branches are items that were liked or not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from llmrec.data.labelled_cases import LabelledCases
from llmrec.evaluation.pair_metrics import PAIR_METRICS, pair_metrics
from llmrec.losses.catalogue import IGNORED
from llmrec.models.adapter import inner
from llmrec.ranking.candidates import CandidateScorer
from llmrec.ranking.pairs import pair_questions, pair_scores
from llmrec.recommender import Recommender
from llmrec.text.batch import Branch, Pass
from llmrec.text.processor import ItemTexts, Processor
from llmrec.training.adapter_trainer import AdapterTrainer
from llmrec.training.arguments import RecTrainingArguments


class PairExample(TypedDict):
    """One window: the pass with a branch per pair; where the logit of each starts, and whether it was liked.

    The two are (C,) float32, labels 0 or 1.
    """

    row: Pass
    starts: np.ndarray
    labels: np.ndarray


class PairDataset(Dataset):
    """Windows with the labelled pairs that fall into them, every pair once; each reads what came before it alone.

    Args:
        cases: the pairs.
        processor: writes and cuts the text.
        texts: the items' attributes.
        starts: (number of cases,) where the logit of each pair starts; None for zero.
        max_pairs: pairs of one window that share a pass; others get another.

    Raises:
        ValueError: if a candidate has more tokens than one may have.
    """

    def __init__(
        self,
        cases: LabelledCases,
        processor: Processor,
        texts: ItemTexts,
        starts: np.ndarray | None = None,
        max_pairs: int = 16,
    ) -> None:
        starts = np.zeros(len(cases)) if starts is None else starts
        self.examples: list[PairExample] = []
        for numbers, question in pair_questions(cases, processor, texts):
            branches = [
                Branch(int(item), processor.candidate_block(texts.attributes(int(item))), int(event))
                for item, event in zip(question.items, question.events, strict=True)
            ]
            labels, offsets = (values[numbers].astype(np.float32) for values in (cases.labels, starts))
            for begin in range(0, len(branches), max_pairs):
                part = slice(begin, begin + max_pairs)
                row = replace(question.row, branches=branches[part])
                self.examples.append(PairExample(row=row, starts=offsets[part], labels=labels[part]))
        self.lengths = np.array([processor.num_tokens(example["row"]) for example in self.examples])
        """Tokens of each example."""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> PairExample:
        return self.examples[index]


class PairCollator:
    """Pads examples to a `Batch` with branches and adds `starts` and `labels` (B, C), `IGNORED` for padding."""

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def __call__(self, examples: Sequence[PairExample]) -> dict[str, Tensor]:
        """Return the tensors of one training batch."""
        batch: dict[str, Any] = dict(self.processor.batch([example["row"] for example in examples]))
        labels = torch.full(batch["candidates"].shape, float(IGNORED))
        starts = torch.zeros_like(labels)
        for index, example in enumerate(examples):
            real = len(example["labels"])
            labels[index, :real] = torch.from_numpy(example["labels"])
            starts[index, :real] = torch.from_numpy(example["starts"])
        return {**batch, "starts": starts, "labels": labels}


class PairTrainer(AdapterTrainer):
    """Trains a candidate head by the binary cross-entropy of its logit, on every pair of every window.

    Where a pair's logit starts from what is known of likes, the head learns what reading adds.

    References:
        Few-shot tuning on "will the user like …" questions: Bao et al. 2023 (TALLRec), arXiv:2305.00447.
    """

    metrics: ClassVar[Mapping[str, bool]] = {"auc": True, **dict.fromkeys(PAIR_METRICS, True), "log_loss": False}
    kind_of_cases = LabelledCases

    def __init__(
        self,
        recommender: Recommender,
        args: RecTrainingArguments,
        train_dataset: PairDataset,
        cases: LabelledCases | None,
    ) -> None:
        super().__init__(recommender, args, train_dataset, cases, PairCollator(recommender.processor))
        inner(recommender.model).rec_items.adjusts = False

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the cross-entropy summed over this batch's pairs, per pair of the whole step."""
        labels, starts = inputs.pop("labels"), inputs.pop("starts")
        output = model(**inputs, catalogue=False)
        real = labels != IGNORED
        with torch.autocast(labels.device.type, enabled=False):
            logits = output.candidate_scores + starts
            loss = F.binary_cross_entropy_with_logits(logits[real], labels[real], reduction="sum")
        loss = self.loss_of_step(loss, real.sum(), num_items_in_batch, inputs)
        return (loss, output) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Judge labelled pairs, the trainer's own by default, all of them in every process, in float32."""
        cases = self.cases_of(eval_dataset)
        began = time.perf_counter()
        recommender = self.recommender
        scorer = CandidateScorer(recommender.model, recommender.processor, recommender.items)
        values = pair_metrics(cases.labels, pair_scores(scorer, cases))
        return self.report_evaluation(values, metric_key_prefix, began)
