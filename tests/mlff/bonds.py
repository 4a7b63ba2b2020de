"""Molecules held together by springs with the stiffness of their bonds, for tests of time steps."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list

HYDROGEN, OTHER = 33.0, 40.0
"""Stiffness in eV/Å^2 that gives C-H its 3,000 and C-C its 1,200 per cm or so."""


class Bonds(Calculator):
    """Harmonic bonds at the lengths that `atoms` begin with, and weak springs between next neighbours."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, atoms: Atoms, **more: Any) -> None:
        super().__init__(**more)
        i, j, d = neighbor_list("ijd", atoms, 2.3)
        pairs = i < j
        self.i, self.j, self.length = i[pairs], j[pairs], d[pairs]
        light = (atoms.numbers[self.i] == 1) | (atoms.numbers[self.j] == 1)
        bound = self.length < np.where(light, 1.4, 1.7)
        self.k = np.where(bound, np.where(light, HYDROGEN, OTHER), 3.0)

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        moved, distance = find_mic(atoms.positions[self.j] - atoms.positions[self.i], atoms.cell, atoms.pbc)
        away = distance - self.length
        pull = (self.k * away / distance)[:, None] * moved
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, self.i, pull)
        np.subtract.at(forces, self.j, pull)
        virial = moved.T @ pull
        stress = virial / atoms.get_volume()
        self.results = {
            "energy": 0.5 * float((self.k * away**2).sum()),
            "forces": forces,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
        }
