"""A checkpoint, a catalogue and settings become a model that ranks by text and is ready to be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from llmrec.checkpoints import Checkpoint, resolve_checkpoint
from llmrec.configuration import CONFIG_NAME, HEADS, TIME_PARTS, ItemEncoding, RecommenderConfig
from llmrec.data.catalog import Catalog
from llmrec.hub.checks import check_folder
from llmrec.hub.item_space import SavedItemSpace, read_item_space
from llmrec.hub.settings import ModelArguments
from llmrec.models.adapter import add_adapter, continue_adapter
from llmrec.models.backbone import check_asked, load_backbone, load_tokenizer
from llmrec.models.candidate_heads import CandidateHead, CrossHead, VerbalizerHead, answer_token, verbalizer_head
from llmrec.models.capabilities import is_causal
from llmrec.models.item_encoder import prompt_tokens, read_item_encoding
from llmrec.models.item_projection import whiten_items
from llmrec.models.items import ItemTable
from llmrec.models.modeling import RecModel
from llmrec.ranking.item_index import encode_catalog
from llmrec.text.processor import Processor
from llmrec.text.serializer import Serializer
from llmrec.text.template import PromptTemplate

MIN_ITEM_TOKENS = 4
"""Tokens of an item's own text that a prompt must leave room for."""


def assemble(
    arguments: ModelArguments,
    catalog: Catalog,
    has_clock: bool,
    counts: np.ndarray,
    text: Tensor | None = None,
    likes: tuple[float, np.ndarray] | None = None,
    own_head: type[CandidateHead] | None = None,
) -> tuple[PeftModel, Processor, RecommenderConfig, Checkpoint]:
    """Load the checkpoint, encode the catalogue once, and add a fresh adapter and head.

    Args:
        arguments: checkpoint, template, lengths and LoRA settings.
        catalog: the items to learn and rank.
        has_clock: whether the data's timestamps are times.
        counts: (N,) int64 how often each item is a target in training; one that never is, is read by its text alone.
        text: (N, D) the items' frozen text embeddings, where another recommender of these settings has them already.
        likes: where logits of labelled pairs start: the share of likes, and (N,) log-odds of each item's less its own;
            None for zero.
        own_head: a candidate head of the caller's own, whose name `arguments.head` is.

    Returns:
        The model, what reads for it, its settings, and the checkpoint that it adapts.

    Raises:
        ValueError: if the template needs attributes the items lack or cuts what nobody reads, lengths exceed the
            checkpoint's, or it cannot do what the head or the query needs.
        FileNotFoundError: if there is no such checkpoint or template.
    """
    template = PromptTemplate.load(arguments.template)
    template.check_fields(set(catalog.frame.columns) - {"item_id"})
    if template.max_words and not template.event and arguments.head == "dual":
        raise ValueError(
            f"max_words {dict(template.max_words)!r} cuts nothing: events have no words, and a dual head reads no "
            "candidates.\nTake it out of the template, or cut items' own texts with max_item_tokens."
        )
    checkpoint = resolve_checkpoint(arguments.base_model, arguments.base_revision)
    backbone = load_backbone(checkpoint, arguments.attn_implementation, arguments.attention_dropout)
    causal = is_causal(backbone)
    time_parts = list(TIME_PARTS) if arguments.time_embedding == ["all"] else arguments.time_embedding
    texts = read_item_encoding(checkpoint, backbone.config.hidden_size)
    config = RecommenderConfig(
        base_model=checkpoint.name,
        base_revision=checkpoint.revision,
        base_sha256=checkpoint.sha256(),
        head=arguments.head,
        hybrid=arguments.hybrid,
        popularity_weight=1.0 if arguments.popularity_weight is None else arguments.popularity_weight,
        like_rate=None if likes is None else likes[0],
        pooling=arguments.pooling or ("last" if causal else "mean"),
        max_tokens=arguments.max_tokens,
        max_vector_events=arguments.max_vector_events,
        window_overlap=arguments.window_overlap,
        max_item_tokens=min(arguments.max_item_tokens, texts.max_tokens or arguments.max_item_tokens),
        item_encoding=texts.encoding,
        max_candidate_tokens=arguments.max_candidate_tokens,
        has_clock=has_clock,
        adapted_on=adapted_on(arguments, checkpoint),
        time_embedding=time_parts if has_clock else [],
    )
    processor = Processor(Serializer(template, has_clock), load_tokenizer(checkpoint.path), config)
    check_asked(backbone, checkpoint.name, config.head, processor.asks_now)
    if own_head is not None:
        candidate_head: CandidateHead | VerbalizerHead | None = own_head(backbone.config.hidden_size)
    else:
        candidate_head = new_candidate_head(arguments, backbone, checkpoint, processor)
    text_head = texts.head(processor.tokenizer)
    check_prompt(texts.encoding, config.max_item_tokens, processor.tokenizer)
    text = encode_catalog(backbone, processor, catalog, text_head, progress=True) if text is None else text
    odds = None if likes is None else torch.from_numpy(likes[1]).float()
    table = ItemTable(text, config.hybrid, torch.from_numpy(counts), config.popularity_weight, odds)
    bare = RecModel.from_backbone(backbone, config.pooling, table, candidate_head, config.time_embedding)
    bare.rec_texts = text_head
    space = started_from(arguments, checkpoint)
    if space is not None and space.is_of(text):
        space.start(bare.rec_head)
    elif arguments.whiten:
        whiten_items(bare.rec_head, text)
    model = add_adapter(
        bare,
        rank=arguments.lora_r,
        alpha=arguments.lora_alpha,
        dropout=arguments.lora_dropout,
        targets=arguments.lora_target_modules,
    )
    if arguments.init_adapter is not None:
        continue_adapter(model, Path(arguments.init_adapter))
    return model, processor, config, checkpoint


