from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from mlff.calculator import MLFFCalculator
from mlff.labelled import read_atoms
from mlff.labels.files import write_extxyz
from mlff.model import ForceField, ForceFieldParameters
from mlff.opinions import ask
from tests.mlff.label_sets import labelled
from tests.mlff.samples import ELEMENTS, crowd, model


def atoms_of(pbc: object = True, seed: int = 0, n: int = 14) -> Atoms:
    c = crowd(n, seed=seed)
    return Atoms(c.numbers, c.positions, cell=c.cell, pbc=pbc)


@pytest.mark.parametrize("pbc", [False, True, [True, True, False]])
def test_results_are_the_models_in_the_units_of_ase(pbc: object) -> None:
    field, atoms = model(), atoms_of(pbc)
    atoms.calc = MLFFCalculator(field)
    p = field.predict(field.batch(crowd(pbc=pbc)))
    kcal = units.kcal / units.mol
    assert atoms.get_potential_energy() == pytest.approx(p.energy.item() * kcal, rel=2e-8)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(p.energy.item() * kcal, rel=2e-8)
    np.testing.assert_allclose(atoms.get_forces(), p.forces.numpy() * kcal, rtol=2e-8)
    np.testing.assert_allclose(atoms.get_potential_energies(), p.energies.numpy() * kcal, rtol=2e-8)
    np.testing.assert_allclose(atoms.get_charges(), p.charges.numpy())
    np.testing.assert_allclose(atoms.get_dipole_moment(), p.charges.numpy() @ atoms.positions)


def test_stress_is_the_slope_of_the_energy_by_strain() -> None:
    atoms = atoms_of()
    atoms.calc = MLFFCalculator(model())
    np.testing.assert_allclose(atoms.get_stress(), atoms.calc.calculate_numerical_stress(atoms, d=1e-5), atol=2e-6)


def test_stress_needs_three_periodic_axes() -> None:
    atoms = atoms_of([True, True, False])
    atoms.calc = MLFFCalculator(model())
    atoms.get_potential_energy()
    assert "stress" not in atoms.calc.results


@pytest.mark.parametrize("where", ["charge", "total_charge", "argument"])
def test_total_charge_is_taken_from_the_atoms_or_the_argument(where: str) -> None:
    atoms = atoms_of(False)
    atoms.info |= {where: 1.0} if where != "argument" else {}
    atoms.calc = MLFFCalculator(model(), total_charge=0.0 if where != "argument" else 1.0)
    assert atoms.get_charges().sum() == pytest.approx(1.0)
    atoms.info |= {where: -1.0} if where != "argument" else {"total_charge": -1.0}
    assert atoms.get_charges().sum() == pytest.approx(-1.0)


@pytest.mark.parametrize("charges", [[1.0], [1.0, 0.0]])
def test_labelled_frames_are_computed_as_the_files_of_labels_tell_them(charges: list[float], tmp_path: Path) -> None:
    c = crowd(14, total_charge=1.0, fragments=np.arange(14) % len(charges), fragment_charges=charges)
    write_extxyz([labelled(model(), c)], tmp_path / "frames.xyz", dispersion="included")
    (atoms,) = read_atoms(tmp_path / "frames.xyz")
    wanted = atoms.get_potential_energy()
    atoms.calc = MLFFCalculator(model())
    assert atoms.get_potential_energy() == pytest.approx(wanted)


def test_fragments_keep_the_charges_that_the_atoms_name() -> None:
    atoms = atoms_of(True)
    atoms.arrays["fragments"] = np.arange(14) % 2
    atoms.info |= {"fragment_charges": [1.0, -1.0]}
    atoms.calc = MLFFCalculator(model())
    q = atoms.get_charges()
    assert (q[::2].sum(), q[1::2].sum()) == pytest.approx((1.0, -1.0))


