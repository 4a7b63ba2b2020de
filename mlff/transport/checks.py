"""What every function here asks of its arguments; each check raises one `ValueError` that names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def check_positive(**values: float) -> None:
    """Numbers above zero and finite, by name."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value:g}: must be positive and finite")


def check_finite(name: str, replicas: Sequence[NDArray[np.floating]]) -> None:
    """One or more arrays with entries, none of them nan or infinite; the first axis counts samples."""
    if not len(replicas):
        raise ValueError(f"{name}: no replica")
    for k, values in enumerate(replicas):
        if not np.size(values):
            raise ValueError(f"{name}: replica {k} is empty")
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise ValueError(f"{name}: not finite in sample {bad[0][0]} of replica {k}")


def check_fragments(fragments: NDArray[np.integer], n_atoms: int, n_molecules: int) -> None:
    """`fragments` `(n_atoms,)` gives every atom one of `n_molecules`, counted from 0, and every molecule an atom."""
    found = np.unique(fragments)
    if np.shape(fragments) != (n_atoms,) or not np.array_equal(found, np.arange(n_molecules)):
        held = f"{found[0]} to {found[-1]}" if len(found) else "none"
        raise ValueError(
            f"fragments must give each of {n_atoms} atoms one of {n_molecules} molecules, 0 to {n_molecules - 1}, and "
            f"every molecule an atom; found {held}, {len(found)} molecules, for {np.size(fragments)} atoms"
        )


def check_kinds(names: Sequence[str], charges: NDArray[np.floating], masses: NDArray[np.floating]) -> None:
    """Molecules `(n_molecules,)` of one name have one charge in e and one mass in u."""
    if not len(names) == len(charges) == len(masses):
        raise ValueError(f"{len(names)} names, {len(charges)} charges and {len(masses)} masses of molecules")
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        known = first.setdefault(name, k)
        for what, unit, values in (("charge", "e", charges), ("mass", "u", masses)):
            if not math.isclose(values[k], values[known], rel_tol=1e-6, abs_tol=1e-6):
                raise ValueError(
                    f"{name}: two kinds of molecules have this name, of {what} {values[known]:g} and {values[k]:g} {unit}"
                )