def lora_settings(config: LoraConfig) -> dict[str, Any]:
    """Return the settings of a LoRA that assembly knows.

    Raises:
        ValueError: if it asks for what is no plain LoRA.

    >>> lora_settings(LoraConfig(r=4, target_modules=["query"]))["lora_target_modules"]
    ['query']
    """
    known = {"r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
    known["target_modules"] = "lora_target_modules"
    usual, values = vars(LoraConfig()), vars(config)
    if other := sorted(name for name in set(values) - set(known) if values[name] != usual.get(name)):
        raise ValueError(f"peft_config sets {other[0]}={values[other[0]]!r}: give {', '.join(known)} alone.")
    targets = config.target_modules
    layers = sorted(targets) if isinstance(targets, (set, list)) else targets
    return {name: getattr(config, key) for key, name in known.items()} | {"lora_target_modules": layers}


def check_prompt(encoding: ItemEncoding, max_item_tokens: int, tokenizer: Any) -> None:
    """Raise ValueError if the checkpoint's prompt leaves no room for an item's text."""
    if (taken := prompt_tokens(encoding, tokenizer)) + MIN_ITEM_TOKENS > max_item_tokens:
        raise ValueError(
            f"max_item_tokens={max_item_tokens!r}: the checkpoint's prompt {encoding.prompt[:60]!r} takes {taken} of "
            f"them, and an item's text needs {MIN_ITEM_TOKENS}.\nGive at least {taken + MIN_ITEM_TOKENS}."
        )


def adapted_on(arguments: ModelArguments, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return what the adapter that training starts from has read, or the checkpoint if it was adapted; else None.

    Raises:
        FileNotFoundError: if there is no such adapter.
        ValueError: if it adapts another checkpoint, or is none but a checkpoint itself.
    """
    if arguments.init_adapter is None:
        adapted = (checkpoint.path / CONFIG_NAME).is_file()
        return RecommenderConfig.load(checkpoint.path).adapted_on if adapted else None
    check_folder(Path(arguments.init_adapter))
    config = RecommenderConfig.load(arguments.init_adapter)
    if config.merged:
        raise ValueError(
            f"init_adapter {arguments.init_adapter!r} holds whole weights and no LoRA: give it as --base_model."
        )
    if config.base_sha256 != checkpoint.sha256():
        raise ValueError(
            f"init_adapter {arguments.init_adapter!r} adapts {config.base_model!r}, whose weights are not those of "
            f"{checkpoint.name!r}.\nGive its base with --base_model."
        )
    return config.adapted_on


def started_from(arguments: ModelArguments, checkpoint: Checkpoint) -> SavedItemSpace | None:
    """Return the item space of the folder that training starts from, None where that is a bare checkpoint.

    It is of use for the folder's own items alone: learned of others it ranks worse than none.
    """
    folder = checkpoint.path if arguments.init_adapter is None else Path(arguments.init_adapter)
    if not (folder / CONFIG_NAME).is_file():
        return None
    return read_item_space(folder, RecommenderConfig.load(folder))


def new_candidate_head(
    arguments: ModelArguments, backbone: PreTrainedModel, checkpoint: Checkpoint, processor: Processor
) -> CandidateHead | VerbalizerHead | None:
    """Return the head that scores candidates, as it starts, or None where the dual head is all there is.

    Raises:
        ValueError: if a verbalizer's answers are no tokens of the vocabulary, or its scores would not be those of the
            checkpoint's language model.
    """
    if arguments.head == "dual":
        return None
    if arguments.head == "cross":
        return CrossHead(backbone.config.hidden_size, arguments.dual_gate)
    if arguments.head != "verbalizer":
        raise ValueError(f"head={arguments.head!r} is not one of {', '.join(HEADS)}.")
    tokens = [answer_token(processor.tokenizer, word) for word in processor.serializer.template.answers]
    return verbalizer_head(backbone, checkpoint, tokens)
