"""The table of known items: frozen text embeddings and, in `hybrid`, what is learned of each item beyond its text."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llmrec.models.memory import Memory

SHRINKAGE = 5.0
"""Training targets at which half of what was learned of an item counts."""
PSEUDO_COUNT = 10.0
"""Training targets that every item is given beside its own, where it is ranked: rare ones say little."""


def smoothed_popularity(counts: Tensor) -> Tensor:
    """Return log(1 + n / `PSEUDO_COUNT`) of counts (...): zero for new items, and near it for rare ones."""
    return torch.log1p(counts / PSEUDO_COUNT)


class Items(NamedTuple):
    """What one step uses of the table; all but `text` are None without `hybrid`."""

    text: Tensor
    """(N, D) frozen embeddings of the items' texts."""
    input_residual: Tensor | None
    """(N, D) what an item adds to the tokens of its events."""
    output_residual: Tensor | None
    """(N, D) what it adds to its embedding."""
    bias: Tensor | None
    """(N,) what it adds to its score."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Items:
        """Return what a function makes of each tensor that is there, such as some of the rows."""
        rest = (None if each is None else function(each) for each in self[1:])
        return Items(function(self.text), *rest)


class ItemTable(nn.Module):
    """Per-item tensors, apart from the head because peft copies what it saves and a catalogue can be large.

    What is learned of an item is multiplied by n / (n + `SHRINKAGE`), n its training targets: nothing of an item that
    was never one, half after five. A full softmax pushes every item away wherever it is not the target, and Adam makes
    steps of one size of gradients however small, so that without it what is "learned" of rare items is that they are
    never wanted.

    Popularity is no matter of learning either: in training log(1 + n) stands in the score from the start (logit
    adjustment, Menon et al. 2021, arXiv:2007.07314, eq. 10), so that residuals and projection learn what a history says
    about an item. How much popularity a ranking should have is decided afterwards, of `smoothed_popularity`: what comes
    next is a rare or a new item more often than counts say, which every target of training is part of.

    Args:
        text: (N, D) unit rows: frozen embeddings of the items' texts.
        hybrid: whether to learn residuals and biases; they start at zero.
        counts: (N,) int64 how often each item is a target in training, about; never by default.
        popularity_weight: how much of `smoothed_popularity` is in scores outside training.
        like_odds: (N,) log-odds that an item is liked, less those of all items together; labelled pairs start from
            them. None where nothing is known of likes; zero for new items.

    Attributes:
        residual_dropout: share of items of which a training step uses nothing learned: text alone keeps working.
        adjusts: whether log(1 + n) stands in the scores of training, for a softmax over items; else what stands in
            others does, as for labelled pairs, which are judged by their very logits.
        memory: what is remembered of these items beside what is learned; None where there is no memory.
        edition: another object for each table, by which others can tell that their items were exchanged.
    """

    text: Tensor
    counts: Tensor
    like_odds: Tensor | None

    def __init__(
        self,
        text: Tensor,
        hybrid: bool,
        counts: Tensor | None = None,
        popularity_weight: float = 1.0,
        like_odds: Tensor | None = None,
    ) -> None:
        super().__init__()
        counts = torch.zeros(len(text), dtype=torch.int64, device=text.device) if counts is None else counts
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("like_odds", like_odds, persistent=False)
        self.hybrid = hybrid
        self.popularity_weight = popularity_weight
        self.residual_dropout = 0.0
        self.adjusts = True
        self.memory: Memory | None = None
        self.edition = object()
        if hybrid:
            self.input_residual = nn.Parameter(torch.zeros_like(text))
            self.output_residual = nn.Parameter(torch.zeros_like(text))
            self.bias = nn.Parameter(torch.zeros(len(text)))

    def __len__(self) -> int:
        return len(self.text)

    def forward(self, rows: Tensor | None = None) -> Items:
        """Return what this step uses of every item, or of the given rows (M,) alone."""

        def chosen(tensor: Tensor) -> Tensor:
            return tensor if rows is None else tensor.index_select(0, rows)  # its backward is faster than indexing's

        text, counts = chosen(self.text), chosen(self.counts)
        if not self.hybrid:
            return Items(text, None, None, None)
        trust = counts / (counts + SHRINKAGE)
        if self.training:
            kept = torch.rand(len(self), device=text.device) >= self.residual_dropout  # whoever else is in the batch
            trust = trust * chosen(kept)
        adjusts = self.training and self.adjusts
        prior = torch.log1p(counts) if adjusts else self.popularity_weight * smoothed_popularity(counts)
        return Items(
            text,
            trust[:, None] * chosen(self.input_residual),
            trust[:, None] * chosen(self.output_residual),
            trust * chosen(self.bias) + prior,
        )

    @torch.no_grad()
    def extend(self, text: Tensor) -> ItemTable:
        """Return a table with new items behind the known ones: text only, nothing learned.

        Args:
            text: (M, D) unit rows.
        """
        odds = None if self.like_odds is None else self.like_odds.new_zeros(len(text))
        new = ItemTable(text.to(self.text), self.hybrid, like_odds=odds)
        longer = self._made(lambda name, known: torch.cat([known, getattr(new, name).to(known)]))
        if self.memory is not None:
            longer.memory = self.memory.select([*range(len(self)), *[None] * len(text)])
        return longer

    @torch.no_grad()
    def select(self, rows: Tensor) -> ItemTable:
        """Return a table of the given rows (M,), in their order."""
        rows = rows.to(self.text.device)
        chosen = self._made(lambda name, known: known[rows])
        if self.memory is not None:
            chosen.memory = self.memory.select(rows.tolist())
        return chosen

    def _made(self, rows_of: Callable[[str, Tensor], Tensor]) -> ItemTable:
        """Return a table whose tensors are made of this one's, by name."""
        text, counts = rows_of("text", self.text), rows_of("counts", self.counts)
        odds = None if self.like_odds is None else rows_of("like_odds", self.like_odds)
        made = ItemTable(text, self.hybrid, counts, self.popularity_weight, odds).to(self.text.device)
        for name, own in self.named_parameters():
            getattr(made, name).copy_(rows_of(name, own)).requires_grad_(own.requires_grad)
        made.residual_dropout, made.adjusts = self.residual_dropout, self.adjusts
        return made.train(self.training)


class WithNewItems(nn.Module):
    """A table with new items behind its own: text only, nothing learned. The table is not copied.

    Args:
        table: of the N known items.
        text: (M, D) unit rows of the new ones.
    """

    table: ItemTable
    text: Tensor

    def __init__(self, table: ItemTable, text: Tensor) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("text", text, persistent=False)

    def __len__(self) -> int:
        return len(self.table) + len(self.text)

    def forward(self, rows: Tensor) -> Items:
        """Return what a step outside training uses of the given rows (M,)."""
        known = len(self.table)
        new = rows >= known
        items = self.table(torch.where(new, 0, rows))
        if not new.any():
            return items
        text = torch.where(new[..., None], self.text[(rows - known).clamp(min=0)].to(items.text), items.text)
        _, *learned = items.map(lambda each: each.masked_fill(new.view(-1, *[1] * (each.ndim - 1)), 0))
        return Items(text, *learned)
