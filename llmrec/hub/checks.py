"""What is asked of a saved folder, above all an untrusted one, before anything in it is used.

Nothing is unpickled and no code runs, whatever a folder says: weights are safetensors, settings JSON, templates have
bare names. What remains is a configuration that makes peft allocate, match or download what nobody wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from peft import LoraConfig

from llmrec.configuration import CONFIG_NAME, RecommenderConfig, read_json
from llmrec.data.catalog import Catalog
from llmrec.formatting import printable
from llmrec.hub.folder import ITEM_EMBEDDINGS, TOKENIZER
from llmrec.hub.merged import ADAPTATION, BACKBONE_CONFIG, BACKBONE_WEIGHTS, HEAD_WEIGHTS, check_backbone_files
from llmrec.hub.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ITEM_TABLES, ITEMS, MEMORY, PROBE
from llmrec.hub.weights import REFUSED_PICKLE, check_heads, check_weights
from llmrec.models.adapter import HEADS
from llmrec.models.costs import check_tokenizer
from llmrec.storage import sha256_of
from llmrec.text.template import TEMPLATE_NAME, PromptTemplate
from llmrec.untrusted import LIMITS, check_count, refusals, regular_files

MAX_RANK = LIMITS[ADAPTER_CONFIG].counts["numbers of rank"]
"""Widest LoRA update that is loaded: r decides how much memory is allocated."""
NEEDED = (TEMPLATE_NAME, TOKENIZER, "tokenizer_config.json")
ADAPTER = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
MERGED = (BACKBONE_CONFIG, BACKBONE_WEIGHTS, HEAD_WEIGHTS, ADAPTATION)
MAX_ALPHA = 1 << 16
PROBED_SINCE = 3
"""Format version since which a folder has a probe."""
FREE = {
    *("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "fan_in_fan_out", "inference_mode"),
    *("base_model_name_or_path", "revision", "peft_type", "peft_version", "auto_mapping"),
}
"""Settings of peft that an adapter may choose; `check_adapter_config` looks at those that matter."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
COMMIT = re.compile(r"[0-9a-f]{7,64}")
LAYER_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def check_folder(folder: Path, catalog: bool = True) -> None:
    """Check that `folder` is a complete llmrec adapter whose files can be read and may be trusted.

    Args:
        folder: Where the files lie.
        catalog: Whether it has to hold its items.

    Raises:
        FileNotFoundError: if a file is missing; the text names it.
        ValueError: if a file is damaged, belongs to another adapter, or asks for what no adapter needs.
    """
    with refusals("adapter", folder):
        regular_files(folder)
        _check_contents(folder, catalog)


def _check_contents(folder: Path, catalog: bool) -> None:
    config = RecommenderConfig.load(folder)
    needed = [*(MERGED if config.merged else ADAPTER), *NEEDED]
    if read_json(folder / CONFIG_NAME)["format_version"] >= PROBED_SINCE:
        needed.append(PROBE)
    if catalog or any((folder / name).is_file() for name in (ITEM_TABLES, ITEM_EMBEDDINGS, MEMORY)):
        needed.append(ITEMS)
    missing = [name for name in needed if not (folder / name).is_file()]
    if config.merged and (folder / ADAPTER_CONFIG).is_file():
        raise ValueError(f"{str(folder)!r} holds a merged model and {ADAPTER_CONFIG}: delete one of the two.")
    if ADAPTER_WEIGHTS in missing and (pickles := sorted(path.name for path in folder.glob("*.bin"))):
        raise ValueError(f"adapter {str(folder)!r} has {pickles[0]}, a pickle, for weights: {REFUSED_PICKLE}")
    if missing == [ITEMS]:
        raise FileNotFoundError(
            f"adapter {str(folder)!r} holds no catalogue ({ITEMS}): give the items to rank as items=, or save or "
            "download it again with its own."
        )
    if missing:
        raise FileNotFoundError(f"adapter {str(folder)!r} lacks {', '.join(missing)}; save or download it again.")
    for name in needed:
        if name.endswith(".json"):
            read_json(folder / name)
    if config.base_revision is not None and not COMMIT.fullmatch(config.base_revision):
        raise ValueError(
            f"{CONFIG_NAME}: base_revision={config.base_revision!r} is no commit of a base model.\n"
            "Save or download the adapter again; it records the hash of a commit."
        )
    if not config.merged:
        check_adapter_config(read_json(folder / ADAPTER_CONFIG), config)
    check_tokenizer(folder)
    template, rows = PromptTemplate.load(folder), None
    if (folder / ITEMS).is_file():
        items = Catalog.read(folder / ITEMS)
        template.check_fields(set(items.frame.columns) - {"item_id"})
        rows = len(items)
    for name in (ITEM_TABLES, ITEM_EMBEDDINGS):
        if (folder / name).is_file():
            check_weights(folder / name, rows=rows)
    if (folder / MEMORY).is_file():
        check_weights(folder / MEMORY)
    if config.merged:
        check_backbone_files(folder)  # its heads are loaded all or not at all
        for name in MERGED[1:]:
            check_weights(folder / name)
    else:
        check_weights(folder / ADAPTER_WEIGHTS, rank=read_json(folder / ADAPTER_CONFIG)["r"])
        check_heads(folder / ADAPTER_WEIGHTS, config)
    if PROBE in needed and read_json(folder / PROBE).get(TOKENIZER) != sha256_of(folder / TOKENIZER):
        raise ValueError(
            f"{TOKENIZER} in {str(folder)!r} is not the one that the adapter was saved with: the model would read "
            "other tokens.\nSave or download the adapter again."
        )


