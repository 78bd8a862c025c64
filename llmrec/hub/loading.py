"""A saved folder becomes a model again, with what reads for it and the items that it knows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from llmrec.checkpoints import Checkpoint, resolve_checkpoint
from llmrec.configuration import RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.hub.folder import load_memory, load_tables, read_item_embeddings
from llmrec.hub.merged import HEAD_WEIGHTS, load_adaptation, load_heads
from llmrec.hub.names import ADAPTER_WEIGHTS, ITEMS
from llmrec.models.adapter import load_adapter
from llmrec.models.backbone import check_asked, load_backbone, load_tokenizer
from llmrec.models.candidate_heads import CandidateHead, empty_candidate_head
from llmrec.models.item_encoder import saved_encoding
from llmrec.models.items import ItemTable
from llmrec.models.merging import subtracted
from llmrec.models.modeling import RecModel
from llmrec.ranking.item_index import check_window, encode_catalog
from llmrec.text.processor import Processor
from llmrec.text.serializer import Serializer
from llmrec.text.template import PromptTemplate

MERGED = "merged model"
"""Origin of a checkpoint into which an adapter was merged; its name says of which base model."""


def load_model(
    folder: Path,
    config: RecommenderConfig,
    checkpoint: Checkpoint,
    items: Catalog | None,
    heads: Mapping[str, type[CandidateHead]],
) -> tuple[Any, Processor, Catalog]:
    """Return the model (`PeftModel`, or `RecModel` where all is merged), its processor, and the items of its table.

    Args:
        folder: checked by `checks.check_folder`.
        config: the folder's.
        checkpoint: from `base_checkpoint`.
        heads: candidate heads of the caller's own, by name.
        items: what stands for the folder's own items where it holds none.

    Raises:
        ValueError: if a file is damaged, a window does not fit the checkpoint, or the template needs attributes that
            the given items lack.
    """
    serializer = Serializer(PromptTemplate.load(folder), has_clock=config.has_clock)
    processor = Processor(serializer, load_tokenizer(folder), config)
    backbone = load_backbone(checkpoint)
    check_asked(backbone, checkpoint.name, config.head, processor.asks_now)
    check_window(backbone, processor)
    adaptation = load_adaptation(folder, backbone) if config.merged else {}
    if items is not None:
        serializer.template.check_fields(set(items.frame.columns) - {"item_id"})
    own = Catalog.read(folder / ITEMS) if items is None or (folder / ITEMS).is_file() else None
    catalog = items if own is None else own
    assert catalog is not None
    text_head = saved_encoding(folder, config, backbone.config.hidden_size).head(processor.tokenizer)
    text = None
    if own is not None:
        text = read_item_embeddings(folder, len(own), backbone.config.hidden_size, config)
    if text is None:
        text = encode_catalog(subtracted(backbone, adaptation), processor, catalog, text_head, progress=True)
    odds = None if config.like_rate is None else torch.zeros(len(text))
    table = ItemTable(text, config.hybrid, popularity_weight=config.popularity_weight, like_odds=odds)
    if own is not None:
        load_tables(folder, table, config)
        table.memory = load_memory(folder, len(own), config)
    head = empty_candidate_head(config.head, backbone.config, saved_head(folder, config), heads)
    model: Any = RecModel.from_backbone(backbone, config.pooling, table, head, config.time_embedding)
    model.rec_texts = text_head
    if config.merged:
        load_heads(folder, model)
        model.requires_grad_(False).adaptation = adaptation
    else:
        model = load_adapter(model, folder)
    return model, processor, catalog


def saved_head(folder: Path, config: RecommenderConfig) -> set[str]:
    """Return the names of the weights of the folder's candidate head."""
    with safe_open(folder / (HEAD_WEIGHTS if config.merged else ADAPTER_WEIGHTS), framework="pt") as file:
        return {name.partition("candidate_head.")[2] for name in file.keys() if "candidate_head." in name}  # noqa: SIM118


def base_checkpoint(folder: Path, config: RecommenderConfig, base_model: str | None, token: str | None) -> Checkpoint:
    """Return the checkpoint that holds the backbone: the base model's, or the folder itself where all is merged.

    Raises:
        FileNotFoundError: if it cannot be found.
        ValueError: if its weights are not those the adapter was trained on, or a merged model is given a base.
    """
    if config.merged:
        if base_model is not None:
            raise ValueError(f"base_model={base_model!r} goes with an adapter; {str(folder)!r} holds a merged model.")
        return Checkpoint(config.base_model, folder, config.base_revision, MERGED)
    checkpoint = resolve_checkpoint(
        base_model or config.base_model,
        None if base_model else config.base_revision,
        token,
        relative_to=os.curdir if base_model else folder,
    )
    if config.base_sha256 is not None and checkpoint.sha256() != config.base_sha256:
        raise ValueError(
            f"base checkpoint {checkpoint.name!r} ({checkpoint.origin}, commit {checkpoint.revision}) has other "
            "weights than the adapter was trained on.\nGive the right one with base_model=, or train again."
        )
    return checkpoint
