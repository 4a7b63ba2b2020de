"""Programs that can advance the atoms while the model gives the forces: ASE, LAMMPS and OpenMM behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from ase import Atoms

from mlff.dynamics.integrators import Conditions, Integrator
from mlff.model import ForceField

Program = Literal["ase", "lammps", "lammps_pppm", "openmm"]
IntegratorOf = Callable[[Atoms, Conditions, np.random.Generator], Any]


def integrator_of(program: Program, ensemble: str, models: Sequence[ForceField] = ()) -> IntegratorOf:
    """What `mlff.dynamics.simulation.simulate` takes as `integrator_of`; `lammps_pppm` takes the one model of `models`.

    Raises `ValueError` where the program is not installed or does not have the ensemble.
    """
    try:
        if program in ("lammps", "lammps_pppm"):
            from mlff.dynamics.lammps_engine import LammpsIntegrator, import_lammps

            import_lammps()
            return LammpsIntegrator if program == "lammps" else _beside_pppm(models)
        if program == "openmm":
            import openmm  # noqa: F401

            from mlff.dynamics.openmm_engine import ENSEMBLES, OpenmmIntegrator

            if ensemble not in ENSEMBLES:
                raise ValueError(f"engine=openmm has no ensemble {ensemble}; it has {', '.join(ENSEMBLES)}")
            return OpenmmIntegrator
    except ImportError as error:
        raise ValueError(
            f"engine={program} is not installed ({error}); pip install 'lsmrun[{program.removesuffix('_pppm')}]'"
        ) from error
    return Integrator


def _beside_pppm(models: Sequence[ForceField]) -> IntegratorOf:
    from mlff.dynamics.lammps_pppm import PppmIntegrator

    if len(models) != 1:
        raise ValueError("engine=lammps_pppm takes one model, not a committee: LAMMPS holds one set of charges")
    made: IntegratorOf = partial(PppmIntegrator, model=models[0])
    return made
