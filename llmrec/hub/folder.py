"""Writing and reading the saved folder: safetensors and JSON only, no base weights, no path of one machine.

| file | content |
|---|---|
| `adapter_config.json`, `adapter_model.safetensors` | LoRA and the head, readable by peft |
| `item_tables.safetensors` | residuals, biases and training counts of known items (`hybrid`), log-odds of a like |
| `memory.safetensors` | which known items the same people had (`config.memory` says how much it counts) |
| `item_embeddings.safetensors` | frozen text embeddings of known items, so that loading encodes nothing |
| `item_layers.safetensors` | Dense layers of the checkpoint that item texts pass through, where it has some |
| `items.parquet` | the known items with their text, in the order of the tables' rows |
| `llmrec_config.json`, `prompt.json` | settings and template |
| tokenizer files | as the tokenizer writes them |
| `probe.json` | made-up histories and their scores, replayed on loading |
| `data_manifest.json`, `training_settings.json`, `eval_results.json` | where it comes from and what it is worth |
| `README.md` | the model card, with what `eval_results.json` says of these weights |

Where the adapter was merged into its base model, other files stand in place of the first two (`llmrec.hub.merged`).
Without a catalogue the folder is small and names no item: no `items.parquet`, no tensors whose rows are its items.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmrec.configuration import CONFIG_NAME, TRAINING_SETTINGS, RecommenderConfig, read_json
from llmrec.data.catalog import Catalog
from llmrec.hub.card import CARD, read_card, renewed_card
from llmrec.hub.eval_results import EVAL_RESULTS, describe_model, read_eval_results
from llmrec.hub.merged import ADAPTATION, BACKBONE_CONFIG, BACKBONE_WEIGHTS, HEAD_WEIGHTS, save_merged
from llmrec.hub.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ITEM_TABLES, ITEMS, MEMORY, PROBE
from llmrec.models.adapter import inner
from llmrec.models.item_encoder import ITEM_LAYERS
from llmrec.models.items import ItemTable
from llmrec.models.memory import Memory
from llmrec.models.modeling import RecModel
from llmrec.storage import replaced_together, sha256_of
from llmrec.text.processor import Processor
from llmrec.text.template import TEMPLATE_NAME
from llmrec.untrusted import holds

ITEM_EMBEDDINGS = "item_embeddings.safetensors"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
DATA_MANIFEST = "data_manifest.json"
RECORDS = (DATA_MANIFEST, TRAINING_SETTINGS, EVAL_RESULTS)
"""JSON objects that travel with the adapter and that inference does not read."""
OPTIONAL = (ITEM_TABLES, MEMORY, ITEM_EMBEDDINGS, ITEM_LAYERS, ITEMS, PROBE, *RECORDS)
FILES = (
    *(ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG_NAME, TEMPLATE_NAME, *OPTIONAL),
    *(BACKBONE_CONFIG, BACKBONE_WEIGHTS, HEAD_WEIGHTS, ADAPTATION),
    *(TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"),
)
"""What may be downloaded and read; nothing else ever is."""
TABLES = ("input_residual", "output_residual", "bias", "counts")
MADE_OF = "made_of"


def save_folder(
    folder: str | os.PathLike,
    model: PeftModel | RecModel,
    processor: Processor,
    catalog: Catalog | None,
    config: RecommenderConfig,
    probe: Mapping[str, Any],
    records: Mapping[str, Mapping[str, Any]],
    card: str | None = None,
    repo_id: str | None = None,
) -> None:
    """Write everything inference needs to `folder`, whole or not at all; other files already there are left alone.

    Args:
        folder: Where to write.
        model: LoRA, head and item tables; or a merged model.
        processor: Template and tokenizer.
        catalog: The items of the tables' rows; None leaves out both.
        config: Settings.
        probe: As `probe.make_probe` makes it.
        records: Objects by file name, of `RECORDS`; results of another model than this are left out, with a warning.
        card: An earlier card, where the folder has none: what people wrote in it stays.
        repo_id: Name on the Hub, which the card's example then loads.

    Raises:
        NotADirectoryError: if `folder` is a file.
        FileExistsError: if it holds an adapter where a merged model is saved, or the reverse.
        ValueError: if a weight or a score is NaN or infinite.
    """
    target = Path(folder)

    def check_kind(*_: Path) -> None:
        if (target / (ADAPTER_CONFIG if config.merged else HEAD_WEIGHTS)).exists():
            kinds = ("a merged model", "an adapter")[:: 1 if config.merged else -1]
            raise FileExistsError(f"{str(folder)!r} holds {kinds[1]}; save {kinds[0]} to another folder.")

    check_kind()
    with replaced_together(target, OPTIONAL, check_kind) as staged:
        if isinstance(model, PeftModel):
            # save_embedding_layers="auto" would ask the Hub for the base's configuration at every save
            model.save_pretrained(str(staged), save_embedding_layers=False)
            (staged / CARD).unlink(missing_ok=True)  # peft's names the base by its path on this machine
            _rewrite_adapter_config(staged / ADAPTER_CONFIG, config, model.targeted_module_names)
        else:
            save_merged(staged, model)
        config.save(staged)
        if layers := inner(model).rec_texts.weights:
            save_file({name: weight.cpu().contiguous() for name, weight in layers.items()}, staged / ITEM_LAYERS)
        processor.serializer.template.save(staged)
        processor.tokenizer.save_pretrained(staged)
        if catalog is not None:
            catalog.write(staged / ITEMS)
            tables = inner(model).rec_items
            if names := table_names(tables):
                tensors = {name: getattr(tables, name).detach() for name in names}
                _save_rows(tensors, staged / ITEM_TABLES, _sources_of_tables(staged, config))
            if tables.memory is not None:
                _save_rows(tables.memory.tensors(), staged / MEMORY, {ITEMS: sha256_of(staged / ITEMS)})
            _save_rows({"text": tables.text}, staged / ITEM_EMBEDDINGS, _sources_of_embeddings(staged, config))
        check_finite(staged, probe)
        write_json({**probe, TOKENIZER: sha256_of(staged / TOKENIZER)}, staged / PROBE)
        measured = [one for one in (records.get(EVAL_RESULTS), read_eval_results(target)) if one]
        own = describe_model(staged)["model_sha256"] if measured else None
        found = next((one for one in measured if one["model"].get("model_sha256") == own), None)
        if measured and found is None:
            changed = "weights, items or popularity weight are no longer those that were evaluated"
            if catalog is None and table_names(inner(model).rec_items):
                changed = "what was learned of each item, which they are true of, stays behind with the items"
            warnings.warn(f"{EVAL_RESULTS} is left out: {changed}. Evaluate what was saved.", stacklevel=3)
        for name, record in {**records, EVAL_RESULTS: found}.items():
            assert name in RECORDS, name
            if record is not None:
                write_json(record, staged / name)
        own = read_card(target)
        if (card := card if own is None else own) is not None:
            (staged / CARD).write_text(card, encoding="utf-8")
        if (renewed := renewed_card(staged, found, staged / CARD, repo_id)) is not None:
            (staged / CARD).write_text(renewed, encoding="utf-8")
        for path in staged.rglob("*"):
            if path.is_file():
                path.chmod(0o644)  # safetensors writes 0600


def check_finite(folder: Path, probe: Mapping[str, Any]) -> None:
    """Refuse to save what loading refuses: weights, item tables or scores that are NaN or infinite.

    Raises:
        ValueError: naming the tensor.
    """
    wrong = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            tensors = ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (it is no dict)
            wrong += [f"{path.name}: {name!r}" for name, tensor in tensors if not torch.isfinite(tensor).all()]
    if not all(math.isfinite(score) for entry in probe["histories"] for score in entry["scores"]):
        wrong.append("the scores")
    if wrong:
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(
            f"{wrong[0]}{others} would hold values that are NaN or infinite; only finite ones are saved.\n"
            "The training diverged: load an earlier checkpoint, or train again with a lower learning rate."
        )


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write an object as sorted JSON: equal objects give equal bytes."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a folder by file name."""
    return {name: read_json(folder / name) for name in RECORDS if holds(folder, name)}


