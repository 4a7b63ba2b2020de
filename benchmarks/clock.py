"""Times that hold on a machine with other work on it: CPU time of this process, medians of repeats."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Times(NamedTuple):
    """CPU time of all threads of the process, and wall time, of one unit of work in ms."""

    cpu_ms: float
    wall_ms: float


def once(work: Callable[[], object], units: int = 1) -> Times:
    """Time one call of `work`, which does `units` units."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Times(1e3 * cpu / units, 1e3 * wall / units)


def measure(work: Callable[[], object], repeats: int, units: int = 1) -> Times:
    """Medians of CPU and of wall time over `repeats` calls of `work`."""
    times = [once(work, units) for _ in range(repeats)]
    return Times(statistics.median(t.cpu_ms for t in times), statistics.median(t.wall_ms for t in times))
