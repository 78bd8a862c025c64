"""How much memory this process took at most."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path


def peak_memory_mib() -> int:
    """Return the largest resident memory of this process so far, or since `reset_peak_memory` (Linux), in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def reset_peak_memory() -> None:
    """Start a new peak where the system allows it (Linux); elsewhere peaks of one process only ever rise."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def release_free_memory() -> None:
    """Hand back what the allocator keeps of freed memory (glibc), so that a new peak is not that of earlier work."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
