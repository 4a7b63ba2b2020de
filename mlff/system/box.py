"""A periodic box of whole molecules: what every simulation starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff.system.molecules import Molecule

G_PER_CM3 = 1.6605390666
"""Density of 1 u/Å^3 in g/cm^3 (CODATA 2018)."""
SMALLEST_A = 10.0
"""Least distance of opposite faces: twice the reach of the network, so that no atom sees its own image."""


@dataclass(frozen=True, eq=False)
class Box:
    """`atoms` carry pbc, cell, `arrays["fragments"]`, `info["fragment_charges"]` and `info["charge"]`.

    `names` gives the species of each fragment. Raises `ValueError` on a charged or too small box.
    """

    atoms: Atoms
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        charge = float(np.sum(self.atoms.info["fragment_charges"]))
        if abs(charge) > 1e-6:
            raise ValueError(f"the box carries {charge:+g} e ({self.composition}); it must be neutral")
        if not self.atoms.pbc.all():
            raise ValueError("the box is not periodic along all three axes")
        narrowest = widths_A(self.atoms).min()
        if narrowest < SMALLEST_A:
            raise ValueError(
                f"the box is {narrowest:.1f} Å wide, at least {SMALLEST_A:g} Å are needed: take more molecules"
            )

    @property
    def composition(self) -> str:
        """`182 DMC, 14 Li`."""
        return ", ".join(f"{n} {name}" for name, n in Counter(self.names).items())

    @property
    def charges(self) -> dict[str, float]:
        """Charge in e of each species that carries one."""
        found = dict(zip(self.names, self.atoms.info["fragment_charges"].tolist(), strict=True))
        return {name: charge for name, charge in found.items() if charge}

    @property
    def density_g_cm3(self) -> float:
        """Mass by volume."""
        return density_g_cm3(self.atoms)


def widths_A(atoms: Atoms) -> NDArray[np.float64]:
    """Distances in Å of opposite faces of the cell, `(3,)`."""
    widths: NDArray[np.float64] = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    return widths


def density_g_cm3(atoms: Atoms) -> float:
    """Mass by volume of a periodic box."""
    return float(atoms.get_masses().sum() / atoms.get_volume() * G_PER_CM3)


def box_edge_A(mass_u: float, density: float) -> float:
    """Edge in Å of the cube that `mass_u` fills at `density` in g/cm^3."""
    return float((mass_u * G_PER_CM3 / density) ** (1 / 3))


def assemble(molecules: Sequence[Molecule], positions: NDArray[np.float64], cell: NDArray[np.float64]) -> Box:
    """The box of molecules one after the other, with these `positions` `(n_atoms, 3)` in Å."""
    sizes = [len(m.numbers) for m in molecules]
    atoms = Atoms(np.concatenate([m.numbers for m in molecules]), positions, cell=cell, pbc=True)
    atoms.arrays["fragments"] = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    atoms.info["fragment_charges"] = np.array([float(m.charge) for m in molecules])
    atoms.info["charge"] = float(sum(m.charge for m in molecules))
    return Box(atoms, tuple(m.name for m in molecules))


def at_density(atoms: Atoms, density: float) -> Atoms:
    """A copy with this density in g/cm3: the cell scaled, molecules moved as they are by their centres of mass."""
    moved, fragments = atoms.copy(), atoms.arrays["fragments"]
    cell, masses = atoms.cell.array, atoms.get_masses()
    _, first, of = np.unique(fragments, return_index=True, return_inverse=True)
    parts = (atoms.positions - atoms.positions[first][of]) @ np.linalg.inv(cell)
    whole = atoms.positions - np.round(parts) @ cell
    weight = np.zeros(len(first))
    np.add.at(weight, of, masses)
    centres = np.zeros((len(first), 3))
    np.add.at(centres, of, masses[:, None] * whole / weight[of][:, None])
    factor = (density_g_cm3(atoms) / density) ** (1 / 3)
    moved.set_cell(factor * cell, scale_atoms=False)
    moved.set_positions(whole + (factor - 1) * centres[of])
    return moved
