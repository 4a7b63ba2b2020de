"""The fast engine gives what the torch model gives, for any boundary, and keeps its lists honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff.engine import Engine, Result
from mlff.frames import Configuration
from mlff.get import NetworkParameters
from mlff.model import ForceField, ForceFieldParameters
from mlff.units import COULOMB
from tests.mlff.reference import published, reference_folder
from tests.mlff.samples import BOUNDARIES, ELEMENTS, TRICLINIC, crowd

SETTINGS = {
    "conservative": {},
    "fixed charges": {"forces": "fixed_charges"},
    "published": {"forces": "fixed_charges", "smooth": False, "erfc": "approximate", "charge_groups": "system"},
    "external reciprocal sum": {"long_range": "none"},
    "no charges": {"charges": False},
    "no dispersion": {"dispersion": "none"},
    "four layers, small read-out": {"network": NetworkParameters(layers=4, hidden=8)},
    "two layers": {"network": NetworkParameters(layers=2)},
}

needs_recordings = pytest.mark.skipif(
    not (reference_folder() / "weights.safetensors").exists(),
    reason="the recorded force field is missing (LSMRUN_REFERENCE)",
)


def force_field(**settings: object) -> ForceField:
    torch.manual_seed(0)
    field = ForceField(ForceFieldParameters(**settings)).double().eval()
    for name, p in field.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, std=0.1)
    field.reference_energy[ELEMENTS] = torch.linspace(-100.0, 100.0, len(ELEMENTS), dtype=torch.float64)
    if field.charge is not None:
        field.charge.charge_offset[:] = torch.linspace(-0.5, 0.5, len(field.charge.charge_offset))
    return field


def agree(result: Result, field: ForceField, c: Configuration, forces: float = 1e-3) -> None:
    p = field.predict(field.batch(c))
    scale = max(1.0, p.forces.abs().max().item() / 100)
    np.testing.assert_allclose(result.forces, p.forces, atol=forces * scale, rtol=0)
    np.testing.assert_allclose(result.charges, p.charges, atol=2e-6)
    np.testing.assert_allclose(result.energies, p.energies, atol=1e-3, rtol=1e-6)
    assert result.energy == pytest.approx(p.energy.item(), abs=1e-3, rel=1e-6)
    if c.pbc.all() or not c.pbc.any():
        np.testing.assert_allclose(result.virial, p.virial[0], atol=5e-3 * scale, rtol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_engine_gives_what_the_torch_model_gives(boundary: str, settings: str) -> None:
    field = force_field(**SETTINGS[settings])
    # a cell smaller than the cutoffs, and a number of atoms that is no multiple of a block
    c = crowd(25, pbc=BOUNDARIES[boundary])
    agree(Engine(field, threads=2).evaluate(c), field, c)


def test_one_atom_alone_has_an_energy_and_no_force() -> None:
    field = force_field()
    c = Configuration.of([3], [[1.0, 2.0, 3.0]], total_charge=1.0)
    result = Engine(field).evaluate(c)
    agree(result, field, c)
    assert result.charges.tolist() == [1.0]


def test_fragments_and_total_charge_are_kept() -> None:
    field = force_field()
    c = crowd(20, pbc=True, total_charge=1.0, fragments=np.arange(20) % 2, fragment_charges=[2.0, -1.0])
    agree(Engine(field).evaluate(c), field, c)


def test_molecules_far_apart_do_not_feel_each_other_when_fragments_keep_their_charges() -> None:
    field = force_field()
    engine = Engine(field, threads=2)
    a, b = crowd(7, seed=7), crowd(9, seed=8)
    joined = Configuration.of(
        np.r_[a.numbers, b.numbers],
        np.r_[a.positions, b.positions + 1e4],
        fragments=np.r_[np.zeros(7, int), np.ones(9, int)],
        fragment_charges=[1.0, -1.0],
        total_charge=0.0,
    )
    together = engine.evaluate(joined)
    alone = [engine.evaluate(replace(c, total_charge=q)) for c, q in ((a, 1.0), (b, -1.0))]
    pull = COULOMB / (1e4 * np.sqrt(3))
    assert together.energy + pull == pytest.approx(sum(r.energy for r in alone), abs=2e-3)
    np.testing.assert_allclose(together.charges, np.r_[alone[0].charges, alone[1].charges], atol=1e-6)
    np.testing.assert_allclose(together.forces, np.r_[alone[0].forces, alone[1].forces], atol=2e-3)
    # one neutral system instead moves charge from one molecule to the other
    smeared = engine.evaluate(replace(joined, fragments=None, fragment_charges=None))
    assert abs(smeared.energy - together.energy) > 1e-2


@pytest.mark.parametrize("cell", [TRICLINIC[[1, 0, 2]], np.diag([4.0, 5.0, 6.0])], ids=["left-handed", "tiny"])
def test_unusual_cells_give_what_the_torch_model_gives(cell: np.ndarray) -> None:
    field = force_field()
    c = crowd(6, pbc=True, cell=cell, total_charge=1.0)
    agree(Engine(field).evaluate(c), field, c)
    alone = Configuration.of([6], [[0.1, 0.2, 0.3]], cell, True)
    agree(Engine(field).evaluate(alone), field, alone)


def test_large_energies_of_isolated_atoms_keep_the_digits_of_the_network() -> None:
    field, c = force_field(), crowd(20, pbc=True)
    before = Engine(field).evaluate(c)
    field.reference_energy[:] -= 1e6
    after = Engine(field).evaluate(c)
    assert after.energy + 20e6 == pytest.approx(before.energy, abs=1e-6)
    np.testing.assert_allclose(after.energies + 1e6, before.energies, atol=1e-8)


def test_any_number_of_threads_gives_the_same() -> None:
    field, c = force_field(), crowd(40, pbc=True)
    one, five = (Engine(field, threads=n).evaluate(c) for n in (1, 5))
    np.testing.assert_allclose(one.forces, five.forces, atol=1e-4)
    # the mesh adds up in float32
    assert one.energy == pytest.approx(five.energy, abs=5e-5)


def test_lists_outlast_small_steps_and_are_made_again_after_large_ones() -> None:
    field, c = force_field(), crowd(30, pbc=True, cell=1.5 * TRICLINIC)
    engine = Engine(field, skin_A=0.6)
    rng = np.random.default_rng(1)
    for step in range(8):
        direction = rng.normal(size=c.positions.shape)
        move = 0.06 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        c = replace(c, positions=c.positions + move, cell=c.cell * (1 + 1e-4 * step))
        agree(engine.evaluate(c), field, c)
    assert 1 < engine.lists.builds < 8


def test_an_atom_that_leaves_the_cell_and_is_wrapped_back_changes_nothing() -> None:
    field, c = force_field(), crowd(20, pbc=True)
    engine = Engine(field)
    before = engine.evaluate(c)
    wrapped = replace(c, positions=c.positions + np.outer(np.arange(20) % 3 - 1, c.cell[0]))
    after = engine.evaluate(wrapped)
    np.testing.assert_allclose(after.forces, before.forces, atol=1e-3)


def test_other_atoms_in_the_same_places_are_noticed() -> None:
    field, c = force_field(), crowd(20, pbc=True)
    engine = Engine(field)
    engine.evaluate(c)
    swapped = replace(c, numbers=np.roll(c.numbers, 1))
    agree(engine.evaluate(swapped), field, swapped)
    charged = replace(swapped, total_charge=1.0)
    agree(engine.evaluate(charged), field, charged)


def test_a_dense_corner_of_a_thin_gas_overflows_no_row() -> None:
    field, c = force_field(), crowd(60, cell=0.9 * TRICLINIC)
    far = Configuration.of(np.r_[c.numbers, 6, 6], np.r_[c.positions, [[900.0, 0, 0], [0, 900.0, 900.0]]])
    agree(Engine(field).evaluate(far), field, far)


def test_overlapping_atoms_and_untrained_elements_are_refused() -> None:
    field = force_field()
    engine = Engine(field)
    with pytest.raises(ValueError, match="overlaps another"):
        engine.evaluate(Configuration.of([6, 6], [[0.0, 0, 0], [0, 0, 0]]))
    field.trained[:] = False
    field.trained[6] = True
    with pytest.raises(ValueError, match="element O was not trained; this model knows C"):
        engine.evaluate(Configuration.of([8], [[0.0, 0, 0]]))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"network": NetworkParameters(width=32)}, "width 64 and 16 heads"),
        ({"network": NetworkParameters(hidden=64)}, "32 hidden features"),
        ({"dispersion": "coordination"}, "dispersion by element"),
        ({"coulomb_cutoff_A": 7.0}, "coulomb_cutoff_A equal"),
        ({"dispersion_cutoff_A": 12.0}, "at most 11 Å"),
    ],
)
def test_models_it_cannot_run_are_refused(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=f"the fast engine needs .*{reason}.*; use the torch model"):
        Engine(force_field(**settings))


@needs_recordings
@pytest.mark.parametrize("name", ["box_base", "box_noise002", "box_noise005", "box_comscale102"])
def test_recorded_boxes_are_met_in_single_precision(name: str) -> None:
    recorded = np.load(reference_folder() / f"{name}.npz")
    model = published(torch.float32, long_range="none", splitting_per_A=float(recorded["g_ewald"]))
    box = Configuration.of(recorded["Z"], recorded["pos"], recorded["cell"], True)
    found = Engine(model, threads=2).evaluate(box)
    assert np.abs(found.forces - recorded["pair_forces"]).max() < 1e-3
    assert np.abs(found.charges - recorded["charges"]).max() < 2e-6
    assert found.energy == pytest.approx(float(recorded["pair_energy"]), abs=0.05)
    np.testing.assert_allclose(found.virial, recorded["pair_virial"], atol=0.2)


@needs_recordings
def test_conservative_forces_add_the_recorded_charge_response() -> None:
    recorded = np.load(reference_folder() / "box_base.npz")
    response = np.load(reference_folder() / "box_base_charge_response.npz")["charge_response_forces"]
    model = published(
        torch.float32, long_range="sum", splitting_per_A=float(recorded["g_ewald"]), forces="conservative"
    )
    box = Configuration.of(recorded["Z"], recorded["pos"], recorded["cell"], True)
    found = Engine(model, threads=2).evaluate(box).forces
    assert np.abs(found - recorded["total_forces"] - response).max() < 1e-3
