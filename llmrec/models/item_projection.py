"""Where items lie, learned before anything else: what followed in a history, against items drawn at random.

Texts stay embedded as they are; P and the decay of the dual head's content path are all that is trained, which costs
little. A softmax over all items would find them too, but with popularity in it, and with LoRA, residuals and gates
moving at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from llmrec.losses.catalogue import IGNORED
from llmrec.models.heads import DualHead
from llmrec.models.whitening import whitening

MAX_EVENTS = 32
"""Newest events of a history that are read: the weight of older ones is lost in rounding."""
NUM_POSITIONS = 320
"""Positions trained at each step, about: all of the histories that are drawn."""
NUM_NEGATIVES = 1024
"""Items drawn at each step, among those in the histories."""
TEMPERATURE = 0.1
LEARNING_RATE, DECAY_LEARNING_RATE = 3e-3, 2e-2
WARMUP = 0.05
"""Share of the steps in which the learning rate rises; then it falls to zero."""


class ItemHistories(NamedTuple):
    """What is learned from: histories as rows of their items."""

    rows: list[np.ndarray]
    """Each (L,) in order of time, with two different items at least."""
    known: np.ndarray
    """(M,) the items among them, from which others are drawn."""

    @classmethod
    def of(cls, histories: Iterable[np.ndarray]) -> ItemHistories:
        """Keep the newest `MAX_EVENTS` events, and one to be told."""
        newest = (row[-MAX_EVENTS - 1 :] for row in histories)
        rows = [row for row in newest if len(np.unique(row)) > 1]
        return cls(rows, np.unique(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64))

    @property
    def suffice(self) -> bool:
        """Whether there is an item that the next one of a history could be told from."""
        return len(self.known) > 2

    @property
    def num_positions(self) -> int:
        """Positions of all histories."""
        return sum(len(row) - 1 for row in self.rows)


def learn_item_space(
    head: DualHead,
    text: Tensor,
    histories: ItemHistories,
    num_epochs: float,
    seed: int,
    mask_seen: bool = True,
    progress: bool = False,
) -> float:
    """Train the item projection and the decay of a head, and return the mean loss of the last tenth of the steps.

    Args:
        head: nothing else of it moves. Both start as of a bare checkpoint: the projection at the identity, for
            whitening comes after.
        text: (N, D) frozen embeddings of the items.
        histories: of those items, which `suffice`.
        num_epochs: as many positions are trained as that many passes over all histories have; these are drawn with
            replacement.
        seed: of the draws.
        mask_seen: whether items of a history are neither targets nor negatives in it.
        progress: show a bar over the steps.

    References:
        Sequence-item contrast: UniSRec (Hou et al. 2022), arXiv:2206.05941. There other users' next items are the
        negatives; here items drawn uniformly, so that popular ones are not pushed away.
    """
    random = np.random.default_rng(seed)
    num_steps = math.ceil(num_epochs * histories.num_positions / NUM_POSITIONS)
    number = max(1, round(NUM_POSITIONS * len(histories.rows) / histories.num_positions))
    rates = {"item_projection": LEARNING_RATE, "decay_logit": DECAY_LEARNING_RATE}
    fresh = DualHead(len(head.item_projection))
    head.start_from(fresh.item_projection.data)
    head.decay_logit.data.copy_(fresh.decay_logit.data)
    trained = [getattr(head, name) for name in rates]
    frozen = [weight for weight in trained if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    groups = [{"params": [weight], "lr": rate} for weight, rate in zip(trained, rates.values(), strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    rising = WARMUP * num_steps
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / max(rising, 1)) * (1 - step / num_steps)
    )
    losses = []
    for _ in tqdm(range(num_steps), "learning where items lie", unit="step", leave=False, disable=not progress):
        drawn = [histories.rows[index] for index in random.integers(len(histories.rows), size=number)]
        negatives = torch.from_numpy(random.choice(histories.known, NUM_NEGATIVES))
        loss = sequence_item_contrast(head, text, *next_items(drawn, mask_seen), negatives, mask_seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        losses.append(loss.item())
    for weight in trained:
        weight.grad = None
    for weight in frozen:
        weight.requires_grad_(False)
    return float(np.mean(losses[-math.ceil(num_steps / 10) :]))


def whiten_items(head: DualHead, text: Tensor) -> None:
    """Let a head's item projection go on to what whitens the embeddings that it makes of items' texts (N, D)."""
    embedded = head.item_embeddings(text.to(head.item_projection), None).detach()
    head.start_from(whitening(embedded) @ head.item_projection.detach())


def next_items(histories: Sequence[np.ndarray], mask_seen: bool = True) -> tuple[Tensor, Tensor]:
    """Return events (B, L), padded with -1, and labels (B, L): the next item, with `mask_seen` if it is a new one.

    >>> events, labels = next_items([np.array([3, 1, 3, 2]), np.array([5, 6])])
    >>> events.tolist(), labels.tolist()
    ([[3, 1, 3], [5, -1, -1]], [[1, -100, 2], [6, -100, -100]])
    """
    width = max(len(row) for row in histories) - 1
    events = np.full((len(histories), width), -1, dtype=np.int64)
    labels = np.full((len(histories), width), IGNORED, dtype=np.int64)
    for place, row in enumerate(histories):
        first = np.full(len(row), not mask_seen)
        first[np.unique(row, return_index=True)[1]] = True
        events[place, : len(row) - 1] = row[:-1]
        labels[place, : len(row) - 1] = np.where(first, row, IGNORED)[1:]
    return torch.from_numpy(events), torch.from_numpy(labels)


def sequence_item_contrast(
    head: DualHead, text: Tensor, events: Tensor, labels: Tensor, negatives: Tensor, mask_seen: bool = True
) -> Tensor:
    """Return the mean cross-entropy of the next item against the negatives.

    Args:
        head: its content path is the state of a history.
        text: (N, D) frozen embeddings.
        events: (B, L) rows of it, negative for padding.
        labels: (B, L) row of the next item, or `IGNORED`.
        negatives: (K,) rows.
        mask_seen: whether those that a history holds up to a position are left out there.
    """
    events, labels, negatives = (rows.to(text.device) for rows in (events, labels, negatives))
    real, trained = events >= 0, labels != IGNORED
    embedded = head.item_embeddings(text[events.clamp(min=0)], None)
    states = head.content(embedded, real)[trained]  # (P, D)
    wanted = labels[trained]
    own = (states * head.item_embeddings(text[wanted], None)).sum(1)
    others = states @ head.item_embeddings(text[negatives], None).T
    there = events[..., None] == negatives  # (B, L, K)
    first = torch.where(there.any(1), there.byte().argmax(1), events.shape[1])  # (B, K) place in the history
    rows, places = torch.nonzero(trained, as_tuple=True)
    left_out = wanted[:, None] == negatives
    if mask_seen:
        left_out |= first[rows] <= places[:, None]
    logits = torch.cat([own[:, None], others.masked_fill(left_out, float("-inf"))], dim=1) / TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=text.device))
