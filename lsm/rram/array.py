"""Reading a resistive-memory array: tiles, wires, noise and ADC; the adapter point for other simulators of arrays.

The matrices are stacked, [W_in; W_rec], and rows are driven by [x_t; s_{t-1}]; neuron i owns the columns 2i (G+) and 2i + 1
(G-) and reads their difference. A matrix that is larger than one array is cut into tiles of `tile_rows` x `tile_columns`;
each tile has wires and readings of its own, and the readings of a neuron are added up digitally.

One reading of one tile, in uS (current over read voltage), A = driven rows of the tile:

    y = sum_{j in A} (G+ - G-) / (1 + row drop)        then the drop along columns, then noise, then the ADC

Wires, first order in their resistance (unselected rows are cut off by their access transistors):

    row drop of cell (j, c)  = row_ohm * sum_c' G_jc' (min(c, c') + 1)                      segments shared with cell c'
    column: I -> I / (1 + d / I),  d = column_ohm * sum_{j, j' in A} G_j G_j' (R - max(j, j'))

The first order of both is that of 1 - x, and a current never turns negative. Drivers are at column 0, amplifiers below row
R - 1. Noise: each device G -> G (1 + read_noise N(0,1)) + read_noise_uS N'(0,1), drawn anew in each reading. ADC: two's
complement of `adc_bits` over the full scale of the column, with clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lsm.rram.conductance import Pairs, on_grid
from lsm.rram.device import Device

S_PER_uS = 1e-6


class Reader(Protocol):
    """An array in any simulator: what `encode` needs of it."""

    def read(self, driven: NDArray[np.bool_]) -> NDArray[np.float64]:
        """`(m, rows)` driven rows of m readings to `(m, n)` differences of currents over the read voltage, in uS."""


@dataclass(frozen=True)
class Crossbar:
    """Programmed arrays: `pairs` `(rows, n)` in uS, and the full scale of the ADC `(n_row_tiles, n)` in uS or None."""

    device: Device
    pairs: Pairs
    n_in: int
    full_scale_uS: NDArray[np.float64] | None = None

    @property
    def rows(self) -> int:
        """Inputs and neurons."""
        return len(self.pairs.plus)

    @property
    def n(self) -> int:
        """Neurons, each with a pair of columns."""
        return self.pairs.plus.shape[1]

    @property
    def row_starts(self) -> NDArray[np.int64]:
        """First row of each tile, and the number of rows: `(n_row_tiles + 1,)`."""
        return np.array([*range(0, self.rows, self.device.tile_rows), self.rows])

    @property
    def pair_starts(self) -> NDArray[np.int64]:
        """First neuron of each tile, and the number of neurons: `(n_column_tiles + 1,)`."""
        return np.array([*range(0, self.n, self.device.tile_columns // 2), self.n])

    @property
    def n_tiles(self) -> int:
        """Arrays of `tile_rows` x `tile_columns` that the matrix occupies."""
        return (len(self.row_starts) - 1) * (len(self.pair_starts) - 1)

    @cached_property
    def as_read(self) -> Pairs:
        """Conductances less the drop along the rows, `(rows, n)` uS, on the grid."""
        if self.device.row_ohm == 0:
            return self.pairs
        read = Pairs(np.empty_like(self.pairs.plus), np.empty_like(self.pairs.minus))
        for first, last in zip(self.pair_starts[:-1], self.pair_starts[1:], strict=True):
            wires = np.empty((self.rows, 2 * (last - first)))
            wires[:, 0::2], wires[:, 1::2] = (part[:, first:last] for part in self.pairs)
            attenuated = on_grid(wires / (1 + row_drop(wires, self.device.row_ohm)))
            read.plus[:, first:last], read.minus[:, first:last] = attenuated[:, 0::2], attenuated[:, 1::2]
        return read

    def read(self, driven: NDArray[np.bool_], rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Readings `(m, n)` in uS of `(m, rows)` driven rows; noise needs a generator. The definition, not the fast way."""
        tiles = self.read_tiles(driven, rng)
        if self.device.adc_bits is not None and self.full_scale_uS is not None:
            tiles = digitise(tiles, self.full_scale_uS[:, None], self.device.adc_bits)
        return tiles.sum(axis=0)

    def read_tiles(self, driven: NDArray[np.bool_], rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Analog readings `(n_row_tiles, m, n)` in uS, as they reach the ADC."""
        device, pairs, tiles = self.device, self.as_read, []
        for first, last in zip(self.row_starts[:-1], self.row_starts[1:], strict=True):
            x = np.asarray(driven[:, first:last], np.float64)
            plus, minus = (part[first:last] for part in pairs)
            y = column_current(x, plus, device.column_ohm) - column_current(x, minus, device.column_ohm)
            if device.is_noisy and rng is not None:
                y = y + np.stack([_noise(row, plus, minus, device, rng) for row in x])
            tiles.append(y)
        return np.array(tiles)


def row_drop(wires_uS: NDArray[np.float64], row_ohm: float) -> NDArray[np.float64]:
    """Share of the read voltage that is lost along the rows up to each cell of `(rows, columns)`, to first order."""
    beyond = np.cumsum(wires_uS[:, ::-1], axis=1)[:, ::-1]  # conductance fed through each segment
    return row_ohm * S_PER_uS * np.cumsum(beyond, axis=1)


def column_current(
    driven: NDArray[np.float64], wires_uS: NDArray[np.float64], column_ohm: float
) -> NDArray[np.float64]:
    """Currents over the read voltage `(m, columns)` in uS of `(rows, columns)` cells, after the drop along the columns."""
    ideal = driven @ wires_uS
    if column_ohm == 0:
        return ideal
    segments = np.arange(len(wires_uS), 0, -1)[:, None]
    lost = np.empty_like(ideal)
    for k, x in enumerate(driven):
        active = x[:, None] * wires_uS
        above = np.cumsum(active, axis=0) - active
        lost[k] = (segments * active * (active + 2 * above)).sum(axis=0)
    lost *= column_ohm * S_PER_uS
    whole = np.where(ideal > 0, ideal, 1.0)
    return np.where(ideal > 0, ideal * whole / (whole + lost), 0.0)


def _noise(
    x: NDArray[np.float64],
    plus: NDArray[np.float64],
    minus: NDArray[np.float64],
    device: Device,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Noise of one reading, cell by cell."""
    cells = [
        part * device.read_noise * rng.standard_normal(part.shape)
        + device.read_noise_uS * rng.standard_normal(part.shape)
        for part in (plus, minus)
    ]
    difference: NDArray[np.float64] = x @ (cells[0] - cells[1])
    return difference


def digitise(values_uS: NDArray[np.float64], full_scale_uS: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Readings on the codes -2^(b-1) .. 2^(b-1) - 1 of an ADC whose step is `full_scale / 2^(b-1)`."""
    half = 2.0 ** (bits - 1)
    step = full_scale_uS / half
    return np.clip(np.rint(values_uS / step), -half, half - 1) * step
