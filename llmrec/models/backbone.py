"""The pretrained checkpoint: loading it, knowing its family, and finding out whether it honours a mask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, Cache, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from llmrec.checkpoints import Checkpoint
from llmrec.formatting import printable
from llmrec.models.attention import attention_mask
from llmrec.models.costs import check_architecture, check_tokenizer
from llmrec.untrusted import refusals

ATTENTION = ("sdpa", "eager")
"""Attention implementations that honour the additive mask on every device; flash and flex attention do not."""
ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"}
"""What the families call it."""
LEAK_TOLERANCE = 1e-4


def is_causal(config: Any) -> bool:
    """Tell a decoder (GPT, Llama) from an encoder (BERT) by its configuration."""
    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and (
        config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or bool(getattr(config, "is_decoder", False))
    )


def load_backbone(
    checkpoint: Checkpoint, attn_implementation: str | None = None, attention_dropout: float | None = None
) -> PreTrainedModel:
    """Load the checkpoint's model without any task head, in float32, and check that it honours masks.

    Args:
        checkpoint: where it lies.
        attn_implementation: sdpa or eager; None takes sdpa where the architecture has it, else eager.
        attention_dropout: share of attention weights that training leaves out; None keeps the checkpoint's own.

    Raises:
        ValueError: if the architecture cannot take llmrec's masks, the attention implementation is not supported, or
            the settings ask for what is no plain checkpoint.
    """
    if attn_implementation is not None and attn_implementation not in ATTENTION:
        raise ValueError(f"attn_implementation={attn_implementation!r} is not one of {', '.join(ATTENTION)}.")
    config = read_config(checkpoint.path, checkpoint.name)
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{checkpoint.name!r} is an encoder-decoder ({config.model_type}); give an encoder or a decoder."
        )
    check_architecture(config, checkpoint.path)
    if attention_dropout is not None:
        for name in ATTENTION_DROPOUT & set(config.to_dict()):
            setattr(config, name, attention_dropout)
    with refusals("checkpoint", checkpoint.path):
        backbone = AutoModel.from_pretrained(
            checkpoint.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attn_implementation,  # None too: never what config.json names, perhaps code
        )
    if hasattr(backbone, "pooler"):
        backbone.pooler = None  # unused: states are pooled per event
    check_backbone(backbone, checkpoint.name)
    return backbone


def read_config(folder: Path, name: str) -> Any:
    """Read the settings of a checkpoint, which may be a stranger's.

    Raises:
        ValueError: if they are none of an architecture that transformers has, or there are an adapter's beside them,
            which transformers would load unasked.
    """
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{name!r} is a checkpoint with an adapter beside it (adapter_config.json), which would be loaded unasked."
            "\nGive a checkpoint of a whole model."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except OSError:
        raise
    except Exception as error:  # whatever the file of a stranger makes of the library that reads it
        raise ValueError(
            f"config.json of {name!r} is none of an architecture that transformers has: {_reason(error)}.\n"
            "llmrec runs no code of a repository; give a checkpoint such as a BERT or a Llama."
        ) from None


def load_tokenizer(folder: Any) -> Any:
    """Load the fast tokenizer of a checkpoint or saved folder; it never pads or cuts by itself here.

    Raises:
        ValueError: if its files are no fast tokenizer, or need code of their own.
    """
    check_tokenizer(Path(folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        fast = getattr(tokenizer, "is_fast", False) and bool(tokenizer("a word"))
    except (OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever the files make of the libraries that read them; compiled ones panic
        raise ValueError(
            f"{str(folder)!r} has no tokenizer that can be read: {_reason(error)}.\nllmrec reads a fast tokenizer "
            "(tokenizer.json, tokenizer_config.json) and runs no code of a repository; save or download it again."
        ) from None
    if not fast:
        raise ValueError(f"{str(folder)!r} has no fast tokenizer (tokenizer.json), which llmrec needs.")
    return tokenizer


def _reason(error: BaseException) -> str:
    """Return the first line of what a library says."""
    return f"{type(error).__name__}: {printable((str(error).strip() or 'no reason given').splitlines()[0][:200])}"


def position_offset(backbone: nn.Module) -> int:
    """Return the number of the first position: RoBERTa-style models count from behind their padding index."""
    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def max_positions(backbone: PreTrainedModel) -> int:
    """Return how many tokens a row may have."""
    return int(getattr(backbone.config, "max_position_embeddings", 1 << 30)) - position_offset(backbone)


@functools.cache
def cache_argument(forward: Callable[..., Any]) -> str:
    """Return what the `forward` of an architecture calls its cache: transformers 5.24 renamed the argument."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def run_backbone(
    backbone: PreTrainedModel, embeddings: Tensor, position_ids: Tensor, mask: Tensor, cache: Cache | None = None
) -> Tensor:
    """Return the last hidden states (B, T, D) of embeddings (B, T, D).

    Args:
        backbone: encoder or decoder; both honour the mask and fill the cache.
        embeddings: of the tokens to read.
        position_ids: (B, T).
        mask: (B, 1, T, S + T), S tokens being in the cache already.
        cache: keys and values of those, to which these tokens' are added.
    """
    caching = {} if cache is None else {cache_argument(type(backbone).forward): cache}
    return backbone(
        inputs_embeds=embeddings,
        position_ids=position_ids,
        attention_mask=mask,
        use_cache=cache is not None,
        **caching,
    ).last_hidden_state


