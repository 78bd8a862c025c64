"""The table of known items: frozen text embeddings and, in `hybrid`, what is learned of each item beyond its text."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ItemTable(nn.Module):
    """Per-item tensors, apart from the head because peft copies what it saves and a catalogue can be large.

    Args:
        text: (N, D) unit rows: frozen embeddings of the items' texts.
        hybrid: whether to learn residuals and biases; they start at zero, so that step 0 is the text alone.

    Attributes:
        residual_dropout: share of items whose residuals are dropped in a training step: text alone keeps working.
    """

    text: Tensor

    def __init__(self, text: Tensor, hybrid: bool) -> None:
        super().__init__()
        self.register_buffer("text", text, persistent=False)
        self.hybrid = hybrid
        self.residual_dropout = 0.0
        if hybrid:
            self.input_residual = nn.Parameter(torch.zeros_like(text))
            self.output_residual = nn.Parameter(torch.zeros_like(text))
            self.bias = nn.Parameter(torch.zeros(len(text)))

    def __len__(self) -> int:
        return len(self.text)

    def forward(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the text (N, D), and the input and output residuals (N, D) as this step uses them, or None."""
        if not self.hybrid:
            return self.text, None, None
        if not self.training or not self.residual_dropout:
            return self.text, self.input_residual, self.output_residual
        kept = torch.rand(len(self), 1, device=self.text.device) >= self.residual_dropout
        return self.text, self.input_residual * kept, self.output_residual * kept

    @torch.no_grad()
    def extend(self, text: Tensor) -> ItemTable:
        """Return a table with new items behind the known ones: text only, residuals and biases zero.

        Args:
            text: (M, D) unit rows.
        """
        extended = ItemTable(torch.cat([self.text, text.to(self.text)]), self.hybrid).to(self.text.device)
        for own, new in zip(self.parameters(), extended.parameters(), strict=True):
            new[: len(self)] = own
            new.requires_grad_(own.requires_grad)
        return extended.train(self.training)

    @torch.no_grad()
    def select(self, rows: Tensor) -> ItemTable:
        """Return a table of the given rows (M,), in their order."""
        rows = rows.to(self.text.device)
        selected = ItemTable(self.text[rows], self.hybrid).to(self.text.device)
        for own, new in zip(self.parameters(), selected.parameters(), strict=True):
            new.copy_(own[rows])
            new.requires_grad_(own.requires_grad)
        return selected.train(self.training)
