"""Writing and reading the saved folder: safetensors and JSON only, no base weights, no path of one machine.

| file | content |
|---|---|
| `adapter_config.json`, `adapter_model.safetensors` | LoRA and the head, readable by peft |
| `item_tables.safetensors` | residuals and biases of known items (`hybrid`) |
| `item_embeddings.safetensors` | frozen text embeddings of known items, so that loading encodes nothing |
| `items.parquet` | the known items with their text, in the order of the tables' rows |
| `llmrec_config.json`, `prompt.json` | settings and template |
| tokenizer files | as the tokenizer writes them |
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.models.adapter import inner
from llmrec.models.items import ItemTable
from llmrec.text.processor import Processor

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ITEM_TABLES = "item_tables.safetensors"
ITEM_EMBEDDINGS = "item_embeddings.safetensors"
ITEMS = "items.parquet"
TABLES = ("input_residual", "output_residual", "bias")


def save_folder(
    folder: str | os.PathLike, model: PeftModel, processor: Processor, catalog: Catalog, config: RecommenderConfig
) -> None:
    """Write everything inference needs to `folder`; other files already there are left alone.

    The files are written beside the folder and moved in one by one, so none is ever half-written.

    Raises:
        NotADirectoryError: if `folder` is a file.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"output folder {str(folder)!r} is a file; give another name.")
    target.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target, prefix=".saving-"))
    try:
        # save_embedding_layers="auto" would ask the Hub for the base's configuration at every save
        model.save_pretrained(str(staging), save_embedding_layers=False)
        (staging / "README.md").unlink(missing_ok=True)  # peft's names the base by its path on this machine
        _rewrite_adapter_config(staging / ADAPTER_CONFIG, config)
        tables = inner(model).rec_items
        if tables.hybrid:
            save_file(
                {name: getattr(tables, name).detach().cpu().contiguous() for name in TABLES}, staging / ITEM_TABLES
            )
        save_file({"text": tables.text.cpu().contiguous()}, staging / ITEM_EMBEDDINGS)
        catalog.write(staging / ITEMS)
        config.save(staging)
        processor.serializer.template.save(staging)
        processor.tokenizer.save_pretrained(staging)
        for path in sorted(staging.iterdir()):
            path.chmod(0o644)  # safetensors writes 0600
            os.replace(path, target / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rewrite_adapter_config(path: Path, config: RecommenderConfig) -> None:
    """Sort peft's sets, whose order differs between processes, and name the base as the folder does."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["target_modules"] = sorted(values["target_modules"])
    values["base_model_name_or_path"] = config.base_model
    values["revision"] = config.base_revision
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Raise FileNotFoundError, naming what is missing, if `folder` is no complete llmrec adapter."""
    RecommenderConfig.load(folder)
    needed = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, ITEMS, "prompt.json", "tokenizer_config.json")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise FileNotFoundError(f"adapter {str(folder)!r} lacks {', '.join(missing)}; save or download it again.")


def read_item_embeddings(folder: Path, num_items: int) -> Tensor | None:
    """Return the saved text embeddings (N, D), or None where the folder has none.

    Raises:
        ValueError: if they do not fit the folder's items.
    """
    path = folder / ITEM_EMBEDDINGS
    if not path.is_file():
        return None
    text = load_file(path)["text"]
    if len(text) != num_items:
        raise ValueError(f"{ITEM_EMBEDDINGS} has {len(text)} rows, {ITEMS} {num_items}: one of them was replaced.")
    return text


def load_tables(folder: Path, table: ItemTable) -> None:
    """Copy the saved residuals and biases into a hybrid table.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if they do not fit.
    """
    path = folder / ITEM_TABLES
    if not path.is_file():
        raise FileNotFoundError(
            f"adapter {str(folder)!r} is hybrid but lacks {ITEM_TABLES}; save or download it again."
        )
    saved: dict[str, Any] = load_file(path)
    with torch.no_grad():
        for name in TABLES:
            own = getattr(table, name)
            if name not in saved or saved[name].shape != own.shape:
                found = tuple(saved[name].shape) if name in saved else "nothing"
                raise ValueError(f"{ITEM_TABLES}: {name} should be {tuple(own.shape)}, found {found}.")
            own.copy_(saved[name])
