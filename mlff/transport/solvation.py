"""What surrounds a small cation such as Li+: members of its first shell, and how it is paired with anions.

A molecule is in the shell if one of its N, O or F atoms is within the cutoff. A cation is of one of three species:
SSIP without an anion in its shell (free or solvent-separated), CIP with one anion that touches no other cation (contact
ion pair), AGG otherwise (aggregate).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlff.transport.blocks import Estimate, Floats
from mlff.transport.checks import check_finite, check_fragments, check_positive
from mlff.transport.equilibration import Mean, mean_of_series, means_of_series
from mlff.transport.structure import Indices, distances

DONORS = (7, 8, 9)
SPECIES = ("SSIP", "CIP", "AGG")
CUTOFF_A = 2.8
"""Between the first and the second shell of Li+ with O (2.0 Å) and F (1.9 Å)."""


@dataclass(frozen=True)
class SolvationShells:
    """Shares of the three species, molecules of each kind in a shell, and the commonest shells with their shares.

    What is certain is left out: molecules without N, O or F are in no shell, and without anions `shares` is empty.
    """

    shares: Mapping[str, Estimate]
    coordination: Mapping[str, Estimate]
    shells: tuple[tuple[str, float], ...]
    cutoff_A: float


def solvation_shells(
    positions: Sequence[Floats],
    cells: Sequence[Floats],
    numbers: Indices,
    fragments: Indices,
    names: Sequence[str],
    charges: Floats,
    cation: str,
    *,
    cutoff_A: float = CUTOFF_A,
) -> SolvationShells:
    """Shells of the one-atom cation over replicas `(n_frames, n_atoms, 3)` Å; `names` and `charges` e are of molecules.

    Means and errors are those of `mean_of_series`; the commonest shells are counted over all frames. Raises
    `ValueError` where `cation` is not among the molecules or has more than one atom, positions are not finite, or
    a molecule has no atoms.
    """
    check_positive(cutoff_A=cutoff_A)
    check_finite("positions", positions)
    check_fragments(fragments, len(numbers), len(names))
    kinds = np.array(names)
    centres = np.flatnonzero(kinds[fragments] == cation)
    if not len(centres) or len(centres) != (kinds == cation).sum():
        raise ValueError(f"{cation}: not a molecule of one atom in this box")
    donors = np.flatnonzero(np.isin(numbers, DONORS) & (kinds[fragments] != cation))
    touching = [
        np.stack(
            [_touching(f, c, centres, donors, fragments, len(names), cutoff_A) for f, c in zip(p, cs, strict=True)]
        )
        for p, cs in zip(positions, cells, strict=True)
    ]
    binding = np.isin(np.arange(len(names)), fragments[donors])
    species = list(dict.fromkeys(kinds[binding].tolist()))
    number = {k: mean_of_series([t[:, :, kinds == k].sum(axis=2).mean(axis=1) for t in touching]) for k in species}
    shares: list[Mean] = []
    anions = binding & (charges < 0)
    if anions.any():
        paired = [_paired(t[:, :, anions]) for t in touching]
        shares = means_of_series([(p[:, :, None] == np.arange(len(SPECIES))).mean(axis=1) for p in paired])
    return SolvationShells(
        {name: m.estimate for name, m in zip(SPECIES, shares, strict=False)},
        {name: m.estimate for name, m in number.items()},
        _commonest(np.concatenate(touching), kinds, species),
        cutoff_A,
    )


def _touching(
    frame: Floats, cell: Floats, centres: Indices, donors: Indices, fragments: Indices, n: int, cutoff_A: float
) -> NDArray[np.bool_]:
    """`(n_cations, n_molecules)`: which molecules are in which shell."""
    near = distances(frame, cell, centres, donors) < cutoff_A
    touching = np.zeros((len(centres), n), bool)
    i, j = np.nonzero(near)
    touching[i, fragments[donors[j]]] = True
    return touching


def _paired(anions: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Species `(n_frames, n_cations)` as indices of SPECIES from contacts `(n_frames, n_cations, n_anions)`."""
    shared = (anions & (anions.sum(axis=1, keepdims=True) > 1)).any(axis=2)
    count = anions.sum(axis=2)
    return np.where(count == 0, 0, np.where((count == 1) & ~shared, 1, 2))


def _commonest(
    touching: NDArray[np.bool_], kinds: NDArray[np.str_], species: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    number = np.stack([touching[:, :, kinds == k].sum(axis=2) for k in species], axis=2).reshape(-1, len(species))
    found = Counter(map(tuple, number.tolist()))
    named = (
        (" ".join(f"{n} {k}" for n, k in zip(row, species, strict=True) if n) or "bare", c)
        for row, c in found.most_common(6)
    )
    return tuple((name, c / len(number)) for name, c in named)
