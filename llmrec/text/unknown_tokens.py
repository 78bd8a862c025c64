"""What a checkpoint's tokenizer makes of a catalogue: unknown tokens, and texts that differ but are read alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from llmrec.data.catalog import Catalog
from llmrec.text.processor import Processor

WORTH_A_WARNING = 0.02
"""Share of unknown tokens, or of items read alike."""
MULTILINGUAL = "intfloat/multilingual-e5-small or sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
TEXTS_PER_BATCH = 10_000
NUM_EXAMPLES = 3


class TokenCoverage(NamedTuple):
    """How much of the items' texts reaches the model.

    Attributes:
        tokens: of all items' texts, whole and without special tokens.
        unknown: how many of them are the tokenizer's token for what it does not know.
        items: in the catalogue.
        alike: items whose tokens are those of another text.
        unknown_texts: a few texts with unknown tokens.
        alike_texts: a few texts that become the same tokens.
    """

    tokens: int
    unknown: int
    items: int
    alike: int
    unknown_texts: list[str]
    alike_texts: list[str]

    @property
    def record(self) -> dict[str, float]:
        """Numbers alone, for the record of a training: no text of an item."""
        return {
            "unknown_token_share": self.unknown / max(self.tokens, 1),
            "items_read_alike": self.alike,
            "items": self.items,
        }

    def warning(self, base_model: str) -> str | None:
        """Return what to tell the user, None where both shares are below `WORTH_A_WARNING`."""
        lines = []
        if self.unknown >= WORTH_A_WARNING * max(self.tokens, 1):
            lines.append(
                f"{self.unknown / self.tokens:.1%} of the tokens of item texts ({self.unknown:,} of {self.tokens:,}) "
                f"are unknown to {base_model!r}, such as in {_quoted(self.unknown_texts)}."
            )
        if self.alike >= max(WORTH_A_WARNING * self.items, 1):
            lines.append(
                f"{self.alike:,} of {self.items:,} items have the same tokens as another text, and text alone cannot "
                f"tell them apart, such as {_quoted(self.alike_texts)}."
            )
        if lines and self.unknown >= WORTH_A_WARNING * max(self.tokens, 1):
            lines.append(f"Give a base model that reads them, such as {MULTILINGUAL}.")
        elif lines:
            lines.append("Let the template read more of their fields.")
        return "\n".join(lines) or None


def token_coverage(processor: Processor, catalog: Catalog) -> TokenCoverage:
    """Count unknown tokens in the items' texts as the template writes them, and items that are read alike."""
    texts = [processor.item_text(catalog.attributes(index)) for index in range(len(catalog))]
    return coverage_of(processor.tokenizer, [processor.config.item_encoding.written(text) for text in texts])


def coverage_of(tokenizer: Any, texts: Sequence[str]) -> TokenCoverage:
    """Count unknown tokens in texts (N,), and those whose tokens are those of a text that differs.

    Equal texts are no fault of the tokenizer, and do not count as read alike.
    """
    number: dict[str, int] = defaultdict(int)
    for text in texts:
        number[text] += 1
    distinct = list(number)
    read: dict[tuple[int, ...], list[str]] = defaultdict(list)
    tokens = unknown = 0
    examples: list[str] = []
    for begin in range(0, len(distinct), TEXTS_PER_BATCH):
        batch = distinct[begin : begin + TEXTS_PER_BATCH]
        encoded = tokenizer(
            batch, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )["input_ids"]
        for text, ids in zip(batch, encoded, strict=True):
            missing = ids.count(tokenizer.unk_token_id)
            tokens += len(ids) * number[text]
            unknown += missing * number[text]
            if missing and len(examples) < NUM_EXAMPLES:
                examples.append(text)
            read[tuple(ids)].append(text)
    groups = [group for group in read.values() if len(group) > 1]
    alike = sum(number[text] for group in groups for text in group)
    return TokenCoverage(
        tokens, unknown, len(texts), alike, examples, next((group[:NUM_EXAMPLES] for group in groups), [])
    )


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(repr(text[:60]) for text in texts)
