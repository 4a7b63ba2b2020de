"""Exported force fields give what the model gives, read back from the file as another program would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import mlff
from mlff.export import authors_tensors, pair_style
from mlff.frames import Configuration
from mlff.model import ForceField, ForceFieldParameters
from mlff.neighbours import neighbour_pairs
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


def saved(field: ForceField, folder: Path, **options: float) -> torch.jit.ScriptModule:
    pair_style(field, **options).save(folder / "field.pt")
    return torch.jit.load(folder / "field.pt")


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
    field = model(long_range="none", forces="fixed_charges", splitting_per_A=g, **FORMS[form])
    field.reference_energy[6] = -100.0
    script = saved(field, tmp_path)
    # another number of atoms and of edges than it was traced with, own images among the neighbours, one atom alone
    for c in (crowd(14, pbc=True), crowd(9, seed=1), Configuration.of([6], [[0.0, 0, 0]])):
        found, wanted = script(lammps_inputs(c, field, g)), field.predict(field.batch(c))
        assert all(t.dtype == torch.float64 and t.is_contiguous() for t in found.values())
        torch.testing.assert_close(found["pred_energy"], wanted.energy)
        torch.testing.assert_close(found["pred_forces"], wanted.forces, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(found["pred_virial"], wanted.virial[0], atol=1e-8, rtol=1e-9)
        torch.testing.assert_close(found["pred_charge"], wanted.charges)
        if "coulomb" in wanted.terms:
            torch.testing.assert_close(found["pred_coul_energy"], wanted.terms["coulomb"], atol=1e-9, rtol=1e-9)


def test_splitting_is_the_one_that_the_solver_chose(tmp_path: Path) -> None:
    field = model(long_range="none", forces="fixed_charges", splitting_per_A=0.3)
    script, c = saved(field, tmp_path), crowd(pbc=True)
    other = field.changed(splitting_per_A=0.9)
    found = script(lammps_inputs(c, field, 0.9))
    torch.testing.assert_close(found["pred_energy"], other.predict(other.batch(c)).energy)


def test_charges_are_held_fixed_and_add_up_to_the_given_total(tmp_path: Path) -> None:
    script = saved(model(long_range="none"), tmp_path, total_charge=1.0)
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
