"""Writing and reading the saved folder: safetensors and JSON only, no base weights, no path of one machine.

| file | content |
|---|---|
| `adapter_config.json`, `adapter_model.safetensors` | LoRA and the head, readable by peft |
| `item_tables.safetensors` | residuals, biases and training counts of known items (`hybrid`) |
| `item_embeddings.safetensors` | frozen text embeddings of known items, so that loading encodes nothing |
| `items.parquet` | the known items with their text, in the order of the tables' rows |
| `llmrec_config.json`, `prompt.json` | settings and template |
| tokenizer files | as the tokenizer writes them |
| `README.md` | the model card, with what `eval_results.json` says of these weights |

Where the adapter was merged into its base model, other files stand in place of the first two (`llmrec.hub.merged`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.hub.card import CARD, renewed_card
from llmrec.hub.eval_results import read_eval_results
from llmrec.hub.merged import ADAPTATION, BACKBONE_CONFIG, BACKBONE_WEIGHTS, HEAD_WEIGHTS, save_merged
from llmrec.models.adapter import inner
from llmrec.models.items import ItemTable
from llmrec.models.modeling import RecModel
from llmrec.text.processor import Processor
from llmrec.text.template import TEMPLATE_NAME

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ITEM_TABLES = "item_tables.safetensors"
ITEM_EMBEDDINGS = "item_embeddings.safetensors"
ITEMS = "items.parquet"
TABLES = ("input_residual", "output_residual", "bias", "counts")


def save_folder(
    folder: str | os.PathLike,
    model: PeftModel | RecModel,
    processor: Processor,
    catalog: Catalog,
    config: RecommenderConfig,
) -> None:
    """Write everything inference needs to `folder`; other files already there are left alone.

    The files are written beside the folder and moved in one by one, so none is ever half-written.

    Raises:
        NotADirectoryError: if `folder` is a file.
        FileExistsError: if an adapter would come to stand beside a merged model, or the other way round.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"output folder {str(folder)!r} is a file; give another name.")
    if (target / (ADAPTER_CONFIG if config.merged else HEAD_WEIGHTS)).exists():
        kinds = ("a merged model", "an adapter")[:: 1 if config.merged else -1]
        raise FileExistsError(f"{str(folder)!r} holds {kinds[1]}; save {kinds[0]} to another folder.")
    target.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target, prefix=".saving-"))
    try:
        if isinstance(model, PeftModel):
            # save_embedding_layers="auto" would ask the Hub for the base's configuration at every save
            model.save_pretrained(str(staging), save_embedding_layers=False)
            (staging / CARD).unlink(missing_ok=True)  # peft's names the base by its path on this machine
            _rewrite_adapter_config(staging / ADAPTER_CONFIG, config)
        else:
            save_merged(staging, model)
        catalog.write(staging / ITEMS)
        tables = inner(model).rec_items
        if tables.hybrid:
            _save_rows({name: getattr(tables, name).detach() for name in TABLES}, staging / ITEM_TABLES)
        _save_rows({"text": tables.text}, staging / ITEM_EMBEDDINGS)
        config.save(staging)
        processor.serializer.template.save(staging)
        processor.tokenizer.save_pretrained(staging)
        card = renewed_card(staging, read_eval_results(target), target / CARD)
        if card is not None:
            (staging / CARD).write_text(card, encoding="utf-8")
        for path in sorted(path for path in staging.rglob("*") if path.is_file()):
            place = target / path.relative_to(staging)
            place.parent.mkdir(exist_ok=True)
            path.chmod(0o644)  # safetensors writes 0600
            os.replace(path, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rewrite_adapter_config(path: Path, config: RecommenderConfig) -> None:
    """Sort peft's sets, whose order differs between processes, and name the base as the folder does."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["target_modules"] = sorted(values["target_modules"])
    values["base_model_name_or_path"] = config.base_model
    values["revision"] = config.base_revision
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_rows(tensors: dict[str, Tensor], path: Path) -> None:
    """Save tensors whose rows are the items of `items.parquet` beside them, with the digest of that file."""
    digest = hashlib.sha256((path.parent / ITEMS).read_bytes()).hexdigest()
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path, {ITEMS: digest})


def _load_rows(path: Path, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        digest = (file.metadata() or {}).get(ITEMS)
        if digest is not None and digest != hashlib.sha256((path.parent / ITEMS).read_bytes()).hexdigest():
            raise ValueError(f"{path.name} belongs to another {ITEMS}: one was replaced. Save or download both again.")
        names = set(file.keys())
        found = {name: file.get_tensor(name) for name in shapes if name in names}
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            has = tuple(found[name].shape) if name in found else "nothing"
            raise ValueError(f"{path.name}: {name} should be {tuple(shape)}, found {has}. Save or download it again.")
    return found


def check_folder(folder: Path) -> None:
    """Check that `folder` is a complete llmrec adapter whose files can be read.

    Raises:
        FileNotFoundError: if a file is missing; the text names it.
        ValueError: if a file is damaged.
    """
    merged = (BACKBONE_CONFIG, BACKBONE_WEIGHTS, HEAD_WEIGHTS, ADAPTATION)
    own = merged if RecommenderConfig.load(folder).merged else (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    needed = (*own, ITEMS, TEMPLATE_NAME, "tokenizer.json", "tokenizer_config.json")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise FileNotFoundError(f"adapter {str(folder)!r} lacks {', '.join(missing)}; save or download it again.")
    for path in [folder / name for name in needed if name.endswith(".json")]:
        try:
            holds = isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
        except ValueError:
            holds = False
        if not holds:
            raise ValueError(f"adapter {str(folder)!r}: {path.name} is no JSON object; save or download it again.")
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{path.name} in {str(folder)!r} is damaged ({error}); download it again.") from None


def read_item_embeddings(folder: Path, num_items: int, hidden_size: int) -> Tensor | None:
    """Return the saved text embeddings (N, D), or None where the folder has none.

    Raises:
        ValueError: if they do not fit the folder's items or the checkpoint.
    """
    path = folder / ITEM_EMBEDDINGS
    if not path.is_file():
        return None
    return _load_rows(path, {"text": torch.Size((num_items, hidden_size))})["text"]


def load_tables(folder: Path, table: ItemTable) -> None:
    """Copy the saved residuals, biases and counts into a hybrid table.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if they do not fit.
    """
    path = folder / ITEM_TABLES
    if not path.is_file():
        raise FileNotFoundError(
            f"adapter {str(folder)!r} is hybrid but lacks {ITEM_TABLES}; save or download it again."
        )
    saved = _load_rows(path, {name: getattr(table, name).shape for name in TABLES})
    with torch.no_grad():
        for name in TABLES:
            getattr(table, name).copy_(saved[name])
