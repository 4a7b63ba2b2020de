"""Energies of isolated atoms at the level of the labels: what `references=isolated` takes off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlff.labels.methods import Tblite
from mlff.units import KCAL_PER_EV


def write_isolated(symbols: Sequence[str], path: Path, method: Tblite | None = None) -> None:
    """One frame for each element, energies in eV, for `data.isolated`; `method` is GFN2-xTB unless given.

    Raises `NotLabelled` where the charges do not become self-consistent.
    """
    import ase.io
    from ase import Atoms
    from ase.data import atomic_numbers

    method = method or Tblite()
    words = {"config_type": "IsolatedAtom", "dispersion": method.dispersion, "method": method.title}
    images = []
    for symbol in symbols:
        energy = method.atom_energy(atomic_numbers[symbol]) / KCAL_PER_EV
        images.append(Atoms(symbol, info={**words, "total_charge": 0.0, "energy": energy}))
    ase.io.write(path, images, format="extxyz")