def test_results_follow_charges_that_change_where_atoms_do_not() -> None:
    atoms = atoms_of(True)
    atoms.calc = MLFFCalculator(model())
    atoms.get_potential_energy()
    atoms.info["charge"] = 1.0
    assert atoms.get_charges().sum() == pytest.approx(1.0)
    atoms.arrays["fragments"] = np.arange(14) % 2
    atoms.info["fragment_charges"] = np.array([1.0, 0.0])
    assert atoms.get_charges()[::2].sum() == pytest.approx(1.0)
    atoms.info["fragment_charges"][:] = 0.0, 1.0  # in place, as a user may
    assert atoms.get_charges()[::2].sum() == pytest.approx(0.0, abs=1e-9)
    atoms.arrays["fragments"] = 1 - atoms.arrays["fragments"]
    assert atoms.get_charges()[::2].sum() == pytest.approx(1.0)
    assert not atoms.calc.check_state(atoms)


def test_a_committee_gives_mean_and_spread_of_its_members() -> None:
    members, atoms = [model(seed=s) for s in range(3)], atoms_of()
    single = []
    for member in members:
        atoms.calc = MLFFCalculator(member)
        single.append(atoms.get_forces())
    atoms.calc = MLFFCalculator(members)
    np.testing.assert_allclose(atoms.get_forces(), np.mean(single, axis=0))
    wanted = np.sqrt(np.sum(np.var(single, axis=0), axis=1))
    np.testing.assert_allclose(atoms.calc.results["forces_spread"], wanted)
    assert atoms.calc.results["energy_spread"] > 0


def test_a_model_that_leaves_the_long_range_to_others_is_refused() -> None:
    with pytest.raises(ValueError, match='use "auto" here'):
        MLFFCalculator(model(long_range="none"))


BAD = {
    "no atoms": (lambda atoms: atoms[:0], "a configuration without atoms"),
    "not finite": (lambda atoms: moved(atoms, 3, np.nan), "atom 3 has no finite position"),
    "far away": (lambda atoms: moved(Atoms(atoms, pbc=False), 3, 1e6), "atom 3 is too far away"),
    "tiny cell": (lambda atoms: Atoms("H", cell=[0.01, 0.01, 0.01], pbc=True), "the cell is too small for its 1 atoms"),
    "overlap": (lambda atoms: moved(atoms, 3, atoms.positions[5]), "overlap"),
    "untrained": (
        lambda atoms: renamed(atoms, 2, "Na"),
        "element Na was not trained; this model knows H, Li, C, O, F, P",
    ),
    "unknown": (lambda atoms: renamed(atoms, 2, "X"), "atom 2 has atomic number 0, allowed are 1 to 86"),
    "no cell": (lambda atoms: Atoms(atoms.numbers, atoms.positions, pbc=True), "a cell vector is zero"),
    "flat cell": (lambda atoms: Atoms(atoms.numbers, atoms.positions, cell=np.ones((3, 3)), pbc=True), "dependent"),
    "cell not finite": (lambda atoms: Atoms(atoms, cell=np.diag([7.0, np.inf, 7.0])), "the cell is not finite"),
    "charge not finite": (lambda atoms: charged(atoms, np.nan), "total_charge is nan"),
    "charge that is none": (lambda atoms: charged(atoms, None), "charge is None: it must be a number, the total"),
    "two charges": (lambda atoms: charged(atoms, 1.0, total_charge=0), "charge is 1 e, total_charge is 0 e: give one"),
}


def moved(atoms: Atoms, i: int, place: object) -> Atoms:
    atoms.positions[i] = place
    return atoms


def renamed(atoms: Atoms, i: int, symbol: str) -> Atoms:
    atoms.symbols[i] = symbol
    return atoms


