"""What a checkpoint can do, found by asking it: a few passes over a dozen tokens, against its own plain pass.

A 4D mask replaces the one that an architecture would build. Whether attention then sees what it was trained to see,
whether positions follow `position_ids`, and whether a cache is filled differs from one architecture to the next, so
nothing is assumed from a name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel

from llmrec.formatting import printable
from llmrec.models.attention import attention_mask
from llmrec.models.passes import SLIDING, Capabilities, forward_pass, may_correct_bias, position_offset
from llmrec.text.batch import TRUNK

TOLERANCE = 0.01
"""States differ where they are further apart than this share of what one token that is seen changes."""
ROUNDING = 1e-5
"""Share of a state's norm below which a difference is rounding."""
NARROW = 4
"""Attention window that the questions are asked with, so that a dozen tokens are longer than it."""
LONGEST = 1024
"""A window that is built into the model is asked for with rows of at most so many tokens."""
WINDOWS = ("sliding_window", "attention_window", "attention_window_size", "attention_chunk_size", "window_size")
"""What configurations call how far a layer sees."""
BLOCKS = (0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4)
"""Header and events of the row that is read."""
BRANCHES = {1: 4, 2: 4, -2: 2}
"""Branches behind its events: two candidates behind the last, a query behind the second."""


def capabilities(backbone: PreTrainedModel) -> Capabilities:
    """Return what a backbone can do; one that `load_backbone` did not load is asked now."""
    found: Capabilities | None = getattr(backbone, "rec_capabilities", None)
    return check_backbone(backbone, str(backbone.name_or_path)) if found is None else found


def is_causal(backbone: PreTrainedModel) -> bool:
    """Tell a decoder, which reads from left to right, from an encoder, by what its own plain pass does."""
    return capabilities(backbone).causal


def run_backbone(
    backbone: PreTrainedModel, embeddings: Tensor, position_ids: Tensor, mask: Tensor, cache: Cache | None = None
) -> Tensor:
    """Return the last hidden states (B, T, D) of embeddings (B, T, D), as `forward_pass` does."""
    return forward_pass(backbone, capabilities(backbone), embeddings, position_ids, mask, cache)


@torch.no_grad()
def check_backbone(backbone: PreTrainedModel, name: str) -> Capabilities:
    """Find out what a backbone can do and keep it there for `capabilities`.

    Raises:
        ValueError: if not even one history can be read as its own plain pass reads it, naming what failed.
    """
    accepted = inspect.signature(backbone.forward).parameters
    if missing := [word for word in ("inputs_embeds", "position_ids", "attention_mask") if word not in accepted]:
        raise ValueError(
            f"{name!r} ({backbone.config.model_type}) takes no {', '.join(missing)}; llmrec cannot use it."
        )
    training = backbone.training
    backbone.eval()
    try:
        with torch.autocast(backbone.device.type, enabled=False):
            found = _Questions(backbone, name).ask()
    finally:
        backbone.train(training)
    backbone.rec_capabilities = found  # type: ignore[assignment]
    return found


class _Row(NamedTuple):
    """Tokens (T,) of one row, where they stand, and what they belong to."""

    ids: Tensor
    block: Tensor
    positions: Tensor
    branch: Tensor


class _Refused(Exception):
    """What failed, as a predicate of the checkpoint."""