def weights_name(config: RecommenderConfig) -> str:
    """Return the file of the weights that tell one model from another."""
    return BACKBONE_WEIGHTS if config.merged else ADAPTER_WEIGHTS


def _rewrite_adapter_config(path: Path, config: RecommenderConfig, layers: Sequence[str]) -> None:
    """Sort peft's sets, whose order differs between processes, and name the base as the folder does.

    A regular expression for the adapted layers becomes their names: nobody should have to run it on loading.
    """
    values = read_json(path)
    targets = values["target_modules"]
    values["target_modules"] = sorted(layers if isinstance(targets, str) else targets)
    values["base_model_name_or_path"] = config.base_model
    values["revision"] = config.base_revision
    write_json(values, path)


def _sources_of_tables(folder: Path, config: RecommenderConfig) -> dict[str, str | None]:
    return {name: sha256_of(folder / name) for name in (ITEMS, weights_name(config))}


def _sources_of_embeddings(folder: Path, config: RecommenderConfig) -> dict[str, str | None]:
    made_of = (ITEMS, TEMPLATE_NAME, TOKENIZER, TOKENIZER_CONFIG, ITEM_LAYERS, weights_name(config))
    files = {name: sha256_of(folder / name) for name in made_of if (folder / name).is_file()}
    encoding = json.dumps(asdict(config.item_encoding), sort_keys=True)
    limit = str(config.max_item_tokens)
    return {**files, "base_sha256": config.base_sha256, "max_item_tokens": limit, "item_encoding": encoding}


