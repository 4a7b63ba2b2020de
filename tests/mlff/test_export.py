"""Exported force fields give what the model gives, read back from the file as another program would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors.torch import save_file

import mlff
from mlff.charges import molecules
from mlff.export import authors_tensors, pair_style
from mlff.frames import Configuration
from mlff.model import ForceField, ForceFieldParameters
from mlff.neighbours import neighbour_pairs
from mlff.system.molecules import find_molecule
from tests.mlff.reference import published, reference_folder
from tests.mlff.samples import crowd, model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def lammps_inputs(c: Configuration, field: ForceField, g: float) -> dict[str, torch.Tensor]:
    """What the pair style hands over; `pos` is what it is there: not to be read."""
    inputs = {
        "atom_types": torch.from_numpy(c.numbers),
        "cell": torch.from_numpy(c.cell),
        "pos": torch.full((len(c.numbers), 3), torch.nan),
        "g_ewald": torch.tensor([g], dtype=torch.float64),
    }
    p = field.parameters_of
    cutoffs = {"": p.network.cutoff_A, "coul_": p.coulomb_cutoff_A, "disp_": p.dispersion_cutoff_A}
    for name, cutoff in cutoffs.items():
        pairs = neighbour_pairs(c.positions, c.cell, c.pbc, cutoff)
        vectors = c.positions[pairs.i] - c.positions[pairs.j] - pairs.shift.numpy() @ c.cell
        inputs[f"{name}edge_index"] = torch.stack([pairs.i, pairs.j])
        inputs[f"{name}edge_cell_shift"] = torch.from_numpy(vectors)
    return inputs


def saved(field: ForceField, folder: Path, **options: object) -> torch.jit.ScriptModule:
    pair_style(field, **options).save(folder / "field.pt")
    return torch.jit.load(folder / "field.pt")


def named(c: Configuration, charges: dict[str, float]) -> Configuration:
    """The frame with its molecules, whose charges are told by their formula in ASE's order."""
    member = molecules(c.numbers, c.positions, c.cell, c.pbc)
    formulas = [Atoms(c.numbers[member == k]).get_chemical_formula() for k in range(member.max() + 1)]
    found = np.array([charges.get(formula, 0.0) for formula in formulas])
    return replace(c, fragments=member, fragment_charges=found, total_charge=float(found.sum()))


def electrolyte(pbc: object = True) -> Configuration:
    """Li+ at an oxygen's distance from EC, PF6- across the boundary, TFSI-, and a box that atoms see themselves in."""
    ec, pf6, tfsi = (find_molecule(name) for name in ("EC", "PF6", "TFSI"))
    oxygen = ec.positions[ec.numbers == 8][0]
    parts = [ec.positions, [oxygen + 1.9 * oxygen / np.linalg.norm(oxygen)], pf6.positions + np.array([0.2, 0.1, 6.5])]
    parts += [
        pf6.positions + np.array([6.5, 6.5, 6.5]),
        tfsi.positions + np.array([0.0, 9.0, 3.0]),
        [[9.0, 2.0, 3.5]],
        [[4.5, 5.0, 0.0]],
    ]
    numbers = np.concatenate([ec.numbers, [3], pf6.numbers, pf6.numbers, tfsi.numbers, [3], [3]])
    cell = np.array([[13.0, 0.0, 0.0], [0.5, 14.0, 0.0], [0.0, -0.5, 13.0]])
    positions = np.concatenate(parts)
    if np.any(pbc):
        positions = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    order = np.random.default_rng(0).permutation(len(numbers))
    return Configuration.of(numbers[order], positions[order], cell, pbc)


KNOWN = {"Li": 1.0, "F6P": -1.0, "C2F6NO4S2": -1.0}


@pytest.mark.parametrize("pbc", [True, False])
def test_pair_style_finds_molecules_and_keeps_their_charges(pbc: bool, tmp_path: Path) -> None:
    field = model(long_range="none", forces="fixed_charges", splitting_per_A=0.55)
    c = named(electrolyte(pbc), KNOWN)
    assert sorted(c.fragment_charges) == [-1, -1, -1, 0, 1, 1, 1]
    compare(saved(field, tmp_path), field, c, 0.55)


