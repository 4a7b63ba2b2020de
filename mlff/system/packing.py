"""Molecules into a cubic periodic box, by packmol (Martinez et al., J. Comput. Chem. 30, 2157 (2009))."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from numpy.typing import NDArray

from mlff.streams import generator
from mlff.system.box import Box, assemble, box_edge_A
from mlff.system.geometry import METALS
from mlff.system.molecules import Molecule

TOLERANCES_A = (2.0, 1.9, 1.8, 1.7, 1.6)
"""Least distances of atoms of different molecules that are tried, one after the other."""
TIMEOUT_S = (20.0, 0.02, 600.0)
"""Seconds that packmol may take for each of them: these, and so many for each atom, but no more than the last."""
DENSEST = 0.9
"""Share of a box that van-der-Waals volumes, as `volume_A3` reckons them, may fill: 0.5 to 0.75 in the liquids of
`conf/system`, a tenth more in the closest packed molecular crystals (Kitaigorodskii, 1973)."""
OVERLAP_A3 = 5.92
"""What a bond takes off the volumes of two atoms (Zhao, Abraham and Zissimos, J. Org. Chem. 68, 7368 (2003))."""


def packed(molecules: Mapping[str, Molecule], counts: Mapping[str, int], density_g_cm3: float, seed: int) -> Box:
    """A box at this density, the same for the same seed; raises `ValueError` if the molecules do not fit."""
    members = [molecules[name] for name, n in counts.items() for _ in range(n)]
    edge = box_edge_A(sum(m.mass_u for m in members), density_g_cm3)
    filled = sum(n * volume_A3(molecules[name]) for name, n in counts.items()) / edge**3
    if filled > DENSEST:
        most = DENSEST / filled * density_g_cm3
        raise ValueError(
            f"density_g_cm3={density_g_cm3:g}: the van-der-Waals volumes of the molecules would fill {100 * filled:.0f} % "
            f"of the box; liquids fill 50 to 75 %, and at most {100 * DENSEST:.0f} % are packed, here {most:.2f} g/cm3"
        )
    kinds = {name: molecules[name] for name, n in counts.items() if n}
    for tolerance in TOLERANCES_A:
        positions = _packmol(kinds, counts, edge, tolerance, int(generator(seed, "packing").integers(1, 2**31 - 1)))
        if positions is not None:
            return assemble(members, positions, np.diag([edge] * 3))
    raise ValueError(f"packmol cannot place the molecules at {density_g_cm3:g} g/cm3; lower system.density_g_cm3")


def volume_A3(molecule: Molecule) -> float:
    """Van-der-Waals volume of a molecule in Å^3: its atoms' spheres (Bondi), less what the bonds of a chain let overlap.

    A ring comes out a tenth too large. Metal ions, much smaller than atoms, and elements without a known radius count as
    nothing.
    """
    from ase.data.vdw import vdw_radii

    radii = np.where(np.isin(molecule.numbers, METALS), 0.0, np.nan_to_num(vdw_radii[molecule.numbers]))
    return float(max(0.0, 4 / 3 * np.pi * (radii**3).sum() - OVERLAP_A3 * (len(radii) - 1)))


def _packmol(
    kinds: Mapping[str, Molecule], counts: Mapping[str, int], edge: float, tolerance: float, seed: int
) -> NDArray[np.float64] | None:
    """Positions `(n_atoms, 3)` in Å in the order of `kinds`; None if packmol finds none at this tolerance."""
    from packmol.cli import get_binary_path

    base, each, most = TIMEOUT_S
    n_atoms = sum(len(molecule.numbers) * counts[kind] for kind, molecule in kinds.items())
    lines = [f"tolerance {tolerance}", "filetype xyz", "output packed.xyz", f"seed {seed}"]
    lines += [f"pbc {edge:.6f} {edge:.6f} {edge:.6f}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, (kind, molecule) in enumerate(kinds.items()):
            write(folder / f"{i}.xyz", _atoms(molecule), format="xyz", fmt="%18.10f")
            lines += [f"structure {i}.xyz", f"  number {counts[kind]}"]
            lines += [f"  inside box 0. 0. 0. {edge:.6f} {edge:.6f} {edge:.6f}", "end structure"]
        (folder / "packmol.inp").write_text("\n".join(lines) + "\n", encoding="utf-8")
        # packmol rewinds its input: a pipe will not do
        with (folder / "packmol.inp").open() as stdin:
            try:
                done = subprocess.run(
                    [str(get_binary_path())],
                    stdin=stdin,
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    timeout=min(base + each * n_atoms, most),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return None
        if done.returncode or "Success!" not in done.stdout:
            return None
        found: Any = read(folder / "packed.xyz")
        positions: NDArray[np.float64] = found.positions
    return positions


def _atoms(molecule: Molecule) -> Atoms:
    return Atoms(molecule.numbers, molecule.positions)
