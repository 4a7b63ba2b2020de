"""Heavier hydrogen: what is conserved, what is refused, and that restarts and later runs have the right masses."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from numpy.testing import assert_allclose, assert_array_equal

from mlff.dynamics.masses import heavy_hydrogen
from mlff.dynamics.simulation import Dynamics, State, Step, set_velocities, simulate
from tests.mlff.bonds import Bonds

DT = {"time_step_fs": 2.0, "temperature_K": 300.0, "hydrogen_mass_u": 3.0, "frame_every_fs": 100.0}


@pytest.fixture
def alcohol() -> Atoms:
    """Four molecules of ethanol, one across the wall of the box."""
    atoms = molecule("CH3CH2OH", cell=[6.0] * 3, pbc=True)
    atoms.positions += [2.9, 0.0, 0.0]
    box = atoms.repeat((2, 2, 1))
    box.wrap()
    set_velocities(box, 300.0, 0)
    return box


def test_mass_goes_from_the_bound_atom_to_its_hydrogen(alcohol: Atoms) -> None:
    heavy = heavy_hydrogen(alcohol, 3.0)
    before, after = alcohol.get_masses(), heavy.get_masses()
    light = alcohol.numbers == 1
    assert_allclose(after[light], 3.0)
    gained = 3.0 - before[light][0]
    # ethanol as ASE builds it: C of the methyl group, C of the methylene group, O ...
    per_molecule = (before - after).reshape(4, -1)
    for row, symbols in zip(per_molecule, np.array(alcohol.get_chemical_symbols()).reshape(4, -1), strict=True):
        assert_allclose(sorted(row[symbols == "C"]), [2 * gained, 3 * gained], atol=1e-12)
        assert_allclose(row[symbols == "O"], [gained], atol=1e-12)
    assert after.sum() == pytest.approx(before.sum(), abs=1e-9)
    assert heavy.get_kinetic_energy() == pytest.approx(alcohol.get_kinetic_energy(), rel=0.05)
    assert_allclose(heavy.get_momenta().sum(axis=0), 0.0, atol=1e-10)
    assert_array_equal(heavy_hydrogen(heavy, 3.0).get_masses(), after)
    assert heavy_hydrogen(alcohol, None) is alcohol


@pytest.mark.parametrize(
    ("atoms", "mass", "reason"),
    [
        (molecule("H2"), 2.0, "atom 0 is hydrogen with no heavier atom within 1.4 Å"),
        (molecule("CH4"), 4.0, "would leave 0.043 u to the C of atom 0"),
    ],
)
def test_what_has_no_mass_to_give_is_refused(atoms: Atoms, mass: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        heavy_hydrogen(atoms, mass)


@pytest.mark.parametrize("ensemble", ["npt", "nvt", "langevin"])
def test_a_killed_run_has_the_same_masses_again(alcohol: Atoms, ensemble: str) -> None:
    states: list[State] = []
    d = Dynamics(ensemble=ensemble, length_ps=0.08, save_every_fs=20.0, **DT)  # type: ignore[arg-type]
    end = simulate(alcohol, Bonds(alcohol), d, seed=1, save=states.append)
    again = simulate(alcohol, Bonds(alcohol), d, seed=1, state=State.of(states[1].flat()))
    for name in end.arrays:
        assert_array_equal(again.arrays[name], end.arrays[name], err_msg=name)


def test_the_end_of_a_run_is_put_on_atoms_of_ordinary_mass_with_the_same_temperature(alcohol: Atoms) -> None:
    steps: list[Step] = []
    d = Dynamics(ensemble="nve", length_ps=0.05, **DT)  # type: ignore[arg-type]
    end = simulate(alcohol, Bonds(alcohol), d, seed=1, on_step=steps.append)
    atoms = end.put_on(alcohol)
    assert_array_equal(atoms.get_masses(), alcohol.get_masses())
    kinetic = steps[-1].kinetic_kcal_mol * units.kcal / units.mol
    assert atoms.get_kinetic_energy() == pytest.approx(kinetic, rel=0.05)
    assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-10)


def test_a_step_of_two_femtoseconds_conserves_energy_as_well_as_one_did(alcohol: Atoms) -> None:
    def spread(time_step_fs: float, hydrogen_mass_u: float | None) -> float:
        steps: list[Step] = []
        settings = DT | {"time_step_fs": time_step_fs, "hydrogen_mass_u": hydrogen_mass_u}
        d = Dynamics(ensemble="nve", length_ps=1.0, **settings)  # type: ignore[arg-type]
        simulate(alcohol, Bonds(alcohol), d, seed=1, on_step=steps.append)
        return float(np.std([s.conserved_kcal_mol for s in steps]))

    plain, heavy, too_long = spread(1.0, None), spread(2.0, 3.0), spread(2.0, None)
    assert heavy < 2.5 * plain
    assert heavy < 0.6 * too_long
