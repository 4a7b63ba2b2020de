"""Conductances as numbers: the grid on which sums are exact, and maps that a user measured.

Conductances are multiples of `GRID_uS`, a millionth of a millionth of 1 uS: then a sum below 8,192 uS is exact in
float64, and the current of a column depends neither on the order of summation nor on the library that sums.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

GRID_uS = 2.0**-40
LARGEST_uS = 1e4
"""Above it a conductance is taken for a mistake of the unit: 10 mS is 100 Ohm, less than the wires and the transistor."""

Unit = Literal["S", "mS", "uS", "nS"]
UNITS_uS: dict[Unit, float] = {"S": 1e6, "mS": 1e3, "uS": 1.0, "nS": 1e-3}


class Pairs(NamedTuple):
    """Conductances of differential pairs in uS, `plus` and `minus` `(rows, n)` float64, not negative, on the grid."""

    plus: NDArray[np.float64]
    minus: NDArray[np.float64]


def on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Conductances in uS rounded to multiples of `GRID_uS`."""
    return np.rint(values / GRID_uS) * GRID_uS


def load_map(path: str, unit: Unit, rows: int, n: int, key: str) -> Pairs:
    """Pairs of `rows` inputs and `n` neurons from a CSV or npy file with conductances in `unit`.

    The file holds `(rows, 2 n)` values, G+ of neuron 0, G- of neuron 0, G+ of neuron 1 and so on, as the columns of the
    array lie; an npy file may hold `(2, rows, n)` instead, all G+ before all G-. A map may be larger: its first rows and
    columns are used. `key` names the setting in messages. Raises `ValueError` for a file that cannot be read, another
    shape, values that are no numbers, negative, or not conductances in this unit.
    """
    values = _read(Path(path).expanduser(), key)
    if values.ndim == 3 and values.shape[0] == 2:
        plus, minus = values[0], values[1]
    elif values.ndim == 2 and values.shape[1] % 2 == 0:
        plus, minus = values[:, 0::2], values[:, 1::2]
    else:
        raise ValueError(f"{key}={path}: shape {values.shape}, expected ({rows}, {2 * n}) or (2, {rows}, {n})")
    if plus.shape[0] < rows or plus.shape[1] < n:
        have = f"{plus.shape[0]} rows of {plus.shape[1]} pairs"
        raise ValueError(f"{key}={path}: {have}, the liquid needs {rows} rows of {n} pairs")
    _check_values(values, unit, f"{key}={path}")
    scale = UNITS_uS[unit]
    return Pairs(*(on_grid(np.ascontiguousarray(part[:rows, :n]) * scale) for part in (plus, minus)))


def _read(path: Path, key: str) -> NDArray[np.float64]:
    if not path.is_file():
        raise ValueError(f"{key}={path}: no such file")
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".csv":
            values = np.loadtxt(path, delimiter=",", ndmin=2)
        else:
            raise ValueError("a conductance map is a .csv or a .npy file")
        if values.dtype.kind not in "fiu":
            raise ValueError(f"values of type {values.dtype}, expected real numbers")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{key}={path}: {error}") from error
    return np.asarray(values, np.float64)


def _check_values(values: NDArray[np.float64], unit: Unit, where: str) -> None:
    """Raise `ValueError` at the first value that is no conductance, with its place in the file."""
    for wrong, what in (
        (~np.isfinite(values), "is not a number"),
        (values < 0, "is negative; a pair is two conductances, not their difference"),
        (values * UNITS_uS[unit] > LARGEST_uS, f"is above {LARGEST_uS:g} uS; is device.map_unit={unit} right?"),
    ):
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise ValueError(f"{where}: value {values[at]:g} {unit} at {at} {what}")
    largest = float(values.max(initial=0)) * UNITS_uS[unit]
    if largest < 1e-3:
        raise ValueError(
            f"{where}: the largest value is {largest:.3g} uS: nothing conducts; is device.map_unit={unit} right?"
        )
