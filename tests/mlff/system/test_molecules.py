"""Molecules by name, SMILES and file: formulas, charges, geometries, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlff.system import geometry
from mlff.system.molecules import ALIASES, ANIONS, CATIONS, IONS, SOLVENTS, find_molecule, split_salt

FORMULAS = {
    "DMC": "C3H6O3",
    "EMC": "C4H8O3",
    "DEC": "C5H10O3",
    "EC": "C3H4O3",
    "PC": "C4H6O3",
    "FEC": "C3H3FO3",
    "VC": "C3H2O3",
    "EA": "C4H8O2",
    "MA": "C3H6O2",
    "ACT": "C3H6O",
    "Novec7000": "C4H3F7O",
    "PF6": "F6P",
    "FSI": "F2NO4S2",
    "TFSI": "C2F6NO4S2",
    "BF4": "BF4",
    "Li": "Li",
}


@pytest.mark.parametrize("name", [*SOLVENTS, *IONS])
def test_every_known_species_has_a_sound_geometry_and_its_charge(name: str) -> None:
    m = find_molecule(name)
    assert m.charge == (1 if name in CATIONS else -1 if name in ANIONS else 0)
    assert Atoms(m.numbers).get_chemical_formula("hill") == FORMULAS.get(
        name, Atoms(m.numbers).get_chemical_formula("hill")
    )
    np.testing.assert_allclose(m.positions.mean(axis=0), 0, atol=1e-9)
    assert geometry.n_pieces(m.numbers, m.positions) == 1
    geometry.check(m.numbers, m.positions, name)


def test_hexafluorophosphate_is_the_octahedron_that_rdkit_misses() -> None:
    m = find_molecule("PF6-")
    centre = m.numbers == 15
    bonds = m.positions[~centre] - m.positions[centre]
    np.testing.assert_allclose(np.linalg.norm(bonds, axis=1), 1.629)
    angles = np.sort((bonds @ bonds.T / 1.629**2)[np.triu_indices(6, 1)])
    np.testing.assert_allclose(angles, [-1] * 3 + [0] * 12, atol=1e-12)


def test_unequal_bonds_of_one_kind_are_refused_as_rdkit_makes_them() -> None:
    m = find_molecule("PF6")
    stretched = m.positions.copy()
    stretched[0] *= 1.726 / 1.629  # what RDKit's relaxation by UFF has given
    bonds = {(0, 1), *((1, k) for k in range(2, 7))}
    geometry.check(m.numbers, m.positions, "PF6", bonds)
    with pytest.raises(ValueError, match=r"PF6: bonds P-F of 1\.63 to 1\.73 Å; not sound"):
        geometry.check(m.numbers, stretched, "PF6", bonds)


def test_overlapping_and_stretched_atoms_are_named() -> None:
    numbers, straight = np.array([6, 8]), np.array([[0.0, 0, 0], [0, 0, 1.2]])
    geometry.check(numbers, straight, "CO", {(0, 1)})
    with pytest.raises(ValueError, match=r"CO: bond C0-O1 of 3\.60 Å"):
        geometry.check(numbers, 3 * straight, "CO", {(0, 1)})
    with pytest.raises(ValueError, match=r"CO: contact C0-O1 of 1\.20 Å"):
        geometry.check(numbers, straight, "CO", set())


def test_a_molecule_is_the_same_at_every_call() -> None:
    first = geometry.of_smiles(SOLVENTS["EMC"], "EMC")
    second = geometry.of_smiles(SOLVENTS["EMC"], "EMC")
    np.testing.assert_array_equal(first[1], second[1])


def test_smiles_and_files_are_molecules_too(tmp_path: Path) -> None:
    thf = find_molecule("C1CCOC1")
    assert (len(thf.numbers), thf.charge, thf.mass_u) == (13, 0, pytest.approx(72.107))
    assert find_molecule("[Cl-]").charge == -1
    path = tmp_path / "water.xyz"
    write(path, Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]))
    assert find_molecule(str(path)).name == "water"
    write(path.with_name("two.xyz"), Atoms("OH2He", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0], [9, 9, 9]]))
    with pytest.raises(ValueError, match="are not one molecule"):
        find_molecule(str(path.with_name("two.xyz")))
    with pytest.raises(ValueError, match="no such file"):
        find_molecule(str(tmp_path / "none.xyz"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("DMCC", "DMCC: no such molecule; did you mean DMC?"),
        ("emc", "did you mean EMC?"),
        ("water!", "water!: no such molecule"),
        ("C1CC", "nor a SMILES"),
        ("CC.CC", "several molecules in one SMILES"),
    ],
)
def test_unknown_molecules_are_told_with_the_nearest_name(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        find_molecule(name)


def test_salts_split_into_neutral_sums_of_ions() -> None:
    assert split_salt("LiPF6") == {"Li": 1, "PF6": 1}
    assert split_salt("[Mg+2].TFSI.TFSI") == {"[Mg+2]": 1, "TFSI": 2}
    with pytest.raises(ValueError, match=r"LiPF: no such salt; did you mean LiPF6\?"):
        split_salt("LiPF")
    with pytest.raises(ValueError, match=r"Li\.TFSI\.TFSI: the ions of a salt carry -1 e together"):
        split_salt("Li.TFSI.TFSI")


def test_an_ion_of_a_salt_may_be_a_file_whose_dots_part_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v1.2").mkdir()
    anion = find_molecule("FSI")
    for name in ("fsi.xyz", "v1.2/fsi.xyz"):
        write(tmp_path / name, Atoms(anion.numbers, anion.positions, info={"charge": -1}), format="extxyz")
        assert split_salt(f"[Li+].{name}") == {"[Li+]": 1, name: 1}
    assert split_salt("[Mg+2].fsi.xyz.fsi.xyz") == {"[Mg+2]": 1, "fsi.xyz": 2}
    with pytest.raises(ValueError, match=r"other\.xyz: no such file of a molecule"):
        split_salt("Li.other.xyz")


def test_aliases_lead_to_known_species() -> None:
    assert {ALIASES[a] for a in ALIASES} <= {*SOLVENTS, *IONS}
    assert find_molecule("acetone").name == "ACT"


MOL = """
  made

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  0
    0.0000    0.0000    0.9600 H   0  0
  1  2  1  0
M  CHG  1   1  -1
M  END
"""
PDB = "HETATM    1  O1  UNL     1       0.000   0.000   0.000  1.00  0.00           O1-\n"
PDB += "HETATM    2  H1  UNL     1       0.000   0.000   0.960  1.00  0.00           H  \nEND\n"
XYZ = '2\nProperties=species:S:1:pos:R:3 {} pbc="F F F"\nO 0 0 0\nH 0 0 0.96\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("oh.mol", MOL),
        ("oh.sdf", f"{MOL}$$$$\n"),
        ("oh.pdb", PDB),
        ("oh.xyz", XYZ.format("charge=-1")),
        ("oh.extxyz", XYZ.format("total_charge=-1")),
    ],
)
def test_the_charge_that_a_file_states_is_that_of_its_molecule(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert find_molecule(str(tmp_path / name)).charge == -1


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("charge=-0.5", "a charge of -0.5 e: a molecule carries a whole"),
        ("charge=1 total_charge=-1", "give one of them"),
    ],
)
def test_charges_of_a_file_that_cannot_be_are_refused(tmp_path: Path, head: str, said: str) -> None:
    (tmp_path / "oh.xyz").write_text(XYZ.format(head))
    with pytest.raises(ValueError, match=rf"oh.xyz: .*{said}"):
        find_molecule(str(tmp_path / "oh.xyz"))