def check_base_name(name: str, published: bool = False) -> None:
    """Refuse a base checkpoint that is named by a path of one machine.

    Args:
        name: As the adapter records it.
        published: Whether the adapter is, or shall be, on the Hub, where a way from its own folder means nothing
            either.

    Raises:
        ValueError: if the name is such a path.
    """
    absolute = Path(name).is_absolute() or re.match(r"[A-Za-z]:|~|\\", name)
    if absolute or (published and not HUB_NAME.fullmatch(name)):
        raise ValueError(
            f"base_model {name!r} is a path of one machine; an adapter names its base as the Hub does.\n"
            "Give the Hub name of the base with base_model=."
        )


def check_adapter_config(values: Mapping[str, Any], config: RecommenderConfig) -> None:
    """Refuse settings of peft that llmrec never writes: each of them can cost memory, time or trust.

    Args:
        values: What `adapter_config.json` holds.
        config: The settings beside it.

    Raises:
        ValueError: if a setting is not one of a plain LoRA of sane size on the base that the folder names.
    """

    def refuse(name: str, rule: str) -> NoReturn:
        raise ValueError(
            f"{ADAPTER_CONFIG}: {printable(name[:100])}={repr(values.get(name))[:200]} {rule}.\n"
            "llmrec writes no such adapter; get one that it saved."
        )

    if values.get("peft_type") != "LORA":
        refuse("peft_type", "is not LORA")
    rank = values.get("r")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        refuse("r", f"is no rank in 1..{MAX_RANK}, and decides how much memory is taken")
    layers = values.get("target_modules")
    if not isinstance(layers, list):
        refuse("target_modules", "is no list of layer names: peft would run it as a regular expression")
    check_count(ADAPTER_CONFIG, "target modules", len(layers))
    if not layers or not all(isinstance(name, str) and LAYER_NAME.fullmatch(name) for name in layers):
        refuse("target_modules", "holds what is no plain layer name")
    alpha: Any = values.get("lora_alpha")
    dropout: Any = values.get("lora_dropout", 0.0)
    if not _is_number(alpha) or not 0 < alpha <= MAX_ALPHA:
        refuse("lora_alpha", f"is no number above 0, at most {MAX_ALPHA}")
    if not _is_number(dropout) or not 0 <= dropout < 1:
        refuse("lora_dropout", "is no share in [0, 1)")
    heads = values.get("modules_to_save")
    if not isinstance(heads, list) or not all(name in HEADS for name in heads):
        refuse("modules_to_save", f"names more than the heads {', '.join(HEADS)}")
    if set(heads) != (own_heads := heads_of(config)):
        refuse("modules_to_save", f"is not {sorted(own_heads)}, the heads that {CONFIG_NAME} asks for")
    usual = {field.name: getattr(LoraConfig(), field.name) for field in fields(LoraConfig)}
    for name in sorted(set(values) - FREE):
        if values[name] and values[name] != usual.get(name):
            refuse(name, "is not the default")
    for name, own in (("base_model_name_or_path", config.base_model), ("revision", config.base_revision)):
        if values.get(name) != own:
            refuse(name, f"is another base than the {own!r} of {CONFIG_NAME}")


def heads_of(config: RecommenderConfig) -> set[str]:
    """Return the names of what is trained whole beside LoRA.

    >>> sorted(heads_of(RecommenderConfig(base_model="x", head="cross", time_embedding=["gap"])))
    ['candidate_head', 'rec_head', 'rec_time']
    """
    candidate, time = config.head != "dual", bool(config.time_embedding)
    return {"rec_head", *(["candidate_head"] if candidate else []), *(["rec_time"] if time else [])}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
