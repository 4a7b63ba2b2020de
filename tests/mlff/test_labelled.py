"""Labels from extended XYZ files: names, units, isolated atoms, fragments, and what is wrong with a file."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlff.labelled import LabelKeys, LabelledFrame, LabelUnits, Source, all_labels, read_extxyz
from mlff.units import DEBYE_EA, KCAL_PER_EV
from tests.mlff.label_sets import without

ATOM = '1\nProperties=species:S:1:pos:R:3 my_energy=-13.6 pbc="F F F"\nH 0.0 0.0 0.0\n'
WATER = """3
Properties=species:S:1:pos:R:3:my_forces:R:3:q:R:1:mol:I:1 my_energy=-76.5 mu="0.1 0.0 0.2" pbc="F F F"
O 0.0 0.0 0.0 0.5 0.0 0.0 -0.6 0
H 0.96 0.0 0.0 -0.3 0.0 0.0 0.3 0
H -0.24 0.93 0.0 -0.2 0.0 0.0 0.3 0
"""
BOX = """1
Lattice="4.0 0.0 0.0 0.0 5.0 0.0 0.0 0.0 6.0" Properties=species:S:1:pos:R:3 e=1.0 s="1 4 5 4 2 6 5 6 3" pbc="T T T"
H 0.0 0.0 0.0
"""
KEYS = LabelKeys(energy=["absent", "my_energy"], forces="my_forces", charges="q", dipole="mu", fragments="mol")


def read(tmp_path: Path, text: str, keys: LabelKeys = KEYS, units: LabelUnits | None = None, **more):
    path = tmp_path / "frames.xyz"
    path.write_text(text)
    return read_extxyz(path, Source(keys, units or LabelUnits(), **more))


def test_labels_come_under_the_names_and_units_of_the_file(tmp_path: Path) -> None:
    (frame,), isolated = read(tmp_path, ATOM + WATER)
    assert isolated == {1: pytest.approx(-13.6 * KCAL_PER_EV)}
    assert frame.labels == ("energy", "forces", "charges", "dipole")
    assert frame.energy == pytest.approx(-76.5 * KCAL_PER_EV)
    assert frame.forces[1].tolist() == pytest.approx([-0.3 * KCAL_PER_EV, 0, 0])
    assert frame.dipole.tolist() == pytest.approx([0.1 / DEBYE_EA, 0, 0.2 / DEBYE_EA])
    assert frame.configuration.fragment_charges.tolist() == [0.0]
    assert (frame.composition, frame.name) == ("H2O", "frames.xyz[1]")
    (other,), _ = read(tmp_path, WATER, units=LabelUnits(energy="kcal/mol", dipole="Debye"))
    assert (other.energy, other.dipole[0]) == (-76.5, 0.1)


def test_a_compressed_file_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames.xyz.gz"
    path.write_bytes(gzip.compress((WATER * 5).encode()))

    def refuse(self: gzip.GzipFile, *_: int) -> int:
        raise AssertionError("jumps in a compressed file: reading grows with the square of the frames")

    monkeypatch.setattr(gzip.GzipFile, "seek", refuse)
    frames, _ = read_extxyz(path, Source(KEYS))
    assert [frame.energy for frame in frames] == [pytest.approx(-76.5 * KCAL_PER_EV)] * 5


def test_a_stress_becomes_a_virial(tmp_path: Path) -> None:
    keys = LabelKeys(energy="e", forces=None, stress="s")
    (frame,), _ = read(tmp_path, BOX, keys, LabelUnits(energy="kcal/mol"))
    np.testing.assert_allclose(frame.virial, -120.0 * np.array([[1, 4, 5], [4, 2, 6], [5, 6, 3]]))
    assert keys.listed == ("energy", "virial")


def test_a_missing_label_is_told_with_the_keys_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"frames.xyz\[0\]: no 'force' for forces \(keys present: mol, mu, my_energy"):
        read(tmp_path, WATER, LabelKeys(energy="my_energy", forces="force"))
    (frame,), _ = read(tmp_path, WATER, LabelKeys(energy="my_energy", forces="force"), optional=frozenset({"forces"}))
    assert frame.labels == ("energy",)


def test_fragments_of_an_ion_take_their_charges_from_the_charge_labels(tmp_path: Path) -> None:
    ion = WATER.replace("-0.6 0", "0.4 0").replace('pbc="F', 'total_charge=1 pbc="F')
    (frame,), _ = read(tmp_path, ion)
    assert frame.configuration.fragment_charges.tolist() == [1.0]
    with pytest.raises(
        ValueError, match=r"frames.xyz\[0\]: fragments of a frame with total_charge=1 need charge labels"
    ):
        read(tmp_path, ion, LabelKeys(energy="my_energy", forces="my_forces", fragments="mol"))


def test_a_file_that_is_no_extended_xyz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a readable extended XYZ file"):
        read(tmp_path, "three\natoms\n")


def test_mixed_label_sets_are_refused(tmp_path: Path) -> None:
    (frame,), _ = read(tmp_path, WATER)
    with pytest.raises(ValueError, match=r"mixed label sets: .* only one has charges"):
        all_labels([frame, without(frame, "charges")])


def test_labels_of_the_wrong_shape_or_not_finite_are_refused(tmp_path: Path) -> None:
    (frame,), _ = read(tmp_path, WATER)
    with pytest.raises(ValueError, match=r"x: forces of shape \(2, 3\), expected \(3, 3\)"):
        LabelledFrame(frame.configuration, forces=np.zeros((2, 3)), name="x")
    with pytest.raises(ValueError, match="x: energy is not finite"):
        LabelledFrame(frame.configuration, energy=float("nan"), name="x")


CHARGED = WATER.replace("-0.6 0", "0.4 0")
LI = '1\nProperties=species:S:1:pos:R:3 my_energy=-5.0 {}pbc="F F F"\nLi 0.0 0.0 0.0\n'


@pytest.mark.parametrize(
    ("label", "key"),
    [("total_charge", "netq"), ("fragments", ["molid", "mols"]), ("fragment_charges", "fq"), ("composition", "comp")],
)
def test_a_key_that_was_named_and_that_no_frame_has_is_told_with_those_present(
    tmp_path: Path, label: str, key: str | list[str]
) -> None:
    names = {"energy": "my_energy", "forces": "my_forces", "charges": "q", "fragments": "mol"}
    wanted = " or ".join(map(repr, [key] if isinstance(key, str) else key))
    with pytest.raises(ValueError, match=rf"no frame has {wanted} for {label} \(keys present: charge, mol, mu, "):
        read(tmp_path, WATER.replace('pbc="F', 'charge=0 pbc="F'), LabelKeys(**(names | {label: key})))
    # the label's own name stands in configurations for what may be missing; a file of atoms alone has nothing to group
    own = [key, label] if isinstance(key, str) else [*key, label]
    assert len(read(tmp_path, WATER, LabelKeys(**(names | {label: own})))[0]) == 1
    assert read(tmp_path, ATOM, LabelKeys(**(names | {label: key})))[0] == []


def test_a_charge_counts_under_either_name_and_is_refused_where_both_differ(tmp_path: Path) -> None:
    for head in ("charge=1", "total_charge=1", "charge=1 total_charge=1.0"):
        (frame,), _ = read(tmp_path, CHARGED.replace('pbc="F', f'{head} pbc="F'))
        assert frame.configuration.total_charge == 1.0
    with pytest.raises(ValueError, match=r"frames.xyz\[0\]: charge is 1 e, total_charge is 0 e: give one of them"):
        read(tmp_path, CHARGED.replace('pbc="F', 'charge=1 total_charge=0 pbc="F'))
    with pytest.raises(ValueError, match=r"frames.xyz\[0\]: charge is 'one': it must be a number"):
        read(tmp_path, WATER.replace('pbc="F', 'charge=one pbc="F'))
    (frame,), _ = read(tmp_path, WATER.replace('pbc="F', 'charge=1 pbc="F'), replace(KEYS, total_charge=None))
    assert frame.configuration.total_charge == 0.0


@pytest.mark.parametrize("head", ["charge=1 ", "total_charge=1 "])
def test_a_charged_atom_alone_is_a_frame_and_no_reference(tmp_path: Path, head: str) -> None:
    keys = LabelKeys(energy="my_energy", forces=None)
    frames, isolated = read(tmp_path, LI.format(head) + ATOM, keys)
    assert list(isolated) == [1] and [f.configuration.total_charge for f in frames] == [1.0]
