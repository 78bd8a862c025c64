"""Saved folders that were tampered with: one of each kind, and seeded damage to all that is in one."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

from tiny_recommenders import randomise, tiny_recommender

from llmrec.storage import sha256_of

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**30, -(10**30), 0.5, float("nan"), float("inf"), 1e308),
    *("", "x", "\ud800", "\x1b]0;x\x07", "{title}", "../..", "a" * 5_000, [], {}, [[]], [None], {"a": {}}, ["x"] * 99),
)
"""What stands in place of a value of JSON; of several kinds, for most places the wrong one."""


def save_kinds(base: Path, folder: Path) -> dict[str, Path]:
    """Save an adapter on a base beside it, one without residuals, and a merged model."""
    base = shutil.copytree(base, folder / "base")
    adapter = randomise(tiny_recommender(base))
    plain = randomise(tiny_recommender(base, hybrid=False))
    for name, recommender in {"adapter": adapter, "plain": plain, "merged": adapter.merge()}.items():
        recommender.save_pretrained(folder / name)
    (folder / "adapter" / "README.md").write_text("# Mine\n")
    return {name: folder / name for name in ("adapter", "plain", "merged")}


def change(path: Path, **values: object) -> None:
    """Set values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def sign(folder: Path) -> None:
    """Let the hashes of a folder be those of its files, as who tampers with it can."""
    probe = folder / "probe.json"
    with contextlib.suppress(ValueError, TypeError, FileNotFoundError):
        change(probe, **{"tokenizer.json": sha256_of(folder / "tokenizer.json")})


def damage(folder: Path, base: Path, seed: int) -> str:
    """Damage one file of a folder or of its base, and say how."""
    draw = random.Random(seed)
    root = base if draw.random() < 0.15 else folder
    path = draw.choice(sorted(path for path in root.iterdir() if path.is_file()))
    content = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.8:
        found = json.loads(content)
        where = _places(found)
        for holder, key in draw.sample(where, min(len(where), draw.choice([1, 1, 3]))):
            if draw.random() < 0.15 and isinstance(holder, dict):
                holder.pop(key, None)
            else:
                holder[key] = draw.choice(VALUES)
        path.write_text(json.dumps(found))
        how = "values"
    else:
        how = draw.choice(["cut", "bits", "other", "gone", "empty", "longer"])
        if how == "cut":
            path.write_bytes(content[: draw.randrange(len(content) or 1)])
        elif how == "bits":
            flipped = bytearray(content)
            for _ in range(draw.choice([1, 8, 64])):
                flipped[draw.randrange(min(len(flipped), draw.choice([200, 10**9])))] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
        elif how == "other":
            path.write_bytes(draw.choice(sorted(each for each in folder.iterdir() if each.is_file())).read_bytes())
        elif how == "gone":
            path.unlink()
        else:
            path.write_bytes(b"" if how == "empty" else content + draw.randbytes(99))
    sign(folder)
    return f"seed {seed}: {path.name}: {how}"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return all places of a value of JSON, large vocabularies left out but for their first words."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else []
        for key in list(keys)[:60]:
            found.append((one, key))
            waiting.append(one[key])
    return found
