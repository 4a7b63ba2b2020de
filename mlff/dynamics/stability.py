"""How long a model's dynamics holds out where it is tried hard."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlff.calculator import MLFFCalculator
from mlff.dynamics.simulation import BlowUp, Dynamics, Step, simulate
from mlff.frames import Configuration
from mlff.model import ForceField


def calculator(model: ForceField, threads: int = 1) -> MLFFCalculator:
    """The model for dynamics, on the fast path where it is made for it."""
    try:
        return MLFFCalculator(model, fast=True, threads=threads)
    except ValueError:
        return MLFFCalculator(model)


def atoms_of(c: Configuration) -> Atoms:
    """A configuration as ASE's atoms, molecules and charges included."""
    atoms = Atoms(numbers=c.numbers, positions=c.positions, cell=c.cell, pbc=c.pbc)
    atoms.info["charge"] = c.total_charge
    if c.fragments is not None:
        atoms.arrays["fragments"] = c.fragments.copy()
        atoms.info["fragment_charges"] = np.asarray(c.fragment_charges, np.float64).copy()
    return atoms


def stable_ps(
    model: ForceField, start: Configuration, length_ps: float, temperature_K: float, seed: int, *, threads: int = 1
) -> float:
    """Time until the dynamics of a box at constant volume blows up, at most `length_ps`."""
    trial = Dynamics(
        ensemble="csvr", temperature_K=temperature_K, length_ps=length_ps, max_temperature_K=5.0 * temperature_K
    )
    reached = 0.0

    def on_step(step: Step) -> None:
        nonlocal reached
        reached = step.time_ps

    try:
        simulate(atoms_of(start), calculator(model, threads), trial, seed=seed, on_step=on_step)
    except BlowUp:
        return reached
    return length_ps
