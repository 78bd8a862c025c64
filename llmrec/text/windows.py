"""Which events of a history one pass reads as text.

A window has a token budget. It grows event by event; when the next event would burst it, it moves on, and keeps a
share of its newest text. Where a window starts therefore depends on the events before it alone, never on later ones:
the state after an event is the same whether the history ends there or goes on, so training, evaluation and serving
read the same text, and a cache stays valid until the window moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """Events of one pass: `[start, end)` are read as text, and `[first, end)` are new in this window."""

    start: int
    first: int
    end: int


def text_windows(lengths: Sequence[int], budget: int, overlap: float) -> list[Window]:
    """Split a history into windows; every event is new in exactly one.

    Args:
        lengths: (L,) tokens of each event's block, each at most `budget`.
        budget: tokens of events that a window holds.
        overlap: share of the budget that the next window keeps of this one, in [0, 1).

    Raises:
        ValueError: if an event alone is longer than the budget, or the overlap is out of range.

    >>> text_windows([4, 4, 4, 4, 4], budget=12, overlap=0.5)
    [Window(start=0, first=0, end=3), Window(start=2, first=3, end=5)]
    >>> text_windows([4, 4, 4, 4, 4], budget=12, overlap=0.0)
    [Window(start=0, first=0, end=3), Window(start=3, first=3, end=5)]
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap={overlap!r} is not in [0, 1): it is the share of a window that the next one keeps.")
    windows, start, first, used = [], 0, 0, 0
    for position, length in enumerate(lengths):
        if length > budget:
            raise ValueError(f"event {position} has {length!r} tokens, the budget is {budget!r}: raise max_tokens.")
        if used + length > budget:
            windows.append(Window(start, first, position))
            first = position
            keep = min(overlap * budget, budget - length)  # the newcomer must fit beside what is kept
            while start < position and used > keep:
                used -= lengths[start]
                start += 1
        used += length
    if len(lengths):
        windows.append(Window(start, first, len(lengths)))
    return windows
