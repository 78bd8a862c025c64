"""`llmrec quickstart`: the whole chain on real data, in minutes on two cores.

Prepares movielens-small, adapts all-MiniLM-L6-v2 with LoRA, ranks the whole catalogue for every person's held-out film
beside the baselines, and recommends for a made-up person whose taste one can judge.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from llmrec.commands import prepare
from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.commands.evaluate import evaluate
from llmrec.commands.evaluate_arguments import EvaluateArguments
from llmrec.commands.memory import peak_memory_mib
from llmrec.commands.train import RESULT, train
from llmrec.data.catalog import Catalog
from llmrec.data.directory import MANIFEST
from llmrec.recommender import Recommender
from llmrec.training.arguments import DataArguments, ModelArguments, RecTrainingArguments

DATA, ADAPTER = "data", "adapter"
PERSON = ("Alien", "Blade Runner", "The Terminator", "The Matrix", "Minority Report")
"""Films that the made-up person watched, oldest first."""


@dataclass
class QuickstartArguments:
    """Where to put everything."""

    output_dir: str = field(
        default="quickstart", metadata={"help": "Folder for data, adapter and results; finished steps are reused."}
    )


def main(argv: list[str] | None = None) -> None:
    """Run the four steps, timing each."""
    arguments = parse_arguments("quickstart", QuickstartArguments, argv)
    print_settings(arguments)
    output = Path(arguments.output_dir)
    began = time.perf_counter()

    _step(1, "prepare movielens-small: each person's last film is the test, the one before it the validation")
    data = output / DATA
    if (data / MANIFEST).is_file():
        print(f"reusing {data}")
    else:
        prepare.main(["--source", "movielens-small", "--split", "leave_one_out", "--output_dir", str(data)])

    _step(2, "train: LoRA on all-MiniLM-L6-v2, a scoring head, and a residual for every film")
    adapter = output / ADAPTER
    if (adapter / RESULT).is_file():
        print(f"reusing {adapter}")
    else:
        # Films have short texts and people long histories: an event stands as its item vector.
        train(DataArguments(data_dir=str(data)), ModelArguments(template="vectors"), training_arguments(adapter))

    _step(3, "evaluate: rank all films for every person's last one")
    # Shuffled histories would be read twice more: minutes that a first look does not need.
    evaluate(EvaluateArguments(data_dir=str(data), model=str(adapter), output_dir=str(output), shuffles=False))

    _step(4, "recommend, for a person who watched " + ", ".join(PERSON))
    recommender = Recommender.from_pretrained(adapter)
    history = [{"item_id": find_title(recommender.items, title)} for title in PERSON]
    for entry in recommender.recommend(history, k=10):
        print(f"{entry.rank:>4}  {entry.score:6.2f}  {entry.text['title']} ({entry.text.get('year', '?')})")
    minutes = (time.perf_counter() - began) / 60
    print(f"\n{minutes:.1f} minutes, peak memory {peak_memory_mib():,} MiB; everything is in {output}")


def training_arguments(output_dir: Path) -> RecTrainingArguments:
    """Return the settings of the quickstart's run: the defaults, but for its length and long windows in a batch."""
    resume = "true" if output_dir.is_dir() else None  # an interrupted run goes on
    return RecTrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=3,
        per_device_train_batch_size=4,
        resume_from_checkpoint=resume,
    )


def find_title(items: Catalog, title: str) -> str:
    """Return the id of the film with this title.

    Raises:
        ValueError: if there is none.
    """
    for index, item_id in enumerate(items.ids):
        if items.attributes(index).get("title") == title:
            return item_id
    raise ValueError(f"no film has the title {title!r}.")


def _step(number: int, text: str) -> None:
    print(f"\n[{number}/4] {text}", flush=True)
