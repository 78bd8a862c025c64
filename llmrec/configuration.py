"""What inference needs to know of a trained recommender, saved as sorted JSON beside the weights.

Everything that only a training run needs (learning rate, epochs, dropout) lives in `llmrec.training.arguments` instead.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from llmrec.formatting import printable
from llmrec.untrusted import check_bytes, holds

CONFIG_NAME = "llmrec_config.json"
TRAINING_SETTINGS = "training_settings.json"
FORMAT_VERSION = 6
HEADS = ("dual", "cross", "verbalizer")
POOLINGS = ("mean", "last")
TIME_PARTS = ("gap", "hour", "weekday", "yearday")
"""What an embedding of time can hold: the time since the event before, the hour, the weekday, the day of the year."""
ITEM_POOLINGS = ("mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean")
"""How the token states of an item's text become one vector; sentence-transformers calls them so."""
NORMALIZE = "Normalize"
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
"""Functions of `torch.nn` behind a Dense layer of an item encoding."""
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("base_model", "head", "pooling"), ((str,), "text")),
    **dict.fromkeys(("base_revision", "base_sha256"), ((str, type(None)), "text or null")),
    **dict.fromkeys(("hybrid", "has_clock", "merged", "mask_seen"), ((bool,), "true or false")),
    "adapted_on": ((dict, type(None)), "an object or null"),
}
"""Kinds of the settings that have no range, and what they are called."""


@dataclass(kw_only=True)
class ItemEncoding:
    """How an item's text becomes its frozen embedding, once the checkpoint has read it.

    Attributes:
        pooling: some of `ITEM_POOLINGS`, whose vectors are concatenated.
        prompt: text before each item's.
        include_prompt: whether the prompt's tokens are pooled with the others.
        lower_case: whether texts are lowered before they are cut into tokens.
        layers: what the pooled vector passes through: `Normalize`, or a Dense layer, named by its activation; the
            folder holds the weights. In the end every vector has length one.

    Raises:
        ValueError: if a value is none of those.
    """

    pooling: list[str] = field(default_factory=lambda: ["mean"])
    prompt: str = ""
    include_prompt: bool = True
    lower_case: bool = False
    layers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, known in (("pooling", ITEM_POOLINGS), ("layers", (NORMALIZE, *ACTIVATIONS))):
            value = getattr(self, name)
            some = isinstance(value, list) and (bool(value) or name == "layers") and all(one in known for one in value)
            _require(some, f"item_encoding {name}", value, f"is no list of some of {', '.join(known)}")
        _require(isinstance(self.prompt, str), "item_encoding prompt", self.prompt, "is not text")
        for name in ("include_prompt", "lower_case"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"item_encoding {name}", value, "is not true or false")

    @classmethod
    def of(cls, values: Any) -> ItemEncoding:
        """Return the encoding that a saved object describes."""
        known = {one.name for one in fields(cls)}
        _require(isinstance(values, dict) and set(values) <= known, "item_encoding", values, f"is not {sorted(known)}")
        return cls(**values)

    def written(self, text: str) -> str:
        """Return what the checkpoint reads of an item's text."""
        whole = self.prompt + text
        return whole.lower() if self.lower_case else whole


@dataclass(frozen=True, kw_only=True)
class MemoryWeights:
    """How much of what is remembered is in a score, and how fast it fades (`llmrec.models.memory`).

    Attributes:
        neighbours: weight of the items that the same people had as those of the history.
        neighbours_decay: weight of an event relative to the next one, in (0, 1].
        own: weight of what this person did with the item before.
        own_decay: as `neighbours_decay`.

    Raises:
        ValueError: if a value is outside its range.
    """

    neighbours: float = 0.0
    neighbours_decay: float = 1.0
    own: float = 0.0
    own_decay: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            _require(number and math.isfinite(value), f"memory {name}", value, "is no number")
            if name.endswith("decay"):
                _require(0 < value <= 1, f"memory {name}", value, "is not in (0, 1]")
            else:
                _require(0 <= value <= 1000, f"memory {name}", value, "is not in [0, 1000]")

    @classmethod
    def of(cls, values: Any) -> MemoryWeights:
        """Return the weights that a saved object describes."""
        known = {one.name for one in fields(cls)}
        _require(isinstance(values, dict) and set(values) <= known, "memory", values, f"is not {sorted(known)}")
        return cls(**values)

    def __bool__(self) -> bool:
        return bool(self.neighbours or self.own)


