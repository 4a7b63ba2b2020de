"""OpenMM as the integrator: the model's energy and forces go into it through `PythonForce`.

OpenMM asks for energy and forces of positions; a virial has no place there, and none is needed: its barostat is a Monte
Carlo one, which scales the molecules' centres and accepts by energies. Pressures are measured from the model's own virial.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlff.charges import molecules
from mlff.dynamics.integrators import Arrays, Conditions, forget, pack_generator, unpack_generator

KJ_MOL = units.kJ / units.mol
BAR_PER_ATM = 1.01325
PS = 1000 * units.fs
STEPS_BETWEEN_VOLUMES = 25
"""Steps between two trial volumes (OpenMM's default)."""

ENSEMBLES = ("nve", "nvt", "langevin", "npt")
"""Leapfrog Verlet, Nosé-Hoover chain, Langevin's middle scheme, Nosé-Hoover chain with trial volumes."""

SAME_PLACE_A = 1e-9


class OpenmmIntegrator:
    """OpenMM's integrators on `atoms`, which carry momenta and a calculator; what `mlff.dynamics.simulation.simulate` drives.

    Molecules are those of `atoms.arrays["fragments"]`, else what bonds connect. At every `state` OpenMM is made again
    from its own checkpoint, so that a run from there is the unbroken run. Raises `ValueError` on cells
    that OpenMM does not take; it has no other ensembles than `ENSEMBLES`.
    """

    def __init__(self, atoms: Atoms, c: Conditions, rng: np.random.Generator, platform: str = "CPU") -> None:
        if not atoms.pbc.all() or np.linalg.det(atoms.cell.array) <= 0:
            raise ValueError("engine=openmm: the box must repeat along three right-handed axes")
        self.atoms, self.c, self.rng = atoms, c, rng
        self.degrees_of_freedom = 3 * len(atoms) - (0 if c.ensemble == "langevin" else 3)
        self.masses = atoms.get_masses()
        # OpenMM wants a along x and b in the xy plane: x_openmm = x @ turn.T
        lower, self.turn = atoms.cell.standard_form()
        lower = _reduced(np.asarray(lower))
        atoms.set_cell(lower @ self.turn, scale_atoms=False)
        self.platform = platform
        # of the thermostat, in eV; OpenMM cannot be asked before the first step
        self.heat = 0.0
        self._open()
        self.context.setPeriodicBoxVectors(*(lower / 10))
        self.context.setPositions(atoms.positions @ self.turn.T / 10)
        self._kick(-0.5)
        self.context.setVelocities(atoms.get_velocities() @ self.turn.T * PS / 10)
        self._kick(0.5)

    def step(self) -> None:
        """Advance the atoms by one time step."""
        self.integrator.step(1)
        if self.c.ensemble == "nvt":
            self.heat = self.integrator.computeHeatBathEnergy()._value * KJ_MOL
        if self.error is not None:
            raise self.error
        state = self.context.getState(positions=True, velocities=True)
        self._move(state)
        velocities = np.asarray(state.getVelocities(asNumpy=True)._value)
        self.atoms.set_velocities(velocities @ self.turn * 10 / PS)
        self._kick(0.5)

    def _kick(self, steps: float) -> None:
        """Push momenta by the present forces: OpenMM's integrators keep velocities half a step behind positions."""
        atoms = self.atoms
        atoms.set_momenta(atoms.get_momenta() + steps * self.c.time_step_fs * units.fs * atoms.get_forces())

    def conserved_eV(self, total: float) -> float:
        """Total energy and what the thermostat holds; nan with friction or trial volumes."""
        if self.c.ensemble == "nve":
            return total
        if self.c.ensemble != "nvt":
            return np.nan
        return total + self.heat

    def state(self) -> Arrays:
        """Copies of everything that the next step depends on; OpenMM itself goes on from them."""
        checkpoint = np.frombuffer(self.context.createCheckpoint(), np.uint8)
        atoms = self.atoms
        arrays = {
            "openmm": checkpoint,
            "random": pack_generator(self.rng),
            "positions": atoms.positions.copy(),
            "momenta": atoms.get_momenta(),
            "cell": atoms.cell.array.copy(),
        }
        self._reopen(checkpoint)
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go back to a state."""
        unpack_generator(self.rng, arrays["random"])
        self.atoms.set_cell(arrays["cell"], scale_atoms=False)
        self.atoms.set_positions(arrays["positions"])
        self.atoms.set_momenta(arrays["momenta"])
        self._reopen(arrays["openmm"])

    def _reopen(self, checkpoint: NDArray[np.uint8]) -> None:
        forget(self.atoms.calc)
        self._open()
        self.context.loadCheckpoint(checkpoint.tobytes())

    def _open(self) -> None:
        """System, integrator and context as the ensemble asks."""
        import openmm

        self.error: Exception | None = None
        system = openmm.System()
        for mass in self.masses:
            system.addParticle(mass)
        force = openmm.PythonForce(self._compute)
        force.setUsesPeriodicBoundaryConditions(True)
        system.addForce(force)
        if self.degrees_of_freedom < 3 * len(self.masses):
            # lets the thermostat count 3N - 3 degrees of freedom
            system.addForce(openmm.CMMotionRemover(1))
        if self.c.ensemble == "npt":
            system.addForce(_molecules(self.atoms))
            barostat = openmm.MonteCarloBarostat(
                self.c.pressure_atm * BAR_PER_ATM, self.c.temperature_K, STEPS_BETWEEN_VOLUMES
            )
            barostat.setRandomNumberSeed(self._seed())
            system.addForce(barostat)
        self.integrator = _integrator(self.c, self._seed())
        self.context = openmm.Context(system, self.integrator, openmm.Platform.getPlatformByName(self.platform))

    def _compute(self, state: Any) -> tuple[float, NDArray[np.float64]]:
        """Energy in kJ/mol and forces in kJ/mol/nm of OpenMM's positions."""
        atoms = self.atoms
        try:
            self._move(state)
            forces = atoms.get_forces() @ self.turn.T
            return float(atoms.get_potential_energy() / KJ_MOL), forces * (10 / KJ_MOL)
        except Exception as error:
            self.error = error
            return 0.0, np.zeros((len(atoms), 3))

    def _move(self, state: Any) -> None:
        """Put the atoms where OpenMM has them, without its jumps through the boundary."""
        cell = 10 * np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) @ self.turn
        positions = 10 * np.asarray(state.getPositions(asNumpy=True)._value) @ self.turn
        atoms = self.atoms
        moved = positions - atoms.positions
        moved -= np.round(moved @ np.linalg.inv(cell)) @ cell
        if np.abs(moved).max() > SAME_PLACE_A or np.abs(cell - atoms.cell.array).max() > SAME_PLACE_A:
            # else what was computed there still holds
            atoms.set_cell(cell, scale_atoms=False)
            atoms.positions = atoms.positions + moved

    def _seed(self) -> int:
        return int(self.rng.integers(1, 2**31 - 1))


def _integrator(c: Conditions, seed: int) -> Any:
    import openmm

    step, per_ps = c.time_step_fs / 1000, 1000 / c.temperature_damping_fs
    if c.ensemble == "langevin":
        made = openmm.LangevinMiddleIntegrator(c.temperature_K, per_ps, step)
        made.setRandomNumberSeed(seed)
        return made
    if c.ensemble == "nve":
        return openmm.VerletIntegrator(step)
    return openmm.NoseHooverIntegrator(c.temperature_K, per_ps, step)


def _molecules(atoms: Atoms) -> Any:
    """Bonds without a force, which tell the barostat what to keep rigid."""
    import openmm

    fragments = atoms.arrays.get("fragments")
    if fragments is None:
        fragments = molecules(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    bonds, first = openmm.HarmonicBondForce(), dict[int, int]()
    for atom, fragment in enumerate(fragments.tolist()):
        if fragment in first:
            bonds.addBond(first[fragment], atom, 0.1, 0.0)
        first.setdefault(fragment, atom)
    return bonds


def _reduced(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """A lower triangular cell with its tilts brought below half an edge, as OpenMM demands."""
    a, b, c = cell.copy()
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.array([a, b, c])
