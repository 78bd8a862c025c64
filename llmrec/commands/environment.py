"""The versions that a run was made with."""

from __future__ import annotations

import platform
from importlib.metadata import version

from llmrec import __version__

PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers")


def environment(device: str) -> dict[str, str]:
    """Return versions by name, and the kind of device; nothing that names the machine."""
    found = {"llmrec": __version__, "python": platform.python_version()}
    return {**found, **{name: version(name) for name in PACKAGES}, "device": device}
