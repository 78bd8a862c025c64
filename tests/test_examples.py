"""Every example runs as its first lines say, on a tiny checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "scripts" / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if "from made_up" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_a_table(path, checkpoints, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, str(path), "shop", str(checkpoints["bert"])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ndcg@10" in done.stdout and "[" in done.stdout
    assert not any(tmp_path.iterdir())  # nothing is left behind
