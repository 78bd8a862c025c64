"""Prompt templates: how an event and an item read, as patterns of named fields.

A pattern is text with `{field}` placeholders. A part in square brackets is dropped, brackets and all, when one of its
fields is missing: `{title}[ by {brand}]`. Only bare names are accepted, so an untrusted template can reach
nothing but the item's attributes.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from llmrec.configuration import read_json
from llmrec.untrusted import check_count

TEMPLATE_NAME = "prompt.json"
TIME_FIELDS = frozenset({"gap", "weekday", "daypart"})
"""Fields of a moment: the time since the event before, the weekday, the part of the day."""
EVENT_FIELDS = TIME_FIELDS | {"verdict"}
"""Fields that belong to an event instead of its item: its time, and `liked` or `disliked`."""

_TOKEN = re.compile(r"\{([^{}]*)\}|([\[\]{}])")


@dataclass(frozen=True)
class PromptTemplate:
    """Patterns for the parts of a prompt.

    Attributes:
        header: the text before the history; has no fields.
        event: pattern of one event; may use `{gap}`, the time since the event before it (nothing below 30 minutes,
            which is one session), `{weekday}` and `{daypart}`, and `{verdict}`, liked or disliked. All of them can be
            missing, so give them in brackets. Empty lets every event stand as its item vector alone, one position each:
            long histories at little cost.
        item: pattern of an item's own text, which its frozen embedding reads.
        candidate: pattern of a candidate that a candidate head scores. Empty takes the event's, without its time, or
            the item's.
        query: pattern of the block behind the history that says when it is asked, such as
            `now[: {gap}][, {weekday} {daypart}]`, where `{gap}` is the time since the last event. It knows of no item.
            Empty says nothing of now.
        answers: the words for yes and no, whose logits the verbalizer head compares.
        max_words: field to the number of words it is cut to in an event or candidate, in candidates alone where events
            are empty, where a dual head, which reads none, is not trained with limits. A field without one is not cut.
            An item's own text is cut in tokens instead (`RecommenderConfig.max_item_tokens`): an event is read again
            and again, an item once.

    Raises:
        ValueError: if a pattern (but an empty event) has no placeholder, an unbalanced bracket, or a field that is
            more than a bare name.
    """

    header: str = ""
    event: str = "{title}"
    item: str = "{title}"
    candidate: str = ""
    query: str = ""
    answers: tuple[str, str] = ("Yes", "No")
    max_words: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("header", "event", "item", "candidate", "query"):
            pattern = getattr(self, name)
            if not isinstance(pattern, str):
                raise ValueError(f"{name} {pattern!r} is no text: give a pattern such as '{{title}}'.")
        if field_names(self.header):
            raise ValueError(f"header {self.header!r} has placeholders; it stands before any event: use plain text.")
        for name, pattern in self._patterns:
            may_be_empty = name != "item" and not pattern
            if not may_be_empty and not field_names(pattern) - EVENT_FIELDS:
                raise ValueError(
                    f"{name} pattern {pattern!r} has no item field: every event would read the same.\n"
                    "Use at least one placeholder, such as {title}."
                )
            if name != "event" and (timed := field_names(pattern) & EVENT_FIELDS):
                raise ValueError(f"{name} pattern {pattern!r} uses {sorted(timed)}, which only events have.")
        if others := sorted(field_names(self.query) - TIME_FIELDS):
            raise ValueError(
                f"query pattern {self.query!r} uses {others}: of what comes next only the time is known.\n"
                f"Use some of {', '.join(sorted(TIME_FIELDS))}."
            )
        if isinstance(self.answers, list):  # JSON has no tuples
            object.__setattr__(self, "answers", tuple(self.answers))
        words = self.answers if isinstance(self.answers, tuple) else ()
        if len(words) != 2 or not all(isinstance(word, str) for word in words) or words[0] == words[1]:
            raise ValueError(f"answers {self.answers!r}: give two different words, for yes and for no.")
        if not isinstance(self.max_words, Mapping):
            raise ValueError(f"max_words {self.max_words!r} is no object of fields and their numbers of words.")
        if unknown := sorted(set(self.max_words) - self.fields):
            raise ValueError(f"max_words {unknown!r}: the patterns use only {', '.join(sorted(self.fields))}.")
        if bad := {name: words for name, words in self.max_words.items() if type(words) is not int or words < 1}:
            raise ValueError(f"max_words {bad!r}: give a whole number of words, at least 1.")

    @property
    def _patterns(self) -> list[tuple[str, str]]:
        return [("event", self.event), ("item", self.item), ("candidate", self.candidate)]

    @property
    def fields(self) -> frozenset[str]:
        """Names of the item attributes that the patterns use."""
        return frozenset().union(*(field_names(pattern) for _, pattern in self._patterns)) - EVENT_FIELDS

    @property
    def required_fields(self) -> frozenset[str]:
        """Names of the item attributes that stand outside brackets somewhere."""
        return frozenset().union(*(required_names(pattern) for _, pattern in self._patterns)) - EVENT_FIELDS

    def check_fields(self, available: frozenset[str] | set[str]) -> None:
        """Raise ValueError if a field outside brackets is not among the `available` attributes."""
        for name, pattern in self._patterns:
            missing = required_names(pattern) - EVENT_FIELDS - available
            if missing:
                raise ValueError(
                    f"{name} pattern {pattern!r} needs {sorted(missing)}, which the items do not have.\n"
                    f"They have: {', '.join(sorted(available)) or 'no text at all'}. "
                    "Change the template, or put the part in [square brackets]."
                )

    @classmethod
    def load(cls, source: str | os.PathLike) -> PromptTemplate:
        """Read a template from a file, a saved folder, or by the name of one that llmrec ships.

        A name means the shipped one, unless a folder of that name has a template.

        Raises:
            FileNotFoundError: if there is no such file and no shipped template of that name.
            ValueError: if the file is not a template.
        """
        path = Path(source)
        if path.is_dir():
            path = path / TEMPLATE_NAME
        shipped = prompts_folder() / f"{source}.json"
        if not path.is_file() and Path(source).name == str(source) and shipped.is_file():
            path = shipped
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in prompts_folder().glob("*.json")))
            raise FileNotFoundError(f"no template {str(source)!r}: give a .json file, or one of: {names}.")
        values = read_json(path)
        known = {field.name for field in fields(cls)}
        if set(values) - known:
            raise ValueError(f"template {str(path)!r} must be an object with the keys {', '.join(sorted(known))}.")
        check_count(TEMPLATE_NAME, "fields", sum(text.count("{") for text in values.values() if isinstance(text, str)))
        return cls(**values)

    def save(self, folder: str | os.PathLike) -> None:
        """Write the template to `folder`, as sorted JSON."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        Path(folder, TEMPLATE_NAME).write_text(text, encoding="utf-8")


