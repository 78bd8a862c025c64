"""Scripts as two processes on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def launch(folder: Path, script: Path | str, *arguments: str) -> subprocess.Popen:
    """Start a script as two processes on the CPU, its output in a file."""
    options = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "accelerate.commands.launch", *options.split(), "--main_process_port", "0"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, str(script), *arguments], env=environment, stdout=log, stderr=log, cwd=folder
        )


def stop(process: subprocess.Popen) -> None:
    """End a launcher that still runs; it ends its processes when it is asked to, and orphans them when it is killed."""
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=60)


def finish(process: subprocess.Popen, folder: Path) -> str:
    """Wait, and return what was printed."""
    try:
        code = process.wait(timeout=150)
    finally:
        stop(process)
    printed = (folder / "log").read_text(errors="replace")
    assert code == 0, printed[-3000:]
    return printed
