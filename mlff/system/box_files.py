"""A user's own box: PDB, extended xyz, GROMACS .gro and LAMMPS data files, with the molecules found in it.

Molecules are what bonds connect: those of a LAMMPS data file, else contacts shorter than a bond may be. Their charges
are those of the ions and solvents that are known by their bonds; any other species has its formula for a name, and is
neutral unless `species` says more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff.system.box import Box
from mlff.system.geometry import BOND_LIMITS, METALS
from mlff.system.species import bond_graphs, known_graphs

FORMATS = {
    ".pdb": "proteindatabank",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".gro": "gromacs",
    ".data": "lammps-data",
    ".lmp": "lammps-data",
    ".lammps": "lammps-data",
}
"""File endings and what ASE calls them."""
NAME_OF_ATOM = re.compile(r"[0-9]*[A-Za-z]{1,3}[0-9A-Z]*['*+-]*")
"""Such as `CA`, `OS1`, `1H5'`, `C1A`: one that begins with a symbol."""


def read_box(path: str | Path, species: Sequence[str] = ()) -> Box:
    """The last frame of a file as a box of molecules.

    `species` are `NAME=CHARGE` with the Hill formula of a species, such as `F6P=-1`. Raises `ValueError` that says
    what is missing: cell, elements, neutrality.
    """
    path = Path(path).expanduser()
    charges = _stated(species)
    atoms = _read(path)
    if not atoms.pbc.all() or abs(np.linalg.det(atoms.cell.array)) < 1e-6:
        raise ValueError(f"{path}: has no periodic cell")
    return identify(_without_extras(atoms), charges, _bonds(atoms), str(path))


def identify(atoms: Atoms, charges: Mapping[str, float], bonds: NDArray[np.int64] | None, where: str) -> Box:
    """Molecules of a periodic box from its bonds `(n, 2)`, or from contacts; whole, and one after the other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = _contacts(atoms) if bonds is None else bonds
    n = len(atoms)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    n_fragments, member = connected_components(graph, directed=False)
    order = np.argsort(member, kind="stable")
    atoms, member = atoms[order], member[order]
    rank = np.argsort(order)
    atoms.positions = _made_whole(atoms, rank[pairs], member)
    formulas = [Atoms(atoms.numbers[member == f]).get_chemical_formula("hill") for f in range(n_fragments)]
    known = known_graphs()
    graphs = bond_graphs(atoms.numbers, rank[pairs], member)
    species = [known.get(graph, (formula, 0.0)) for graph, formula in zip(graphs, formulas, strict=True)]
    names = tuple(name for name, _ in species)
    if unused := set(charges) - set(formulas) - set(names):
        raise ValueError(f"file_species: no {min(unused)} in {where}; it holds {', '.join(sorted(set(names)))}")
    found = [charges.get(f, charges.get(name, charge)) for f, (name, charge) in zip(formulas, species, strict=True)]
    atoms.arrays["fragments"] = member.astype(np.int64)
    atoms.info["fragment_charges"] = np.array(found)
    atoms.info["charge"] = float(np.sum(found))
    try:
        return Box(atoms, names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}; file_species=[NAME=CHARGE] states charges") from None


def _stated(species: Sequence[str]) -> dict[str, float]:
    charges = {}
    for text in species:
        name, equals, value = text.rpartition("=")
        try:
            charges[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise ValueError(f"file_species={text}: expected NAME=CHARGE, such as F6P=-1")
    return charges


def _read(path: Path) -> Atoms:
    from ase.io import read

    if not path.exists():
        raise ValueError(f"{path}: no such file")
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"{path}: boxes are read from {', '.join(FORMATS)}")
    options: dict[str, Any] = {"units": "real"} if form == "lammps-data" else {"index": -1}
    try:
        atoms: Any = read(path, format=form, **options)
    except Exception as error:  # ASE's readers raise anything
        raise ValueError(f"{path}: cannot be read as {form} ({error or 'no frame in it'})") from None
    if form == "lammps-data" and not _has_masses(path):
        raise ValueError(f"{path}: has no Masses section, and its atom types alone do not tell the elements; add it")
    if form == "gromacs":
        _put_elements(atoms, _elements_of_names(atoms.arrays["atomtypes"], atoms.arrays["residuenumbers"]))
    if len(atoms) == 0 or (atoms.numbers < 1).any():
        strange = atoms.arrays["atomtypes"][atoms.numbers < 1] if form == "gromacs" else []
        named = f" ({strange[0]} names none)" if len(strange) else ""
        raise ValueError(
            f"{path}: the elements of its atoms are not known{named}; a PDB or an extended XYZ file states them"
        )
    found: Atoms = atoms
    return found


