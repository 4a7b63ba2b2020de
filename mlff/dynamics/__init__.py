"""Molecular dynamics of periodic boxes; `Dynamics` holds the options of a run.

| file | idea |
|---|---|
| `simulation.py` | a run: every step recorded, restarts bit for bit, blow-ups caught |
| `integrators.py` | ASE's integrators with their conserved quantities |
| `engines.py`, `lammps_engine.py`, `lammps_pppm.py`, `openmm_engine.py` | other programs that advance the atoms |
| `masses.py` | heavier hydrogen, for longer time steps |
| `relaxation.py` | from a packed box to one that dynamics can start from |
| `trajectory.py` | H5MD files |
| `stability.py` | how long a model holds out |
"""

from __future__ import annotations

from mlff.dynamics.simulation import Dynamics

__all__ = ["Dynamics"]
