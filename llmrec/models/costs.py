"""What an untrusted checkpoint may cost: its settings decide what is built, its tokenizer how long a text becomes.

Both are read before anything of their size is made. `llmrec.untrusted.LIMITS` holds the budgets.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AutoModel

from llmrec.configuration import read_json
from llmrec.formatting import printable
from llmrec.untrusted import LIMITS, check_count

TOKENIZER = "tokenizer.json"
PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
CONFIG = "config.json"
SPARE = 1 << 26
"""Weights (256 MiB) that a model may make beside those that are stored, such as tables of positions."""
SPARE_MODULES = 1_000
MAY_BE_EMPTY = re.compile(r"[*?^$|]|\{0?,|\{0\}|\(\)|\\[bBAzZGKyY]")
"""What a regular expression has that may match no letter; one without it matches one at least."""


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer that makes a short text long.

    Its regular expressions are left to Oniguruma, which gives one up after ten million steps.

    Raises:
        ValueError: naming the limit.
    """
    if not (folder / TOKENIZER).is_file():
        return
    values = read_json(folder / TOKENIZER)
    for name in PIPELINE:
        check_count(TOKENIZER, "parts of the pipeline", _num_parts(values.get(name)))
    factor = 1.0
    for step in _steps(values.get("normalizer"), "normalizers"):
        factor *= growth(step)
        check_count(TOKENIZER, "growth of a text", factor)
    for part in _nodes(values.get("padding")):
        if type(part) is int:
            check_count(TOKENIZER, "tokens to pad to", part)


def _nodes(value: Any) -> Iterator[Any]:
    """Walk over a value of JSON and all that is in it."""
    waiting = [value]
    while waiting:
        yield (one := waiting.pop())
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _num_parts(value: Any) -> int:
    return sum(1 for _ in _nodes(value))


def _steps(step: Any, inside: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a pipeline, those of sequences in place of the sequences."""
    if isinstance(step, dict):
        if step.get("type") == "Sequence" and isinstance(step.get(inside), list):
            for each in step[inside]:
                yield from _steps(each, inside)
        else:
            yield step


def growth(step: dict[str, Any]) -> float:
    """Return how many times longer a normaliser can make a text; the forms of Unicode and lower case count as 1."""
    kind = step.get("type")
    if kind == "Replace":
        pattern, content = step.get("pattern") or {}, str(step.get("content", ""))
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        if isinstance(replaced, str) and replaced:
            return max(1.0, len(content) / len(replaced))
        regex = str(pattern.get("Regex", "")) if isinstance(pattern, dict) else ""
        between = not regex or MAY_BE_EMPTY.search(regex)  # then it is put between any two letters, which stay
        return 1.0 + len(content) if between else max(1.0, len(content))
    if kind == "Prepend":
        return 1.0 + len(str(step.get("prepend", "")))
    if kind == "Precompiled":
        return max(1.0, _longest_replacement(str(step.get("precompiled_charsmap", ""))))
    return 4.0 if kind == "ByteLevel" else 1.0


def _longest_replacement(charsmap: str) -> int:
    """Return the bytes of the longest text that a map of SentencePiece puts in place of a letter.

    The map is the length of a trie in four bytes, the trie, and the texts, each ended by a zero.
    """
    content = base64.b64decode(charsmap)
    (length,) = struct.unpack_from("<I", content)
    return max(map(len, content[4 + length :].split(b"\0")))


def check_architecture(config: Any, folder: Path) -> nn.Module:
    """Return the model of a checkpoint's settings, without memory; refuse one of more parts than its files fill.

    It is given up at the first module too many.

    Args:
        config: The settings, as transformers read them.
        folder: The checkpoint.

    Raises:
        ValueError: naming the limit, or what transformers says of the settings.
    """
    paths = sorted(folder.glob("*.safetensors"))
    names, size = sum(map(num_tensors, paths)), sum(path.stat().st_size for path in paths)
    per_tensor, per_byte = (
        LIMITS[CONFIG].counts[what] for what in ("modules for each stored tensor", "weights for each stored byte")
    )
    try:
        with bounded_modules(per_tensor * names + SPARE_MODULES):
            model = empty_model(config)
    except Exception as error:  # whatever the settings make of the library that reads them
        reason = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        raise ValueError(
            f"{CONFIG} of {str(folder)!r} describes no model that can be built: {reason}.\nGet the checkpoint again."
        ) from None
    weights = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if weights > per_byte * size + SPARE:
        raise ValueError(
            f"{CONFIG} asks for {weights:,} weights, and the weights of {str(folder)!r} have {size:,} bytes.\n"
            "They do not go together: get the checkpoint again."
        )
    return model


def empty_model(config: Any) -> nn.Module:
    """Build the backbone of a configuration on the meta device, where tensors have shapes alone."""
    with torch.device("meta"):
        return AutoModel.from_config(copy.deepcopy(config), attn_implementation="eager", trust_remote_code=False)


@contextmanager
def bounded_modules(at_most: int) -> Iterator[None]:
    """Raise ValueError when this thread builds more modules of torch than these, or than any model has."""
    built, thread = 0, threading.get_ident()

    def count(*_: Any) -> None:
        nonlocal built
        if threading.get_ident() == thread:
            built += 1
            check_count(CONFIG, "modules", built)
            if built > at_most:
                raise ValueError(f"{CONFIG} asks for more than {at_most:,} modules, which the weights do not fill")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def num_tensors(path: Path) -> int:
    """Return how many tensors a safetensors file says that it has.

    Raises:
        ValueError: if it is none, or its header is longer than the library reads.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, 100_000_000):
            raise ValueError(f"{path.name} in {str(path.parent)!r} is no safetensors file; get it again.")
        try:
            return len(json.loads(file.read(length)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name} in {str(path.parent)!r} is no safetensors file ({error}).") from None
