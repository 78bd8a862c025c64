"""The sequence baselines as systems: an encoder, the items it knows and the scores of the whole catalogue.

An encoder numbers the known items, those with a training event, 0 … M-1, so that embeddings and softmax stay small in a
large catalogue with many cold items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec.baselines.sequence_encoders import ENCODERS, PADDING, SequenceEncoder
from llmrec.data.cases import Cases, case_batches

MAX_BATCH_EVENTS = 2**14
"""Events, padding counted, that one forward pass may read in scoring."""


class SequenceBaseline:
    """Score the catalogue by the state after the last known events of a history.

    Cold items have no parameters: they score -inf, and in a history they are skipped, so that the last `max_length`
    *known* events are read. A history without a known event scores known items by the logarithm of their training
    counts, as popularity would.
    """

    def __init__(self, encoder: SequenceEncoder, counts: np.ndarray):
        """Join an encoder to the catalogue.

        Args:
            encoder: Numbers the items with a training event 0 … M-1, in the order of the catalogue.
            counts: Training events of each catalogue item, (N,).

        Raises:
            ValueError: If the encoder has another number of items than have a training event.
        """
        self.encoder = encoder
        self.counts = np.asarray(counts, dtype=np.int64)
        self.known = np.flatnonzero(self.counts)  # (M,) item_index of each known item
        self.max_length: int = encoder.shape["max_length"]
        if encoder.shape["num_items"] != len(self.known):
            raise ValueError(
                f"an encoder of {encoder.shape['num_items']!r} items for {len(self.known)} with a training event: "
                "build it for the known items"
            )
        self._number = known_numbers(self.counts)

    @property
    def name(self) -> str:
        """Name of the encoder, a key of `ENCODERS`."""
        return next(name for name, encoder in ENCODERS.items() if type(self.encoder) is encoder)

    @torch.no_grad()
    def catalogue_scores(self, cases: Cases) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield case numbers (B,) and the scores of all items (B, N) float32, every case once, short histories first.

        Each case is one pass over its own window, so the cases beside it do not matter (beyond float32 rounding).
        """
        training = self.encoder.training
        self.encoder.eval()
        rows, ends = self._known_events(cases)
        order = np.argsort(np.minimum(ends, self.max_length), kind="stable")
        known = torch.from_numpy(self.known)
        popularity = torch.from_numpy(np.log(self.counts[self.known])).float()
        try:
            for batch in case_batches(len(order), len(self.counts)):
                numbers = order[batch]
                windows = [rows[cases.user[n]][max(0, ends[n] - self.max_length) : ends[n]] for n in numbers]
                scores = torch.full((len(numbers), len(self.counts)), float("-inf"))
                empty = int((ends[numbers] == 0).sum())
                scores[:empty, known] = popularity
                scores[empty:, known] = self._known_scores(windows[empty:])
                yield numbers, scores
        finally:
            self.encoder.train(training)

    def _known_events(self, cases: Cases) -> tuple[list[np.ndarray], np.ndarray]:
        """Return each user's known events by their numbers, and how many of them precede each case's target."""
        rows, before = [], []
        for items in cases.items:
            numbers = self._number[items]
            rows.append(numbers[numbers >= 0])
            before.append(np.concatenate([[0], np.cumsum(numbers >= 0)]))
        pairs = zip(cases.user, cases.position, strict=True)
        ends = np.fromiter((before[user][position] for user, position in pairs), np.int64, count=len(cases.position))
        return rows, ends

    def _known_scores(self, windows: list[np.ndarray]) -> Tensor:
        """Return the scores of the known items (B, M) after windows of at least one known event."""
        weight, bias = self.encoder.output_weight, self.encoder.output_bias
        states = [weight.new_empty(0, weight.shape[1])]
        size = max(1, MAX_BATCH_EVENTS // self.max_length)
        for start in range(0, len(windows), size):
            items = pad(windows[start : start + size]).to(weight.device)
            last = (items != PADDING).sum(1) - 1
            states.append(self.encoder(items)[torch.arange(len(items), device=items.device), last])
        return F.linear(torch.cat(states), weight, bias).float().cpu()

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what `from_state` needs: settings as JSON and arrays."""
        parameters = {f"encoder.{name}": value.cpu().numpy() for name, value in self.encoder.state_dict().items()}
        return {"encoder": self.name, **self.encoder.shape}, {"counts": self.counts, **parameters}

    @classmethod
    def from_state(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> SequenceBaseline:
        """Rebuild a baseline that scores as the saved one did, bit for bit on the same machine.

        Raises:
            ValueError: If the encoder is unknown, or the arrays do not fit the settings.
        """
        shape = dict(settings)
        name = shape.pop("encoder")
        if name not in ENCODERS:
            raise ValueError(f"encoder {name!r}: give one of {', '.join(ENCODERS)}")
        encoder = ENCODERS[name](**shape, dropout=0.0)
        prefix = "encoder."
        parameters = {
            key.removeprefix(prefix): torch.from_numpy(np.array(array))
            for key, array in arrays.items()
            if key.startswith(prefix)
        }
        try:
            encoder.load_state_dict(parameters)
        except RuntimeError as error:
            raise ValueError(f"the arrays of {name!r} do not fit its settings: {error}") from error
        encoder.eval()
        return cls(encoder, arrays["counts"])


def known_numbers(counts: np.ndarray) -> np.ndarray:
    """Number the items that have a training event in the order of the catalogue; cold items are -1.

    >>> known_numbers(np.array([3, 0, 1]))
    array([ 0, -1,  1])
    """
    numbers = np.full(len(counts), -1, dtype=np.int64)
    known = np.flatnonzero(counts)
    numbers[known] = np.arange(len(known))
    return numbers


def pad(rows: list[np.ndarray]) -> Tensor:
    """Put rows of items into one tensor (B, T), right-padded with `PADDING`.

    >>> pad([np.array([4, 2]), np.array([7])])
    tensor([[ 4,  2],
            [ 7, -1]])
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    items = np.full((len(rows), lengths.max(initial=0)), PADDING, dtype=np.int64)
    items[np.arange(items.shape[1]) < lengths[:, None]] = np.concatenate([np.empty(0, dtype=np.int64), *rows])
    return torch.from_numpy(items)
