"""Heavier hydrogen: mass moved to it from the atom that it is bound to, so that a time step may be longer.

What is a mean over configurations alone (density, structure, compressibility) does not depend on masses; whatever has
time in it (viscosity, diffusion, conductivity) does. Feenstra, Hess and Berendsen, J. Comput. Chem. 20, 786 (1999).
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

BOND_A = 1.4
"""Longest bond of hydrogen that is looked for."""


def heavy_hydrogen(atoms: Atoms, hydrogen_mass_u: float | None) -> Atoms:
    """A copy in which no hydrogen is lighter than `hydrogen_mass_u`, with every molecule's mass and every atom's kinetic
    energy (but for the flow of the centre of mass) as before; `atoms` itself for None.

    Raises `ValueError` for hydrogen without a heavier neighbour, and where that would become lighter than its hydrogen.
    """
    if hydrogen_mass_u is None:
        return atoms
    masses = repartitioned(atoms, hydrogen_mass_u)
    out = atoms.copy()
    out.set_masses(masses)
    if atoms.has("momenta"):
        out.set_momenta(momenta_for(masses, atoms.get_momenta(), atoms.get_masses()))
    return out


def repartitioned(atoms: Atoms, hydrogen_mass_u: float) -> NDArray[np.float64]:
    """Masses `(n_atoms,)`, u, as `heavy_hydrogen` gives them; raises as it does."""
    from ase.neighborlist import neighbor_list

    masses: NDArray[np.float64] = atoms.get_masses()
    hydrogen = atoms.numbers == 1
    i, j, d = neighbor_list("ijd", atoms, BOND_A)
    bonds = hydrogen[i] & ~hydrogen[j]
    nearest = np.lexsort((d[bonds], i[bonds]))
    light, first = np.unique(i[bonds][nearest], return_index=True)
    heavy = j[bonds][nearest][first]
    alone = np.setdiff1d(np.flatnonzero(hydrogen & (masses < hydrogen_mass_u)), light)
    if len(alone):
        raise ValueError(
            f"hydrogen_mass_u={hydrogen_mass_u:g}: atom {alone[0]} is hydrogen with no heavier atom within {BOND_A:g} Å "
            "to take mass from"
        )
    gain = np.maximum(0.0, hydrogen_mass_u - masses[light])
    masses[light] += gain
    np.subtract.at(masses, heavy, gain)
    thin = heavy[masses[heavy] < hydrogen_mass_u]
    if len(thin):
        raise ValueError(
            f"hydrogen_mass_u={hydrogen_mass_u:g}: would leave {masses[thin[0]]:.3g} u to the {atoms.symbols[thin[0]]} "
            f"of atom {thin[0]}; take less"
        )
    return masses


def momenta_for(
    masses: NDArray[np.float64], momenta: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Momenta `(n_atoms, 3)` of atoms that had other masses `(n_atoms,)`, their kinetic energies kept, at rest as a whole."""
    moved = momenta * np.sqrt(masses / before)[:, None]
    resting: NDArray[np.float64] = moved - masses[:, None] * moved.sum(axis=0) / masses.sum()
    return resting
