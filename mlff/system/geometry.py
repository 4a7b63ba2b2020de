"""Geometries of molecules: embedded and relaxed by RDKit, or from a template, and checked in any case."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Geometry = tuple[NDArray[np.int64], NDArray[np.float64], int]

CONFORMERS = 10
"""Geometries that are embedded; the lowest in energy is kept."""
BOND_LIMITS = (0.75, 1.25)
"""Lengths of bonds, in sums of covalent radii, that are taken for right."""
METALS = (3, 11, 19, 37, 55, 12, 20, 30)
"""Ions that are bonded to nothing: what surrounds them is as near to them as a bond is long."""
CONTACT = 1.15
"""Atoms that are no neighbours are further apart than this many sums of covalent radii."""
PF_BOND_A = 1.629
"""P-F of the octahedral PF6-; RDKit's own geometry of it is wrong, without an error."""


class NotSmiles(ValueError):
    """The text is no SMILES."""


def of_smiles(smiles: str, name: str) -> Geometry:
    """Atomic numbers, positions in Å around the origin, and total charge; the same at every call.

    Raises `NotSmiles`, or `ValueError` where no sound geometry is found.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles)
        if parsed is None or parsed.GetNumAtoms() == 0:
            raise NotSmiles("RDKit cannot read it")
        molecule = Chem.AddHs(parsed)
        if len(Chem.GetMolFrags(molecule)) > 1:
            raise ValueError(f"{name}: several molecules in one SMILES; give each its own name")
        numbers = np.array([a.GetAtomicNum() for a in molecule.GetAtoms()], np.int64)
        positions = _template(molecule, numbers)
        if positions is None:
            positions = _relaxed(molecule, name)
    positions = positions - positions.mean(axis=0)
    bonds = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()}
    check(numbers, positions, name, bonds)
    return numbers, positions, int(Chem.GetFormalCharge(molecule))


def _template(molecule: Any, numbers: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Positions of an atom alone, or of an octahedral PF6-."""
    if len(numbers) == 1:
        return np.zeros((1, 3))
    if sorted(numbers.tolist()) != [9] * 6 + [15] or molecule.GetNumBonds() != 6:
        return None
    positions = np.zeros((7, 3))
    positions[numbers == 9] = PF_BOND_A * np.concatenate([np.eye(3), -np.eye(3)])
    return positions


def _relaxed(molecule: Any, name: str) -> NDArray[np.float64]:
    """The conformer lowest in energy, by MMFF94 where it knows all atoms and by UFF elsewhere."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    options: Any = rdDistGeom.ETKDGv3()
    options.randomSeed = 1
    found = list(rdDistGeom.EmbedMultipleConfs(molecule, CONFORMERS, options))
    if not found:
        raise ValueError(f"{name}: RDKit finds no geometry; give a file of the molecule")
    mmff = rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule)
    if not mmff and not rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        raise ValueError(f"{name}: neither MMFF94 nor UFF knows all its atoms; give a file of the molecule")
    relax = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs if mmff else rdForceFieldHelpers.UFFOptimizeMoleculeConfs
    energies = [energy if failed == 0 else np.inf for failed, energy in relax(molecule, numThreads=1, maxIters=5000)]
    if not np.isfinite(energies).any():
        raise ValueError(f"{name}: the geometry does not relax; give a file of the molecule")
    positions: NDArray[np.float64] = molecule.GetConformer(found[int(np.argmin(energies))]).GetPositions()
    return positions


def check(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], name: str, bonds: set[tuple[int, int]] | None = None
) -> None:
    """Raises `ValueError` that names the first bond of wrong length, or two atoms that are too close.

    Without `bonds`, everything within `BOND_LIMITS[1]` counts as one.
    """
    from ase.data import chemical_symbols

    if not np.isfinite(positions).all():
        raise ValueError(f"{name}: its geometry is not finite")
    distance, radii = _distances(numbers, positions)
    share = distance / radii
    known = {(min(pair), max(pair)) for pair in bonds} if bonds is not None else None
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            bonded = (i, j) in known if known is not None else share[i, j] < BOND_LIMITS[1]
            low, high = BOND_LIMITS if bonded else (CONTACT if known is not None else 0.0, np.inf)
            if not low < share[i, j] < high:
                what = "bond" if bonded else "contact"
                pair = f"{chemical_symbols[numbers[i]]}{i}-{chemical_symbols[numbers[j]]}{j}"
                raise ValueError(f"{name}: {what} {pair} of {distance[i, j]:.2f} Å; the geometry is not sound")
    _check_equal_bonds(numbers, distance, known, name)


def _check_equal_bonds(
    numbers: NDArray[np.int64], distance: NDArray[np.float64], bonds: set[tuple[int, int]] | None, name: str
) -> None:
    """Fluorines on one phosphorus, boron or metal are equal by symmetry; a spread tells a failed embedding."""
    from ase.data import chemical_symbols

    for centre in np.flatnonzero(~np.isin(numbers, (1, 6, 7, 8, 9, 16))) if bonds else ():
        around = [a + b - centre for a, b in bonds or () if centre in (a, b)]
        if len(around) > 1 and len(set(numbers[around].tolist())) == 1:
            lengths = distance[centre, around]
            if np.ptp(lengths) > 0.05:
                what = f"{chemical_symbols[numbers[centre]]}-{chemical_symbols[numbers[around[0]]]}"
                raise ValueError(f"{name}: bonds {what} of {lengths.min():.2f} to {lengths.max():.2f} Å; not sound")


def n_pieces(numbers: NDArray[np.int64], positions: NDArray[np.float64]) -> int:
    """Number of molecules that bonds of ordinary length make of these atoms, without periodicity."""
    from scipy.sparse.csgraph import connected_components

    distance, radii = _distances(numbers, positions)
    return int(connected_components(distance < BOND_LIMITS[1] * radii, directed=False)[0])


def _distances(
    numbers: NDArray[np.int64], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances in Å, and sums of covalent radii, of all pairs."""
    from ase.data import covalent_radii

    distance = np.linalg.norm(positions[:, None] - positions[None, :], axis=2)
    radius = covalent_radii[numbers]
    return distance, radius[:, None] + radius[None, :]
