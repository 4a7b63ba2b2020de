"""Programs that can advance the atoms while the model gives the forces: ASE, LAMMPS and OpenMM behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from ase import Atoms

from mlff.integrators import Conditions, Integrator

Program = Literal["ase", "lammps", "openmm"]
IntegratorOf = Callable[[Atoms, Conditions, np.random.Generator], Any]


def integrator_of(program: Program, ensemble: str) -> IntegratorOf:
    """What `mlff.dynamics.simulate` takes as `integrator_of`.

    Raises `ValueError` where the program is not installed or does not have the ensemble.
    """
    try:
        if program == "lammps":
            from mlff.lammps_engine import LammpsIntegrator, import_lammps

            import_lammps()
            return LammpsIntegrator
        if program == "openmm":
            import openmm  # noqa: F401

            from mlff.openmm_engine import ENSEMBLES, OpenmmIntegrator

            if ensemble not in ENSEMBLES:
                raise ValueError(f"engine=openmm has no ensemble {ensemble}; it has {', '.join(ENSEMBLES)}")
            return OpenmmIntegrator
    except ImportError as error:
        raise ValueError(f"engine={program} is not installed ({error}); pip install 'lsmrun[{program}]'") from error
    return Integrator
