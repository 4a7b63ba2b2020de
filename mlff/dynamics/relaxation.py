"""From a packed box to one that dynamics can start from: minimisation, then short steps under strong friction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.optimize.fire2 import FIRE2
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.dynamics.integrators import forget
from mlff.dynamics.simulation import LEAST_DAMPING, BlowUp, Dynamics, describe_atoms, set_velocities, simulate


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Relaxation:
    """How a packed box is relaxed; a box from a file may go without (`steps=0`, `soft_start_ps=0`).

    A freshly packed carbonate pushes with some 8,000 atm, which need 1 to 1.5 ps at fixed volume to go; a barostat that
    starts earlier blows the box up by a quarter and more.
    """

    steps: Annotated[int, Field(ge=0, le=100_000, description="most steps of minimisation")] = 300
    max_force_eV_A: Annotated[float, Field(gt=0, description="minimisation stops below")] = 0.5
    limit_eV_A: Annotated[float, Field(gt=0, description="a larger force left by it is an error")] = 20.0
    soft_start_ps: Annotated[float, Field(ge=0, le=1000, description="Langevin dynamics with short steps")] = 1.5
    time_step_fs: Annotated[float, Field(gt=0, le=1)] = 0.5
    friction_fs: Annotated[float, Field(gt=0, description="time in which friction stops an atom")] = 50.0

    def __post_init__(self) -> None:
        if self.friction_fs < LEAST_DAMPING * self.time_step_fs:
            raise ValueError(
                f"friction_fs={self.friction_fs:g}: must be at least {LEAST_DAMPING * self.time_step_fs:g}, "
                f"{LEAST_DAMPING:g} time steps"
            )


def relax(
    atoms: Atoms,
    calculator: Any,
    r: Relaxation,
    *,
    temperature_K: float,
    seed: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Atoms:
    """A copy of the box, minimised and brought to the temperature, with velocities; raises `BlowUp`.

    Velocities of a file are kept only where nothing is done to the box.
    `progress` is told force calls done and in all.
    """
    atoms = atoms.copy()
    soft = Dynamics(
        ensemble="langevin",
        time_step_fs=r.time_step_fs,
        length_ps=max(r.soft_start_ps, 1e-3),
        temperature_damping_fs=r.friction_fs,
        max_temperature_K=max(3000.0, 10 * temperature_K),
        max_force_eV_A=1000.0,
        max_spread_eV_A=None,
    )
    n_soft = soft.n_steps if r.soft_start_ps else 0
    total = r.steps + n_soft
    if r.steps:
        atoms = _minimised(atoms, calculator, r, lambda done: progress(done, total))
    if total or not atoms.has("momenta"):
        set_velocities(atoms, temperature_K, seed)
    if n_soft:
        state = simulate(
            atoms,
            calculator,
            soft,
            seed=seed,
            temperature_K=temperature_K,
            on_step=lambda step: progress(r.steps + step.step, total),
        )
        atoms = state.put_on(atoms)
        set_velocities(atoms, temperature_K, seed)
    return atoms


def _minimised(atoms: Atoms, calculator: Any, r: Relaxation, progress: Callable[[int], object]) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = calculator
    forget(calculator)
    # ASE takes None for no log, its types do not say so
    with FIRE2(atoms, logfile=None, maxstep=0.1) as search:  # type: ignore[arg-type]
        for done, _ in enumerate(search.irun(fmax=r.max_force_eV_A, steps=r.steps)):
            progress(done)
    largest = np.linalg.norm(atoms.get_forces(), axis=1)
    worst = np.argsort(-np.nan_to_num(largest, nan=np.inf), kind="stable")[:3]
    atoms.calc = None
    if not largest.max() < r.limit_eV_A:
        what = f"forces of {largest.max():.3g} eV/Å remain after minimisation"
        raise BlowUp(f"{what}; atoms {describe_atoms(atoms, worst)}; pack at a lower density", atoms, worst)
    return atoms
