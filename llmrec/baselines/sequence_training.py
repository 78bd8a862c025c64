"""Train a sequence baseline: every next item of the training events, the best epoch on validation kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmrec.baselines.sequence import SequenceBaseline, known_numbers, pad
from llmrec.baselines.sequence_encoders import ENCODERS, PADDING, SequenceEncoder
from llmrec.data.training_events import TrainingEvents
from llmrec.losses.catalogue import catalogue_softmax, seen_before
from llmrec.losses.sampled import bce_loss, draw_negatives, gbce_beta, gbce_loss, item_logits

LOSSES = ("softmax", "gbce", "bce")


SEQUENCE_GRIDS: dict[str, list[dict[str, Any]]] = {
    "lstm": [
        {"encoder": "lstm", "num_layers": 1, "mask_seen": True},
        {"encoder": "lstm", "num_layers": 1, "mask_seen": True, "hidden_size": 128, "dropout": 0.5},
        {"encoder": "lstm", "num_layers": 1, "loss": "bce", "dropout": 0.5, "num_epochs": 100, "patience": 15},
    ],
    "sasrec": [
        {"mask_seen": True},
        {"mask_seen": True, "hidden_size": 128, "dropout": 0.5, "learning_rate": 1e-3},
        {"mask_seen": True, "max_length": 200, "learning_rate": 1e-3},
    ],
    "gsasrec": [
        {"loss": "gbce"},
        {"loss": "gbce", "hidden_size": 128, "num_heads": 2, "dropout": 0.5},
        {"loss": "gbce", "max_length": 200},
    ],
}
"""Settings that a search over a baseline tries, by the baseline's name: light ones for long histories, wide ones with
heavy dropout for sparse data."""


@dataclass(frozen=True)
class SequenceSettings:
    """What is trained and how.

    Raises:
        ValueError: If a value is out of range, or an option does not go with the loss.
    """

    encoder: str = "sasrec"
    """`sasrec` or `lstm`."""
    loss: str = "softmax"
    """`softmax` over all known items, `gbce` or `bce` against sampled ones."""
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 1
    """Of `sasrec`."""
    max_length: int = 50
    """Events of a window, in training and in scoring."""
    dropout: float = 0.2
    mask_seen: bool = False
    """Whether the items of the window up to a position leave its softmax; `softmax` only."""
    num_negatives: int = 256
    """Items drawn per position for `gbce`; `bce` draws one."""
    gbce_t: float = 0.75
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    max_grad_norm: float = 5.0
    batch_size: int = 400
    """Targets per step, about: windows are never cut for it. In targets, so that it suits short and long histories."""
    num_epochs: int = 30
    """At most."""
    eval_every: int = 1
    """Epochs between two looks at the quality."""
    patience: int = 5
    """Looks without a better one before the end."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (("encoder", self.encoder, tuple(ENCODERS)), ("loss", self.loss, LOSSES)):
            if value not in allowed:
                raise ValueError(f"{name} {value!r}: give one of {', '.join(allowed)}")
        for name in ("num_negatives", "batch_size", "num_epochs", "eval_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: the share of values left out lies in [0, 1); try 0.2")
        if not 0 <= self.gbce_t <= 1:
            raise ValueError(f"gbce_t is {self.gbce_t!r}: it lies between 0, plain BCE, and 1; try 0.75")
        if self.mask_seen and self.loss != "softmax":
            raise ValueError(f"mask_seen with the loss {self.loss!r}: it goes with softmax; leave it out")

    @property
    def negatives_per_target(self) -> int:
        """Items drawn per target by the losses that sample."""
        return self.num_negatives if self.loss == "gbce" else 1


