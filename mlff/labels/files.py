"""Labelled frames as extended XYZ that says what it is: units, level of theory, and whether dispersion is in it.

| in the file | shape | unit |
|---|---|---|
| `energy`, `forces`, `virial` | `()`, `(n_atoms, 3)`, `(3, 3)` | eV, eV/Å, eV |
| `charges`, `dipole` | `(n_atoms,)`, `(3,)` | e, e Å |
| `total_charge`, `fragments`, `fragment_charges` | `()`, `(n_atoms,)`, `(n_fragments,)` | e |
| `composition`, `method`, `dispersion` | words | `dispersion=included` or `none` |

`data=labelled data.train=<file>` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlff.datasets import Dispersion
from mlff.labelled import LabelledFrame
from mlff.units import DEBYE_EA, KCAL_PER_EV


def write_extxyz(
    frames: Sequence[LabelledFrame],
    path: Path,
    *,
    dispersion: Dispersion,
    method: str = "",
    notes: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the frames, complete or not at all; `notes` are further entries of each frame (numbers or words)."""
    import ase.io

    words = {"dispersion": dispersion} | ({"method": method} if method else {})
    more = notes or [{}] * len(frames)
    images = [_atoms(frame, words | dict(note)) for frame, note in zip(frames, more, strict=True)]
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    # no frames are an empty file: ASE would refuse
    if images:
        ase.io.write(unfinished, images, format="extxyz")
    else:
        unfinished.write_text("", encoding="utf-8")
    unfinished.replace(path)


def _atoms(frame: LabelledFrame, notes: dict[str, Any]) -> Any:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    c = frame.configuration
    atoms = Atoms(c.numbers, c.positions, cell=c.cell, pbc=c.pbc)
    atoms.info = {"composition": frame.composition, "total_charge": c.total_charge, **notes}
    if c.fragments is not None and c.fragment_charges is not None:
        atoms.arrays["fragments"] = c.fragments
        atoms.info["fragment_charges"] = np.atleast_1d(c.fragment_charges)
    if frame.virial is not None:
        atoms.info["virial"] = frame.virial / KCAL_PER_EV
    found = {
        "energy": None if frame.energy is None else frame.energy / KCAL_PER_EV,
        "forces": None if frame.forces is None else frame.forces / KCAL_PER_EV,
        "charges": frame.charges,
        "dipole": None if frame.dipole is None else frame.dipole * DEBYE_EA,
    }
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in found.items() if value is not None})
    return atoms
