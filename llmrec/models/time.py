"""`TimeEmbedding`: what the moment of an event, and the time since the one before it, add to its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

PERIODS = {"hour": (86_400, 4), "weekday": (604_800, 3), "yearday": (31_556_952, 4)}
"""Seconds of each period, and its harmonics. Three of the week tell seven days apart in any way there is: with the
constant they span all functions of the weekday. A year is that of the calendar on average, 365.2425 days."""
WEEK_BEGINS = 4 * 86_400
"""The first Monday of the epoch, so that a week's phase is zero as Monday begins."""
GAP_HARMONICS = 6
LONGEST_GAP = 10 * 31_556_952
"""Seconds; longer gaps count as this one."""


class TimeEmbedding(nn.Module):
    """W f(time): features of gap and moment through a learned projection that starts at zero.

    Time2Vec learns frequency and phase of sine waves over raw time. Here the frequencies are those of the calendar and
    their harmonics, each with a sine and a cosine, so that the projection learns amplitude and phase. Gradients do not
    find a week in seconds since 1970; these waves are exact at any distance, and hours and weekdays that lie whole
    weeks apart read the same to the last bit. A gap is a logarithm, with waves over its range, so that what matters may
    lie at one gap and not beyond.

    Args:
        hidden_size: D.
        parts: some of `TIME_PARTS`; none has no features.

    References:
        Kazemi et al. 2019 (Time2Vec), arXiv:1907.05321, eq. 1.
    """

    def __init__(self, hidden_size: int, parts: Sequence[str]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.weight = nn.Parameter(torch.zeros(hidden_size, num_features(parts)))

    def forward(self, times: Tensor) -> Tensor:
        """Return what enters the tokens, (..., D), of times (..., 2): the gap to the event before, and the moment."""
        return time_features(times, self.parts) @ self.weight.T


def num_features(parts: Sequence[str]) -> int:
    """Return how many features some parts have."""
    return sum(2 + 2 * GAP_HARMONICS if part == "gap" else 2 * PERIODS[part][1] for part in parts)


def time_features(times: Tensor, parts: Sequence[str]) -> Tensor:
    """Return the features (..., F), float32, of times (..., 2) int64; zero of what is not known, `NO_TIME`.

    >>> monday = torch.tensor([[0, 345_600], [-1, -1]])  # 5 January 1970, midnight; and no time at all
    >>> time_features(monday, ["weekday"]).tolist()  # at phase zero
    [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    >>> time_features(monday, ["gap"])[:, :2].tolist()  # there is a gap, of no length
    [[1.0, 0.0], [0.0, 0.0]]
    """
    gap, moment = times[..., 0], times[..., 1]
    found = []
    for part in parts:
        if part == "gap":
            share = torch.log1p(gap.clamp(0, LONGEST_GAP).float()) / math.log1p(LONGEST_GAP)  # (...), in [0, 1]
            line = torch.stack([torch.ones_like(share), share], dim=-1)
            features = torch.cat([line, _waves(share / 2, GAP_HARMONICS)], dim=-1)
            found.append(features.masked_fill(gap[..., None] < 0, 0.0))
        else:
            period, harmonics = PERIODS[part]
            # The remainder is taken of whole seconds: float32 holds no more than 128 of today's apart.
            phase = torch.remainder(moment - WEEK_BEGINS, period).float() / period
            found.append(_waves(phase, harmonics).masked_fill(moment[..., None] < 0, 0.0))
    return torch.cat(found, dim=-1)


def _waves(phase: Tensor, harmonics: int) -> Tensor:
    """Return the sines, then the cosines, (..., 2 H) of phases (...) at 1 to H times their frequency."""
    angles = 2 * math.pi * phase[..., None] * torch.arange(1, harmonics + 1, device=phase.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
