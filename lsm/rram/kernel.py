"""The time step of the liquid on an array, event-driven: only rows with a spike are read.

    I_i = reading of neuron i (see `lsm.rram.array`), rows [x_t; s_{t-1}]
    v_i <- decay * v_i + weight_per_uS * I_i
    spike and v_i <- 0 where v_i > threshold          (the reset shows at the next step, as v * (1 - s))

Samples advance together, step by step, so that a stripe of columns, small enough for the second cache level, serves all of
them before the next stripe is read: `stripes` are `(n_stripes, rows, width)` tables, the last one padded with zeros.

The noise of all devices on a column adds up to one normal number, whose variance is exactly the sum of theirs,
eps^2 sum (G+^2 + G-^2) for multiplicative and 2 |A| sigma^2 for additive noise; so one number for each kind, column and
reading is drawn, by its counter (sample, step, tile, column), whatever the order of work.

Everything that calls each other lives in this one module, since a cached caller does not notice a changed callee elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_jit = njit(cache=True, nogil=True, error_model="numpy")

STATS = ("input_spikes", "liquid_spikes", "row_reads", "synaptic_operations", "read_conductance_uS", "adc_clipped")
"""Columns of the statistics, totals of a sample.

`row_reads` driven rows, `synaptic_operations` the same times neurons, `read_conductance_uS` the sum of G+ + G- over all
cells of driven rows, `adc_clipped` readings beyond the full scale.
"""


class Tables(NamedTuple):
    """An array as the kernel reads it; what an effect does not need is empty."""

    difference: NDArray[np.float64]  # (n_stripes, rows, width): G+ - G-
    square: NDArray[np.float64]  # G+^2 + G-^2, for multiplicative noise
    plus: NDArray[np.float64]  # for the drop along columns
    minus: NDArray[np.float64]
    row_starts: NDArray[np.int64]  # (n_tiles + 1,)
    adc_step: NDArray[np.float64]  # (n_tiles, n_stripes * width), uS
    row_total: NDArray[np.float64]  # (rows,): G+ + G- of a row, uS


class Constants(NamedTuple):
    """Numbers of the liquid and of the reading."""

    n: int
    n_in: int
    n_steps: int
    decay: float
    threshold: float
    gain: float
    read_noise: float
    read_noise_uS: float
    column_drop: float  # column_ohm * 1e-6
    adc_half: float  # 2^(b-1); 0 without ADC


@_jit
def _mix(z: Any) -> Any:
    """Finaliser of SplitMix64 (Steele et al. 2014): a bijection that scatters neighbouring counters."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_jit
def _normals(key: Any, sample: Any, place: Any, out: Any) -> None:
    """Fill `out` with standard normal numbers that depend on key, sample and place alone (Box and Muller 1958)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = _mix(_mix(np.uint64(key) + golden * np.uint64(sample + 1)) + golden * np.uint64(place + 1))
    n = len(out)
    for k in range((n + 1) // 2):
        bits = _mix(state + golden * np.uint64(k + 1))
        radius = np.sqrt(-2.0 * np.log((np.float64(bits >> np.uint64(32)) + 0.5) * 2.0**-32))
        angle = (np.float64(bits & np.uint64(0xFFFFFFFF)) + 0.5) * (2.0 * np.pi * 2.0**-32)
        out[2 * k] = radius * np.cos(angle)
        if 2 * k + 1 < n:
            out[2 * k + 1] = radius * np.sin(angle)


@_jit
def _add_rows(table: Any, rows: Any, first: int, last: int, out: Any) -> None:
    """out += table[rows[first:last]]; sums are exact, so their order is free."""
    width = len(out)
    k = first
    while k + 4 <= last:
        a, b, c, d = table[rows[k]], table[rows[k + 1]], table[rows[k + 2]], table[rows[k + 3]]
        for i in range(width):
            out[i] += (a[i] + b[i]) + (c[i] + d[i])
        k += 4
    while k < last:
        a = table[rows[k]]
        for i in range(width):
            out[i] += a[i]
        k += 1


@_jit
def _column_currents(table: Any, rows: Any, first: int, last: int, start: int, end: int, drop: float, out: Any) -> None:
    """Currents of single columns after the drop along them; rows `start .. end` are the tile's, `rows` ascend."""
    width = len(out)
    lost = np.zeros(width)
    out[:] = 0.0
    for k in range(first, last):
        cells, segments = table[rows[k]], end - rows[k]
        for i in range(width):
            lost[i] += segments * cells[i] * (cells[i] + 2.0 * out[i])
            out[i] += cells[i]
    for i in range(width):
        if out[i] > 0.0:
            out[i] = out[i] * out[i] / (out[i] + drop * lost[i])


