"""`AdaptationTrainer`: the checkpoint goes on reading, on unlabelled histories, before it learns to rank.

Three losses are summed, and each is logged by its own name: `loss`, of the tokens that the adapted model tells;
`base_loss`, of those that the checkpoint as it was tells, where its head is learned beside; `contrast_loss`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec.checkpoints import Checkpoint
from llmrec.losses.catalogue import IGNORED
from llmrec.losses.contrastive import info_nce
from llmrec.models.adapter import inner
from llmrec.models.backbone import load_backbone
from llmrec.models.item_projection import ItemHistories, learn_item_space, whiten_items
from llmrec.models.items import ItemTable
from llmrec.models.language import LanguageModel
from llmrec.ranking.item_index import encode_catalog
from llmrec.recommender import Recommender
from llmrec.storage import finish
from llmrec.training.adaptation_data import PackedCollator, PackedDataset, ReadPass
from llmrec.training.adapter_trainer import AdapterTrainer
from llmrec.training.arguments import RecTrainingArguments
from llmrec.training.same_run import check_same_run

TOKEN_HEADS = "token_heads.safetensors"
"""The heads that predict tokens, beside a checkpoint that a run resumes from; no recommender needs them."""


class AdaptationTrainer(AdapterTrainer):
    """Trains LoRA to predict the words of events, and optionally to tell a user's halves from those of others.

    Without LoRA, in a merged recommender, every weight of the backbone is trained but the token embeddings: the output
    shares them, and words that the histories lack would drift.

    Args:
        recommender: freshly assembled; its head and item tables stay as they are until `settle_items`.
        language: the same model, with its token heads.
        args: settings of the run.
        train_dataset: packed rows.
        held_out: passes of users who are not in it.
        collator: masks, and draws what is contrasted.
        contrast_weight: weight of the contrast beside the loss of a token.
        item_histories: histories of the recommender's own items, which say where they lie (`settle_items`); None leaves
            them.
    """

    metrics: ClassVar[Mapping[str, bool]] = {"loss": False, "base_loss": False}
    kind_of_cases = PackedDataset

    def __init__(
        self,
        recommender: Recommender,
        language: LanguageModel,
        args: RecTrainingArguments,
        train_dataset: PackedDataset,
        held_out: PackedDataset | None,
        collator: PackedCollator,
        contrast_weight: float = 0.0,
        item_histories: ItemHistories | None = None,
    ) -> None:
        for name, weight in recommender.model.named_parameters():
            weight.requires_grad_("lora_" in name)
        self.has_lora = isinstance(recommender.model, PeftModel)
        if not self.has_lora:
            language.backbone.requires_grad_(True).get_input_embeddings().requires_grad_(False)
        super().__init__(recommender, args, train_dataset, held_out, collator, language)
        self.language = language
        self.collator = collator
        self.contrast_weight = contrast_weight
        self.item_histories = item_histories
        names = {"base_loss": language.compares, "contrast_loss": contrast_weight > 0}
        self._beside = {name: torch.zeros(2, device=args.device) for name, summed in names.items() if summed}
        """Sum of each loss beside that of the adapted model since the last log line, and of how many it is."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the cross-entropy summed over the tokens asked for, per token of the whole step.

        Its gradient is that of all losses, its value the adapted model's alone.
        """
        output, texts = model(**inputs)
        num_labels = (inputs["labels"] != IGNORED).sum()
        loss = output.losses.sum()
        if output.base_losses is not None:
            loss = loss + self._gradient_of(output.base_losses.sum(), "base_loss", num_labels)  # of a head of its own
        if texts is not None:
            told = info_nce(texts[0::2], texts[1::2])
            loss = loss + self.contrast_weight * num_labels * self._gradient_of(told, "contrast_loss")
        loss = self.loss_of_step(loss, num_labels, num_items_in_batch, inputs)
        return (loss, output) if return_outputs else loss

    def _gradient_of(self, loss: Tensor, name: str, number: Tensor | int = 1) -> Tensor:
        """Return zero with the gradient of a loss, and keep its value, a sum of some number, for the log."""
        if name in self._beside:
            self._beside[name] += torch.stack([loss.detach(), torch.as_tensor(number, device=loss.device)])
        return loss - loss.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add to a loss line the means of the losses beside it, of all processes."""
        if "loss" in logs:
            for name, sums in self._beside.items():
                summed, number = self.accelerator.reduce(sums, "sum").tolist()
                logs = {**logs, name: summed / max(number, 1)}
                sums.zero_()
        super().log(logs, start_time)

    def settle_items(self, whiten: bool, num_epochs: float) -> float | None:
        """Let item embeddings start where the histories put them, of texts as the saved weights embed them.

        Texts are read anew where the weights that read them were trained: LoRA leaves them the base's.

        Args:
            whiten: whether the item projection starts whitened over the recommender's items.
            num_epochs: of `learn_item_space`.

        Returns:
            The loss that learning ended with, None where there is nothing to learn from.
        """
        model, processor = inner(self.recommender.model), self.recommender.processor
        if not self.has_lora:
            text = encode_catalog(model.backbone, processor, self.recommender.items, model.rec_texts)
            model.rec_items = ItemTable(text.to(model.rec_items.text), hybrid=False)
            model.rec_head.start_from(torch.eye(text.shape[1]))
        elif self.item_histories is None:
            return None  # the projection is what training would start from
        text, args, loss = model.rec_items.text, self.args, None
        if self.item_histories is not None:
            shown = not args.disable_tqdm and self.is_world_process_zero()
            loss = learn_item_space(
                model.rec_head, text, self.item_histories, num_epochs, args.seed, bool(args.mask_seen), shown
            )
        if whiten:
            whiten_items(model.rec_head, text)
        return loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the held-out loss per token, the mean over users, of the adapted model and of the base."""
        began = time.perf_counter()
        adapted, base = self.held_out_losses(eval_dataset).T
        return self.report_evaluation({"loss": adapted.mean(), "base_loss": base.mean()}, metric_key_prefix, began)

    @torch.no_grad()
    def held_out_losses(self, eval_dataset: PackedDataset | None = None) -> np.ndarray:
        """Return (number of users with a token asked for, 2) mean losses in nats: adapted, base.

        Of the held-out users by default. What is masked is the same at every call.
        """
        cases = self.cases_of(eval_dataset)
        language, args = self.language, self.args
        training, compared = language.training, language.compares
        language.eval()
        language.compares = True
        collator = PackedCollator(self.collator.processor, self.collator.objective, args.seed)
        sums: dict[tuple[int, int], np.ndarray] = {}
        for begin in range(0, len(cases), args.per_device_eval_batch_size):
            end = min(begin + args.per_device_eval_batch_size, len(cases))
            rows = [cases[index] for index in range(begin, end)]
            batch = {name: tensor.to(args.device) for name, tensor in collator(rows).items()}
            with self.accelerator.autocast():
                output, _ = language(**batch)
            where = torch.nonzero(batch["labels"] != IGNORED)[:, 0].tolist()
            both = torch.stack([output.losses, output.base_losses], dim=1).double().cpu().numpy()
            number = batch["sequence"][batch["labels"] != IGNORED].tolist()
            for row, sequence, losses in zip(where, number, both, strict=True):
                one: ReadPass = rows[row][sequence]
                total = sums.setdefault((one.source, one.user), np.zeros(3))
                total += [*losses, 1]
        language.train(training)
        language.compares = compared
        return np.array([total[:2] / total[2] for _, total in sorted(sums.items())])

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        target = Path(output_dir or self.args.output_dir)
        if self.args.should_save and self.language.learned and target != Path(self.args.output_dir):
            trained = {n: w.detach().clone() for n, w in self.language.heads.named_parameters() if w.requires_grad}
            save_file(trained, target / TOKEN_HEADS)

    def _load_weights(self, folder: Path) -> None:
        if self.has_lora:
            super()._load_weights(folder)
        else:
            finish(folder)
            check_same_run(folder, self.recommender)
            saved = load_backbone(Checkpoint(folder.name, folder, None, "folder"))
            self.language.backbone.load_state_dict(saved.state_dict())
        if self.language.learned:
            self.language.heads.load_state_dict(load_file(folder / TOKEN_HEADS), strict=False)
