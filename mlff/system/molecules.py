"""Molecules and ions by name, SMILES or file, each with a geometry that was relaxed and checked."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOLVENTS = {
    "DMC": "COC(=O)OC",
    "EMC": "CCOC(=O)OC",
    "DEC": "CCOC(=O)OCC",
    "EC": "O=C1OCCO1",
    "PC": "CC1COC(=O)O1",
    "FEC": "O=C1OCC(F)O1",
    "VC": "O=C1OC=CO1",
    "EA": "CCOC(C)=O",
    "MA": "COC(C)=O",
    "EP": "CCOC(=O)CC",
    "ACT": "CC(C)=O",
    "AN": "CC#N",
    "DME": "COCCOC",
    "GBL": "O=C1CCCO1",
    "Novec7000": "COC(F)(F)C(F)(F)C(F)(F)F",
}
"""Solvents by the field's abbreviation, as SMILES."""

IONS = {
    "Li": "[Li+]",
    "Na": "[Na+]",
    "K": "[K+]",
    "PF6": "F[P-](F)(F)(F)(F)F",
    "BF4": "F[B-](F)(F)F",
    "FSI": "[N-](S(=O)(=O)F)S(=O)(=O)F",
    "TFSI": "[N-](S(=O)(=O)C(F)(F)F)S(=O)(=O)C(F)(F)F",
}
"""Ions by formula or abbreviation without the sign of their charge, as SMILES."""

ALIASES = {"acetone": "ACT", "methyl perfluoropropyl ether": "Novec7000", "Li+": "Li", "Na+": "Na", "K+": "K"} | {
    f"{anion}-": anion for anion in ("PF6", "BF4", "FSI", "TFSI")
}
CATIONS = ("Li", "Na", "K")
ANIONS = ("PF6", "BF4", "FSI", "TFSI")
FILES = (".xyz", ".extxyz", ".pdb", ".mol", ".sdf", ".gro", ".cif")


@dataclass(frozen=True, eq=False)
class Molecule:
    """One species: `numbers` `(n,)` int64, `positions` `(n, 3)` Å around the origin, `charge` in e."""

    name: str
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    charge: int = 0
    smiles: str | None = None

    @property
    def mass_u(self) -> float:
        """Mass in u, which is the molar mass in g/mol."""
        from ase.data import atomic_masses

        return float(atomic_masses[self.numbers].sum())

    def same_as(self, other: Molecule) -> bool:
        """Whether both have the same atoms in the same places, and the same charge."""
        return (
            self.charge == other.charge
            and np.array_equal(self.numbers, other.numbers)
            and np.allclose(self.positions, other.positions)
        )


@cache
def find_molecule(name: str) -> Molecule:
    """A molecule by its name in the tables, a SMILES, or the file that holds it.

    Raises `ValueError` that gives the nearest names, or says what is wrong with the SMILES or the geometry.
    """
    from mlff.system import geometry

    known = SOLVENTS | IONS
    short = ALIASES.get(name, name)
    if short in known:
        numbers, positions, charge = geometry.of_smiles(known[short], short)
        return Molecule(short, numbers, positions, charge, known[short])
    if Path(name).suffix.lower() in FILES:
        return _from_file(Path(name).expanduser())
    if not _could_be_smiles(name):
        raise ValueError(f"{name}: no such molecule{nearest_molecules(name)}, nor a SMILES")
    try:
        numbers, positions, charge = geometry.of_smiles(name, name)
    except geometry.NotSmiles as error:
        raise ValueError(f"{name}: no such molecule{nearest_molecules(name)}, nor a SMILES ({error})") from None
    return Molecule(name, numbers, positions, charge, name)


