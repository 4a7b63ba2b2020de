"""Point charges that give a molecule's electrostatic potential outside it, after CHELPG.

Grid of Breneman and Wiberg, J. Comput. Chem. 11, 361 (1990): cubic, all points that lie outside every atom's van der
Waals sphere and within 2.8 Å of the nearest nucleus. The charges minimise the squared error of the potential there and
add up to the total charge; atoms that the points hardly see (buried ones) take the least-norm answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlff.units import BOHR_A

HEADSPACE_A = 2.8
_RELATIVE_CUT = 1e-5
"""Directions of charge space below this share of the largest singular value are left alone."""


def grid_points(numbers: NDArray[np.int64], positions: NDArray[np.float64], spacing_A: float) -> NDArray[np.float64]:
    """Points of the grid `(n_points, 3)` around atoms at `positions` `(n_atoms, 3)`, all in Å; Bondi's radii."""
    from ase.data import vdw_radii
    from scipy.spatial import cKDTree

    radii = np.nan_to_num(vdw_radii[numbers], nan=2.0)
    low, high = positions.min(axis=0) - HEADSPACE_A, positions.max(axis=0) + HEADSPACE_A
    steps = np.ceil((high - low) / spacing_A).astype(int) + 1
    start = 0.5 * (low + high) - 0.5 * spacing_A * (steps - 1)
    axes = [start[k] + spacing_A * np.arange(steps[k]) for k in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[cKDTree(positions).query(points)[0] <= HEADSPACE_A]
    for centre, radius in zip(positions, radii, strict=True):
        points = points[((points - centre) ** 2).sum(axis=1) >= radius**2]
    return points


def fit_charges(
    positions: NDArray[np.float64], points: NDArray[np.float64], potential: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """Charges `(n_atoms,)` e from the `potential` `(n_points,)` in Hartree/e at `points` in Å; they add up to `total`."""
    n = len(positions)
    # every charge is total / n plus something without a sum: the constraint leaves n - 1 directions
    basis = np.linalg.svd(np.ones((1, n)))[2][1:].T
    inverse = BOHR_A / np.linalg.norm(points[:, None] - positions, axis=2)
    mean = np.full(n, total / n)
    if n == 1:
        return mean
    rest = np.linalg.lstsq(inverse @ basis, potential - inverse @ mean, rcond=_RELATIVE_CUT)[0]
    return mean + basis @ rest
