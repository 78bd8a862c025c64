"""Unlabelled histories as packed rows: only training events are read, and some users are held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from llmrec.data.catalog import Catalog
from llmrec.data.directory import PreparedData
from llmrec.text.batch import PADDING, Pass
from llmrec.text.packing import PackedBatch, collate_packed, pack
from llmrec.text.processor import Processor
from llmrec.training.objectives import masked_events, next_tokens


class ReadPass(NamedTuple):
    """A pass, and whose it is."""

    row: Pass
    user: int
    """Index of the user in the source; negative for an item's own text."""
    source: int
    """Index of the data directory."""


class HistoryPasses(NamedTuple):
    """What one data directory gives to read."""

    train: list[ReadPass]
    held_out: list[ReadPass]
    num_users: int
    num_held_out: int


def history_passes(
    directory: PreparedData,
    processor: Processor,
    held_out: float,
    max_held_out: int,
    item_texts: bool,
    max_train_events: int | None,
    seed: int,
    source: int = 0,
) -> HistoryPasses:
    """Cut the training events of a data directory into passes.

    Args:
        directory: the data; what its split does not call `train` is never read.
        processor: writes and cuts the text.
        held_out: share of users whose histories are kept for the held-out loss, drawn by seed.
        max_held_out: the most such users.
        item_texts: whether the text of every item with a training event is read too, alone.
        max_train_events: newest training events read of each user, or None for all.
        seed: of the draw.
        source: index of the directory among several.

    Raises:
        ValueError: if no user has two training events.
    """
    catalog, histories = directory.catalog, directory.histories()
    users: list[list[ReadPass]] = []
    seen: set[int] = set()
    for row in histories.select_columns(["item_id", "timestamp", "split"]):
        kept = [place for place, split in enumerate(row["split"]) if split == "train"][-(max_train_events or 0) :]
        if len(kept) < 2:
            continue
        items = np.array([catalog.index(row["item_id"][place]) for place in kept], dtype=np.int64)
        times = np.array([row["timestamp"][place] for place in kept], dtype=np.int64)
        blocks = processor.blocks(items, times, catalog)
        user = len(users)
        users.append(
            [
                ReadPass(Pass(items[start:end], blocks[start:end]), user, source)
                for start, _, end in processor.windows(blocks, overlap=0.0)
            ]
        )
        seen.update(items.tolist())
    if not users:
        raise ValueError(f"{str(directory.path)!r}: no user has two training events, so there is nothing to read.")
    drawn = np.random.default_rng(seed).permutation(len(users))
    number = min(max_held_out, math.ceil(held_out * len(users))) if held_out else 0
    away = set(drawn[:number].tolist())
    train = [one for user, passes in enumerate(users) if user not in away for one in passes]
    if item_texts:
        texts = dict.fromkeys(tuple(processor.item_block(catalog.attributes(item))) for item in sorted(seen))
        alone = np.array([PADDING])
        train += [ReadPass(Pass(alone, [text[: processor.budget]]), -1, source) for text in texts]
    return HistoryPasses(train, [one for user in sorted(away) for one in users[user]], len(users), number)


def mixed(
    parts: Sequence[HistoryPasses], processor: Processor, temperature: float, seed: int
) -> tuple[list[ReadPass], list[dict[str, Any]]]:
    """Draw from several data directories, each by its tokens to the power of 1 / temperature.

    One epoch is as many tokens as all have together; what is drawn more often than it is there repeats.

    Args:
        parts: of each directory.
        processor: counts tokens.
        temperature: 1 draws everything once; the greater, the more equal the shares.
        seed: of the draw.

    Returns:
        What is trained on, and of each directory how much that is, repeats counted: events, tokens, and their share.
    """
    sizes = [np.array([processor.num_tokens(one.row) for one in part.train]) for part in parts]
    totals = np.array([size.sum() for size in sizes], dtype=np.float64)
    weights = totals ** (1 / temperature)
    wanted = weights / weights.sum() * totals.sum()
    random = np.random.default_rng(seed)
    drawn: list[ReadPass] = []
    report: list[dict[str, Any]] = []
    for part, size, total, tokens in zip(parts, sizes, totals, wanted, strict=True):
        whole, rest = divmod(round(tokens / total, 9), 1.0)
        order = random.permutation(len(size))
        some = order[: int(np.searchsorted(size[order].cumsum(), rest * total, side="right"))]
        chosen = np.sort(np.concatenate([np.tile(np.arange(len(size)), int(whole)), some])).astype(np.int64)
        drawn += [part.train[index] for index in chosen]
        report.append(
            {
                "users": part.num_users,
                "held_out_users": part.num_held_out,
                "events_read": sum(len(part.train[index].row.items) for index in chosen if part.train[index].user >= 0),
                "tokens": int(size[chosen].sum()),
                "tokens_there": int(total),
            }
        )
    for one in report:
        one["share"] = one["tokens"] / sum(other["tokens"] for other in report)
    return drawn, report