@_jit
def _read_tiles(
    tables: Any, constants: Any, stripe: int, rows: Any, n_rows: int, key: Any, sample: Any, step: int, out: Any
) -> int:
    """A stripe of readings with all effects, tile by tile; returns how many were clipped."""
    width, n_tiles = len(out), len(tables.row_starts) - 1
    real = min(width, constants.n - stripe * width)
    reading, other, normal = np.empty(width), np.empty(width), np.empty(width)
    clipped, last = 0, 0
    for tile in range(n_tiles):
        first, start, end = last, tables.row_starts[tile], tables.row_starts[tile + 1]
        while last < n_rows and rows[last] < end:
            last += 1
        if first == last:
            continue
        if constants.column_drop > 0:
            _column_currents(tables.plus[stripe], rows, first, last, start, end, constants.column_drop, reading)
            _column_currents(tables.minus[stripe], rows, first, last, start, end, constants.column_drop, other)
            reading -= other
        else:
            reading[:] = 0.0
            _add_rows(tables.difference[stripe], rows, first, last, reading)
        place = ((np.int64(step) * n_tiles + tile) * len(tables.difference) + stripe) * 2
        if constants.read_noise > 0:
            other[:] = 0.0
            _add_rows(tables.square[stripe], rows, first, last, other)
            _normals(key, sample, place, normal)
            for i in range(width):
                reading[i] += constants.read_noise * np.sqrt(other[i]) * normal[i]
        if constants.read_noise_uS > 0:
            _normals(key, sample, place + 1, normal)
            deviation = constants.read_noise_uS * np.sqrt(2.0 * (last - first))
            for i in range(width):
                reading[i] += deviation * normal[i]
        if constants.adc_half > 0:
            for i in range(real):
                lsb = tables.adc_step[tile, stripe * width + i]
                code = np.rint(reading[i] / lsb)
                clipped += code < -constants.adc_half or code > constants.adc_half - 1
                reading[i] = min(max(code, -constants.adc_half), constants.adc_half - 1) * lsb
        for i in range(real):
            out[i] += reading[i]
    return clipped


@_jit
def _drive(packed: Any, at: int, end: int, step: int, fired: Any, n_in: int, driven: Any) -> int:
    """Write the rows that are driven at `step`, ascending: inputs from `packed[at:end]`, then neurons that `fired`."""
    k = 0
    while at + k < end and (packed[at + k] >> 16) <= step:
        driven[k] = packed[at + k] & 0xFFFF
        k += 1
    for neuron in fired:
        driven[k] = n_in + neuron
        k += 1
    return k


@_jit
def _fire(potential: Any, constants: Any, reading: Any, start: int, fired: Any, n_fired: int) -> int:
    """Leak and integrate a stripe; write who is above threshold behind `n_fired` others, and return their number."""
    for i in range(len(reading)):
        potential[i] = constants.decay * potential[i] + constants.gain * reading[i]
    for i in range(min(len(reading), constants.n - start)):
        if potential[i] > constants.threshold:
            potential[i] = 0.0
            fired[n_fired] = start + i
            n_fired += 1
    return n_fired


@_jit
def present(
    tables: Any, constants: Any, exact: bool, packed: Any, offsets: Any, first: int, key: Any, counts: Any, stats: Any,
    spikes: Any,
) -> None:  # fmt: skip
    """Present samples `first .. first + len(counts)` together and count their spikes.

    `counts (m, windows * n)`, equal parts of the sample one after the other, and `stats (m, len(STATS))` are filled; `exact`
    says that no effect of reading is on. `spikes (m, T, n)` is filled unless it is empty.
    """
    m, n = len(counts), constants.n
    windows = counts.shape[1] // n
    n_stripes, n_rows, width = tables.difference.shape
    v = np.zeros((m, n_stripes, width))
    driven, n_driven = np.empty((m, n_rows), np.int64), np.zeros(m, np.int64)
    fired, n_fired = np.empty((m, n), np.int64), np.zeros(m, np.int64)
    at = offsets[first : first + m].copy()
    reading = np.empty(width)
    for step in range(constants.n_steps):
        for b in range(m):
            k = _drive(packed, at[b], offsets[first + b + 1], step, fired[b, : n_fired[b]], constants.n_in, driven[b])
            inputs = k - n_fired[b]
            at[b] += inputs
            stats[b, 0] += inputs
            stats[b, 2] += k
            stats[b, 3] += k * n
            for f in range(k):
                stats[b, 4] += tables.row_total[driven[b, f]]
            n_driven[b], n_fired[b] = k, 0
        for stripe in range(n_stripes):
            for b in range(m):
                reading[:] = 0.0
                if exact:
                    _add_rows(tables.difference[stripe], driven[b], 0, n_driven[b], reading)
                else:
                    stats[b, 5] += _read_tiles(
                        tables, constants, stripe, driven[b], n_driven[b], key, first + b, step, reading
                    )
                n_fired[b] = _fire(v[b, stripe], constants, reading, stripe * width, fired[b], n_fired[b])
        for b in range(m):
            stats[b, 1] += n_fired[b]
            base = step * windows // constants.n_steps * n
            for f in range(n_fired[b]):
                counts[b, base + fired[b, f]] += 1
                if len(spikes):
                    spikes[b, step, fired[b, f]] = 1
