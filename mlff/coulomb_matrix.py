"""The Coulomb energy of a fixed arrangement as a quadratic form of the charges: E = q A q / 2, with its slopes.

Training sees the same arrangement thousands of times with other charges, so that the damped pairs of a cluster, or the
whole Ewald sum of a periodic box, become one matrix for each frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlff.frames import Batch
from mlff.model import ForceField
from mlff.units import COULOMB

TRUNCATION = 1e-9


@dataclass(frozen=True, eq=False)
class CoulombMatrix:
    """kcal/mol/e^2, Å; float64.

    | name | shape | meaning |
    |---|---|---|
    | `potential` | `(n, n)` | A |
    | `slope` | `(n, 3, n)` | dA_ij/dr_i, so that F_i = -q_i sum_j slope_ij q_j |
    | `strain` | `(9, n, n)` or None | dA_ij/d(strain), rows first; only of periodic boxes that are asked for it |
    """

    potential: Tensor
    slope: Tensor
    strain: Tensor | None


def coulomb_matrix(model: ForceField, batch: Batch, *, strain: bool) -> CoulombMatrix:
    """Matrix of the only system of `batch`; raises `ValueError` if it repeats along some axes only."""
    periodic = bool(batch.pbc.any())
    if periodic and not bool(batch.pbc.all()):
        raise ValueError("training needs frames that are open or periodic along all three axes")
    pairs, n = batch.coulomb, len(batch.numbers)
    shift = pairs.shift @ batch.cells[0]
    vector = batch.positions[pairs.i] - batch.positions[pairs.j] - shift
    r = vector.norm(dim=1).requires_grad_()
    shape = COULOMB * model.coulomb_shape(r, screened=periodic)
    by_r = torch.autograd.grad(shape.sum(), r)[0]
    pull = (by_r / r.detach())[:, None] * vector
    A = _scatter(n, pairs.i, pairs.j, shape.detach())
    flat = torch.zeros(n * n, 3, dtype=torch.float64)
    flat = flat.index_add(0, pairs.i * n + pairs.j, pull).index_add(0, pairs.j * n + pairs.i, -pull)
    G = flat.view(n, n, 3).transpose(1, 2)
    if not periodic:
        return CoulombMatrix(A, G, None)
    S = None
    if strain:
        moved = (pull[:, :, None] * vector[:, None, :]).view(-1, 9)
        S = torch.stack([_scatter(n, pairs.i, pairs.j, component) for component in moved.T])
    far = _reciprocal(batch.positions, batch.cells[0], model.parameters_of.splitting_per_A, strain=strain)
    g, volume = model.parameters_of.splitting_per_A, float(torch.linalg.det(batch.cells[0]).abs())
    background = COULOMB * math.pi / (g * g * volume)
    A = A + far.potential - background - torch.eye(n, dtype=torch.float64) * (2.0 * COULOMB * g / math.sqrt(math.pi))
    if S is not None and far.strain is not None:
        S = S + far.strain + background * torch.eye(3, dtype=torch.float64).view(9, 1, 1)
    return CoulombMatrix(A, G + far.slope, S)


def _scatter(n: int, i: Tensor, j: Tensor, value: Tensor) -> Tensor:
    """Symmetric matrix of pairs listed once; an atom and its own image count twice on the diagonal."""
    flat = torch.zeros(n * n, dtype=torch.float64)
    return flat.index_add(0, i * n + j, value).index_add(0, j * n + i, value).view(n, n)


def _reciprocal(positions: Tensor, cell: Tensor, g: float, *, strain: bool) -> CoulombMatrix:
    """A_ij = 4 pi k_e / V sum_k exp(-k^2 / 4 g^2) / k^2 cos k.(r_i - r_j), over the wave vectors of `coulomb.py`."""
    inverse = torch.linalg.inv(cell)
    reach = 2.0 * g * math.sqrt(-math.log(TRUNCATION))
    nx, ny, nz = (int(reach * float(a) / (2 * math.pi)) for a in cell.norm(dim=1))
    ranges = [torch.arange(0, nx + 1), torch.arange(-ny, ny + 1), torch.arange(-nz, nz + 1)]
    n = torch.cartesian_prod(*ranges).to(cell)
    k = n @ (2 * math.pi * inverse.T)
    k2 = (k * k).sum(dim=1)
    kept = (k2 <= reach * reach) & (k2 > 0)
    n, k, k2 = n[kept], k[kept], k2[kept]
    volume = float(torch.linalg.det(cell).abs())
    # planes with n_x > 0 stand for -n_x too
    factor = torch.exp(-k2 / (4 * g * g)) / k2 * (4 * math.pi * COULOMB / volume) * torch.where(n[:, 0] > 0, 2.0, 1.0)
    phase = positions @ k.T
    C, S = torch.cos(phase), torch.sin(phase)
    by_strain = None
    if strain:
        spread = 2.0 * k[:, :, None] * k[:, None, :] * (1.0 / k2 + 1.0 / (4 * g * g))[:, None, None]
        weights = (factor[:, None, None] * (spread - torch.eye(3, dtype=cell.dtype))).view(-1, 9).T
        by_strain = torch.stack([(C * w) @ C.T + (S * w) @ S.T for w in weights])
    slope = torch.stack([(C * w) @ S.T - (S * w) @ C.T for w in (factor[:, None] * k).T], dim=1)
    return CoulombMatrix((C * factor) @ C.T + (S * factor) @ S.T, slope, by_strain)
