"""Ways of doing one thing are timed in turns, so that whatever else the machine does slows them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrec.commands.memory import peak_memory_mib, release_free_memory, reset_peak_memory


@dataclass
class Timing:
    """What the runs of one way took.

    Attributes:
        wall: seconds of each run.
        cpu: seconds of each run that the process was computing, on all its threads.
        peak_mib: largest resident memory of the process in the run that warmed up.
        result: what the last run returned.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mib: int = 0
    result: Any = None

    @property
    def seconds(self) -> float:
        """Median time of a run."""
        return statistics.median(self.wall)

    @property
    def cpu_seconds(self) -> float:
        """Median computing time of a run."""
        return statistics.median(self.cpu)

    def warm_up(self, way: Callable[[], Any]) -> None:
        """Run without a clock, on memory that is fetched anew: that takes time of its own, and shows the peak."""
        release_free_memory()
        reset_peak_memory()
        way()
        self.peak_mib = max(self.peak_mib, peak_memory_mib())

    def run(self, way: Callable[[], Any]) -> None:
        """Run once more."""
        began, computed = time.perf_counter(), time.process_time()
        self.result = way()
        self.wall.append(time.perf_counter() - began)
        self.cpu.append(time.process_time() - computed)


def time_in_turns(
    ways: Mapping[str, Callable[[], Any]],
    warm_ups: Mapping[str, Callable[[], Any]],
    repeats: int,
    max_seconds: float,
) -> dict[str, Timing]:
    """Warm up every way, then run every way once, then every way again, `repeats` times in all.

    Args:
        ways: what to run, by name.
        warm_ups: what to run first, of each.
        repeats: runs of each.
        max_seconds: a way that would pass them with another run is run no more; each is run once.
    """
    timings = {name: Timing() for name in ways}
    for name, timing in timings.items():
        timing.warm_up(warm_ups[name])
    for _ in range(repeats):
        for name, timing in timings.items():
            if not timing.wall or sum(timing.wall) + timing.seconds <= max_seconds:
                timing.run(ways[name])
    return timings