@dataclass(kw_only=True)
class RecommenderConfig:
    """Settings that define the artefact.

    Attributes:
        base_model: Hub name of the checkpoint the adapter was trained on, or a local one's path from the saved folder.
        base_revision: commit of that checkpoint on the Hub, or None when it came from a package or a folder.
        base_sha256: SHA-256 of the checkpoint's weights, the same wherever they came from.
        head: what scores candidates. `dual` scores the whole catalogue by one inner product, and is there whatever is
            said here; `cross` and `verbalizer` score candidates that have read the history, proposed by `dual`.
        hybrid: whether known items have learned residuals and biases beside their text.
        popularity_weight: how much of an item's popularity is in its score (`smoothed_popularity`; `hybrid`), in
            [0, 2]: 0 ranks by what the history says alone, which serves rare items.
        like_rate: share of likes among the events that training on labelled pairs counted, from which the logit of a
            pair starts by how far the user's own share and the item's differ; None where it starts from nothing.
        memory: how much of what is remembered is in the scores of the dual head; None where there is no memory.
        pooling: how an event's token states become one state: their `mean`, or the `last` token's.
        mask_seen: whether items of the history leave rankings and recommendations, unless told otherwise: as in
            training.
        max_tokens: tokens of text that the model reads of one history, header included.
        max_vector_events: events older than the text that stand as their item vector alone, one position each.
        window_overlap: share of the text budget kept when the window has to move on, in [0, 1).
        max_item_tokens: tokens of an item's text that its frozen embedding reads, those of a prompt included.
        item_encoding: how they become one vector, as the checkpoint's sentence-transformers files say.
        max_candidate_tokens: tokens that a candidate's block may have; a longer one is an error.
        has_clock: whether timestamps are times; False where they only order the events.
        adapted_on: what the adapter, or its base model, read before it learned to rank (`llmrec pretrain`): objective,
            steps, passes in which it learned where items lie, the weights trained, of each data directory its source
            and the digest of its manifest, and `after` which earlier adaptation; None if nothing.
        time_embedding: what of an event's time is added to its tokens, some of `TIME_PARTS`, and of now to a query
            block's; nothing by default.
        merged: whether the folder holds a whole backbone with the adapter in its weights, instead of an adapter.
        format_version: version of the folder format.

    Raises:
        ValueError: if a value is outside its range.
    """

    base_model: str
    base_revision: str | None = None
    base_sha256: str | None = None
    head: str = "dual"
    hybrid: bool = True
    popularity_weight: float = 1.0
    like_rate: float | None = None
    memory: MemoryWeights | None = None
    pooling: str = "mean"
    mask_seen: bool = True
    max_tokens: int = 256
    max_vector_events: int = 32
    window_overlap: float = 0.5
    max_item_tokens: int = 64
    item_encoding: ItemEncoding = field(default_factory=ItemEncoding)
    max_candidate_tokens: int = 64
    has_clock: bool = True
    adapted_on: dict[str, Any] | None = None
    time_embedding: list[str] = field(default_factory=list)
    merged: bool = False
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name, (kinds, words) in KINDS.items():
            _require(isinstance(getattr(self, name), kinds), name, getattr(self, name), f"is not {words}")
        if not isinstance(self.item_encoding, ItemEncoding):
            self.item_encoding = ItemEncoding.of(self.item_encoding)
        if self.memory is not None and not isinstance(self.memory, MemoryWeights):
            self.memory = MemoryWeights.of(self.memory)
        own = self.head.isidentifier() and self.head[0].isupper()  # the name of a class
        _require(self.head in HEADS or own, "head", self.head, f"is not one of {', '.join(HEADS)}")
        _require(self.pooling in POOLINGS, "pooling", self.pooling, f"is not one of {', '.join(POOLINGS)}")
        for name in ("max_tokens", "max_vector_events", "max_item_tokens", "max_candidate_tokens"):
            _require(isinstance(getattr(self, name), int), name, getattr(self, name), "is no whole number")
        weight = self.popularity_weight
        _require(isinstance(weight, (int, float)), "popularity_weight", weight, "is no number")
        _require(0 <= weight <= 2, "popularity_weight", weight, "is not in [0, 2]")
        rate = self.like_rate
        _require(rate is None or (isinstance(rate, float) and 0 < rate < 1), "like_rate", rate, "is not in (0, 1)")
        overlap = self.window_overlap
        _require(isinstance(overlap, (int, float)), "window_overlap", overlap, "is no number")
        _require(self.max_tokens >= 8, "max_tokens", self.max_tokens, "leaves no room for an event; give at least 8")
        _require(
            self.max_vector_events >= 0, "max_vector_events", self.max_vector_events, "is negative; 0 turns it off"
        )
        _require(0 <= self.window_overlap < 1, "window_overlap", self.window_overlap, "is not in [0, 1)")
        asked = self.time_embedding
        known = isinstance(asked, (list, tuple)) and all(part in TIME_PARTS for part in asked)
        _require(known, "time_embedding", asked, f"is no list of some of {', '.join(TIME_PARTS)}")
        self.time_embedding = [part for part in TIME_PARTS if part in asked]
        for name in ("max_item_tokens", "max_candidate_tokens"):
            _require(getattr(self, name) >= 4, name, getattr(self, name), "is below 4")

    def save(self, folder: str | os.PathLike) -> None:
        """Write the configuration to `folder` as sorted JSON: equal settings give equal bytes."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
        Path(folder, CONFIG_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike) -> RecommenderConfig:
        """Read the configuration of a saved folder.

        An unknown key, written by a newer release, warns and is dropped; a missing one raises. Releases that did not
        save `mask_seen` left it in the record of the training, from which it is then taken.

        Raises:
            FileNotFoundError: if the folder holds no llmrec configuration.
            ValueError: if a required key is missing or the format is newer than this release reads.
        """
        path = Path(folder, CONFIG_NAME)
        if not path.is_file():
            raise FileNotFoundError(
                f"{str(folder)!r} is no llmrec adapter: it has no {CONFIG_NAME}.\n"
                "Give the output folder of `llmrec train`, or a Hub name that llmrec pushed."
            )
        values = read_json(path)
        values = migrate(values)
        if "mask_seen" not in values:
            values["mask_seen"] = trained_masked(Path(folder, TRAINING_SETTINGS))
        known = {one.name: one for one in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            names = printable(", ".join(unknown[:8])) + (f" and {len(unknown) - 8:,} more" if len(unknown) > 8 else "")
            warnings.warn(f"{CONFIG_NAME}: ignoring unknown settings {names}", stacklevel=2)
        required = [name for name, one in known.items() if one.default is one.default_factory is MISSING]
        if missing := [name for name in required if name not in values]:
            raise ValueError(f"{CONFIG_NAME} lacks {', '.join(missing)}; save the adapter again.")
        return cls(**{name: value for name, value in values.items() if name in known and name != "format_version"})


def trained_masked(record: Path) -> bool:
    """Return the `mask_seen` of a training's record, True where there is no record or it does not say."""
    saved = read_json(record).get("mask_seen") if holds(record.parent, record.name) else None
    return saved if isinstance(saved, bool) else True


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of an untrusted file.

    Raises:
        ValueError: if the file holds none, or is larger (`untrusted.LIMITS`) or nested deeper than llmrec writes it.
    """
    where = f"{path.name} in {str(path.parent)!r}"
    check_bytes(path.name, path.stat().st_size)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON object: {error}.\nMend it, or save or download it again.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{where} is no JSON object.\nMend it, or save or download it again.")
    return values


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an older format as this release reads them, a version at a time.

    >>> migrate({"format_version": 1, "hybrid": False, "base_model": "x"})
    {'format_version': 6, 'hybrid': False, 'base_model': 'x'}

    Raises:
        ValueError: if the format is newer, or holds too little to go on.
    """
    version = values.get("format_version")
    if version != FORMAT_VERSION and version not in [*MIGRATIONS]:
        raise ValueError(
            f"{CONFIG_NAME} has format_version {version!r}; this release reads {FORMAT_VERSION} and older.\n"
            "Upgrade llmrec, or save the adapter again with this release."
        )
    while (version := values["format_version"]) != FORMAT_VERSION:
        values = {**MIGRATIONS[version](values), "format_version": version + 1}
    return values


def _from_version_1(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("hybrid", True):
        raise ValueError(
            f"{CONFIG_NAME} has format_version 1, whose hybrids hold no training counts of their items.\n"
            "Train the adapter again."
        )
    return values


def _from_version_2(values: dict[str, Any]) -> dict[str, Any]:
    return values  # the settings are the same; version 3 added probe.json to the folder


def _from_version_3(values: dict[str, Any]) -> dict[str, Any]:
    weight = values.get("popularity_weight", 1.0)
    if values.get("hybrid", True) and isinstance(weight, (int, float)) and weight > 0:
        raise ValueError(
            f"{CONFIG_NAME} was saved in a format before 4, whose hybrids rank by popularity in another way.\n"
            "Train the adapter again."
        )
    return values


def _from_version_4(values: dict[str, Any]) -> dict[str, Any]:
    return values  # item texts were embedded by the mean of their states, which is the default


def _from_version_5(values: dict[str, Any]) -> dict[str, Any]:
    return values  # nothing was remembered, which is the default


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _from_version_1,
    2: _from_version_2,
    3: _from_version_3,
    4: _from_version_4,
    5: _from_version_5,
}
"""What makes the settings of the next version from those of each older one."""


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r} {rule}.")