def _save_rows(tensors: dict[str, Tensor], path: Path, sources: Mapping[str, str | None]) -> None:
    """Save tensors whose rows are the items of `items.parquet`, with the digests of what they were made of.

    The digests are one text, for the order in which safetensors writes several differs between processes.
    """
    metadata = {MADE_OF: json.dumps(sources, sort_keys=True)}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path, metadata)


def _load_rows(
    path: Path, shapes: Mapping[str, torch.Size | None], sources: Mapping[str, str | None]
) -> dict[str, Tensor]:
    """Load tensors of those shapes, None for any, that were made of `sources`."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        # Format 2 held the digest of the items alone.
        made_of = json.loads(metadata[MADE_OF]) if MADE_OF in metadata else {ITEMS: metadata.get(ITEMS)}
        if others := sorted(name for name, digest in made_of.items() if digest != sources.get(name)):
            raise ValueError(
                f"{path.name} was made of another {', '.join(others)} than the folder has: something was replaced.\n"
                "Save or download both again."
            )
        names = set(file.keys())
        found = {name: file.get_tensor(name) for name in shapes if name in names}
    for name, shape in shapes.items():
        if name not in found or shape not in (None, found[name].shape):
            has = tuple(found[name].shape) if name in found else "nothing"
            wanted = "there" if shape is None else tuple(shape)
            raise ValueError(f"{path.name}: {name} should be {wanted}, found {has}. Save or download it again.")
    return found


def read_item_embeddings(folder: Path, num_items: int, hidden_size: int, config: RecommenderConfig) -> Tensor | None:
    """Return the saved text embeddings (N, D), or None where the folder has none.

    Raises:
        ValueError: if they do not fit the folder's items or the checkpoint, or were made with another text, template,
            tokenizer, adapter or base.
    """
    path = folder / ITEM_EMBEDDINGS
    if not path.is_file():
        return None
    sources = _sources_of_embeddings(folder, config)
    return _load_rows(path, {"text": torch.Size((num_items, hidden_size))}, sources)["text"]


def load_memory(folder: Path, num_items: int, config: RecommenderConfig) -> Memory | None:
    """Return what was saved of which items the same people had, None where nothing is remembered.

    Raises:
        FileNotFoundError: if the folder lacks it.
        ValueError: if it does not fit the items.
    """
    if config.memory is None:
        return None
    if not (folder / MEMORY).is_file():
        raise FileNotFoundError(f"adapter {str(folder)!r} remembers but lacks {MEMORY}; save or download it again.")
    parts = dict.fromkeys(("ends", "items", "similarities"))
    tensors = _load_rows(folder / MEMORY, parts, {ITEMS: sha256_of(folder / ITEMS)})
    return Memory.from_tensors(tensors, config.memory, num_items)


def table_names(table: ItemTable) -> tuple[str, ...]:
    """Return the tensors of a table that are saved: those of a hybrid, and the log-odds of likes where it has them."""
    return (*(TABLES if table.hybrid else ()), *(() if table.like_odds is None else ("like_odds",)))


def load_tables(folder: Path, table: ItemTable, config: RecommenderConfig) -> None:
    """Copy what was saved of the items beside their text into a table: all that `table_names` says, perhaps nothing.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if they do not fit, or were trained with other items or another adapter.
    """
    path, names = folder / ITEM_TABLES, table_names(table)
    if not names:
        return
    if not path.is_file():
        raise FileNotFoundError(
            f"adapter {str(folder)!r} learned of its items but lacks {ITEM_TABLES}; save or download it again."
        )
    saved = _load_rows(path, {name: getattr(table, name).shape for name in names}, _sources_of_tables(folder, config))
    with torch.no_grad():
        for name in names:
            getattr(table, name).copy_(saved[name])