def test_pair_style_tells_molecules_by_the_given_table(tmp_path: Path) -> None:
    field = model(long_range="none", forces="fixed_charges", splitting_per_A=0.55)
    # periodic cells smaller than the cutoff, chains of bonds, molecules that repeat, one atom alone
    for c in (
        crowd(14, pbc=True),
        crowd(40, seed=1),
        crowd(16, seed=2, pbc=True),
        Configuration.of([3], [[0.0, 0, 0]]),
    ):
        member = molecules(c.numbers, c.positions, c.cell, c.pbc)
        formulas = sorted({Atoms(c.numbers[member == k]).get_chemical_formula() for k in range(member.max() + 1)})
        table = {formula: k % 4 - 1.5 for k, formula in enumerate(formulas)}
        c = named(c, table)
        script = saved(field, tmp_path, total_charge=c.total_charge, molecule_charges=table)
        compare(script, field, c, 0.55)


def test_molecules_that_do_not_add_up_to_the_charge_of_the_box_stop_the_pair_style(tmp_path: Path) -> None:
    field = model(long_range="none")
    script = saved(field, tmp_path, molecule_charges={"Li": 1.0})
    with pytest.raises(torch.jit.Error, match="charges of the molecules in this system do not add up"):
        script(lammps_inputs(electrolyte(), field, 0.3))


