"""`OpenHistory`: one person's history that was read once, scores at any moment, and goes on event by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from llmrec.data.processes import Lock
from llmrec.models.items import Items, WithNewItems
from llmrec.models.reading import Reading
from llmrec.ranking.planning import cached_tokens, chunk_candidates
from llmrec.ranking.ranks import top_k
from llmrec.ranking.snapshot import Snapshot
from llmrec.text.batch import Query
from llmrec.text.request import Event, Moment, NewItems, Request, now_after

MAX_PASS_MIB = 64.0
Candidate = str | Mapping[str, str]
"""The id of a known item, or the text of any."""


class OpenHistory:
    """A history with what the model computed of it: a new event costs its own tokens, a candidate its own.

    Equal to reading the whole history again, at whatever moment it is asked: now stands behind what is kept. When the
    text budget is full and the window moves on, the new window is read, once. Threads that use one history take turns.

    What was read is worthless once the weights, the adapter or the items change, and every use is an error then;
    `HistoryStore` opens such a history again. A use that has begun ends with what it began with.

    Args:
        snapshot: what to read with.
        history: events, oldest first, at least one.
        current: returns the snapshot of now; None lets this history keep to its own.

    Attributes:
        history: the events so far.
        snapshot: what it computes with; exchanged where the popularity weight alone is another.
    """

    def __init__(
        self, snapshot: Snapshot, history: Sequence[Event], current: Callable[[], Snapshot] | None = None
    ) -> None:
        self.snapshot = snapshot
        self._current = current
        self._lock = Lock()
        self._new = NewItems()
        self._new_text: dict[int, Tensor] = {}  # (D,) embeddings of new items, by their place
        request = Request(snapshot.catalog, history, new=self._new)
        self.history: list[Event] = list(history)
        self._items: list[int] = request.items.tolist()
        self._timestamps: list[int] = request.timestamps.tolist()
        self._blocks = snapshot.processor.blocks(request.items, request.timestamps, request)
        self._reading = Reading(snapshot.model, snapshot.processor.header)
        self._begins = (-1, -1)  # first event of the pass, first event read as text
        self._read_on()

    @property
    def mebibytes(self) -> float:
        """What the model computed of it takes in memory."""
        return self._reading.mebibytes

    def append(self, event: Event) -> None:
        """Read one more event.

        Raises:
            ValueError: if it is earlier than the last one, or neither known nor has text, or the catalogue changed;
                nothing has changed here then.
        """
        with self._lock:
            self._check()
            before, catalog = len(self.history) - 1, self.snapshot.catalog
            request = Request(catalog, [*self.history[before:], event], new=self._new, first=before)
            block = self.snapshot.processor.blocks(request.items, request.timestamps, request)[-1]
            self.history.append(event)
            self._items.append(int(request.items[-1]))
            self._timestamps.append(int(request.timestamps[-1]))
            self._blocks.append(block)
            self._read_on()

    def score(self, candidates: Sequence[Candidate], now: Moment | None = None) -> list[float]:
        """Score candidates: item ids, or dicts of text for items the catalogue lacks; as `Recommender.score`.

        Args:
            candidates: what to score.
            now: when it is asked; the time of the last event by default.

        Returns:
            One score per candidate, in their order; none for none.
        """
        if isinstance(candidates, (str, Mapping)):
            raise TypeError(f"candidates {candidates!r} are no list: give a list of item ids or dicts of text.")
        events = [{"item_id": entry} if isinstance(entry, str) else entry for entry in candidates]
        with self._lock:
            self._check()
            request = Request(self.snapshot.catalog, self.history[-1:], events, new=self._new, now=now)
            return self._score(request.candidates, self._query(now)).tolist()

    def recommend(
        self,
        k: int,
        exclude_seen: bool,
        num_candidates: int,
        now: Moment | None = None,
        proposer: Snapshot | None = None,
    ) -> list[tuple[int, float]]:
        """Return the `k` best (item row, score), best first.

        Args:
            k: how many.
            exclude_seen: whether items of the history are left out.
            num_candidates: proposals for the candidate head, if there is one; at least `k` are taken.
            now: when it is asked, as for `user_state`.
            proposer: whose dual head proposes from the same catalogue, in place of this one's.
        """
        with self._lock:
            self._check()
            read = self if proposer is None else OpenHistory(proposer, self.history)
            scores = read.snapshot.scores(read._reading.user_state(read._query(now))[None], [np.array(read._items)])[0]
            return self._rank(scores, k, exclude_seen, num_candidates, now)

    def rank(
        self, scores: Tensor, k: int, exclude_seen: bool, num_candidates: int, now: Moment | None = None
    ) -> list[tuple[int, float]]:
        """Return what `recommend` does, of the scores (N,) of the catalogue by a dual head."""
        with self._lock:
            self._check()
            return self._rank(scores, k, exclude_seen, num_candidates, now)

    def _rank(
        self, scores: Tensor, k: int, exclude_seen: bool, num_candidates: int, now: Moment | None
    ) -> list[tuple[int, float]]:
        known = np.array(self._items)
        seen = [np.unique(known[known < len(self.snapshot.catalog)])] if exclude_seen else None
        if not self._has_candidate_head:
            best = top_k(scores[None], k, seen)[0]
            return [(int(item), float(scores[item])) for item in best if item >= 0]
        proposed = top_k(scores[None], max(k, num_candidates), seen)[0]
        proposed = proposed[proposed >= 0]
        found = self._score(proposed.numpy(), self._query(now))
        order = found.argsort(descending=True, stable=True)[:k]
        return [(int(proposed[place]), float(found[place])) for place in order]

    def user_state(self, now: Moment | None = None) -> Tensor:
        """Return c(u) after the newest event, (D,), as it is now: by default at the time of that event.

        Raises:
            ValueError: if now is before it, or no time.
        """
        with self._lock:
            self._check()
            return self._reading.user_state(self._query(now))

    def _query(self, now: Moment | None) -> Query | None:
        """Return the query block of a moment, if the model is told of it."""
        last, processor = self._timestamps[-1], self.snapshot.processor
        moment = now_after(last, now)
        return processor.query(len(self._items) - 1, last, moment) if processor.asks_now else None

    def _check(self) -> None:
        if self._current is None or (current := self._current()) is self.snapshot:
            return
        if current.reads != self.snapshot.reads:
            same = current.model.rec_items.edition is self.snapshot.model.rec_items.edition
            what = "the weights, the adapter or the template" if same else "the catalogue"
            raise ValueError(f"{what} changed since this history was opened: open the history again.")
        self.snapshot = current

    @property
    def _has_candidate_head(self) -> bool:
        return hasattr(self.snapshot.model, "candidate_head")

    @torch.inference_mode()
    def _score(self, rows: np.ndarray, query: Query | None) -> Tensor:
        """Return the scores (C,) of item rows (C,), on the CPU."""
        if not len(rows):
            return torch.empty(0)
        model, processor = self.snapshot.model, self.snapshot.processor
        items = self._gather(rows)
        if not self._has_candidate_head:
            head = model.rec_head
            embedded = head.item_embeddings(items.text, items.output_residual).double()
            scores = (embedded @ self._reading.user_state(query).double() * head.scale).float()
            scores = (scores if items.bias is None else scores + items.bias).cpu()
            if (memory := model.rec_items.memory) is not None:
                known = rows < len(memory)
                scores[known] += memory.scores([np.array(self._items)])[0][rows[known]]
            return scores
        blocks = [processor.candidate_block(self._attributes(row)) for row in rows.tolist()]
        order = sorted(range(len(blocks)), key=lambda place: (blocks[place], rows[place]))  # not the caller's
        blocks, items = [blocks[place] for place in order], items.map(itemgetter(order))
        backbone, sizes = model.backbone, [len(block) for block in blocks]
        limit = cached_tokens(backbone)
        chunks = chunk_candidates(backbone, self._reading.num_tokens, sizes, MAX_PASS_MIB, limit)
        parts = []
        for chunk in chunks:
            parts.append(self._reading.candidate_scores(blocks[chunk], items.map(itemgetter(chunk)), query))
        scores = torch.cat(parts).cpu()
        return torch.empty_like(scores).index_copy_(0, torch.tensor(order), scores)

    def _attributes(self, row: int) -> dict[str, str]:
        catalog = self.snapshot.catalog
        return catalog.attributes(row) if row < len(catalog) else self._new[row - len(catalog)]

    @torch.inference_mode()
    def _gather(self, rows: np.ndarray) -> Items:
        """Return what the table holds of item rows (C,); new items are their text, with nothing learned."""
        model, known, wanted = self.snapshot.model, len(self.snapshot.catalog), rows.copy()
        places, which = np.unique(rows[rows >= known] - known, return_inverse=True)
        wanted[rows >= known] = known + which
        if missing := [place for place in places.tolist() if place not in self._new_text]:
            encoded = self.snapshot.encode_items(self._new, missing)
            self._new_text |= zip(missing, encoded.to(model.device), strict=True)
        new = [self._new_text[place] for place in places.tolist()]
        table = WithNewItems(model.rec_items, torch.stack(new)) if new else model.rec_items
        return table(torch.from_numpy(wanted).to(model.device))

    def _read_on(self) -> None:
        """Read the events that were not read yet; all of the window where it has moved."""
        model, processor = self.snapshot.model, self.snapshot.processor
        window = processor.windows(self._blocks)[-1]
        row = processor.read(np.array(self._items), self._blocks, window, np.array(self._timestamps))
        if (row.offset, window.start) != self._begins:
            self._reading = Reading(model, processor.header)
            self._begins = (row.offset, window.start)
        begin = self._reading.num_events
        times = None if row.times is None else row.times[begin:]
        self._reading.append(row.blocks[begin:], self._gather(row.items[begin:]), times)
