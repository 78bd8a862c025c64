"""A run of the whole chain against the record of its numbers; slow, so only where it is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from golden import RECORD, record

pytestmark = pytest.mark.skipif("LLMREC_GOLDEN" not in os.environ, reason="compares a whole run: set LLMREC_GOLDEN=1")


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A value for each path through nested lists and dictionaries."""
    if isinstance(value, dict):
        pairs: Any = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        return {path: value}
    return {at: leaf for name, part in pairs for at, leaf in flat(part, f"{path}/{name}").items()} or {path: value}


def test_no_number_of_the_chain_has_moved(tmp_path: Path) -> None:
    expected = flat(json.loads(RECORD.read_text()))
    got = flat(json.loads(json.dumps(record(tmp_path))))
    assert got.keys() == expected.keys()
    moved = {
        path: (expected[path], value)
        for path, value in got.items()
        if value != (pytest.approx(expected[path], rel=1e-6, abs=1e-6) if isinstance(value, float) else expected[path])
    }
    assert not moved
