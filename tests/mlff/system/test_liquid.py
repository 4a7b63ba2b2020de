"""Boxes packed from a composition, and a user's own: neutral, whole, reproducible, refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atom, Atoms, units
from ase.geometry import get_distances
from ase.io import write
from ase.io.lammpsdata import write_lammps_data
from pydantic import ValidationError

from mlff.system.box import Box
from mlff.system.box_files import _contacts, read_box
from mlff.system.liquid import System, box_from_file, pack
from mlff.system.molecules import find_molecule

SMALL: dict[str, Any] = {"solvents": ["DMC", "EC"], "solvent_amounts": [6.0, 6.0], "solvent_unit": "count"}
SALT: dict[str, Any] = {"salts": ["LiPF6"], "salt_amounts": [1.0], "salt_unit": "count"}
SPECIES = "6 DMC, 6 EC, 1 Li, 1 PF6"


@pytest.fixture(scope="module")
def box() -> Box:
    return pack(System(name="small", **SMALL, **SALT, density_g_cm3=1.0), seed=0)


def test_a_packed_box_is_neutral_whole_and_at_its_density(box: Box) -> None:
    atoms = box.atoms
    assert box.composition == SPECIES and box.charges == {"Li": 1.0, "PF6": -1.0}
    assert box.density_g_cm3 == pytest.approx(1.0) and atoms.info["charge"] == 0
    assert atoms.info["fragment_charges"].sum() == 0 and len(box.names) == 14
    assert np.array_equal(np.unique(atoms.arrays["fragments"]), np.arange(14))
    # no two molecules touch, images included
    distance = get_distances(atoms.positions, cell=atoms.cell, pbc=True)[1]
    strangers = atoms.arrays["fragments"][:, None] != atoms.arrays["fragments"][None, :]
    assert distance[strangers].min() > 1.5


def test_packing_depends_on_the_seed_and_on_nothing_else(box: Box) -> None:
    system = System(name="small", **SMALL, **SALT, density_g_cm3=1.0)
    np.testing.assert_array_equal(pack(system, 0).atoms.positions, box.atoms.positions)
    assert not np.allclose(pack(system, 1).atoms.positions, box.atoms.positions)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "nothing to simulate"),
        ({"solvents": ["EC"], "solvent_amounts": []}, "1 solvents and 0 solvent_amounts"),
        ({"solvents": ["EC", "EC"], "solvent_amounts": [1.0, 2.0]}, "solvents name EC twice"),
        ({"solvents": ["EC"], "solvent_amounts": [1.5], "solvent_unit": "count"}, "must be whole numbers"),
    ],
)
def test_incomplete_systems_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        System(name="x", **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"solvents": ["DECC"], "solvent_amounts": [1.0]}, "DECC: no such molecule; did you mean DEC"),
        ({"solvents": ["Li"], "solvent_amounts": [9.0], "solvent_unit": "count"}, r"the box carries \+9 e \(9 Li\)"),
        ({"solvents": ["EC"], "solvent_amounts": [1.0], "n_atoms": 20}, "Å wide, at least 10 Å are needed"),
        (
            {"solvents": ["DMC"], "solvent_amounts": [1.0], "density_g_cm3": 3.0},
            r"volumes of the molecules would fill 169 % of the box; .* at most 90 % are packed, here 1\.60 g/cm3",
        ),
    ],
)
def test_boxes_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pack(System(name="x", **settings), seed=0)


def test_molecules_that_packmol_cannot_place_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlff.system.packing.TOLERANCES_A", (9.0,))
    monkeypatch.setattr("mlff.system.packing.TIMEOUT_S", (0.5, 0.0, 2.0))
    with pytest.raises(ValueError, match=r"packmol cannot place the molecules at 1\.3 g/cm3"):
        pack(System(name="x", solvents=["EC"], solvent_amounts=[1.0], density_g_cm3=1.3), seed=0)


@pytest.mark.parametrize("name", ["box.pdb", "box.extxyz", "box.gro", "box.data", "bonded.data"])
def test_a_wrapped_box_of_any_format_gives_the_same_molecules(box: Box, name: str, tmp_path: Path) -> None:
    atoms, path = box.atoms.copy(), tmp_path / name
    if name == "bonded.data":
        around: dict[int, list[str]] = {}
        for i, j in _contacts(atoms):
            around.setdefault(int(i), []).append(f"{j}(1)")
        atoms.arrays["bonds"] = np.array([",".join(around.get(i, ["_"])) for i in range(len(atoms))])
    atoms.wrap()
    del atoms.arrays["fragments"]
    atoms.info = {}
    if path.suffix == ".data":
        bonds = "bonds" in atoms.arrays
        write_lammps_data(path, atoms, atom_style="full", masses=True, units="real", bonds=bonds)
    else:
        write(path, atoms, format={".gro": "gromacs", ".pdb": "proteindatabank"}.get(path.suffix, "extxyz"))
    found = box_from_file(str(path))
    assert found.composition == SPECIES and found.charges == box.charges
    np.testing.assert_allclose(found.atoms.cell.lengths(), box.atoms.cell.lengths(), atol=0.01)
    for fragment in range(14):
        inside = found.atoms.positions[found.atoms.arrays["fragments"] == fragment]
        assert np.ptp(inside, axis=0).max() < 8.0, "a molecule is cut by the boundary"


def test_two_molecules_of_one_name_are_refused(tmp_path: Path) -> None:
    from ase import Atoms

    paths = [tmp_path / folder / "mol.xyz" for folder in ("a", "b", "c")]
    for path, charge in zip(paths, (0, 0, 1), strict=True):
        path.parent.mkdir()
        atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])
        atoms.info["charge"] = charge
        write(path, atoms, format="extxyz")
    amounts = {"solvent_amounts": [9.0, 9.0], "solvent_unit": "count"}
    twice = System(name="x", solvents=[str(p) for p in paths[:2]], **amounts)
    assert sum(twice.counts().values()) == 18
    other = System(name="x", solvents=[str(paths[0]), str(paths[2])], **amounts)
    with pytest.raises(ValueError, match=r"a/mol.xyz and .*c/mol.xyz are different molecules, both called mol"):
        other.counts()


def test_a_file_of_another_liquid_does_not_pass_for_a_composition(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "own.extxyz"
    write(path, box.atoms, format="extxyz")
    same = System(name="mine", **SMALL, **SALT, file=str(path))
    assert pack(same, 0).composition == SPECIES
    # the same composition, named otherwise and for another size of box
    mole = {"solvents": ["DMC", "EC"], "solvent_amounts": [1.0, 1.0], "solvent_unit": "mole"}
    salt = {"salts": ["LiPF6"], "salt_amounts": [0.077], "salt_unit": "mole_fraction"}
    assert pack(System(name="mine", **mole, **salt, n_atoms=500, file=str(path)), 0).composition == SPECIES
    for other in (mole, {"solvents": ["DMC"], "solvent_amounts": [1.0]}, mole | salt | {"salt_amounts": [0.3]}):
        with pytest.raises(ValueError, match=rf"holds {SPECIES}, which is not the composition of dmc; .* system=box"):
            pack(System(name="dmc", **other, file=str(path)), 0)


def test_gromacs_velocities_stay_where_ase_takes_lithium_for_iodine(tmp_path: Path) -> None:
    rows = [f"{k:5d}{name:<5s}{name:>5s}{k:5d}{0.4 * k:8.3f}{0.1:8.3f}{0.1:8.3f}{0.5:8.4f}{0.0:8.4f}{-0.25:8.4f}"
            for k, name in enumerate(("LI", "CL"), start=1)]  # fmt: skip
    path = tmp_path / "moving.gro"
    path.write_text("\n".join(["moving", f"{len(rows):5d}", *rows, "   2.0 2.0 2.0", ""]))
    found = read_box(path, ["Li=1", "Cl=-1"]).atoms
    assert list(found.symbols) == ["Li", "Cl"]
    in_A_ps = found.get_velocities() * 1000 * units.fs
    np.testing.assert_allclose(in_A_ps, [[5.0, 0.0, -2.5]] * 2, rtol=1e-6)


def test_gromacs_names_are_elements_by_residue(tmp_path: Path) -> None:
    atoms = [("EC", "CA", 1), ("EC", "OS1", 1), ("EC", "os", 1), ("EC", "1HA'", 1), ("LI", "LI", 2), ("CL", "CL", 3)]
    rows = [f"{r:5d}{res:<5s}{n:>5s}{i:5d}{0.4 * i:8.3f}{0.1:8.3f}{0.1:8.3f}" for i, (res, n, r) in enumerate(atoms)]
    path = tmp_path / "names.gro"
    path.write_text("\n".join(["names", f"{len(rows):5d}", *rows, "   3.0 3.0 3.0", ""]))
    assert list(read_box(path, ["Li=1", "Cl=-1"]).atoms.symbols) == ["C", "O", "O", "H", "Li", "Cl"]


def test_a_molecule_is_told_by_its_bonds_and_not_by_its_formula(tmp_path: Path) -> None:
    made = {"C1COCCO1": "C4H8O2", "EA": "EA", "GBL": "GBL", "CC(=O)C(C)=O": "C4H6O2", "BF4": "BF4"}
    for k, (name, called) in enumerate(made.items()):
        atoms = find_molecule(name)
        box = Atoms(atoms.numbers, atoms.positions, cell=[15] * 3, pbc=True)
        box.append(Atom("Li", [7.5, 7.5, 7.5]))
        write(tmp_path / f"{k}.extxyz", box)
        charges = ["Li=0"] if called != "BF4" else []
        assert read_box(tmp_path / f"{k}.extxyz", charges).names == (called, "Li")


@pytest.mark.parametrize(
    ("name", "species", "said"),
    [
        ("none.pdb", [], "no such file"),
        ("box.cfg", [], "boxes are read from .pdb"),
        ("open.xyz", [], "has no periodic cell"),
        ("broken.pdb", [], "cannot be read as proteindatabank|elements"),
        ("ion.extxyz", [], r"the box carries \+1 e \(1 Li\).*file_species=\[NAME=CHARGE\] states charges"),
        ("ion.extxyz", ["Li"], "file_species=Li: expected NAME=CHARGE"),
        ("ion.extxyz", ["Li=0", "F6P=-1"], "no F6P in .*it holds Li"),
        ("types.data", [], r"types\.data: has no Masses section"),
        ("types.gro", [], r"elements of its atoms are not known \(opls_ names none\); a PDB or an extended XYZ file"),
    ],
)
def test_own_boxes_that_cannot_be_used(tmp_path: Path, name: str, species: list[str], said: str) -> None:
    write(tmp_path / "open.xyz", Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]))
    write(tmp_path / "ion.extxyz", Atoms("Li", [[0, 0, 0]], cell=[12] * 3, pbc=True))
    write_lammps_data(tmp_path / "types.data", Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[12] * 3, pbc=True))
    (tmp_path / "types.gro").write_text("types\n    1\n    1MOL  opls_    1   0.100   0.100   0.100\n   2.0 2.0 2.0\n")
    (tmp_path / "broken.pdb").write_text("ATOM  oh\n")
    (tmp_path / "box.cfg").write_text("")
    with pytest.raises(ValueError, match=said):
        read_box(tmp_path / name, species)


def test_a_charge_that_is_stated_counts(tmp_path: Path) -> None:
    write(tmp_path / "ions.extxyz", Atoms("HeNe", [[0, 0, 0], [6, 6, 6]], cell=[12] * 3, pbc=True))
    assert read_box(tmp_path / "ions.extxyz", ["He=1", "Ne=-1"]).charges == {"He": 1.0, "Ne": -1.0}
