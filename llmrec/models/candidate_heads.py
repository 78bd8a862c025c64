"""Heads that score a candidate by the state of its own block, after it has read the history."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossHead(nn.Module):
    """Score = g * dual score + w . layer_norm(state) + b.

    The linear layer starts at zero. With g = 1 training starts at the ranking of the dual head, which the candidate's
    state then corrects; with g = 0 nothing but the state counts. g is learned.

    Args:
        hidden_size: D.
        dual_gate: where g starts.
    """

    def __init__(self, hidden_size: int, dual_gate: float = 1.0) -> None:
        super().__init__()
        self.dual_gate = nn.Parameter(torch.tensor(dual_gate))
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        """Return scores (...) of candidate states (..., D) and the dual head's scores (...) of the same candidates."""
        return self.dual_gate * dual + F.layer_norm(states, states.shape[-1:]) @ self.weight + self.bias


class VerbalizerHead(nn.Module):
    """Score = logit(yes) - logit(no) of the next token after the candidate's block (decoders).

    Nothing in it is learned: the adapter moves the states, the language model's own output vectors read them.

    Args:
        direction: (D,) output vector of the token for yes, minus that of the token for no.

    References:
        Verbalizers: Schick and Schütze 2021, arXiv:2001.07676, section 3.
    """

    direction: Tensor

    def __init__(self, direction: Tensor) -> None:
        super().__init__()
        self.register_buffer("direction", direction.detach().float().clone())

    def forward(self, states: Tensor, dual: Tensor) -> Tensor:
        """Return scores (...) of candidate states (..., D), the last of each block; `dual` is not looked at."""
        return states @ self.direction


def empty_candidate_head(kind: str, hidden_size: int) -> CrossHead | VerbalizerHead | None:
    """Return a head of the kind for a saved one to be loaded into; None for `dual`, which needs no other."""
    if kind == "cross":
        return CrossHead(hidden_size)
    return VerbalizerHead(torch.zeros(hidden_size)) if kind == "verbalizer" else None


def answer_token(tokenizer: object, word: str) -> int:
    """Return the token that a word is, as it stands after a space or at the start of a line.

    Raises:
        ValueError: if the vocabulary has no single token for it.
    """
    for text in (f" {word}", word):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
        if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:  # type: ignore[attr-defined]
            return ids[0]
    raise ValueError(
        f"answer {word!r} is no single token of this checkpoint's vocabulary, so it has no logit of its own.\n"
        'Give other words in the template, such as "answers": ["yes", "no"], or use the cross head.'
    )
