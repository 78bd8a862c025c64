"""Tiny random checkpoints with a tokenizer of their own, saved as folders that look like any other checkpoint."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

VOCABULARY = """
history unnamed item the next day hours days weeks months years later title of
heat alien brazil casino fargo matrix memento seven speed twister vertigo zodiac gravity rocky jaws
red blue green large small wooden steel hammer saw drill screw nail glue tape brush paint ladder bolt
drama comedy crime thriller acme bosch
"""
WORDS = VOCABULARY.split()
HIDDEN_SIZE = 32
MAX_POSITIONS = 1024

_SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_size": HIDDEN_SIZE}
# Far wider than pretraining's 0.02, so that attention is sharp and a leak of one token is loud.
_RANDOM = {"initializer_range": 0.4, "max_position_embeddings": MAX_POSITIONS}


def save_checkpoint(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a random model of the family and its tokenizer to `folder`, and return it."""
    tokenizer = word_pieces() if family == "bert" else byte_pairs(family)
    tokenizer.save_pretrained(folder)
    random_model(family, len(tokenizer), seed).save_pretrained(folder)
    return folder


def random_model(family: str, vocab_size: int, seed: int = 0) -> PreTrainedModel:
    """Build a model of the family from random numbers."""
    torch.manual_seed(seed)
    if family == "bert":
        return BertModel(BertConfig(vocab_size=vocab_size, **_SHAPE, **_RANDOM))
    if family == "llama":
        special = {"bos_token_id": 0, "eos_token_id": 2}
        config = LlamaConfig(vocab_size=vocab_size, num_key_value_heads=2, **_SHAPE, **_RANDOM, **special)
        return LlamaModel(config)
    if family == "roberta":
        positions = {"max_position_embeddings": MAX_POSITIONS + 2, "pad_token_id": 1}
        config = RobertaConfig(vocab_size=vocab_size, **{**_SHAPE, **_RANDOM, **positions})
        return RobertaModel(config)
    if family == "gpt2":
        shape = {"n_embd": HIDDEN_SIZE, "n_layer": 2, "n_head": 4, "n_positions": MAX_POSITIONS}
        special = {"bos_token_id": 0, "eos_token_id": 0}
        config = GPT2Config(vocab_size=vocab_size, initializer_range=_RANDOM["initializer_range"], **shape, **special)
        return GPT2Model(config)
    raise ValueError(f"family {family!r} is none of bert, llama, roberta, gpt2")


def word_pieces() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer as BERT has it: the words above, and characters for everything else."""
    characters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *characters, *(f"##{character}" for character in characters), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, special.index(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)


def byte_pairs(family: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: as RoBERTa has it, as Llama (bos, no pad), or as GPT-2 (one special token)."""
    special = ["<|endoftext|>"] if family == "gpt2" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: dict[tuple[str, str], None] = {}  # every word is read from the left, a letter at a time
    for word in WORDS:
        for start in ("", "Ġ"):
            letters = start + word
            merges |= {(letters[:end], letters[end]): None for end in range(1, len(letters))}
    vocabulary += [left + right for left, right in merges]
    numbers = {piece: index for index, piece in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.BPE(numbers, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if family == "gpt2":
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[0])
    if family == "llama":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", mask_token="<mask>", **names)