def train_sequence(
    events: TrainingEvents,
    settings: SequenceSettings,
    quality: Callable[[SequenceBaseline], float] | None = None,
    progress: bool = False,
) -> tuple[SequenceBaseline, list[dict[str, Any]]]:
    """Train on the events and keep the epoch of the best quality.

    The same settings, events and machine give the same baseline; the global random state is left as it was.

    Args:
        events: What may be learnt from.
        settings: What is trained and how.
        quality: Value of a baseline on validation, higher is better; None trains `num_epochs` and keeps the last.
        progress: Show a bar over the epochs.

    Returns:
        The baseline and its learning curve: a row per look, `epoch` from 1, mean `loss` of that epoch's positions and
        `value` (None without `quality`).

    Raises:
        ValueError: If no user has two training events, or fewer than two items have one.
    """
    from tqdm import tqdm

    numbers = known_numbers(events.counts)
    rows = [numbers[items] for items in events.items if len(items) > 1]
    if not rows or events.known.sum() < 2:
        raise ValueError("no user has two training events, or there is one item: a sequence model has nothing to learn")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    order = np.random.default_rng(settings.seed)
    drawing = torch.Generator().manual_seed(settings.seed)
    curve: list[dict[str, Any]] = []
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        encoder = make_encoder(settings, events.counts[events.known]).to(device)
        baseline = SequenceBaseline(encoder, events.counts)
        optimizer = torch.optim.AdamW(
            encoder.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        best, best_parameters, looks_since = -float("inf"), _copy(encoder), 0
        for epoch in tqdm(range(1, settings.num_epochs + 1), disable=not progress, unit="epoch"):
            loss = _train_epoch(encoder, optimizer, rows, settings, order, drawing)
            if epoch % settings.eval_every and epoch != settings.num_epochs:
                continue
            value = quality(baseline) if quality else None
            curve.append({"epoch": epoch, "loss": loss, "value": value})
            if value is None or value > best:
                best, best_parameters, looks_since = value or 0.0, _copy(encoder), 0
            else:
                looks_since += 1
            if looks_since >= settings.patience:
                break
        encoder.load_state_dict(best_parameters)
    encoder.eval()
    return baseline, curve


def make_encoder(settings: SequenceSettings, counts: np.ndarray) -> SequenceEncoder:
    """Build the encoder of the settings for known items with these training counts, (M,).

    Item biases begin at `starting_biases`.
    """
    encoder: SequenceEncoder = ENCODERS[settings.encoder](
        num_items=len(counts),
        max_length=settings.max_length,
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        dropout=settings.dropout,
    )
    with torch.no_grad():
        encoder.output_bias.copy_(torch.from_numpy(starting_biases(counts, settings)))
    return encoder


def starting_biases(counts: np.ndarray, settings: SequenceSettings) -> np.ndarray:
    """Return the item biases (M,) that make the expected loss least where nothing is known of the history.

    Many steps would go to finding them, above all against sampled items. With p an item's share of the training events,
    softmax wants log p. Against K sampled items an item is the next one at the rate p, with weight β, and drawn at the
    rate α(1 - p), α = K / (M - 1): the best bias is log(βp / (α(1 - p))).

    >>> starting_biases(np.array([1, 1]), SequenceSettings(loss="bce")).tolist()
    [0.0, 0.0]
    """
    share = counts / counts.sum()
    if settings.loss == "softmax":
        return np.log(share)
    num_negatives = settings.negatives_per_target
    beta = gbce_beta(len(counts), num_negatives, settings.gbce_t) if settings.loss == "gbce" else 1.0
    alpha = num_negatives / (len(counts) - 1)
    return np.log(beta * share / (alpha * (1 - share)))


def training_windows(rows: list[np.ndarray], max_length: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cut each user's events into windows, so that every event but a user's first is a target exactly once.

    A window of n + 1 events has n inputs and n targets, n ≤ `max_length`; its last event is the first input of the
    next. Where a long row is cut is drawn anew at each call: no target is always the one that sees little before it.

    >>> [window.tolist() for window in training_windows([np.arange(3)], 2, np.random.default_rng(0))]
    [[0, 1, 2]]
    """
    windows = []
    for row in rows:
        num_targets = len(row) - 1
        first = int(random.integers(1, max_length + 1)) if num_targets > max_length else num_targets
        ends = [*range(first, num_targets, max_length), num_targets]
        windows += [row[start : end + 1] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return windows


def batches(windows: list[np.ndarray], num_targets: int, random: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Shuffle windows and cut them where about `num_targets` more targets are full; a batch has at least one window.

    >>> rows = [np.arange(3)] * 5  # two targets each
    >>> [len(batch) for batch in batches(rows, 4, np.random.default_rng(0))]
    [2, 2, 1]
    """
    order = random.permutation(len(windows))
    before = np.cumsum([0, *(len(windows[number]) - 1 for number in order)])[:-1]  # targets before each window
    for numbers in np.split(order, np.flatnonzero(np.diff(before // num_targets)) + 1):
        yield [windows[number] for number in numbers]


def _train_epoch(
    encoder: SequenceEncoder,
    optimizer: torch.optim.Optimizer,
    rows: list[np.ndarray],
    settings: SequenceSettings,
    random: np.random.Generator,
    drawing: torch.Generator,
) -> float:
    """Take one step per batch of windows and return the mean loss over all positions."""
    encoder.train()
    windows = training_windows(rows, settings.max_length, random)
    total, num_positions = 0.0, 0
    for windows_of_step in batches(windows, settings.batch_size, random):
        batch = pad(windows_of_step).to(encoder.output_weight.device)
        loss = batch_loss(encoder, batch, settings, drawing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), settings.max_grad_norm)
        optimizer.step()
        size = int((batch[:, 1:] != PADDING).sum())
        total, num_positions = total + loss.item() * size, num_positions + size
    return total / num_positions


def batch_loss(
    encoder: SequenceEncoder, windows: Tensor, settings: SequenceSettings, drawing: torch.Generator
) -> Tensor:
    """Return the mean loss over the positions of windows (B, T + 1), computed at real positions only."""
    labels = windows[:, 1:]
    trained = labels != PADDING
    inputs = windows[:, :-1].masked_fill(~trained, PADDING)
    states, labels = encoder(inputs)[trained], labels[trained]  # (P, D), (P,)
    weight, bias = encoder.output_weight, encoder.output_bias
    if settings.loss == "softmax":
        seen = seen_before(inputs)[trained] if settings.mask_seen else None
        return catalogue_softmax(states, weight, bias, labels, seen) / len(labels)
    negatives = draw_negatives(labels, len(weight), settings.negatives_per_target, drawing)
    logits = item_logits(states, weight, bias, torch.cat([labels[:, None], negatives], dim=1))
    if settings.loss == "gbce":
        return gbce_loss(logits[:, 0], logits[:, 1:], len(weight), settings.gbce_t)
    return bce_loss(logits[:, 0], logits[:, 1:])


def _copy(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in encoder.state_dict().items()}