def charged(atoms: Atoms, charge: float | None, **more: float) -> Atoms:
    atoms.info |= {"charge": charge, **more}
    return atoms


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_atoms_that_cannot_be_computed_are_refused_in_one_line(case: str, fast: bool) -> None:
    spoil, message = BAD[case]
    field = whole_model() if fast else model()
    field.trained[:] = False
    field.trained[torch.from_numpy(ELEMENTS)] = True
    atoms = spoil(atoms_of())
    atoms.calc = MLFFCalculator(field, fast=fast, threads=1)
    with pytest.raises(ValueError, match=message) as error:
        atoms.get_potential_energy()
    assert "\n" not in str(error.value)


def test_the_name_of_a_model_is_refused_with_the_way_to_load_it() -> None:
    with pytest.raises(TypeError, match=r'MLFFCalculator\(mlff.load\("model.safetensors"\)\)'):
        MLFFCalculator("model.safetensors")
    with pytest.raises(TypeError, match=r'takes models, not str: mlff.load\("model.safetensors"\) gives one'):
        MLFFCalculator([model(), "model.safetensors"])


@pytest.mark.parametrize("ask_them", [MLFFCalculator, lambda members: ask(members, [crowd()])])
def test_models_with_the_same_weights_are_no_committee(ask_them: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="model 0 and model 2 have the same weights: a committee needs models"):
        ask_them([model(0), model(1), model(0).changed(forces="fixed_charges")])


def whole_model(seed: int = 0, **settings: object) -> ForceField:
    """Random weights of the size that the fast engine runs."""
    torch.manual_seed(seed)
    return ForceField(ForceFieldParameters(**settings)).double().eval()


def test_a_fast_committee_gives_what_the_torch_committee_gives() -> None:
    members, atoms = [whole_model(seed) for seed in range(3)], atoms_of(n=20)
    results = []
    for fast in (False, True):
        calculator = MLFFCalculator(members, fast=fast)
        calculator.calculate(atoms)
        results.append(calculator.results)
    slow, quick = results
    np.testing.assert_allclose(quick["forces"], slow["forces"], atol=5e-5)
    np.testing.assert_allclose(quick["forces_spread"], slow["forces_spread"], atol=1e-4)
    assert quick["forces_spread"].shape == (20,)
    assert quick["energy_spread"] == pytest.approx(slow["energy_spread"], abs=1e-4)


def drift(field: ForceField, *, fast: bool) -> float:
    """Largest change of the total energy in eV over a short run at constant energy."""
    atoms = atoms_of(seed=2, n=12)
    atoms.calc = MLFFCalculator(field, fast=fast, threads=1)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(12, 3)) * np.sqrt(0.01 * atoms.get_masses())[:, None])
    dynamics = VelocityVerlet(atoms, timestep=0.05 * units.fs)
    start = atoms.get_total_energy()
    largest = 0.0
    for _ in range(12):
        dynamics.run(10)
        largest = max(largest, abs(atoms.get_total_energy() - start))
    return largest


@pytest.mark.parametrize("fast", [False, True], ids=["torch", "engine"])
def test_total_energy_is_conserved_with_conservative_forces_only(fast: bool) -> None:
    make = whole_model if fast else model
    conservative, fixed = (drift(make(forces=kind), fast=fast) for kind in ("conservative", "fixed_charges"))
    assert conservative < 2e-4
    assert fixed > 20 * conservative


def test_fast_engine_runs_the_same_dynamics() -> None:
    field = whole_model()
    energies = []
    for fast in (False, True):
        atoms = atoms_of(n=20)
        atoms.calc = MLFFCalculator(field, fast=fast)
        VelocityVerlet(atoms, timestep=0.2 * units.fs).run(5)
        energies.append(atoms.get_total_energy())
        forces = atoms.get_forces()
    np.testing.assert_allclose(energies[0], energies[1], atol=1e-5)
    fresh = atoms.copy()
    fresh.calc = MLFFCalculator(field)
    np.testing.assert_allclose(forces, fresh.get_forces(), atol=5e-5)
    np.testing.assert_allclose(atoms.get_stress(), fresh.get_stress(), atol=1e-5)
    assert atoms.calc.engines[0].lists.builds == 1