def prompts_folder() -> Path:
    """Return the folder of shipped templates: inside the wheel, or beside the package in a checkout."""
    package = Path(str(importlib.resources.files("llmrec")))
    inside = package / "prompts"
    return inside if inside.is_dir() else package.parent / "prompts"


def field_names(pattern: str) -> frozenset[str]:
    """Return every field of a pattern.

    >>> sorted(field_names("{title}[ by {brand}]"))
    ['brand', 'title']
    """
    return frozenset(name for _, names in _parts(pattern) for name in names)


def required_names(pattern: str) -> frozenset[str]:
    """Return the fields outside square brackets.

    >>> sorted(required_names("{title}[ by {brand}]"))
    ['title']
    """
    return frozenset(name for optional, names in _parts(pattern) for name in names if not optional)


def render(pattern: str, values: Mapping[str, str]) -> str:
    """Fill a pattern; a bracketed part with a missing field is dropped, other missing fields are empty.

    >>> render("{title}[ by {brand}][, {gap}]", {"title": "Hex key", "gap": "two days later"})
    'Hex key, two days later'
    """
    pieces = []
    for optional, names, text in _segments(pattern):
        if optional and any(not values.get(name) for name in names):
            continue
        pieces.append(_TOKEN.sub(lambda match: values.get(match[1]) or "", text))
    return " ".join("".join(pieces).split())


def _parts(pattern: str) -> list[tuple[bool, tuple[str, ...]]]:
    return [(optional, names) for optional, names, _ in _segments(pattern)]


def _segments(pattern: str) -> list[tuple[bool, tuple[str, ...], str]]:
    """Split a pattern into (optional, field names, text) segments, checking it on the way."""
    segments: list[tuple[bool, tuple[str, ...], str]] = []
    optional, start = False, 0
    names: list[str] = []

    def close(end: int) -> None:
        nonlocal names
        if end > start:
            segments.append((optional, tuple(names), pattern[start:end]))
        names = []

    for match in _TOKEN.finditer(pattern):
        name, bracket = match[1], match[2]
        if name is not None:
            if not name.isidentifier():
                raise ValueError(
                    f"field {match[0]!r} in pattern {pattern!r} is not a bare name such as {{title}}.\n"
                    "Name an attribute of the items, or a time, and nothing of it."
                )
            names.append(name)
        elif bracket == ("]" if optional else "["):
            close(match.start())
            optional, start = not optional, match.end()
        else:
            raise ValueError(f"pattern {pattern!r} has an unbalanced {bracket!r} at character {match.start()}.")
    if optional:
        raise ValueError(f"pattern {pattern!r} has a '[' that is never closed.")
    close(len(pattern))
    return segments
