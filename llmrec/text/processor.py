"""Serializer and tokenizer together: a history becomes passes, passes become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from llmrec.configuration import RecommenderConfig
from llmrec.data.processes import Lock
from llmrec.text.batch import Batch, Pass, Query, collate
from llmrec.text.moments import NO_TIME, event_times, known
from llmrec.text.serializer import Serializer
from llmrec.text.windows import Window, text_windows

TEXTS_AT_ONCE = 1024
"""Texts that are tokenised before other threads may."""
MAX_QUERY_TOKENS = 40
"""Tokens that a query block may have; the shipped one has nine, and more where a vocabulary spells its words."""


_tokenizing = Lock()
"""A fast tokenizer keeps in itself how to cut and what is special, and fails where two threads ask at once."""


def tokenized(tokenizer: Any, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    """Return the token ids of texts, for any number of threads at once.

    Args:
        tokenizer: a fast tokenizer; it is left without truncation, which would be saved with it.
        texts: N texts.
        settings: those of the tokenizer's call.
    """
    found: list[list[int]] = []
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        with _tokenizing:
            found += tokenizer(list(texts[begin : begin + TEXTS_AT_ONCE]), **settings)["input_ids"]
            if settings.get("truncation"):
                tokenizer.backend_tokenizer.no_truncation()
    return found


class ItemTexts(Protocol):
    """Where an item's text attributes are found: a catalogue, or a catalogue and a request's new items."""

    def attributes(self, index: int) -> dict[str, str]:
        """Return the present text attributes of item `index`."""
        ...


class Processor:
    """Turns histories into token blocks, windows and batches.

    Args:
        serializer: writes the text.
        tokenizer: a Hugging Face fast tokenizer.
        config: token budget, vector events, overlap.

    Raises:
        ValueError: if the header alone fills the token budget.
    """

    def __init__(self, serializer: Serializer, tokenizer: Any, config: RecommenderConfig) -> None:
        self.serializer = serializer
        self.tokenizer = tokenizer
        self.config = config
        # Encoders are used to a separator after every sentence; decoders to a new line.
        self.separator = [tokenizer.sep_token_id] if tokenizer.sep_token_id is not None else self._ids("\n")[-1:]
        self.separator = self.separator or [tokenizer.eos_token_id or 0]  # some tokenizers drop white space
        first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
        self.header = ([] if first is None else [first]) + (self._ids(serializer.header) if serializer.header else [])
        if not self.header:  # event tokens may need something to look at that is not an event
            self.header = list(self.separator)
        self.budget = config.max_tokens - len(self.header)
        if self.budget <= 1:
            raise ValueError(
                f"the header takes {len(self.header)} of max_tokens={config.max_tokens!r}: no event fits.\n"
                "Shorten the header or raise max_tokens."
            )
        pad = tokenizer.pad_token_id
        self.pad_token_id: int = pad if pad is not None else (tokenizer.eos_token_id or 0)
        self._blocks: dict[str, list[int]] = {}
        self._candidate_blocks: dict[str, list[int]] = {}

    def _ids(self, text: str, split_special_tokens: bool = False) -> list[int]:
        settings = {"add_special_tokens": False, "split_special_tokens": split_special_tokens}
        return tokenized(self.tokenizer, [text], **settings)[0]

    def blocks(
        self, items: np.ndarray, timestamps: np.ndarray, texts: ItemTexts, liked: np.ndarray | None = None
    ) -> list[list[int]]:
        """Return the token block of every event of one history.

        Args:
            items: (L,) item rows, oldest first.
            timestamps: (L,) seconds since the epoch, or `NO_TIME`.
            texts: the items' attributes.
            liked: (L,) bool, whether the user liked each; None where nobody said.

        An event that alone exceeds the budget stands as its item vector.
        """
        times = event_times(timestamps).tolist()
        return [
            self._block(
                self.serializer.event(
                    texts.attributes(int(item)),
                    known(times[position][0]),
                    None if liked is None else bool(liked[position]),
                    known(times[position][1]),
                )
            )
            for position, item in enumerate(items)
        ]

    def _block(self, text: str) -> list[int]:
        block = self._blocks.get(text)
        if block is None:
            block = self._ids(text, split_special_tokens=True) + self.separator  # a title is no control token
            block = self._blocks[text] = block if len(block) <= self.budget else self.separator
        return block

    def windows(self, blocks: Sequence[Sequence[int]], overlap: float | None = None) -> list[Window]:
        """Split a history's blocks into text windows; `overlap` defaults to the configuration's."""
        kept = self.config.window_overlap if overlap is None else overlap
        return text_windows([len(block) for block in blocks], self.budget, kept)

    def read(
        self,
        items: np.ndarray,
        blocks: Sequence[Sequence[int]],
        window: Window,
        timestamps: np.ndarray | None = None,
    ) -> Pass:
        """Return the pass of a window: events before its text stand as their item vector alone.

        Args:
            items: item rows of the whole history, or as many as the window needs.
            blocks: their token blocks.
            window: the events to read.
            timestamps: of all those items, in seconds; needed where the model embeds time.

        Raises:
            ValueError: if it does and there are none.
        """
        times = None
        if self.embeds_time:
            if timestamps is None:
                raise ValueError("the model embeds time: give the events' timestamps to read.")
            times = event_times(timestamps)
        begin = max(0, window.start - self.config.max_vector_events)
        vectors = [self.separator] * (window.start - begin)
        return Pass(
            items=items[begin : window.end],
            blocks=[*vectors, *blocks[window.start : window.end]],
            offset=begin,
            first=window.first - begin,
            times=None if times is None else times[begin : window.end],
        )

    @property
    def asks_now(self) -> bool:
        """Whether a query block stands behind a history: it has words, or an embedding of now to carry."""
        return self.serializer.asks_now or self.embeds_time

    @property
    def embeds_time(self) -> bool:
        """Whether times go to the model beside the words."""
        return bool(self.config.time_embedding)

    def query(self, event: int, last: int, now: int) -> Query:
        """Return the query behind an event.

        Args:
            event: its index in the pass.
            last: its timestamp, in seconds, or `NO_TIME`.
            now: when it is asked what comes next, in seconds, or `NO_TIME`; not before the event.

        Raises:
            ValueError: if now is before the event, or the block has more than `MAX_QUERY_TOKENS` tokens.
        """
        timed = NO_TIME not in (last, now)
        if timed and now < last:
            raise ValueError(f"now={now!r} is before the last event ({last!r}): give a later moment.")
        gap = now - last if timed else NO_TIME
        text = self.serializer.query(known(gap), known(now))
        block = self._blocks.get(text)
        if block is None:
            block = self._blocks[text] = self._ids(text) + self.separator
        if len(block) > MAX_QUERY_TOKENS:
            raise ValueError(f"query {text!r} has {len(block)} tokens, {MAX_QUERY_TOKENS} are allowed: shorten it.")
        return Query(event, block, (gap, now), self.embeds_time)

    def ask(self, row: Pass, timestamps: np.ndarray, events: np.ndarray, now: np.ndarray) -> Pass:
        """Return the pass with a query behind some of its events, or as it is where the model is told nothing of now.

        Args:
            row: from `read`.
            timestamps: (at least L,) those of the whole history.
            events: (Q,) their indices in the pass.
            now: (Q,) when it is asked what comes after each, in seconds.
        """
        if not self.asks_now:
            return row
        last = timestamps[row.offset + events]
        asked = zip(events.tolist(), last.tolist(), now.tolist(), strict=True)
        return replace(row, queries=[self.query(*each) for each in asked])

    def candidate_block(self, attributes: dict[str, str]) -> list[int]:
        """Return the token block of a candidate: never cut, for a part of it would be another item.

        Behind a verbalizer's text the answer comes next, so no separator ends it.

        Raises:
            ValueError: if it has more than `max_candidate_tokens` tokens.
        """
        text = self.serializer.candidate(attributes)
        block = self._candidate_blocks.get(text)
        if block is None:
            block = self._ids(text, split_special_tokens=True)
            block = self._candidate_blocks[text] = block + self.separator * (self.config.head != "verbalizer")
        if len(block) > self.config.max_candidate_tokens:
            raise ValueError(
                f"candidate {text[:60]!r}... has {len(block)} tokens, max_candidate_tokens is "
                f"{self.config.max_candidate_tokens!r}.\nRaise it, or cut fields in the template with max_words."
            )
        return block

    def num_tokens(self, row: Pass) -> int:
        """Return the tokens of a pass, header and branches included."""
        return len(self.header) + sum(map(len, row.blocks)) + sum(len(block) for *_, block in row.hanging)

    def batch(self, passes: Sequence[Pass]) -> Batch:
        """Pad passes to one batch, on the tokenizer's padding side."""
        return collate(passes, self.header, self.pad_token_id, self.tokenizer.padding_side)

    def item_block(self, attributes: dict[str, str]) -> list[int]:
        """Return the token block of an item's own text, cut where its embedding would cut it."""
        return (
            self._ids(self.item_text(attributes), split_special_tokens=True)[: self.config.max_item_tokens]
            + self.separator
        )

    def item_tokens(self, text: str) -> list[int]:
        """Return the tokens that the embedding of an item's text reads, special tokens included, as `encode_texts`."""
        limit = self.config.max_item_tokens
        text = self.config.item_encoding.written(text)
        return tokenized(self.tokenizer, [text], truncation=True, max_length=limit, split_special_tokens=True)[0]

    def item_text(self, attributes: dict[str, str]) -> str:
        """Return the text that an item's frozen embedding reads."""
        return self.serializer.item(attributes)
