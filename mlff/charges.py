"""Atomic charges and what it costs to hold them.

raw_i = charge_offset(Z_i) + MLP_q(x_i)           network and a fixed offset for each element
qt_i  = b tanh(raw_i / b)                         bounded by b
q_i   = qt_i + (Q_g - sum_g qt) / n_g             each group g (system, molecule or fragment) keeps its charge Q_g
E_chi = sum_i chi_i q_i + eta_i q_i^2             chi = (sqrt(chi_offset(Z)) + MLP_chi)^2,  eta = MLP_eta^2
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlff.get import N_ROWS, NetworkParameters, ReadOut

BOND_STRETCH = 1.25
"""Two atoms are taken as bonded below this multiple of the sum of their covalent radii (chosen by us)."""


class ChargeHead(nn.Module):
    """Charges from features; electronegativity and hardness from the bare embedding, so constants of an element."""

    charge_offset: Tensor
    chi_offset: Tensor

    def __init__(self, p: NetworkParameters, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.charge = ReadOut(p.width, p.hidden)
        self.electronegativity = ReadOut(p.width, p.hidden)
        self.hardness = ReadOut(p.width, p.hidden)
        self.register_buffer("charge_offset", torch.zeros(N_ROWS))
        self.register_buffer("chi_offset", torch.zeros(N_ROWS))

    def forward(self, x: Tensor, numbers: Tensor, group: Tensor, group_charge: Tensor) -> Tensor:
        """q `(n_atoms,)` in e, float64, each group adding up to its charge."""
        raw = self.charge_offset[numbers] + self.charge(x)
        return neutralise(self.bound * torch.tanh(raw / self.bound), group, group_charge)

    def constants(self, embedded: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """chi and eta `(n_atoms,)` in kcal/mol/e and kcal/mol/e^2."""
        chi = (self.chi_offset[numbers].sqrt() + self.electronegativity(embedded)) ** 2
        return chi, self.hardness(embedded) ** 2


def neutralise(q: Tensor, group: Tensor, group_charge: Tensor) -> Tensor:
    """Shift all charges of a group by the same amount so that they add up to the group's charge; in float64."""
    q = q.double()
    total = torch.zeros_like(group_charge).index_add(0, group, q)
    count = torch.bincount(group, minlength=group_charge.shape[0])
    return q + ((group_charge - total) / count)[group]


def equilibration_energy(q: Tensor, chi: Tensor, eta: Tensor) -> Tensor:
    """chi_i q_i + eta_i q_i^2 of each atom in kcal/mol."""
    return chi.double() * q + eta.double() * q * q


def bond_radii() -> NDArray[np.float64]:
    """Covalent radii `(87,)` in Å by atomic number; of metals, which are bonded to nothing, -inf."""
    from ase.data import covalent_radii

    from mlff.system.geometry import METALS

    radii = covalent_radii[:N_ROWS].astype(np.float64)
    radii[list(METALS)] = -np.inf
    return radii


def molecules(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Index of each atom's molecule, numbered by first atom: what covalent bonds connect (through images too).

    Ions of metals are molecules of their own.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    from mlff.neighbours import neighbour_pairs

    radius = bond_radii()[numbers]
    pairs = neighbour_pairs(positions, cell, pbc, max(1.0, float(2 * BOND_STRETCH * radius.max())))
    i, j = pairs.i.numpy(), pairs.j.numpy()
    d = np.linalg.norm(positions[i] - positions[j] - pairs.shift.numpy() @ cell, axis=1)
    bonded = d < BOND_STRETCH * (radius[i] + radius[j])
    graph = coo_matrix((np.ones(bonded.sum()), (i[bonded], j[bonded])), shape=(len(numbers),) * 2)
    label = connected_components(graph, directed=False)[1]
    _, first = np.unique(label, return_index=True)
    return np.argsort(np.argsort(first))[label].astype(np.int64)
