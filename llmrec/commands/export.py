"""`llmrec export`: merge an adapter into its base model, as a folder that stock transformers loads.

    llmrec export --model RUN --output_dir DIR

`Recommender.from_pretrained(DIR)` loads it too, needs no base model, and scores as the adapter does, to 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmrec.commands.arguments import parse_arguments, print_settings
from llmrec.recommender import Recommender
from llmrec.storage import check_writable


@dataclass
class ExportArguments:
    """Which adapter, and where the merged model goes."""

    model: str = field(metadata={"help": "Adapter: output folder of `llmrec train`, or a Hub name."})
    output_dir: str = field(metadata={"help": "Folder for the merged model: a new one, or an empty one."})
    base_model: str | None = field(
        default=None, metadata={"help": "Base checkpoint, if it is not where the adapter says: Hub name or folder."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the adapter on the Hub."})


def main(argv: list[str] | None = None) -> None:
    """Parse, load, merge, save."""
    arguments = parse_arguments("export", ExportArguments, argv)
    print_settings(arguments)
    output = Path(arguments.output_dir)
    check_writable(output)
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"output_dir {str(output)!r} holds files already; give a new or an empty folder.")
    recommender = Recommender.from_pretrained(
        arguments.model, revision=arguments.revision, base_model=arguments.base_model, device="cpu"
    )
    recommender.merge().save_pretrained(output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"saved {output}: {size / 2**20:,.1f} MiB, base model {recommender.checkpoint.name} included")
