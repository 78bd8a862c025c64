"""`OpenHistory`: one person's history that was read once, scores at any moment, and goes on event by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from llmrec.data.catalog import Catalog
from llmrec.models.items import Items
from llmrec.models.modeling import RecModel
from llmrec.models.reading import Reading
from llmrec.ranking.planning import cached_tokens, chunk_candidates
from llmrec.ranking.ranks import top_k
from llmrec.text.batch import Query
from llmrec.text.processor import Processor
from llmrec.text.request import Event, Moment, Request, now_after

MAX_PASS_MIB = 64.0
Candidate = str | Mapping[str, str]
"""The id of a known item, or the text of any."""


class OpenHistory:
    """A history with what the model computed of it: a new event costs its own tokens, a candidate its own.

    Equal to reading the whole history again, at whatever moment it is asked: now stands behind what is kept. When the
    text budget is full and the window moves on, the new window is read, once. Worthless once the model's weights or its
    items change; `HistoryStore` sees to that. Where the items changed every use is an error: what was read points at
    rows of the table that was.

    Args:
        model: in evaluation mode.
        processor: turns events and candidates into tokens.
        catalog: the known items.
        encode: texts to frozen embeddings (M, D), for items the catalogue lacks.
        history: events, oldest first, at least one.

    Attributes:
        history: the events so far.
    """

    def __init__(
        self,
        model: RecModel,
        processor: Processor,
        catalog: Catalog,
        encode: Callable[[Sequence[str]], Tensor],
        history: Sequence[Event],
    ) -> None:
        self.model, self.processor, self.catalog = model, processor, catalog
        self._encode = encode
        self._edition = model.rec_items.edition
        self._new: list[dict[str, str]] = []
        self._new_text = torch.empty(0, model.rec_items.text.shape[1], device=model.device)
        request = Request(catalog, history, new=self._new)
        self.history: list[Event] = list(history)
        self._items: list[int] = request.items.tolist()
        self._timestamps: list[int] = request.timestamps.tolist()
        self._blocks = processor.blocks(request.items, request.timestamps, request)
        self._reading = Reading(model, processor.header)
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
        self._check_items()
        before = len(self.history) - 1
        request = Request(self.catalog, [*self.history[before:], event], new=self._new, first=before)
        block = self.processor.blocks(request.items, request.timestamps, request)[-1]
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
        self._check_items()
        if not candidates:
            return []
        events = [{"item_id": entry} if isinstance(entry, str) else entry for entry in candidates]
        request = Request(self.catalog, self.history[-1:], events, new=self._new, now=now)
        return self._score(request.candidates, self._query(now)).tolist()

    def rank(
        self, scores: Tensor, k: int, exclude_seen: bool, num_candidates: int, now: Moment | None = None
    ) -> list[tuple[int, float]]:
        """Return the `k` best (item row, score), best first; where there is a candidate head it ranks the proposals.

        Args:
            scores: (N,) of the catalogue by the dual head (`user_state`).
            k: how many.
            exclude_seen: whether items of the history are left out.
            num_candidates: proposals for the candidate head; at least `k` are taken.
            now: when it is asked, as for `user_state`.
        """
        self._check_items()
        known = np.array(self._items)
        seen = [np.unique(known[known < len(self.catalog)])] if exclude_seen else None
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
        self._check_items()
        return self._reading.user_state(self._query(now))

    def _query(self, now: Moment | None) -> Query | None:
        """Return the query block of a moment, if the model is told of it."""
        last = self._timestamps[-1]
        moment = now_after(last, now)
        return self.processor.query(len(self._items) - 1, last, moment) if self.processor.asks_now else None

    def _check_items(self) -> None:
        if self.model.rec_items.edition is not self._edition:
            raise ValueError("the catalogue changed since this history was opened: open the history again.")

    @property
    def _has_candidate_head(self) -> bool:
        return hasattr(self.model, "candidate_head")

    @torch.inference_mode()
    def _score(self, rows: np.ndarray, query: Query | None) -> Tensor:
        """Return the scores (C,) of item rows (C,), on the CPU."""
        items = self._gather(rows)
        if not self._has_candidate_head:
            head = self.model.rec_head
            embedded = head.item_embeddings(items.text, items.output_residual).double()
            scores = (embedded @ self._reading.user_state(query).double() * head.scale).float()
            return (scores if items.bias is None else scores + items.bias).cpu()
        blocks = [self.processor.candidate_block(self._attributes(row)) for row in rows.tolist()]
        order = sorted(range(len(blocks)), key=lambda place: (blocks[place], rows[place]))  # not the caller's
        blocks, items = [blocks[place] for place in order], items.map(itemgetter(order))
        backbone, sizes = self.model.backbone, [len(block) for block in blocks]
        limit = cached_tokens(backbone)
        chunks = chunk_candidates(backbone, self._reading.num_tokens, sizes, MAX_PASS_MIB, limit)
        parts = []
        for chunk in chunks:
            parts.append(self._reading.candidate_scores(blocks[chunk], items.map(itemgetter(chunk)), query))
        scores = torch.cat(parts).cpu()
        return torch.empty_like(scores).index_copy_(0, torch.tensor(order), scores)

    def _attributes(self, row: int) -> dict[str, str]:
        known = len(self.catalog)
        return self.catalog.attributes(row) if row < known else self._new[row - known]

    @torch.inference_mode()
    def _gather(self, rows: np.ndarray) -> Items:
        """Return what the table holds of item rows (C,); new items are their text, with nothing learned."""
        if missing := self._new[len(self._new_text) :]:
            encoded = self._encode([self.processor.item_text(text) for text in missing])
            self._new_text = torch.cat([self._new_text, encoded.to(self._new_text)])
        known = len(self.catalog)
        wanted = torch.as_tensor(rows, device=self.model.device)
        new = wanted >= known
        items = self.model.rec_items(torch.where(new, 0, wanted))
        if not new.any():
            return items
        text = torch.where(new[:, None], self._new_text[(wanted - known).clamp(min=0)], items.text)
        learned = (None if each is None else each * ~new.view(-1, *[1] * (each.ndim - 1)) for each in items[1:])
        return Items(text, *learned)

    def _read_on(self) -> None:
        """Read the events that were not read yet; all of the window where it has moved."""
        window = self.processor.windows(self._blocks)[-1]
        row = self.processor.read(np.array(self._items), self._blocks, window, np.array(self._timestamps))
        if (row.offset, window.start) != self._begins:
            self._reading = Reading(self.model, self.processor.header)
            self._begins = (row.offset, window.start)
        begin = self._reading.num_events
        times = None if row.times is None else row.times[begin:]
        self._reading.append(row.blocks[begin:], self._gather(row.items[begin:]), times)
