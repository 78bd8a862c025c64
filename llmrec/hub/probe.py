"""`probe.json`: made-up histories with the scores they had when the adapter was saved. Loading replays them.

Nobody's history is in it. Events are items of the catalogue in the order of a hash of their ids, with gaps that follow
no one, and texts of invented words; without a catalogue in the folder, invented words alone, so that the probe gives
away no item either. All are asked three days after the last event, which those that read now see.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

import torch

from llmrec import __version__
from llmrec.data.catalog import Catalog
from llmrec.formatting import printable
from llmrec.hub.names import PROBE
from llmrec.text.request import Event
from llmrec.untrusted import check_count

TOLERANCE = 1e-3
"""Largest difference of a score (a logit): a hundred times what other CPUs and GPUs make of float32."""
MAX_TOLERANCE = 0.1
INVENTED = ("red paper lantern", "old harbour songs", "quiet winter drama", "steel garden chair")
LENGTHS = (1, 4)
"""Events of the histories whose items are known."""
NUM_CANDIDATES = 4
START = 1_600_000_000
GAPS = (3_600, 3 * 86_400, 40 * 86_400)
"""Seconds between events: an hour, three days, forty."""
LIBRARIES = ("peft", "tokenizers", "torch", "transformers")


class Opened(Protocol):
    """A history that was read and scores candidates."""

    def score(self, candidates: Sequence[Any], now: int | None = None) -> list[float]:
        """Return a score per candidate, asked at a moment in seconds."""
        ...


Open = Callable[[Sequence[Event]], Opened]


def questions(catalog: Catalog, known: bool) -> list[tuple[list[dict[str, Any]], list[Any]]]:
    """Return made-up histories, each with the candidates to score.

    Args:
        catalog: Names the text fields, and the items where they are `known`.
        known: Whether items may be named by id.
    """
    fields = [name for name in catalog.frame.columns if name != "item_id"]
    texts = [dict.fromkeys(fields, words) for words in INVENTED]
    asked: list[tuple[list[dict[str, Any]], list[Any]]] = [(_timed(texts[:2]), list(texts[2:]))]
    if known:
        items = sorted(catalog.ids, key=lambda item_id: hashlib.sha256(item_id.encode()).digest())
        for begin, length in enumerate(LENGTHS):
            events = [{"item_id": items[(begin + place) % len(items)]} for place in range(length)]
            behind = begin + length
            asked.append((_timed([*events, texts[3]]), [texts[0], *items[behind : behind + NUM_CANDIDATES]]))
    return asked


def _timed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    moments = [START]
    for place in range(len(events) - 1):
        moments.append(moments[-1] + GAPS[place % len(GAPS)])
    return [{**event, "timestamp": moment} for event, moment in zip(events, moments, strict=True)]


def make_probe(open_history: Open, catalog: Catalog, known: bool, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Score made-up histories.

    Args:
        open_history: Reads a history.
        catalog: The items.
        known: Whether the saved folder holds them.
        made_with: What the scores depend on besides the weights (`circumstances`).
    """
    histories = []
    for history, candidates in questions(catalog, known):
        opened, scored, scores = open_history(history), [], []
        now = history[-1]["timestamp"] + GAPS[1]
        for candidate in candidates:
            try:
                scores += [round(score, 6) for score in opened.score([candidate], now)]
            except ValueError:  # its text is longer than a candidate may be
                continue
            scored.append(candidate)
        histories.append({"history": history, "now": now, "candidates": scored, "scores": scores})
    return {"histories": histories, "made_with": dict(made_with), "tolerance": TOLERANCE}


def circumstances(model: torch.nn.Module, base_revision: str | None, base_sha256: str | None) -> dict[str, Any]:
    """Return what scores depend on besides the adapter's own files."""
    weight = next(model.parameters())
    return {
        "base_revision": base_revision,
        "base_sha256": base_sha256,
        "device": weight.device.type,
        "dtype": str(weight.dtype).removeprefix("torch."),
        "versions": {"llmrec": __version__, **{name: version(name) for name in LIBRARIES}},
    }


