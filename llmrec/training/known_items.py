"""The items that have a training event, among which a softmax chooses: of others there is nothing to learn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from llmrec.losses.catalogue import IGNORED, CatalogueLoss, full_softmax
from llmrec.models.modeling import RecModelOutput
from llmrec.text.batch import PADDING


class KnownItems(NamedTuple):
    """M of the N items, numbered anew."""

    rows: Tensor
    """(M,) their rows among all items."""
    number: Tensor
    """(N,) each item's place among them, negative where it is not."""

    @classmethod
    def of(cls, counts: Tensor) -> KnownItems:
        """Number the items whose count of training targets, (N,), is not zero.

        >>> known = KnownItems.of(torch.tensor([3, 0, 1]))
        >>> known.rows.tolist(), known.number.tolist()
        ([0, 2], [0, -1, 1])
        """
        rows = torch.nonzero(counts)[:, 0]
        number = torch.full_like(counts, PADDING)
        number[rows] = torch.arange(len(rows), device=counts.device)
        return cls(rows, number)

    def softmax(
        self,
        output: RecModelOutput,
        labels: Tensor,
        seen: Tensor | None,
        weights: Tensor | None = None,
        loss: CatalogueLoss | None = None,
    ) -> Tensor:
        """Return `full_softmax` against the known items alone.

        Args:
            output: Of a pass whose `catalogue` was these rows, so that the known items stand first.
            labels: (B, L) row of the next event's item among all, or negative where it is not trained.
            seen: (B, L) row of each event's own item among all, negative for padding, or None.
            weights: (B, L) what each position counts, or None.
            loss: what takes the place of `catalogue_softmax`.
        """
        labels = torch.where(labels >= 0, self.number[labels.clamp(min=0)], IGNORED)
        seen = None if seen is None else torch.where(seen >= 0, self.number[seen.clamp(min=0)], PADDING)
        known = slice(len(self.rows))
        bias = None if output.bias is None else output.bias[known]
        return full_softmax(output.states, output.embeddings[known], output.scale, bias, labels, seen, weights, loss)