def split_salt(name: str) -> dict[str, int]:
    """Ions of one formula unit: `{"Li": 1, "PF6": 1}` of `LiPF6`.

    Ions may also be joined by dots, as names, SMILES or files: `[Li+].[Cl-]`, `Li.anion.xyz`. Raises `ValueError` that
    gives the nearest.
    """
    salts = {f"{cation}{anion}": {cation: 1, anion: 1} for cation in CATIONS for anion in ANIONS}
    if name in salts:
        return salts[name]
    if "." in name:
        parts: dict[str, int] = {}
        for part in _split_at_dots(name):
            parts[part] = parts.get(part, 0) + 1
        if charge := sum(n * find_molecule(part).charge for part, n in parts.items()):
            raise ValueError(f"{name}: the ions of a salt carry {charge:+d} e together, expected 0")
        return parts
    raise ValueError(f"{name}: no such salt{_nearest(name, salts)}; two ions may be joined by a dot")


def _split_at_dots(name: str) -> list[str]:
    """Ions of `Li.anion.xyz`: the dots inside the name of a file that is there, or before its ending, part nothing."""
    words, parts, first = name.split("."), [], 0
    while first < len(words):
        ends = [end for end in range(first + 2, len(words) + 1) if f".{words[end - 1].lower()}" in FILES]
        files = [end for end in ends if Path(".".join(words[first:end])).expanduser().is_file()]
        end = files[-1] if files else first + 2 if first + 2 in ends else first + 1
        parts.append(".".join(words[first:end]))
        first = end
    return parts


def nearest_molecules(name: str) -> str:
    """`; did you mean x? (known: ...)` for a name that is in no table."""
    return _nearest(name, {**SOLVENTS, **IONS})


def _nearest(name: str, known: dict[str, object] | dict[str, str] | dict[str, dict[str, int]]) -> str:
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    guess = f"; did you mean {lower[close[0]]}?" if close else ""
    return f"{guess} (known: {', '.join(known)})"


def _could_be_smiles(name: str) -> bool:
    """Whether only signs of a SMILES occur; words such as `water` would else be told as broken rings."""
    return re.fullmatch(r"[A-Za-z0-9@+\-\[\]()=#$:/\\.%*]+", name) is not None


def _from_file(path: Path) -> Molecule:
    """The one molecule that a file holds; its charge as an extended xyz, MOL, SDF or PDB file states it, else 0."""
    from ase.io import read

    from mlff.system import geometry

    if not path.exists():
        raise ValueError(f"{path}: no such file of a molecule")
    try:
        atoms: Any = read(path)
    except Exception as error:  # ASE's readers raise anything
        raise ValueError(f"{path}: cannot be read ({error})") from None
    numbers, positions = atoms.numbers.astype(np.int64), atoms.positions - atoms.positions.mean(axis=0)
    geometry.check(numbers, positions, str(path))
    if geometry.n_pieces(numbers, positions) > 1:
        raise ValueError(f"{path}: its {len(numbers)} atoms are not one molecule; system.file takes whole boxes")
    return Molecule(path.stem, numbers, positions, _charge_of_file(path, atoms.info))


def _formal_charge(path: Path) -> int:
    """Sum of the formal charges of a MOL, SDF or PDB file, of which ASE takes elements and positions only."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        read = Chem.MolFromPDBFile if path.suffix.lower() == ".pdb" else Chem.MolFromMolFile
        found = read(str(path), sanitize=False, removeHs=False)
    if found is None:
        raise ValueError(f"{path}: RDKit cannot read the charges of its atoms")
    return int(Chem.GetFormalCharge(found))


def _charge_of_file(path: Path, info: dict[str, Any]) -> int:
    """Charge in e that a file of a molecule states, 0 where it is silent; raises `ValueError` for a part of one."""
    from mlff.frames import stated_charge

    if path.suffix.lower() in (".mol", ".sdf", ".pdb"):
        return _formal_charge(path)
    try:
        charge = stated_charge(info) or 0.0
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if charge != round(charge):
        raise ValueError(f"{path}: a charge of {charge:g} e: a molecule carries a whole number")
    return round(charge)
