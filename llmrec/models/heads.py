"""Scoring heads. `DualHead` turns histories and items into unit vectors whose inner product is the score."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DualHead(nn.Module):
    """User states and item embeddings for retrieval over the whole catalogue.

    c(i) = normalise(P text(i) + r_i) and c(u) = normalise(a content(u) + b normalise(W state(u))), where content(u)
    is the recency-weighted mean of the history's c(i). The score is c(u) . c(i) / tau + bias_i; its sigmoid is the
    probability R(u, i). P and W start at the identity and b at zero; a recommender's P and decay start where histories
    put its items, whitened (`start_from`). So step 0 is a content baseline, and popularity as `ItemTable` adds it.

    Everything is computed in float32, under autocast too.

    Args:
        hidden_size: D, the width of the backbone and of the item texts' embeddings.
        decay: starting weight of an event relative to the next one.
        temperature: starting tau.
    """

    def __init__(self, hidden_size: int, decay: float = 0.7, temperature: float = 0.05) -> None:
        super().__init__()
        # Zero, so that step 0 reads what the base model reads; an event's item vector enters its tokens through it.
        self.enter = nn.Parameter(torch.zeros(hidden_size, hidden_size))
        self.item_projection = nn.Parameter(torch.eye(hidden_size))
        self.state_projection = nn.Parameter(torch.eye(hidden_size))
        self.content_gate = nn.Parameter(torch.tensor(1.0))
        self.state_gate = nn.Parameter(torch.tensor(0.0))
        self.decay_logit = nn.Parameter(torch.tensor(math.log(decay / (1 - decay))))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def start_from(self, projection: Tensor) -> None:
        """Let P start at (D, D) `projection`."""
        self.item_projection.data.copy_(projection)

    @property
    def scale(self) -> Tensor:
        """1 / tau, at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    def input_vectors(self, text: Tensor, residual: Tensor | None) -> Tensor:
        """Return what an item adds to the token embeddings of its events.

        Args:
            text: (..., D) frozen text embeddings.
            residual: (..., D) learned input residuals, or None.
        """
        entering = text @ self.enter.T
        return entering if residual is None else entering + residual

    def item_embeddings(self, text: Tensor, residual: Tensor | None) -> Tensor:
        """Return c(i), (N, D) unit rows, of frozen text embeddings (N, D) and output residuals (N, D) or None."""
        projected = F.normalize(text @ self.item_projection.T, dim=-1)
        return projected if residual is None else F.normalize(projected + residual, dim=-1)

    def content(self, events: Tensor, real: Tensor) -> Tensor:
        """Return the recency-weighted mean of what a history held after each event.

        Args:
            events: (B, L, D) c(i) of the events' items.
            real: (B, L) False for padding, which stands behind the real events.

        Returns:
            (B, L, D) unit rows.
        """
        order = torch.arange(events.shape[1], device=events.device)
        age = order[:, None] - order[None, :]
        decay = torch.sigmoid(self.decay_logit)
        weights = torch.where(age >= 0, decay ** age.clamp(min=0), torch.zeros((), device=events.device))
        return F.normalize(weights @ (events * real[..., None]), dim=-1)

    def user_states(self, states: Tensor, events: Tensor, real: Tensor) -> Tensor:
        """Return c(u) after each event.

        Args:
            states: (B, L, D) pooled states of the language model.
            events: (B, L, D) c(i) of the events' items.
            real: (B, L) False for padding.

        Returns:
            (B, L, D) unit rows.
        """
        read = F.normalize(states @ self.state_projection.T, dim=-1)
        return F.normalize(self.content_gate * self.content(events, real) + self.state_gate * read, dim=-1)