def load_with_head(kind: Any, checkpoint: Checkpoint) -> Any:
    """Return the checkpoint as an auto class builds it, float32, and the report of what its files lacked."""
    return kind.from_pretrained(
        checkpoint.path,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation=None,  # none that its config names, which may be code to download
        output_loading_info=True,
    )


@torch.no_grad()
def check_backbone(backbone: PreTrainedModel, name: str) -> None:
    """Raise ValueError if later events reach earlier states, or if the model takes no positions or embeddings.

    Architectures differ in whether they honour a mask of their caller, so each is asked once, with six tokens.
    """
    accepted = inspect.signature(backbone.forward).parameters
    if missing := [word for word in ("inputs_embeds", "position_ids", "attention_mask") if word not in accepted]:
        raise ValueError(
            f"{name!r} ({backbone.config.model_type}) takes no {', '.join(missing)}; llmrec cannot use it."
        )
    training = backbone.training
    backbone.eval()
    block = torch.tensor([[0, 1, 1, 2, 2, 3]])
    mask = attention_mask(block, causal=is_causal(backbone.config))
    tokens = torch.arange(1, 7)[None]
    changed = torch.where(block >= 2, tokens + 5, tokens)
    embed = backbone.get_input_embeddings()
    positions = torch.arange(6)[None] + position_offset(backbone)
    width, hidden_size = embed(tokens).shape[-1], backbone.config.hidden_size
    if width != hidden_size:
        raise ValueError(
            f"{name!r} ({backbone.config.model_type}) has token embeddings of {width} numbers and states of "
            f"{hidden_size}.\nItem vectors enter beside tokens, so give a checkpoint where the two are equal."
        )
    try:
        before, after = (run_backbone(backbone, embed(ids), positions, mask) for ids in (tokens, changed))
    except (RuntimeError, IndexError, ValueError, AssertionError) as error:
        raise ValueError(
            f"{name!r} ({backbone.config.model_type}) takes no 4D attention mask: {str(error)[:100]}\n"
            "Use a checkpoint whose attention accepts one, such as BERT or Llama."
        ) from error
    finally:
        backbone.train(training)
    leak = (before - after)[block < 2].abs().max().item()
    if not leak <= LEAK_TOLERANCE:
        raise ValueError(
            f"{name!r} ({backbone.config.model_type}) does not honour attention masks: a later event changed an "
            f"earlier state by {leak:.2g}.\nUse a checkpoint whose attention accepts a 4D mask, such as BERT or Llama."
        )
