"""Short simulations of a cluster with the labelling method itself: stretched bonds and bent angles as heat makes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.labels.methods import Computed, Method
from mlff.units import KCAL_PER_EV


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Heat:
    """Langevin dynamics from the cluster at rest; every `every` steps a frame is kept. Raises `ValidationError`."""

    temperature_K: Annotated[float, Field(gt=0, le=5000)] = 600.0
    frames: Annotated[int, Field(ge=1, description="kept of each cluster")] = 3
    every: Annotated[int, Field(ge=1, description="steps between frames; one label's cost each")] = 40
    time_step_fs: Annotated[float, Field(gt=0, le=2)] = 1.0
    friction_per_fs: Annotated[float, Field(gt=0, le=1)] = 0.02


def heated(
    method: Method,
    numbers: NDArray[np.int64],
    positions: NDArray[np.float64],
    charge: int,
    heat: Heat,
    seed: int,
) -> Iterator[tuple[NDArray[np.float64], Computed]]:
    """Frames of the simulation, positions `(n_atoms, 3)` Å about their centre, with labels.

    Velocities begin at twice the temperature, since half of that goes into the bonds at once. Raises `NotLabelled`
    where the method fails on the way; what came before has been yielded.
    """
    from ase import Atoms, units
    from ase.calculators.calculator import Calculator
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

    class _Calculator(Calculator):
        implemented_properties = ("energy", "forces")  # type: ignore[assignment]

        def calculate(self, atoms=None, properties=("energy",), system_changes=()):  # type: ignore[no-untyped-def]
            super().calculate(atoms, properties, system_changes)
            found = method.compute(numbers, atoms.positions, charge)
            self.results = {"energy": found.energy / KCAL_PER_EV, "forces": found.forces / KCAL_PER_EV}

    atoms = Atoms(numbers, positions, calculator=_Calculator())
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2.0 * heat.temperature_K, rng=rng)
    Stationary(atoms)
    dynamics = Langevin(
        atoms,
        heat.time_step_fs * units.fs,
        temperature_K=heat.temperature_K,
        friction=heat.friction_per_fs / units.fs,
        fixcm=False,
        rng=rng,
    )
    for _ in range(heat.frames):
        dynamics.run(heat.every)
        place = atoms.positions - atoms.positions.mean(axis=0)
        yield place, method.compute(numbers, place, charge)
