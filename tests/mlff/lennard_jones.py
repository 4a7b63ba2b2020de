"""A Lennard-Jones fluid as an ASE calculator with analytic long-range corrections: fast enough for tests of dynamics.

Units of argon (119.8 K, 3.405 Å), cut off at 3 sigma, so that published results for the full potential hold.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from numba import njit

from mlff.dynamics.simulation import Dynamics, simulate

SIGMA, EPSILON = 3.405, 119.8 * units.kB
CUTOFF = 3.0
ARGON_U = 39.948
KELVIN, ATM = 119.8, EPSILON / SIGMA**3 / (101325 * units.Pascal)
"""One reduced unit of temperature in K and of pressure in atm."""


class LennardJones(Calculator):
    """Periodic boxes of nearly right angles, wider than 6 sigma; energies in eV; `shifted` has no step and no correction."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, *, shifted: bool = False) -> None:
        super().__init__()
        self.calls = 0
        self.at_cutoff = 4 * (CUTOFF**-12 - CUTOFF**-6) if shifted else 0.0
        self.corrected = not shifted

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        cell = self.atoms.cell.array / SIGMA
        inverse = np.linalg.inv(cell)
        assert np.linalg.norm(inverse, axis=0).max() < 0.5 / CUTOFF, "the box is smaller than twice the cutoff"
        n, volume = len(self.atoms), self.atoms.get_volume()
        energy, forces, virial = _pairs(self.atoms.positions / SIGMA, cell, inverse, CUTOFF, self.at_cutoff)
        density = n * SIGMA**3 / volume
        near3, near9 = CUTOFF**-3, CUTOFF**-9
        energy += self.corrected * n * 8 / 3 * np.pi * density * (near9 / 3 - near3)
        tail = self.corrected * 16 / 3 * np.pi * density**2 * (2 / 3 * near9 - near3) * EPSILON / SIGMA**3
        stress = -virial * EPSILON / volume - tail * np.eye(3)
        self.results = {
            "energy": energy * EPSILON,
            "free_energy": energy * EPSILON,
            "forces": forces * EPSILON / SIGMA,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
        }


def fluid(density: float, n: int = 256, seed: int = 0) -> Atoms:
    """A molten box of about `n` atoms at a reduced density, hot still and without velocities."""
    hot = Dynamics(ensemble="langevin", time_step_fs=5.0, length_ps=3.0, temperature_damping_fs=200.0)
    atoms = lattice(density, n, seed)
    molten = simulate(atoms, LennardJones(), hot, seed=seed, temperature_K=3 * KELVIN)
    atoms.positions = molten.arrays["positions"]
    return atoms


def lattice(density: float, n: int = 256, seed: int = 0) -> Atoms:
    """Atoms near the sites of a face-centred lattice at a reduced density."""
    per_edge = round((n / 4) ** (1 / 3))
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    edge = SIGMA * (4 * per_edge**3 / density) ** (1 / 3)
    sites = ((grid + base).reshape(-1, 3) / per_edge) * edge
    noise = np.random.default_rng(seed).normal(scale=0.05, size=sites.shape)
    atoms = Atoms(np.full(len(sites), 18), sites + noise, cell=[edge] * 3, pbc=True)
    atoms.set_masses(np.full(len(sites), ARGON_U))
    return atoms


@njit(cache=True)
def _pairs(x, cell, inverse, cutoff, at_cutoff):  # type: ignore[no-untyped-def]
    n = len(x)
    energy, force, virial = 0.0, np.zeros((n, 3)), np.zeros((3, 3))
    d, shift = np.zeros(3), np.zeros(3)
    for i in range(n):
        for j in range(i + 1, n):
            r2 = 0.0
            for k in range(3):
                d[k] = x[i, k] - x[j, k]
            for k in range(3):
                shift[k] = np.rint(d[0] * inverse[0, k] + d[1] * inverse[1, k] + d[2] * inverse[2, k])
            for k in range(3):
                d[k] -= shift[0] * cell[0, k] + shift[1] * cell[1, k] + shift[2] * cell[2, k]
                r2 += d[k] * d[k]
            if r2 < cutoff * cutoff:
                inverse6 = 1.0 / (r2 * r2 * r2)
                energy += 4.0 * inverse6 * (inverse6 - 1.0) - at_cutoff
                slope = 24.0 * inverse6 * (2.0 * inverse6 - 1.0) / r2
                for k in range(3):
                    force[i, k] += slope * d[k]
                    force[j, k] -= slope * d[k]
                    for m in range(3):
                        virial[k, m] += slope * d[k] * d[m]
    return energy, force, virial
