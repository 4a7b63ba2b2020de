"""Which solvent or ion of the tables a molecule in a box is: told by who is bonded to whom, not by its formula alone."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mlff.system.molecules import IONS, SOLVENTS

ROUNDS = 8
"""Bonds that an atom's label sees: enough for both ends of the longest molecule of the tables."""


def bond_graphs(numbers: NDArray[np.integer], bonds: NDArray[np.integer], member: NDArray[np.integer]) -> list[int]:
    """A number for each molecule, equal for equal graphs of elements and bonds (Weisfeiler and Lehman's refinement).

    `numbers` `(n_atoms,)` atomic numbers, `bonds` `(n, 2)` pairs of atoms, `member` `(n_atoms,)` each one's molecule, from 0.
    """
    labels = _mixed(numbers.astype(np.uint64))
    pairs = np.unique(np.sort(bonds, axis=1), axis=0) if len(bonds) else np.zeros((0, 2), np.int64)
    for _ in range(ROUNDS):
        around = np.zeros_like(labels)
        np.add.at(around, pairs[:, 0], labels[pairs[:, 1]])
        np.add.at(around, pairs[:, 1], labels[pairs[:, 0]])
        labels = _mixed(labels + _mixed(around))
    found = np.zeros(int(member.max()) + 1, np.uint64)
    np.add.at(found, member, labels)
    return [int(graph) for graph in found]


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits spread over all 64 (SplitMix64), so that sums of labels tell sets of them apart."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@cache
def known_graphs() -> dict[int, tuple[str, float]]:
    """Name and charge in e of the solvents and ions of the tables, by bond graph."""
    from rdkit import Chem

    known = {}
    for name, smiles in (IONS | SOLVENTS).items():
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        numbers = np.array([a.GetAtomicNum() for a in molecule.GetAtoms()])
        bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()], np.int64)
        (graph,) = bond_graphs(numbers, bonds.reshape(-1, 2), np.zeros(len(numbers), np.int64))
        known[graph] = (name, float(Chem.GetFormalCharge(molecule)))
    return known
