"""Which solvent or ion of the tables a molecule in a box is: told by who is bonded to whom, not by its formula alone."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mlff.system.molecules import IONS, SOLVENTS


def bond_graphs(numbers: NDArray[np.integer], bonds: NDArray[np.integer], member: NDArray[np.integer]) -> list[str]:
    """The bond graph of each molecule: RDKit's canonical SMILES of its elements, with every bond single.

    `numbers` `(n_atoms,)` atomic numbers, `bonds` `(n, 2)` pairs of atoms, `member` `(n_atoms,)` each one's molecule, from
    0, the atoms of one standing together.
    """
    first = np.searchsorted(member, np.arange(int(member.max()) + 2))
    pairs = np.unique(np.sort(bonds, axis=1), axis=0) if len(bonds) else np.zeros((0, 2), np.int64)
    of_pairs = np.searchsorted(member[pairs[:, 0]], np.arange(len(first)))
    return [
        _graph(tuple(numbers[a:b].tolist()), tuple(map(tuple, (pairs[c:d] - a).tolist())))
        for a, b, c, d in zip(first[:-1], first[1:], of_pairs[:-1], of_pairs[1:], strict=True)
    ]


@cache
def _graph(numbers: tuple[int, ...], bonds: tuple[tuple[int, int], ...]) -> str:
    from rdkit import Chem

    molecule = Chem.RWMol()
    for number in numbers:
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for i, j in bonds:
        molecule.AddBond(i, j, Chem.BondType.SINGLE)
    return str(Chem.MolToSmiles(molecule))


@cache
def known_graphs() -> dict[str, tuple[str, float]]:
    """Name and charge in e of the solvents and ions of the tables, by bond graph."""
    from rdkit import Chem

    known = {}
    for name, smiles in (IONS | SOLVENTS).items():
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        numbers = tuple(a.GetAtomicNum() for a in molecule.GetAtoms())
        graph = _graph(numbers, tuple((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()))
        known[graph] = (name, float(Chem.GetFormalCharge(molecule)))
    return known
