"""The floor under a sample: its synapse operations, each at the cost of its inner loop alone.

The kernel counts the operations. Their cost is measured in the same run on loops that do nothing else, over rows of
full length, with all data in the first two cache levels: no spikes to find, no neurons to update, no short loops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.clock import measure
from lsm import kernel
from lsm.liquid import assemble

ROW_BYTES = 10  # a weight read and written, the index of the target
COLUMN_BYTES = 16  # a weight read and written, the numbers of the sender and of the weight
STATIC_BYTES = 6  # a weight read, the index of the target


class Cost(NamedTuple):
    """Nanoseconds of one synapse in each loop."""

    row: float
    column: float
    static: float


class Floor(NamedTuple):
    """Synapse operations of a sample, bytes of synapse tables that they touch, and CPU time at `Cost`."""

    operations: float
    bytes: float
    ms: float


def floor_of(stats: NDArray[np.float64], plastic: bool, cost: Cost) -> Floor:
    """The floor of the mean sample of `stats` `(m, len(kernel.STATS))`."""
    mean = dict(zip(kernel.STATS, stats.mean(axis=0), strict=True))
    rows = mean["propagations"]
    if not plastic:
        return Floor(rows, STATIC_BYTES * rows, 1e-6 * cost.static * rows)
    columns = mean["plastic_updates"] - rows  # each propagation of a plastic liquid is an update too
    return Floor(
        rows + columns, ROW_BYTES * rows + COLUMN_BYTES * columns, 1e-6 * (cost.row * rows + cost.column * columns)
    )


@njit(cache=True)
def _rows(reps: int, w: Any, col: Any, row_ptr: Any, x: Any, current: Any, change: Any) -> None:
    low, high, gain, rate = np.float32(-3), np.float32(3), np.float32(0.3), np.float32(-1e-9)
    for _ in range(reps):
        for j in range(len(row_ptr) - 1):
            kernel._row(w, col, row_ptr[j], row_ptr[j + 1], gain, rate, x, low, high, current, change)


@njit(cache=True)
def _static_rows(reps: int, w: Any, col: Any, row_ptr: Any, current: Any) -> None:
    gain = np.float32(0.3)
    for _ in range(reps):
        for j in range(len(row_ptr) - 1):
            for k in range(row_ptr[j], row_ptr[j + 1]):
                current[col[k]] += w[k] * gain


@njit(cache=True)
def _columns(reps: int, w: Any, senders: Any, col_ptr: Any, x: Any, spiking: Any, tail: Any) -> Any:
    low, high, rate = np.float32(-3), np.float32(3), np.float32(1e-9)
    total = np.float32(0)
    for _ in range(reps):
        for i in range(len(col_ptr) - 1):
            total += kernel._column(w, senders, col_ptr[i], col_ptr[i + 1], x, spiking, tail, rate, rate, low, high)
    return total


def measure_cost(n: int = 1000, senders: int = 100, repeats: int = 7) -> Cost:
    """Time the loops of rows, of columns and of static rows alone, on `senders` inputs that reach 15 % of `n` targets."""
    rng = np.random.default_rng(0)
    pre, post = np.nonzero(rng.random((senders, n)) < 0.15)
    weights = rng.uniform(-1.5, 1.5, len(pre))
    liquid = assemble(n, n, senders, np.zeros((n, 3)), pre + n, post, weights)
    net, w = kernel.net_of(liquid), liquid.w_start.copy()
    row_ptr = net.row_ptr[n:].copy()
    x = rng.random(n + senders).astype(np.float32)
    current, change, spiking = np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n + senders, np.float32)
    works = (
        lambda reps: _rows(reps, w, net.col, row_ptr, x, current, change),
        lambda reps: _columns(reps, w, net.senders, net.col_ptr, x, spiking, x),
        lambda reps: _static_rows(reps, w, net.col, row_ptr, current),
    )
    nanoseconds = []
    for work in works:
        work(1)  # compiles
        nanoseconds.append(1e6 * measure(lambda: work(50), repeats, units=50 * len(w)).cpu_ms)  # noqa: B023
    return Cost(*nanoseconds)