def compare(script: torch.jit.ScriptModule, field: ForceField, c: Configuration, g: float) -> None:
    found, wanted = script(lammps_inputs(c, field, g)), field.predict(field.batch(c))
    assert all(t.dtype == torch.float64 and t.is_contiguous() for t in found.values())
    torch.testing.assert_close(found["pred_energy"], wanted.energy)
    torch.testing.assert_close(found["pred_forces"], wanted.forces, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(found["pred_virial"], wanted.virial[0], atol=1e-8, rtol=1e-9)
    torch.testing.assert_close(found["pred_charge"], wanted.charges)
    if "coulomb" in wanted.terms:
        torch.testing.assert_close(found["pred_coul_energy"], wanted.terms["coulomb"], atol=1e-9, rtol=1e-9)


FORMS = {
    "own": {},
    "published": {"smooth": False, "erfc": "approximate"},
    "coordination": {"dispersion": "coordination"},
    "no charges": {"charges": False},
    "no dispersion": {"dispersion": "none"},
    "Coulomb further than the network": {"coulomb_cutoff_A": 6.5},
}


@pytest.mark.parametrize("form", FORMS)
def test_pair_style_gives_what_the_model_gives_beside_an_external_solver(form: str, tmp_path: Path) -> None:
    g = 0.55
    field = model(long_range="none", forces="fixed_charges", splitting_per_A=g, charge_groups="system", **FORMS[form])
    field.reference_energy[6] = -100.0
    script = saved(field, tmp_path)
    # another number of atoms and of edges than it was traced with, own images among the neighbours, one atom alone
    for c in (crowd(14, pbc=True), crowd(9, seed=1), Configuration.of([6], [[0.0, 0, 0]])):
        compare(script, field, c, g)


def test_splitting_is_the_one_that_the_solver_chose(tmp_path: Path) -> None:
    field = model(long_range="none", forces="fixed_charges", splitting_per_A=0.3, charge_groups="system")
    script, c = saved(field, tmp_path), crowd(pbc=True)
    other = field.changed(splitting_per_A=0.9)
    found = script(lammps_inputs(c, field, 0.9))
    torch.testing.assert_close(found["pred_energy"], other.predict(other.batch(c)).energy)


def test_without_a_solver_a_molecule_alone_has_its_own_energy(tmp_path: Path) -> None:
    # the published pair style: erfc(0) = 1, the damped Coulomb energy of all pairs that are given
    field = model(forces="fixed_charges", charge_groups="system")
    ec = find_molecule("EC")
    alone, boxed = (Configuration.of(ec.numbers, ec.positions, 60 * np.eye(3), pbc) for pbc in (False, True))
    inputs = lammps_inputs(boxed, field.changed(coulomb_cutoff_A=20.0), 0.0)
    found, wanted = saved(field, tmp_path)(inputs), field.predict(field.batch(alone))
    torch.testing.assert_close(found["pred_energy"], wanted.energy)
    torch.testing.assert_close(found["pred_coul_energy"], wanted.terms["coulomb"])
    torch.testing.assert_close(found["pred_forces"], wanted.forces, atol=1e-9, rtol=1e-9)


def test_charges_are_held_fixed_and_add_up_to_the_given_total(tmp_path: Path) -> None:
    script = saved(model(long_range="none", charge_groups="system"), tmp_path, total_charge=1.0)
    fixed = model(long_range="none", forces="fixed_charges")
    c = crowd(total_charge=1.0)
    found = script(lammps_inputs(c, fixed, fixed.parameters_of.splitting_per_A))
    assert found["pred_charge"].sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(found["pred_forces"], fixed.predict(fixed.batch(c)).forces, atol=1e-9, rtol=1e-9)


def test_no_tensor_is_made_on_a_device_of_its_own(tmp_path: Path) -> None:
    graph = str(saved(model(), tmp_path).inlined_graph)
    assert "aten::index_add" in graph
    assert 'value="cpu"' not in graph and 'value="cuda' not in graph


def test_untrained_elements_stop_the_pair_style(tmp_path: Path) -> None:
    field = model(long_range="none")
    field.trained[:] = False
    field.trained[[1, 6]] = True
    script = saved(field, tmp_path)
    with pytest.raises(torch.jit.Error, match="an element of this system was not trained"):
        script(lammps_inputs(Configuration.of([6, 8], [[0.0, 0, 0], [1.2, 0, 0]]), field, 0.3))


def test_authors_names_bring_the_weights_back(tmp_path: Path) -> None:
    torch.manual_seed(2)
    field = ForceField(ForceFieldParameters.bamboo2024())
    field.charge.chi_offset[:] = torch.linspace(60.0, 270.0, len(field.charge.chi_offset))
    field.charge.charge_offset[:] = torch.linspace(-0.4, 1.5, len(field.charge.charge_offset))
    field.trained[:] = False
    field.trained[[1, 3, 6, 8, 9, 15, 35]] = True
    save_file(authors_tensors(field), tmp_path / "w.safetensors")
    loaded = mlff.load(tmp_path / "w.safetensors")
    assert torch.equal(loaded.trained, field.trained)
    c = crowd(pbc=True)
    wanted, found = (f.predict(f.batch(c)) for f in (field, loaded))
    torch.testing.assert_close(found.forces, wanted.forces)
    torch.testing.assert_close(found.energy, wanted.energy)


def test_a_script_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    saved(model(), tmp_path)
    with pytest.raises(ValueError, match="holds no weights by name; what runner=export wrote is not read back"):
        mlff.load(tmp_path / "field.pt")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"charges": False}, "a model without charges"),
        ({"dispersion": "coordination"}, "dispersion by coordination"),
        ({}, "heads=4: the authors' files mean 16"),
    ],
)
def test_what_the_authors_files_cannot_hold_is_refused(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        authors_tensors(model(**settings))


@pytest.mark.skipif(
    not (reference_folder() / "weights.safetensors").exists(),
    reason="the recorded force field is missing (LSMRUN_REFERENCE)",
)
def test_exported_published_weights_give_the_recorded_pair_style(tmp_path: Path) -> None:
    recorded = np.load(reference_folder() / "mol_Li_solv4.npz")
    field = published(torch.float64)
    script = saved(field, tmp_path)
    found = script(lammps_inputs(Configuration.of(recorded["Z"], recorded["pos"]), field, 0.0))
    for ours, theirs in (("energy", "pair_energy"), ("forces", "pair_forces"), ("virial", "pair_virial")):
        wanted = recorded[f"forward_{theirs}"]
        np.testing.assert_allclose(found[f"pred_{ours}"].numpy().squeeze(), wanted.squeeze(), rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(found["pred_charge"], recorded["forward_charges"], atol=1e-8)
    assert authors_tensors(field).keys() == set(_names(reference_folder() / "weights.safetensors"))


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(file.keys())