def replay(probe: Mapping[str, Any], open_history: Open, now: Mapping[str, Any]) -> None:
    """Score the histories of a probe again.

    Args:
        probe: As `make_probe` made it.
        open_history: Reads a history.
        now: The circumstances of today.

    Raises:
        ValueError: if a score differs by more than the tolerance; the message has the largest difference and what is
            different today.
    """
    check_probe(probe)
    begun, differences = time.monotonic(), []
    for entry in probe["histories"]:
        if not entry["candidates"]:
            continue
        check_count(PROBE, "seconds to replay", time.monotonic() - begun)
        found = open_history(entry["history"]).score(entry["candidates"], entry.get("now"))
        differences += [abs(one - two) for one, two in zip(found, entry["scores"], strict=True)]
    if not differences:
        warnings.warn(
            f"{PROBE} has no candidate to score: whether the adapter computes what it computed when it was saved is "
            "not verified.",
            stacklevel=3,
        )
        return
    worst = max(differences, key=lambda difference: (difference != difference, difference))  # NaN is the worst
    if not worst <= probe["tolerance"]:
        cause = likely_cause(probe.get("made_with", {}), now)
        raise ValueError(
            f"the adapter does not compute what it computed when it was saved: a score of probe.json differs by "
            f"{worst:.3g}, more than {probe['tolerance']:g}.\nLikely cause: {cause}.\n"
            "Load with verify=False to use it all the same."
        )


def check_probe(probe: Mapping[str, Any]) -> None:
    """Raise ValueError unless a probe has histories with a score per candidate, and a tolerance that can fail."""
    histories, tolerance = probe.get("histories"), probe.get("tolerance")
    check_count(PROBE, "histories", len(histories) if isinstance(histories, list) else 0)

    def sound(entry: Any) -> bool:
        asked = [entry.get(name) for name in ("history", "candidates", "scores")] if isinstance(entry, dict) else []
        lists = [each for each in asked if isinstance(each, list)]
        for what, each in zip(("events of a history", "candidates of a history"), lists, strict=False):
            check_count(PROBE, what, len(each))
        return len(lists) == 3 and len(lists[1]) == len(lists[2])

    if not isinstance(histories, list) or not histories or not all(map(sound, histories)):
        raise ValueError("probe.json holds no histories with a score per candidate; save or download it again.")
    if not isinstance(tolerance, (int, float)) or not 0 <= tolerance <= MAX_TOLERANCE:
        raise ValueError(
            f"probe.json: tolerance {tolerance!r} is not in [0, {MAX_TOLERANCE}]: nothing would be proved."
        )


def likely_cause(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what differs between two circumstances, the likeliest cause first.

    >>> then = {"base_sha256": "a", "dtype": "float32", "device": "cpu", "versions": {"torch": "2.10", "peft": "0.21"}}
    >>> likely_cause(then, {**then, "dtype": "bfloat16", "versions": {"torch": "2.13", "peft": "0.21"}})
    'dtype bfloat16 (was float32); torch 2.13 (was 2.10)'
    >>> likely_cause(then, then)
    'the weights or item tables in the folder are not those that were saved; download or save them again'
    """
    names = {"base_sha256": "base weights", "base_revision": "base commit", "dtype": "dtype", "device": "device"}
    found = [
        f"{title} {now.get(name)} (was {printable(str(then.get(name)))})"
        for name, title in names.items()
        if then.get(name) != now.get(name)
    ]
    versions = then.get("versions", {})
    found += [
        f"{name} {now['versions'][name]} (was {printable(str(versions[name]))})"
        for name in sorted(set(versions) & set(now["versions"]))
        if versions[name] != now["versions"][name]
    ]
    return "; ".join(found) or (
        "the weights or item tables in the folder are not those that were saved; download or save them again"
    )
