"""Charges and what they cost: neutralisation, E_chi and Coulomb, and the derivative of their sum by the raw charges.

Equations in `mlff/charges.py` and `mlff/coulomb.py`. Everything here is float64 but the mesh. Within the cutoff the
Coulomb interaction is q_i q_j times a function of the distance, so a table; each pair is visited once.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from mlff import coulomb
from mlff.fast.edges import GEOMETRY, PULL
from mlff.fast.mesh import ParticleMesh
from mlff.fast.network import Workspace
from mlff.fast.skin import SkinList
from mlff.fast.team import Each, Team
from mlff.frames import N_ELEMENTS, Configuration
from mlff.model import MESH_FROM_ATOMS, ForceField
from mlff.units import COULOMB

INTERVALS = 4096
"""Cubics of the Coulomb interaction between 0 and the cutoff."""

FINE_MESH_A = 0.4
"""Spacing of the mesh where the torch model takes the direct sum: forces within 1e-5 of it, relative."""

_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}


@dataclass(frozen=True, eq=False)
class Electrostatics:
    """What charges add; kcal/mol, Å, e, float64.

    | name | shape | meaning |
    |---|---|---|
    | `charges` | `(n_atoms,)` | |
    | `energies` | `(n_atoms,)` | E_chi and Coulomb energy of each atom |
    | `by_raw` | `(n_atoms,)` | derivative of the energy by the raw charges; 0 where charges are held fixed |
    | `forces`, `virial` | `(n_atoms, 3)`, `(3, 3)` | of the reciprocal sum at these charges |
    """

    charges: NDArray[np.float64]
    energies: NDArray[np.float64]
    by_raw: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]


class Charges:
    """The charge head's constants, the table of the interaction and the mesh of one model (in float64)."""

    def __init__(self, model: ForceField, team: Team) -> None:
        assert model.charge is not None
        self.model, self.p, self.team = model, model.parameters_of, team
        self.cutoff = self.p.network.cutoff_A
        everything = torch.arange(N_ELEMENTS)
        with torch.no_grad():
            chi, eta = model.charge.constants(model.network.embedding(everything), everything)
        self.offset, self.chi, self.eta = model.charge.charge_offset.numpy(), chi.numpy(), eta.numpy()
        self.table = _table(model, self.cutoff)
        g = self.p.splitting_per_A
        self.mesh = ParticleMesh(g, self.p.mesh_A, team)
        self.fine_mesh = ParticleMesh(g, min(self.p.mesh_A, FINE_MESH_A), team)

    def prepare(self, numbers: NDArray[np.int64]) -> None:
        """Constants of the atoms at hand, for new lists."""
        self.of_atoms = (self.offset[numbers], self.chi[numbers], self.eta[numbers])

    def solve(self, c: Configuration, lists: SkinList, s: Workspace) -> Electrostatics:
        """From the raw charges in `s.raw`; pair forces go to `s.pull` (near pairs) or `s.force` (open systems)."""
        offset, chi, eta = self.of_atoms
        p, n = self.p, len(offset)
        group, of_group = self._groups(c, lists)
        bent = np.tanh((s.raw[:n] + offset) / p.charge_bound)
        count = np.bincount(group, minlength=len(of_group))
        lack = of_group - np.bincount(group, p.charge_bound * bent, minlength=len(count))
        q = p.charge_bound * bent + (lack / count)[group]

        place = lists.position[lists.itself]
        field = self._near_field(bool(c.pbc.any()), place, q, s)
        energies = (chi + eta * q + 0.5 * field) * q
        slope = chi + 2.0 * eta * q + field
        forces, virial = np.zeros((n, 3)), np.zeros((3, 3))
        if c.pbc.any() and p.long_range != "none":
            more, field, forces, virial = self._reciprocal(c, place, q)
            energies, slope = energies + more, slope + field
        if p.forces == "fixed_charges":
            return Electrostatics(q, energies, np.zeros(n), forces, virial)
        # a raw charge moves its own charge, and those of its group by the shift
        mean = np.bincount(group, slope, minlength=len(count)) / count
        return Electrostatics(q, energies, (slope - mean[group]) * (1.0 - bent * bent), forces, virial)

    def _groups(self, c: Configuration, lists: SkinList) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if self.p.charge_groups == "fragment" and c.fragments is not None and c.fragment_charges is not None:
            return c.fragments[lists.order], c.fragment_charges
        return np.zeros(len(c.numbers), np.int64), np.array([c.total_charge])

    def _near_field(self, periodic: bool, place: NDArray[Any], q: NDArray[np.float64], s: Workspace) -> Any:
        """Potential of the near pairs, or of all pairs of an open system, at each atom."""
        n, p = len(q), self.p
        s.field[:] = 0.0
        if periodic or p.long_range == "none":
            per_A = INTERVALS / self.cutoff
            edges = (s.capacity, s.active, s.edge_j, s.edge)
            self.team.over(n, near_pairs, *edges, self.table, per_A, q, COULOMB, Each(s.field), s.pull)
        else:
            constants = (p.coulomb_beta, p.coulomb_r0_A, COULOMB)
            out = (s.field[0], Each(s.force), Each(s.half_virial))
            self.team.over(n, all_pairs, place, *constants, q, *out)
        return s.field.sum(axis=0)[:n]

    def _reciprocal(self, c: Configuration, place: NDArray[Any], q: NDArray[np.float64]) -> tuple[Any, Any, Any, Any]:
        """Energies, potential, forces and virial of the reciprocal sum, with self, background and shape terms."""
        p = self.p
        if p.long_range == "sum":
            return self._direct_sum(c, place, q)
        mesh = self.fine_mesh if p.long_range == "auto" and len(q) <= MESH_FROM_ATOMS else self.mesh
        cell, pbc = c.cell, c.pbc
        if not pbc.all():
            coulomb.check_neutral(float(q.sum()))
            cell = coulomb.with_vacuum(*map(torch.from_numpy, (place, cell, pbc))).numpy()
        phi, forces, virial = mesh.field(place, q, cell)
        g, volume, total = p.splitting_per_A, abs(np.linalg.det(cell)), float(q.sum())
        background = -COULOMB * math.pi / (g * g * volume) * total
        phi = phi - 2.0 * COULOMB * g / math.sqrt(math.pi) * q + background
        virial = virial + 0.5 * background * total * np.eye(3)
        if not pbc.all():
            open_axes = cell[~pbc]
            along = open_axes / np.linalg.norm(open_axes, axis=1, keepdims=True)
            moment = q @ place @ along.T
            slope = 4.0 * math.pi * COULOMB / (len(along) * volume) * moment @ along
            phi, forces = phi + place @ slope, forces - q[:, None] * slope
        return 0.5 * q * phi, phi, forces, virial

    def _direct_sum(self, c: Configuration, place: NDArray[Any], q: NDArray[np.float64]) -> tuple[Any, Any, Any, Any]:
        """The torch model's sum over all wave vectors: exact and slow."""
        leaves = [torch.from_numpy(a).requires_grad_() for a in (place, q.copy(), c.cell.copy())]
        x, charge, cell = leaves
        with torch.enable_grad():
            energies = self.model.long_range_energies(x, charge, cell, torch.from_numpy(c.pbc))
        slopes = torch.autograd.grad(energies.sum(), leaves, allow_unused=True, materialize_grads=True)
        dx, dq, dcell = (g.numpy() for g in slopes)
        return energies.detach().numpy(), dq, -dx, -(place.T @ dx + c.cell.T @ dcell)


