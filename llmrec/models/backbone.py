"""The pretrained checkpoint: loading it and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from llmrec.checkpoints import Checkpoint
from llmrec.models.capabilities import capabilities, check_backbone, first_line
from llmrec.models.costs import check_architecture, check_tokenizer
from llmrec.untrusted import refusals

ATTENTION = ("sdpa", "eager")
"""Attention implementations that honour the additive mask on every device; flash and flex attention do not."""
ATTENTION_DROPOUT = {"attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"}
"""What the families call it."""


def load_backbone(
    checkpoint: Checkpoint, attn_implementation: str | None = None, attention_dropout: float | None = None
) -> PreTrainedModel:
    """Load the checkpoint's model without any task head, in float32, and find out what it can do.

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


def check_asked(backbone: PreTrainedModel, name: str, head: str, asks_now: bool) -> None:
    """Raise ValueError unless the checkpoint can do what a head and query blocks need.

    Args:
        backbone: the checkpoint's model.
        name: what the checkpoint is called.
        head: dual, cross or verbalizer.
        asks_now: whether a query block stands behind a history.
    """
    can, kind = capabilities(backbone), f"{name!r} ({backbone.config.model_type})"
    asked = [f"head={head!r}"] * (head != "dual") + ["the moment of the request (time_embedding, a query)"] * asks_now
    if asked and not can.branches:
        raise ValueError(
            f"{' and '.join(asked)}: {kind} reads no branches, for {can.lacks}.\n"
            "It allows the dual head, without time_embedding and a query in the template.\n"
            "Ask for that, or give another checkpoint."
        )
    if head == "verbalizer" and not can.causal:
        raise ValueError(f"{kind} is an encoder and predicts no next token.\nUse the cross head, or give a decoder.")


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
            f"config.json of {name!r} is none of an architecture that transformers has: {first_line(error)}.\n"
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
            f"{str(folder)!r} has no tokenizer that can be read: {first_line(error)}.\nllmrec reads a fast tokenizer "
            "(tokenizer.json, tokenizer_config.json) and runs no code of a repository; save or download it again."
        ) from None
    if not fast:
        raise ValueError(f"{str(folder)!r} has no fast tokenizer (tokenizer.json), which llmrec needs.")
    return tokenizer


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
