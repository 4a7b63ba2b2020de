"""Charges of molecules that are told by what they consist of, as files for other programs need them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mlff.frames import N_ELEMENTS
from mlff.system.molecules import ALIASES, IONS


def known_ions(elements: Collection[int]) -> dict[str, float]:
    """Charge in e of each ion of the tables that consists of these atomic numbers only."""
    found = {}
    for name, smiles in IONS.items():
        if set(np.flatnonzero(composition(name)).tolist()) <= set(elements):
            found[name] = float(smiles.count("+") - smiles.count("-"))
    return found


@cache
def composition(name: str) -> NDArray[np.int64]:
    """`(87,)` atoms of each element in an ion of the tables, or in a formula in any order (`F6P`, `ClO4`).

    Raises `ValueError` on anything else.
    """
    from ase.data import atomic_numbers
    from ase.formula import Formula

    smiles = IONS.get(ALIASES.get(name, name))
    counts = np.zeros(N_ELEMENTS, np.int64)
    if smiles is not None:
        from rdkit import Chem

        for atom in Chem.AddHs(Chem.MolFromSmiles(smiles)).GetAtoms():
            counts[atom.GetAtomicNum()] += 1
        return counts
    try:
        parts = Formula(name).count()
        for symbol, n in parts.items():
            counts[atomic_numbers[symbol]] += n
    except (ValueError, KeyError, IndexError):
        parts = {}
    if not parts or not name.isalnum():
        raise ValueError(f"{name}: neither a formula nor one of {', '.join(IONS)}")
    return counts


def changed_charges(known: Mapping[str, float], stated: Mapping[str, float]) -> dict[str, float]:
    """The known charges with those that are stated in their place, whatever a formula is called.

    Raises `ValueError` on a name that is no formula, and on two names of one.
    """
    names: dict[bytes, str] = {}
    for name in stated:
        other = names.setdefault(composition(name).tobytes(), name)
        if other != name:
            raise ValueError(f"{other} and {name} are the same formula")
    return {n: q for n, q in known.items() if composition(n).tobytes() not in names} | dict(stated)
