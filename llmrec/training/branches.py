"""Branches of a training batch: at some positions of each window, the next item and negatives read the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from llmrec.models.modeling import RecModel
from llmrec.text.batch import PADDING, Branch, Pass
from llmrec.text.processor import ItemTexts, Processor
from llmrec.training.negatives import KINDS, draw_negatives


@dataclass
class BranchSettings:
    """What a candidate head is trained on.

    Raises:
        ValueError: if a value is out of range.
    """

    num_positions: int = 2
    num_negatives: int = 15
    kinds: Sequence[str] = field(default_factory=lambda: ["proposed", "popular", "text"])
    num_proposed: int = 50
    mask_seen: bool = True

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise ValueError(f"negatives {unknown[0]!r}: give some of {', '.join(KINDS)}.")
        if not self.kinds or (self.mask_seen and set(self.kinds) == {"history"}):
            raise ValueError(f"negatives {list(self.kinds)!r}: nothing to draw from; add proposed or popular.")
        for name in ("num_positions", "num_negatives", "num_proposed"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: give at least 1.")


def branched(
    passes: Sequence[Pass],
    labels: Tensor,
    states: Tensor,
    model: RecModel,
    processor: Processor,
    texts: ItemTexts,
    settings: BranchSettings,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], Tensor]:
    """Hang candidates on some positions of each window, drawn anew.

    Where all negatives are `proposed`, only positions count whose positive is proposed too, unless there are none: else
    what tells the positive from its negatives is that the dual head did not propose it, and the candidate head learns
    to turn proposals around. Negatives of other kinds differ from the proposals that a cascade ranks, and cost it.

    Args:
        passes: B windows.
        labels: (B, L) row of the item after each event, negative where it is not trained.
        states: (B, L, D) user states after each event, by which the dual head proposes.
        model: its item table and head.
        processor: writes candidates.
        texts: the items' attributes.
        settings: how many, of which kinds.
        generator: source of randomness, on the CPU.

    Returns:
        The batch with its branches, on the CPU, and (P, 1 + K) the place of each position's candidates among the flat
        (B * C): the positive first, negative numbers where there is none.
    """
    row, event = torch.nonzero(labels >= 0, as_tuple=True)  # (P,) every labelled position
    table = model.rec_items()
    seen = torch.zeros(len(row), len(table.text), dtype=torch.bool, device=labels.device)
    for number, (window, last) in enumerate(zip(row.tolist(), event.tolist(), strict=True)):
        seen[number, torch.as_tensor(passes[window].items[: last + 1])] = True
    items = model.rec_head.item_embeddings(table.text, table.output_residual)
    scores = states[row, event] @ items.T * model.rec_head.scale
    scores = scores if table.bias is None else scores + table.bias
    chosen = torch.ones(len(row), dtype=torch.bool, device=labels.device)
    if set(settings.kinds) == {"proposed"}:
        among = scores.masked_fill(seen, -torch.inf) if settings.mask_seen else scores
        own = among.gather(1, labels[row, event][:, None])
        proposed = (among > own).sum(1) < settings.num_proposed
        chosen = proposed if proposed.any() else chosen
    random = torch.full(labels.shape, -1.0, device=labels.device)
    random[row[chosen], event[chosen]] = torch.rand(int(chosen.sum()), generator=generator).to(labels.device)
    place = random.argsort(dim=1, descending=True).argsort(dim=1)  # of each position in its window's random order
    chosen &= place[row, event] < settings.num_positions
    row, event, seen, scores = row[chosen], event[chosen], seen[chosen], scores[chosen]
    wanted = labels[row, event]
    negatives = draw_negatives(
        settings.kinds,
        settings.num_negatives,
        wanted,
        scores,
        model.rec_items.counts,
        table.text,
        seen,
        settings.mask_seen,
        settings.num_proposed,
        generator,
    )
    candidates = torch.cat([wanted[:, None], negatives], dim=1).tolist()
    hanging: list[list[Branch]] = [[] for _ in passes]
    places = torch.full((len(row), len(candidates[0])), PADDING)
    for number, (window, last) in enumerate(zip(row.tolist(), event.tolist(), strict=True)):
        for column, item in enumerate(candidates[number]):
            if item != PADDING:
                places[number, column] = len(hanging[window])
                hanging[window].append(Branch(item, processor.candidate_block(texts.attributes(item)), last))
    batch: dict[str, Any] = dict(
        processor.batch([replace(one, branches=own) for one, own in zip(passes, hanging, strict=True)])
    )
    width = batch["candidates"].shape[1]
    return batch, torch.where(places == PADDING, PADDING, places + (row.cpu() * width)[:, None])
