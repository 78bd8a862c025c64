"""Where continued pretraining pays, by what was read and how many users are learned from.

    python scripts/benchmarks/transfer.py --data_dir TARGET --other_data_dir OTHER \
        --pretrain contrast_weight=1 --train template=vectors --output_dir OUT

The checkpoint as it was, and adapted to the target's histories, to those of other data, and to both, is tried with no
ranking label at all, after training on few users, and on all. Zero-shot, a user is the recency-weighted mean of item
texts: whitened, and of an adapted checkpoint where the histories that it read let items lie. In a column everything but
the checkpoint is the same: users, steps, settings; and each difference to the checkpoint as it was is paired. OUT holds
every run: called again with the same settings, the command goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_worlds import ndcg_of_users
from torch import Tensor
from transfer_runs import claim, made_of, weights_of
from transfer_table import ADAPTED_ON, FULL, ZERO_SHOT, Cell, write_transfer

from llmrec.baselines.content import ContentBaseline
from llmrec.commands import pretrain as pretraining
from llmrec.commands.arguments import parse_arguments, parse_pairs, print_settings
from llmrec.commands.main import report_errors
from llmrec.commands.train import RESULT, check_task, train, train_parser
from llmrec.configuration import CONFIG_NAME, RecommenderConfig
from llmrec.data.cases import Cases
from llmrec.data.directory import PreparedData
from llmrec.data.distinct_rows import unique_rows
from llmrec.data.histories import draw_users
from llmrec.hub.data_sets import open_data
from llmrec.models.adapter import inner
from llmrec.recommender import Recommender
from llmrec.storage import check_writable
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments
from llmrec.training.assemble import new_recommender

STARTS = ("continued", "merged")


@dataclass
class TransferArguments:
    """What is adapted on what, and how all of it is trained."""

    data_dir: str = field(metadata={"help": "Data directory whose items are ranked: the target."})
    output_dir: str = field(metadata={"help": "Folder for transfer.json, transfer.md, users.parquet and every run."})
    other_data_dir: str | None = field(
        default=None, metadata={"help": "Data directory of another domain; without it those rows are left out."}
    )
    base_model: str = field(default=ModelArguments.base_model, metadata={"help": "Checkpoint: Hub name or folder."})
    same: str | None = field(
        default=None, metadata={"help": "Output of `llmrec pretrain` on the target, instead of adapting to it here."}
    )
    other: str | None = field(default=None, metadata={"help": "The same of the other data."})
    both: str | None = field(default=None, metadata={"help": "The same of both."})
    start: str = field(
        default="continued",
        metadata={
            "help": "The adapter's LoRA is `continued`, item texts as the base embeds them; or training starts from "
            "the adapter `merged` into the checkpoint, with a new LoRA, and item texts are embedded as adapted."
        },
    )
    pretrain: str = field(
        default="contrast_weight=1", metadata={"help": "Options of `llmrec pretrain`: name=value,…; lists by spaces."}
    )
    train: str = field(default="template=vectors", metadata={"help": "Options of `llmrec train`, of every training."})
    few_shot: str = field(
        default="max_steps=100,learning_rate=1e-4,hybrid=false,eval_strategy=no,save_strategy=no",
        metadata={"help": "More of those, of trainings on few users: all take the same steps, and see no other label."},
    )
    users: list[int] = field(default_factory=lambda: [64, 256], metadata={"help": "Few users, drawn by seed, nested."})
    split: str = field(default="test", metadata={"help": "Targets ranked: test or validation."})
    max_users: int | None = field(default=None, metadata={"help": "Users ranked for, drawn by seed; all by default."})
    seed: int = field(default=0, metadata={"help": "Seed of adapting, training and drawing users."})

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start={self.start!r} is not one of {', '.join(STARTS)}.")

    def data_of(self, row: str) -> list[str]:
        """Return the data directories that a row is adapted to."""
        named = {"same": self.data_dir, "other": self.other_data_dir}
        return [name for key, name in named.items() if row in (key, "both") and name is not None]

    def rows(self) -> list[str]:
        """Return the rows of the table that can be made, the checkpoint as it was first."""
        able = self.other_data_dir is not None
        return [row for row in ADAPTED_ON if row in ("none", "same") or able or getattr(self, row) is not None]


Settings = tuple[DataArguments, ModelArguments, RecTrainingArguments]


def main(argv: list[str] | None = None) -> None:
    """Parse, adapt, train, rank, write the table."""
    transfer(parse_arguments("transfer", TransferArguments, argv))


def transfer(arguments: TransferArguments) -> list[Cell]:
    """Fill the table, and write it after every cell.

    Raises:
        ValueError: if an option is wrong, or a folder that is given cannot be started from as asked.
        FileExistsError: if the output folder holds runs of other settings.
        FileNotFoundError: if data, checkpoint or a folder are missing.
    """
    print_settings(arguments)
    output = Path(arguments.output_dir)
    check_writable(output)
    for row in arguments.rows():  # all is read before the first is trained
        check_start(arguments, row)
        for column in [*map(str, sorted(arguments.users)), FULL]:
            settings = train_settings(arguments, row, column)
            check_task(*settings)
            if settings[1].head != "dual":
                raise ValueError(f"head={settings[1].head!r}: the table ranks by the dual head; leave it out.")
    directory = open_data(arguments.data_dir)
    cases = Cases.from_histories(
        directory.histories(), directory.catalog, arguments.split, arguments.max_users, arguments.seed
    )
    for number in arguments.users:
        draw_users(directory.histories(), number, arguments.seed)  # refused before anything is trained
    cells: list[Cell] = []
    for cell in measure(arguments, directory, cases):
        cells.append(cell)
        write_transfer(cells, [cases.users[user] for user in np.unique(cases.user)], asdict(arguments), output)
        print(f"{ADAPTED_ON[cell.row]}, {cell.column}: NDCG@10 {cell.ndcg.mean():.4f}", flush=True)
    print((output / "transfer.md").read_text(encoding="utf-8"))
    return cells


def measure(arguments: TransferArguments, directory: PreparedData, cases: Cases) -> Iterator[Cell]:
    """Yield the cells, row by row."""
    embedded = Embedded(directory)
    for row in arguments.rows():
        adapted = None if row == "none" else adapted_folder(arguments, row)
        whole = None
        if adapted is not None and arguments.start == "merged":
            whole = whole_checkpoint(adapted, Path(arguments.output_dir, row, "whole"))
        _, model, training = train_settings(arguments, row, FULL, adapted, whole)
        masked = directory.mask_seen if training.mask_seen is None else training.mask_seen
        values = ndcg_of_users(embedded.untrained(model), cases, masked)
        yield Cell(row, ZERO_SHOT, values, users=0, steps=0, seconds=0.0)
        for column in [*map(str, sorted(arguments.users)), FULL]:
            data, model, training = train_settings(arguments, row, column, adapted, whole)
            recommender, result = trained(data, model, training, embedded)
            values = ndcg_of_users(recommender.scorer(training.per_device_eval_batch_size), cases, masked)
            yield Cell(row, column, values, data.max_train_users, result["steps"], result["train_runtime"])


class Embedded:
    """The target's item texts as checkpoints embed them, each once: they rank without labels, and are trained from.

    Args:
        directory: the target.
    """

    def __init__(self, directory: PreparedData) -> None:
        self.directory = directory
        self._known: dict[tuple[str, str, int], Tensor] = {}

    def by(self, model: ModelArguments) -> Tensor:
        """Return the embeddings (N, D), unit rows, of a checkpoint with a template."""
        key = model.base_model, model.template, model.max_item_tokens
        if key not in self._known:
            self._known[key] = inner(self._started(replace(model, init_adapter=None)).model).rec_items.text
        return self._known[key]

    def untrained(self, model: ModelArguments) -> ContentBaseline:
        """Return what ranks by the words of items alone, as the checkpoint or adapter that training starts from."""
        text = self.by(model)
        head = inner(self._started(model, text).model).rec_head
        unique, inverse = unique_rows(text.numpy())  # twins stay twins
        with torch.no_grad():
            vectors = head.item_embeddings(torch.from_numpy(unique), None).numpy()[inverse]
        return ContentBaseline(vectors, torch.sigmoid(head.decay_logit).item())

    def _started(self, model: ModelArguments, text: Tensor | None = None) -> Recommender:
        plain = replace(model, hybrid=False, popularity_weight=None)
        catalog = self.directory.catalog
        return new_recommender(plain, catalog, self.directory.has_clock, np.zeros(len(catalog), dtype=np.int64), text)


def pretrain_settings(
    arguments: TransferArguments, row: str
) -> tuple[pretraining.PretrainArguments, ModelArguments, RecTrainingArguments] | None:
    """Return the settings by which a row is adapted here, None where nothing is."""
    if row == "none" or getattr(arguments, row) is not None:
        return None
    fixed = {
        "data_dir": arguments.data_of(row),
        "output_dir": Path(arguments.output_dir, row, "adapted"),
        "base_model": arguments.base_model,
        "seed": arguments.seed,
        "resume_from_checkpoint": "true",
    }
    data, model, training = parse_pairs(pretraining.pretrain_parser(), arguments.pretrain, fixed)
    return data, model, training


def check_start(arguments: TransferArguments, row: str) -> None:
    """Raise ValueError if training could not go on from what the row adapts, or gives as adapted."""
    settings, given = pretrain_settings(arguments, row), None if row == "none" else getattr(arguments, row)
    if arguments.start != "continued":
        return
    if (settings is not None and settings[0].full) or (given is not None and RecommenderConfig.load(given).merged):
        raise ValueError(f"{ADAPTED_ON[row]}: whole weights have no LoRA to go on with: give --start merged.")
    _, model, _ = train_settings(arguments, row, FULL)
    for name in ("lora_r", "lora_alpha", "lora_target_modules"):
        if settings is not None and getattr(settings[1], name) != getattr(model, name):
            raise ValueError(
                f"{name} is {getattr(settings[1], name)!r} in --pretrain and {getattr(model, name)!r} in --train: LoRA "
                "goes on in the same shape. Give one value to both, or --start merged."
            )


def train_settings(
    arguments: TransferArguments, row: str, column: str, adapted: Path | None = None, whole: Path | None = None
) -> Settings:
    """Return the settings of one training.

    Args:
        arguments: Of the table.
        row: What the checkpoint was adapted to.
        column: How many users are learned from.
        adapted: Output of `llmrec pretrain`, None for the checkpoint as it was.
        whole: The same as a checkpoint.
    """
    fixed = {
        "data_dir": arguments.data_dir,
        "output_dir": Path(arguments.output_dir, row, column),
        "base_model": arguments.base_model,
        "seed": arguments.seed,
        "resume_from_checkpoint": "true",
        "memory": False,  # what reading is worth
    }
    if whole is not None and arguments.start == "merged":
        fixed["base_model"] = whole
    elif adapted is not None and arguments.start == "continued":
        fixed["init_adapter"] = adapted
    pairs = arguments.train if column == FULL else f"{arguments.train},{arguments.few_shot},max_train_users={column}"
    data, model, training = parse_pairs(train_parser(), pairs, fixed)
    return data, model, training


def adapted_folder(arguments: TransferArguments, row: str) -> Path:
    """Return the adapted checkpoint of a row: the one given, the one that an earlier call made, or a new one."""
    settings = pretrain_settings(arguments, row)
    if settings is None:
        return Path(getattr(arguments, row))
    data, model, training = settings
    folder = Path(training.output_dir)
    claim(folder, made_of(data, model, training))
    if not (folder / pretraining.RESULT).is_file():
        print(f"\nadapting to {ADAPTED_ON[row]}", flush=True)
        pretraining.pretrain(data, model, training)
    return folder


def whole_checkpoint(adapted: Path, folder: Path) -> Path:
    """Return an adapted checkpoint as a folder that transformers loads: an adapter is merged into its base model."""
    if RecommenderConfig.load(adapted).merged:
        return adapted
    claim(folder, {"adapter": weights_of(adapted)})
    if not (folder / CONFIG_NAME).is_file():
        Recommender.from_pretrained(adapted, device="cpu").merge().save_pretrained(folder)
    return folder


def trained(
    data: DataArguments, model: ModelArguments, training: RecTrainingArguments, embedded: Embedded
) -> tuple[Recommender, dict[str, Any]]:
    """Train, or load what an earlier call trained; return it with what `train_results.json` says."""
    folder = Path(training.output_dir)
    claim(folder, made_of(data, model, training))
    if (folder / RESULT).is_file():
        recommender = Recommender.from_pretrained(folder)
    else:
        recommender = train(data, model, training, embedded.by(model))
    return recommender, json.loads((folder / RESULT).read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(report_errors("transfer", main))