class PackedDataset(Dataset):
    """Rows of passes: several packed into one, or one alone in each.

    Args:
        passes: what is read.
        processor: counts their tokens.
        row_tokens: tokens of a packed row; None puts every pass in a row of its own, which is then padded.
    """

    def __init__(self, passes: Sequence[ReadPass], processor: Processor, row_tokens: int | None) -> None:
        sizes = [processor.num_tokens(one.row) for one in passes]
        places = [[index] for index in range(len(passes))] if row_tokens is None else pack(sizes, row_tokens)
        self.rows = [[passes[index] for index in row] for row in places]
        self.lengths = np.array([sum(sizes[index] for index in row) for row in places])
        """Tokens of each row."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[ReadPass]:
        return self.rows[index]

    def histories(self, source: int) -> list[np.ndarray]:
        """Return the items of a source's passes, each (L,), item texts that stand alone left out."""
        return [one.row.items for row in self.rows for one in row if one.source == source and one.user >= 0]


class MaskedEvents(NamedTuple):
    """The objective of encoders: whole events are masked (`masked_events`)."""

    mask_token: int
    kept: tuple[int, ...]
    rate: float

    def __call__(self, batch: PackedBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return input ids and labels."""
        return masked_events(batch, self.mask_token, self.kept, self.rate, generator)


class NextTokens(NamedTuple):
    """The objective of decoders: every next token of an event (`next_tokens`)."""

    def __call__(self, batch: PackedBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return input ids and labels."""
        return next_tokens(batch)


class PackedCollator:
    """Packed rows to tensors: a `PackedBatch`, `labels`, and where halves are contrasted the text of an item of each.

    What is masked and drawn depends on the seed and on what the batch holds, so a resumed run draws the same again.

    Args:
        processor: its header and tokenizer.
        objective: what is asked.
        seed: of masks and draws.
        catalogs: of the sources, whose item texts are contrasted; empty contrasts nothing.
    """

    def __init__(
        self, processor: Processor, objective: MaskedEvents | NextTokens, seed: int, catalogs: Sequence[Catalog] = ()
    ) -> None:
        self.processor, self.objective, self.seed, self.catalogs = processor, objective, seed, catalogs

    def __call__(self, rows: Sequence[Sequence[ReadPass]]) -> dict[str, Any]:
        """Return the tensors of one batch."""
        packed = collate_packed(
            [[one.row for one in row] for row in rows], self.processor.header, self.processor.pad_token_id
        )
        checksum = int(
            (packed["input_ids"] * torch.arange(1, packed["input_ids"].numel() + 1).view_as(packed["input_ids"])).sum()
        )
        seed = (self.seed * 1_000_003 + checksum) % 2**31
        input_ids, labels = self.objective(packed, torch.Generator().manual_seed(seed))
        batch: dict[str, Any] = {**packed, "input_ids": input_ids, "labels": labels}
        if self.catalogs:
            batch |= self._pairs([one for row in rows for one in row], np.random.default_rng(seed))
        return batch

    def _pairs(self, passes: Sequence[ReadPass], random: np.random.Generator) -> Mapping[str, Tensor]:
        """Draw an item of each half of each user's history, and return their texts, packed (`embed_texts`).

        Text 2 u is of the u-th user's first half, text 2 u + 1 of the second.
        """
        users = {(one.source, one.user): one for one in passes if len(one.row.items) > 1 and one.user >= 0}
        if len(users) < 2:  # nobody to be told from
            return {}
        texts: list[list[int]] = []
        for one in users.values():
            middle = len(one.row.items) // 2
            for half in (one.row.items[:middle], one.row.items[middle:]):
                attributes = self.catalogs[one.source].attributes(int(random.choice(half)))
                texts.append(self.processor.item_tokens(self.processor.item_text(attributes)))
        sizes = [len(text) for text in texts]
        rows = pack(sizes, max(self.processor.config.max_tokens, *sizes))
        width = max(sum(sizes[index] for index in row) for row in rows)
        ids, positions = (np.zeros((len(rows), width), dtype=np.int64) for _ in range(2))
        sequence = np.full((len(rows), width), PADDING, dtype=np.int64)
        for place, row in enumerate(rows):
            here = slice(0, sum(sizes[index] for index in row))
            ids[place, here] = np.concatenate([texts[index] for index in row])
            positions[place, here] = np.concatenate([np.arange(sizes[index]) for index in row])
            sequence[place, here] = np.repeat(row, [sizes[index] for index in row])
        arrays = {"text_ids": ids, "text_positions": positions, "text_sequence": sequence}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