class _Questions:
    """The questions to one checkpoint; all read the same row of tokens."""

    def __init__(self, backbone: PreTrainedModel, name: str) -> None:
        self.backbone, self.name, self.config = backbone, name, backbone.config
        self.embed: Any = backbone.get_input_embeddings()
        self.block = torch.tensor(BLOCKS, device=backbone.device)
        self.unit = self.tolerance = 0.0

    def ask(self) -> Capabilities:
        """Return what was found."""
        try:
            self._compare_widths()
            self.ids = self._tokens(len(BLOCKS) + 2)
            windows = self._windows()
            with _narrowed(self.config, windows):
                can = self._plain()
                self._check_hidden(can)
                can = self._correct_positions(can)
                can = replace(can, cache=can.branches and self._reads_on(can))
            if can.reach is not None:
                return replace(can, reach=can.reach - NARROW + windows["sliding_window"])
            for window, size in windows.items():
                if size <= LONGEST and (apart := self._branches_apart(can, size)):
                    raise _Refused(
                        f"counts its attention window ({window}={size}) along the row, not by positions: "
                        f"past it a branch {apart}"
                    )
            return can
        except _Refused as refused:
            raise ValueError(
                f"{self.name!r} ({self.config.model_type}) {refused}.\n"
                "llmrec needs attention that takes a 4D mask and position_ids, and no state carried along the row: "
                "use a checkpoint such as BERT, ModernBERT, Llama or Qwen3."
            ) from refused.__cause__

    def _compare_widths(self) -> None:
        if not isinstance(self.embed, nn.Embedding):
            raise _Refused(f"embeds tokens by {type(self.embed).__name__}, not by a matrix")
        width, hidden_size = self.embed.weight.shape[-1], getattr(self.config, "hidden_size", None)
        if hidden_size is None:
            raise _Refused("has no hidden_size in its configuration: its text model is a part of a larger one")
        if width != hidden_size:
            raise _Refused(
                f"has token embeddings of {width} numbers and states of {hidden_size}: item vectors enter beside tokens"
            )

    def _windows(self) -> dict[str, int]:
        """Return how far layers see, by the configuration's name for it; nothing where no layer has a window."""
        if set(getattr(self.config, "layer_types", None) or ()) == {"full_attention"}:
            return {}
        found = {name: getattr(self.config, name, None) for name in WINDOWS}
        return {name: size for name, size in found.items() if isinstance(size, int) and size > 0}

    def _plain(self) -> Capabilities:
        """Return how a row is read so that its states are those of the checkpoint's own plain pass."""
        row = self.ids[: len(BLOCKS)]
        rows = row.repeat(3, 1)
        rows[1, 4], rows[2, -1] = self.ids[-1], self.ids[-2]
        try:
            stock = self.backbone(input_ids=rows).last_hidden_state
        except Exception as error:
            raise _Refused(f"fails in its own plain pass: {first_line(error)}") from error
        self.unit = float((stock[1] - stock[0])[5:].norm(dim=-1).max())
        self.tolerance = max(TOLERANCE * self.unit, ROUNDING * float(stock[0].norm(dim=-1).mean()))
        causal = not self._apart(stock[2, :-1], stock[0, :-1])
        failed: list[str] = []
        for plan in self._plans(Capabilities(causal)):
            try:
                apart = self._apart(self._read(plan, row, torch.zeros_like(row)), stock[0])
            except Exception as error:
                apart = f"fails: {first_line(error)}"
            if not apart:
                return plan
            failed.append(apart)
        what = "a row longer than its attention window" if self._windows() else "a plain row"
        raise _Refused(f"does not read {what} under a 4D mask as it does without: the pass {failed[0]}")

    def _plans(self, plain: Capabilities) -> Iterator[Capabilities]:
        """Yield ways to follow a window: none, a mask for each kind of layer or one for all, < or <= its size apart."""
        yield plain
        window = self._windows().get("sliding_window")
        if window is not None:
            kinds = tuple(sorted(set(getattr(self.config, "layer_types", None) or ())))
            for reach in (window, window + 1):
                if SLIDING in kinds:
                    yield replace(plain, reach=reach, kinds=kinds)
                yield replace(plain, reach=reach)

    def _check_hidden(self, can: Capabilities) -> None:
        """Refuse what lets tokens see what the mask hides from them."""
        early, row = self.block <= 2, self.ids[: len(BLOCKS)]
        for what, kept, sequence in (
            ("a later event changed an earlier state", early, None),
            ("a hidden token changed a later state, which is carried along the row", ~early, early.long()),
        ):
            other = torch.where(kept, row, row.flip(0))
            one, two = (self._read(can, ids, self.block, sequence=sequence) for ids in (row, other))
            if apart := self._apart(one[kept], two[kept]):
                raise _Refused(f"does not honour attention masks: {what}, and the pass {apart}")

    def _correct_positions(self, can: Capabilities) -> Capabilities:
        """Return how branches are read as if each stood alone, or why they are not."""
        apart = self._branches_apart(can)
        if apart and may_correct_bias(self.backbone):
            corrected = replace(can, relative_bias=True)
            if not self._branches_apart(corrected):
                return replace(corrected, branches=True)
        return replace(can, branches=not apart, lacks=f"a branch read beside others {apart}" if apart else "")

    def _branches_apart(self, can: Capabilities, length: int = 3) -> str:
        """Say how far branches of one row, the first of `length` tokens, and packed histories are from each alone."""
        row = self._row(length)
        try:
            together = self._read(can, *row)
            for number, event in BRANCHES.items():
                keep = ((row.branch == TRUNK) & (row.block <= event)) | (row.branch == number)
                alone = self._read(can, *_Row(*(part[keep] for part in row)))
                if apart := self._apart(together[keep], alone):
                    return apart
            trunk = row.branch == TRUNK
            twice = _Row(*(part[trunk].repeat(2) for part in row))
            sequence = torch.arange(2, device=trunk.device).repeat_interleave(len(BLOCKS))
            return self._apart(self._read(can, *twice, sequence=sequence), together[trunk].repeat(2, 1))
        except Exception as error:
            return f"fails: {first_line(error)}"

    def _reads_on(self, can: Capabilities) -> bool:
        """Tell whether tokens read behind a cache have the states of one pass."""
        row, cache = self._row(3), DynamicCache()
        begin = int((row.block <= 3).logical_and(row.branch == TRUNK).sum())
        parts: list[Tensor] = []
        try:
            for start, end in ((0, begin), (begin, len(BLOCKS)), (len(BLOCKS), len(row.ids))):
                parts.append(self._read(can, *_Row(*(part[:end] for part in row)), cached=start, cache=cache))
            return not self._apart(torch.cat(parts), self._read(can, *row))
        except Exception:  # whatever an architecture without a cache makes of one
            return False

    def _row(self, length: int) -> _Row:
        """Return the row with branches behind its events, the first of them of `length` tokens."""
        sizes = [length] + [2] * (len(BRANCHES) - 1)
        seen = [int((self.block <= event).sum()) for event in BRANCHES.values()]
        positions = [torch.arange(len(BLOCKS)), *(torch.arange(n) + at for n, at in zip(sizes, seen, strict=True))]
        numbers, events = torch.tensor([*BRANCHES.items()]).repeat_interleave(torch.tensor(sizes), dim=0).T
        place = torch.cat(positions).to(self.block.device)
        branch = torch.cat([torch.full((len(BLOCKS),), TRUNK), numbers]).to(place)
        return _Row(
            ids=self.ids[torch.arange(len(place), device=place.device) % len(self.ids)],
            block=torch.cat([self.block, events.to(place)]),
            positions=place,
            branch=branch,
        )

    def _read(
        self,
        can: Capabilities,
        ids: Tensor,
        block: Tensor,
        positions: Tensor | None = None,
        branch: Tensor | None = None,
        sequence: Tensor | None = None,
        cached: int = 0,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """Return the states (T - S, D) of one row, S tokens of it being in the cache."""
        branch, sequence = (None if each is None else each[None] for each in (branch, sequence))
        mask = attention_mask(block[None], can.causal, branch, cached, sequence)
        place = torch.arange(len(ids), device=ids.device) if positions is None else positions
        place = (place + position_offset(self.backbone))[None, cached:]
        return forward_pass(self.backbone, can, self.embed(ids[None, cached:]), place, mask, cache)[0]

    def _apart(self, one: Tensor, two: Tensor) -> str:
        """Say how far states are apart, in what one visible token changes; nothing where they are equal."""
        distance = float((one - two).norm(dim=-1).max())
        if distance <= self.tolerance:
            return ""
        return f"differs by {distance / self.unit if self.unit else distance:.2g} of what a visible token changes"

    def _tokens(self, number: int) -> Tensor:
        """Return token ids from all over the vocabulary, none of them special."""
        named = (getattr(self.config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "cls", "sep"))
        special = {token for each in named for token in (each if isinstance(each, list) else [each])}
        usual = [token for token in range(self.embed.weight.shape[0]) if token not in special]
        return torch.tensor([usual[len(usual) * (2 * at + 1) // (2 * number)] for at in range(number)]).to(self.block)


@contextmanager
def _narrowed(config: Any, windows: Mapping[str, int]) -> Iterator[None]:
    """Let layers see `NARROW` tokens far."""
    try:
        for name in windows:
            setattr(config, name, NARROW)
        yield
    finally:
        for name, size in windows.items():
            setattr(config, name, size)


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says."""
    return f"{type(error).__name__}: {printable((str(error).strip() or 'no reason given').splitlines()[0][:200])}"
