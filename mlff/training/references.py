"""Energies of elements: what is taken off the labels before the network sees them.

`isolated`: energies of single atoms, so that the network learns the energy of forming the molecule from atoms.
`fitted`: of all energies of elements those that come nearest to the labels, by least squares per atom; where the set
leaves them open (one molecule alone does), the ones nearest to the isolated atoms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlff.labelled import LabelledFrame

References = Literal["fitted", "isolated", "none"]
N_ROWS = 87
_RANK_TOLERANCE = 1e-6


def reference_energies(
    frames: Sequence[LabelledFrame], energies: NDArray[np.float64], isolated: Mapping[int, float], kind: References
) -> NDArray[np.float64]:
    """`(87,)` kcal/mol by atomic number; `energies` are the labels of `frames`, less what is known of them.

    Raises `ValueError` for `isolated` where an element has no isolated atom; lists those that are missing.
    """
    reference = np.zeros(N_ROWS)
    if kind == "none":
        return reference
    for z, energy in isolated.items():
        reference[z] = energy
    elements = elements_of(frames)
    if kind == "isolated":
        missing = [z for z in elements if z not in isolated]
        if missing:
            from ase.data import chemical_symbols

            names = ", ".join(chemical_symbols[z] for z in missing)
            raise ValueError(
                f"references=isolated: no isolated atom of {names} in the set; use fitted, or data.isolated"
            )
        return reference
    counts = composition_counts(frames, elements)
    reference[elements] += fit_elements(counts, energies - counts @ reference[elements])
    return reference


def fit_elements(counts: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy of each element `(n_elements,)` from energies of frames and `counts` `(n_frames, n_elements)`."""
    n_atoms = counts.sum(axis=1)
    return np.linalg.lstsq(counts / n_atoms[:, None], energies / n_atoms, rcond=_RANK_TOLERANCE)[0]


def elements_of(frames: Sequence[LabelledFrame]) -> list[int]:
    """Atomic numbers that occur, in order."""
    return sorted({int(z) for frame in frames for z in frame.configuration.numbers})


def composition_counts(frames: Sequence[LabelledFrame], elements: Sequence[int]) -> NDArray[np.float64]:
    """`(n_frames, n_elements)` numbers of atoms."""
    tables = [np.bincount(f.configuration.numbers, minlength=N_ROWS)[list(elements)] for f in frames]
    return np.array(tables, np.float64)