def _put_elements(atoms: Any, numbers: NDArray[np.int64]) -> None:
    """Replace elements and keep velocities: what ASE holds are momenta, with the masses of the elements that it read."""
    velocities = atoms.get_velocities()
    atoms.numbers[:] = numbers
    if atoms.has("momenta"):
        atoms.set_velocities(velocities)


def _has_masses(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return any(line.split()[:1] == ["Masses"] for line in lines)


def _elements_of_names(names: NDArray[Any], residues: NDArray[Any]) -> NDArray[np.int64]:
    """Atomic numbers from the names of GROMACS; 0 where none fits.

    Two letters count for halogens, for `Li` spelled so, and for atoms alone in their residue: `CA` of a molecule is
    carbon. The number of a force field's atom type, such as `opls_135`, is no name of an atom.
    """
    from ase.data import atomic_numbers

    breaks = np.flatnonzero(np.diff(residues, prepend=residues[0] - 1, append=residues[-1] + 1))
    alone = np.repeat(np.diff(breaks) == 1, np.diff(breaks))
    numbers = []
    for name, is_alone in zip(names, alone, strict=True):
        if not NAME_OF_ATOM.fullmatch(str(name)):
            numbers.append(0)
            continue
        spelled = "".join(c for c in str(name) if c.isalpha())
        letters = spelled.capitalize()
        two = letters[:2]
        said = two in ("Cl", "Br") or re.match("[A-Z][a-z]", spelled) is not None
        whole = two in atomic_numbers and (is_alone or said)
        numbers.append(atomic_numbers.get(two if whole else letters[:1], 0))
    return np.array(numbers, np.int64)


def _bonds(atoms: Atoms) -> NDArray[np.int64] | None:
    """Bonds of a LAMMPS data file in the order of its atoms; None where a file has none."""
    text = atoms.arrays.get("bonds")
    if text is None:
        return None
    pairs = [
        (i, int(part.split("(")[0])) for i, entry in enumerate(text) if entry != "_" for part in str(entry).split(",")
    ]
    return np.array(pairs, np.int64).reshape(-1, 2) if pairs else None


def _without_extras(atoms: Atoms) -> Atoms:
    """Elements, positions, cell and velocities: nothing else of a file is believed."""
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    if atoms.has("momenta") and atoms.get_momenta().any():
        plain.set_momenta(atoms.get_momenta())
    return plain


def _contacts(atoms: Atoms) -> NDArray[np.int64]:
    """Pairs `(n, 2)` that are close enough to be bonded; metal ions are bonded to nothing."""
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    radii = covalent_radii[atoms.numbers]
    i, j, distance = neighbor_list("ijd", atoms, 2 * BOND_LIMITS[1] * float(radii.max()))
    metals = np.isin(atoms.numbers, METALS)
    bonded = (i < j) & (distance < BOND_LIMITS[1] * (radii[i] + radii[j])) & ~metals[i] & ~metals[j]
    return np.stack([i[bonded], j[bonded]], axis=1).astype(np.int64)


def _made_whole(atoms: Atoms, pairs: NDArray[np.int64], member: NDArray[np.integer]) -> NDArray[np.float64]:
    """Positions with every molecule in one piece, walking its bonds from its first atom."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order

    positions = atoms.positions.copy()
    inverse = np.linalg.inv(atoms.cell.array)
    n = len(atoms)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    for first in np.unique(member, return_index=True)[1]:
        order, before = breadth_first_order(graph, first, directed=False)
        for atom in order[1:]:
            step = positions[atom] - positions[before[atom]]
            positions[atom] -= np.rint(step @ inverse) @ atoms.cell.array
    return positions
