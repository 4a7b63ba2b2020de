"""Fast energies, forces and virials on a CPU: the force field without autograd, in float32 with float64 sums.

What makes it fast: edge features and the Coulomb interaction are tables of the distance; queries, keys and values of
the first layer are constants of the elements; messages are gathered row by row, backward each pair once; dense layers
run on blocks of atoms that stay in cache; neighbour lists last for many steps. The parts are in `mlff/fast/`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mlff.dispersion import ElementDispersion
from mlff.fast.charges import Charges
from mlff.fast.dispersion import Dispersion
from mlff.fast.lanes import HEADS, WIDTH
from mlff.fast.network import Network, Workspace
from mlff.fast.skin import SkinList
from mlff.fast.team import Each, Team
from mlff.frames import Configuration
from mlff.model import ForceField


@dataclass(frozen=True, eq=False)
class Result:
    """What the engine says of a configuration; float64, atoms in the caller's order.

    | name | shape | unit |
    |---|---|---|
    | `energy` | float | kcal/mol |
    | `energies` | `(n_atoms,)` | kcal/mol, share of each atom |
    | `forces` | `(n_atoms, 3)` | kcal/mol/Å |
    | `virial` | `(3, 3)` | kcal/mol, -dE/d(strain); means something with three periodic axes or none |
    | `charges` | `(n_atoms,)` | e |
    """

    energy: float
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]
    charges: NDArray[np.float64]


class Engine:
    """A model of the default size made ready for one configuration after another.

    `threads` defaults to the cores at hand; the same number gives the same result bit for bit. `skin_A` widens the
    neighbour lists so that they outlast many steps of dynamics. Raises `ValueError` on a model it cannot run: width 64
    with 16 heads, at most 32 hidden features, one cutoff for network and Coulomb, dispersion by element or none.
    """

    def __init__(self, model: ForceField, *, threads: int | None = None, skin_A: float = 0.5) -> None:
        _check(model)
        self.model, p = model, model.parameters_of
        self.team = Team(threads)
        far = 0.0 if p.dispersion == "none" else p.dispersion_cutoff_A
        self.lists = SkinList(p.network.cutoff_A, far, skin_A, self.team)
        double = model.changed().double().cpu().requires_grad_(False)
        self.network = Network(double, self.team)
        self.reference_energy = double.reference_energy.numpy()
        self.charges = None if double.charge is None else Charges(double, self.team)
        form = double.dispersion
        self.dispersion = Dispersion(form, self.team) if isinstance(form, ElementDispersion) else None
        self.workspace: Workspace | None = None
        self.last: Configuration | None = None

    def evaluate(self, c: Configuration) -> Result:
        """Energy, forces and virial of a configuration; lists are reused where no atom has moved far."""
        known = self.last is not None and np.array_equal(self.last.numbers, c.numbers)
        if not known:
            self.model.check_elements(torch.from_numpy(c.numbers))
            self.lists.forget()
        self.last = c
        if self.lists.update(c.positions, c.cell, c.pbc):
            self._prepare(c)
        s, n = self.workspace, len(c.numbers)
        assert s is not None
        for sums in (s.force, s.virial, s.half_virial):
            sums[:] = 0.0
        self.network.measure(self.lists, s)
        self.network.forward(s)
        energies = s.energy[:n] + self.reference_energy[self.numbers]
        q = np.zeros(n)
        if self.charges is not None:
            found = self.charges.solve(c, self.lists, s)
            energies, q, s.graw[:n] = energies + found.energies, found.charges, found.by_raw
            s.force[0, :n] += found.forces
            s.virial[0] += found.virial.ravel()
        self.network.backward(s)
        if self.dispersion is not None:
            self.dispersion.add(self.lists, s.dispersion, Each(s.force), Each(s.half_virial))
            energies = energies + s.dispersion[:n]
        return self._in_order(s, energies, q)

    def _prepare(self, c: Configuration) -> None:
        """Arrays for the present lists: elements, and room for everything between the layers."""
        n, capacity = self.lists.near.shape
        self.numbers = c.numbers[self.lists.order]
        if self.workspace is None or (self.workspace.n, self.workspace.capacity) != (n, capacity):
            self.workspace = Workspace(n, capacity, self.team.threads, self.network.n_middle)
        self.workspace.kind[:n] = self.network.prepare(self.numbers)
        if self.charges is not None:
            self.charges.prepare(self.numbers)
        if self.dispersion is not None:
            self.dispersion.prepare(self.lists, self.numbers)

    def _in_order(self, s: Workspace, energies: NDArray[np.float64], q: NDArray[np.float64]) -> Result:
        """Sums over threads, atoms back in the caller's order."""
        n = len(q)
        out = np.empty((n, 5))
        order = self.lists.order
        out[order, :3] = s.force.sum(axis=0)[:n]
        out[order, 3], out[order, 4] = energies, q
        virial = s.virial.sum(axis=0).reshape(3, 3) + s.half_virial.sum(axis=0).reshape(3, 3)[_MIRROR]
        return Result(float(energies.sum()), out[:, 3].copy(), out[:, :3].copy(), virial, out[:, 4].copy())


_MIRROR = (np.array([[0, 0, 0], [0, 1, 1], [0, 1, 2]]), np.array([[0, 1, 2], [1, 1, 2], [2, 2, 2]]))
"""Where the entries of a symmetric matrix stand in its upper triangle."""


def _check(model: ForceField) -> None:
    p, n = model.parameters_of, model.parameters_of.network
    reasons = {
        "width 64 and 16 heads": (n.width, n.heads) == (WIDTH, HEADS),
        "at most 32 hidden features": n.hidden <= 32,
        "dispersion by element or none": p.dispersion != "coordination",
        "coulomb_cutoff_A equal to the network's": not p.charges or p.coulomb_cutoff_A == n.cutoff_A,
        "a dispersion cutoff of at most 11 Å": p.dispersion_cutoff_A <= 11.0,
    }
    for reason, fine in reasons.items():
        if not fine:
            raise ValueError(f"the fast engine needs {reason}; use the torch model")
