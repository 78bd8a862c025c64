"""The one tensor contract between text and models: what a batch of passes holds.

A pass is one row: the header, then one block of tokens per event, then branches that hang on the history behind one of
its events: blocks of candidates, and query blocks, which say when it is asked what comes next. `block` and `branch` say
which token belongs where, so masks, pooling and item vectors need nothing else, and padding may stand on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from llmrec.text.moments import NO_TIME

PADDING = -1
"""Block of a padding token, and item of a padding event."""
HEADER = 0
"""Block of the header's tokens; event l of a pass is block l + 1."""


TRUNK = 0
"""Branch of the tokens of header and events; candidate c of a pass is branch c + 1, the query of event l is -l - 1."""


class Branch(NamedTuple):
    """A candidate that reads a history up to some event."""

    item: int
    """Row of the candidate in the item table."""
    block: Sequence[int]
    """Its token ids, at least one."""
    event: int
    """Index in the pass of the last event it sees."""


class Query(NamedTuple):
    """The moment at which it is asked what comes after an event."""

    event: int
    """Index in the pass of that event, the last it sees; an event has one query at most."""
    block: Sequence[int]
    """Its token ids, at least one."""
    time: tuple[int, int]
    """Seconds since the event, and the moment itself; `NO_TIME` where they are not known."""
    embedded: bool = False
    """Whether the model embeds it beside the words."""


@dataclass(frozen=True)
class Pass:
    """One row of a batch, before padding.

    Attributes:
        items: (L,) row of each event's item in the item table.
        blocks: L lists of token ids, one per event.
        offset: position in the whole history of the first event here.
        first: index of the first event whose state this pass is for; earlier ones are context.
        branches: C candidates.
        queries: at most one per event, in any order. They see the history and no candidate, and no candidate sees them.
        times: (L, 2) seconds since the event before each, and its moment, as `event_times` gives them; None where the
            model embeds no time.
    """

    items: np.ndarray
    blocks: Sequence[Sequence[int]]
    offset: int = 0
    first: int = 0
    branches: Sequence[Branch] = ()
    queries: Sequence[Query] = ()
    times: np.ndarray | None = None

    @property
    def hanging(self) -> list[tuple[int, int, Sequence[int]]]:
        """The number of each branch, the event that it hangs on, and its tokens: candidates first."""
        candidates = [(number, one.event, one.block) for number, one in enumerate(self.branches, start=1)]
        return candidates + [(-1 - one.event, one.event, one.block) for one in self.queries]


class _Histories(TypedDict):
    input_ids: Tensor
    position_ids: Tensor
    block: Tensor
    items: Tensor


class Batch(_Histories, total=False):
    """Tensors of a batch; all int64. `branch` is there where a pass has branches, the two of candidates
    where candidates are, the times where the model embeds them.

    input_ids: (B, T) token ids.
    position_ids: (B, T) position of each token, counted from the first real token of its row; a branch's go on from the
        last token it sees.
    block: (B, T) `PADDING`, `HEADER`, or 1 + index of the event; of a branch, that of the last event it sees.
    items: (B, L) row of each event's item in the item table, or `PADDING`.
    branch: (B, T) `TRUNK`, or 1 + index of the candidate, or -(1 + index of the event) in the query block behind it.
    candidates: (B, C) row of each candidate in the item table, or `PADDING`.
    candidate_events: (B, C) index of the last event that each candidate sees.
    times: (B, L, 2) seconds since the event before each event, and its moment.
    query_times: (B, L, 2) seconds between each event and the query behind it, and the moment of that query.
    """

    branch: Tensor
    candidates: Tensor
    candidate_events: Tensor
    times: Tensor
    query_times: Tensor


def collate(passes: Sequence[Pass], header: Sequence[int], pad_token_id: int, padding_side: str = "right") -> Batch:
    """Pad passes to one batch.

    Args:
        passes: B passes.
        header: token ids every row begins with.
        pad_token_id: what fills the shorter rows.
        padding_side: `right` or `left`.

    >>> batch = collate([Pass(np.array([7]), [[11, 12]]), Pass(np.array([7, 8]), [[11], [13]])], [1], pad_token_id=0)
    >>> batch["input_ids"].tolist(), batch["block"].tolist(), batch["items"].tolist()
    ([[1, 11, 12], [1, 11, 13]], [[0, 1, 1], [0, 1, 2]], [[7, -1], [7, 8]])
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f"padding_side={padding_side!r} is neither 'left' nor 'right'.")
    rows = [_tokens(row, header) for row in passes]
    num_tokens, num_events = max(len(row.ids) for row in rows), max(len(row.blocks) for row in passes)
    shape = (len(passes), num_tokens)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    position_ids, branch = np.zeros(shape, dtype=np.int64), np.full(shape, TRUNK, dtype=np.int64)
    block = np.full(shape, PADDING, dtype=np.int64)
    items = np.full((len(passes), num_events), PADDING, dtype=np.int64)
    for index, (one, row) in enumerate(zip(passes, rows, strict=True)):
        width = len(row.ids)
        real = slice(0, width) if padding_side == "right" else slice(num_tokens - width, num_tokens)
        input_ids[index, real], position_ids[index, real] = row.ids, row.positions
        block[index, real], branch[index, real] = row.block, row.branch
        items[index, : len(one.blocks)] = one.items
    batch = Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        block=torch.from_numpy(block),
        items=torch.from_numpy(items),
    )
    if any(row.hanging for row in passes):
        batch["branch"] = torch.from_numpy(branch)
    if num_candidates := max(len(row.branches) for row in passes):
        candidates = np.full((len(passes), num_candidates), PADDING, dtype=np.int64)
        candidate_events = np.zeros_like(candidates)
        for index, one in enumerate(passes):
            candidates[index, : len(one.branches)] = [entry.item for entry in one.branches]
            candidate_events[index, : len(one.branches)] = [entry.event for entry in one.branches]
        batch["candidates"] = torch.from_numpy(candidates)
        batch["candidate_events"] = torch.from_numpy(candidate_events)
    if passes[0].times is not None:
        times, query_times = np.full((2, len(passes), num_events, 2), NO_TIME, dtype=np.int64)
        for index, one in enumerate(passes):
            times[index, : len(one.blocks)] = np.asarray(one.times)
            for query in one.queries:
                query_times[index, query.event] = query.time
        batch["times"], batch["query_times"] = torch.from_numpy(times), torch.from_numpy(query_times)
    return batch


class _Tokens(NamedTuple):
    """The tokens of one pass, each (T,)."""

    ids: np.ndarray
    positions: np.ndarray
    block: np.ndarray
    branch: np.ndarray


def _tokens(row: Pass, header: Sequence[int]) -> _Tokens:
    sizes = [len(header), *map(len, row.blocks)]
    ends = np.cumsum(sizes)  # of the header and of each event
    width = int(ends[-1])
    numbers, events, hanging = zip(*row.hanging, strict=True) if row.hanging else ((), (), ())
    lengths = list(map(len, hanging))
    parts = [np.asarray(part, dtype=np.int64) for part in (header, *row.blocks, *hanging)]
    starts = [np.arange(ends[event + 1], ends[event + 1] + size) for event, size in zip(events, lengths, strict=True)]
    return _Tokens(
        ids=np.concatenate(parts),
        positions=np.concatenate([np.arange(width), *starts]),
        block=np.concatenate(
            [np.repeat(np.arange(len(sizes)), sizes), np.repeat(np.array(events, dtype=np.int64) + 1, lengths)]
        ),
        branch=np.concatenate([np.full(width, TRUNK), np.repeat(np.array(numbers, dtype=np.int64), lengths)]),
    )