def _table(model: ForceField, cutoff: float) -> NDArray[np.float64]:
    """Cubics of U / (k_e q_i q_j) that meet value and slope at both ends of each interval: `(INTERVALS, 4)`."""
    r = torch.linspace(0.0, cutoff, INTERVALS + 1, dtype=torch.float64).clamp(min=1e-3).requires_grad_()
    shape = model.coulomb_shape(r, screened=True)
    slope = torch.autograd.grad(shape.sum(), r)[0] * (cutoff / INTERVALS)
    y, m = shape.detach().numpy(), slope.numpy()
    rise = y[1:] - y[:-1]
    return np.stack([y[:-1], m[:-1], 3 * rise - 2 * m[:-1] - m[1:], m[:-1] + m[1:] - 2 * rise], axis=1)


@njit(**_FAST)
def near_pairs(lo, hi, capacity, active, edge_j, edge, table, per_A, q, constant, field, pull):
    """Add each pair to the potential at both of its atoms and its dE/dr to `pull`."""
    last = len(table) - 1
    for i in range(lo, hi):
        here, q_i = 0.0, q[i]
        for k in range(i * capacity, i * capacity + active[i, 0]):
            place = edge[k * GEOMETRY + 7] * per_A
            n = min(int(place), last)
            t = place - n
            j = edge_j[k]
            c1, c2, c3 = table[n, 1], table[n, 2], table[n, 3]
            shape = constant * (table[n, 0] + t * (c1 + t * (c2 + t * c3)))
            here += q[j] * shape
            field[j] += q_i * shape
            pull[k * PULL] += constant * per_A * q_i * q[j] * (c1 + t * (2.0 * c2 + 3.0 * t * c3))
        field[i] += here


@njit(**_FAST)
def all_pairs(lo, hi, position, beta, r0, constant, q, field, force, virial):
    """The damped Coulomb energy of all pairs of an open system; float64."""
    for i in range(lo, hi):
        phi = 0.0
        for j in range(len(q)):
            if j == i:
                continue
            dx, dy, dz = (
                position[i, 0] - position[j, 0],
                position[i, 1] - position[j, 1],
                position[i, 2] - position[j, 2],
            )
            r = np.sqrt(dx * dx + dy * dy + dz * dz)
            x = beta * (r - r0) / r0
            s = x if x > 20.0 else np.log1p(np.exp(x))
            shape = 1.0 / (r0 * (1.0 + s / beta))
            slope = -shape * shape / (1.0 + np.exp(-x))
            phi += q[j] * shape
            pull = constant * q[i] * q[j] * slope / r
            force[i, 0] -= pull * dx
            force[i, 1] -= pull * dy
            force[i, 2] -= pull * dz
            virial[0] -= 0.5 * pull * dx * dx
            virial[1] -= 0.5 * pull * dx * dy
            virial[2] -= 0.5 * pull * dx * dz
            virial[4] -= 0.5 * pull * dy * dy
            virial[5] -= 0.5 * pull * dy * dz
            virial[8] -= 0.5 * pull * dz * dz
        field[i] = constant * phi
