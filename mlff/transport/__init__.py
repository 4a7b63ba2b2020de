"""Density, viscosity, diffusion, conductivity and structure from time series; pure functions over arrays.

| file | idea |
|---|---|
| `checks.py` | what is asked of arguments |
| `blocks.py` | independent blocks, the jackknife, an estimate with its error |
| `equilibration.py` | where equilibrium begins, mean of a correlated series (density) |
| `viscosity.py`, `relaxation.py` | Green-Kubo with the time-decomposition fit |
| `displacements.py` | centres of mass, mean square displacements, fit windows |
| `diffusion.py` | self-diffusion, Yeh-Hummer correction |
| `conductivity.py` | Nernst-Einstein, Einstein-Helfand, Haven ratio, transference numbers |
| `structure.py`, `solvation.py` | radial distributions, coordination numbers, species of Li+ |
| `resolved.py` | whether an estimate is worth printing, and what it would take |

Units: Å, ps, u, e, K, atm in; g/cm3, mPa s, m2/s, S/m out. Errors are those of `blocks.Estimate`.
"""

from __future__ import annotations

from mlff.transport.blocks import Estimate, jackknife
from mlff.transport.conductivity import Conductivity, conductivity
from mlff.transport.diffusion import Diffusion, self_diffusion, yeh_hummer
from mlff.transport.displacements import Centres, Curves, Window, centres_of_mass, choose_window, displacements
from mlff.transport.equilibration import (
    Mean,
    detect_equilibration,
    mean_of_series,
    means_of_series,
    statistical_inefficiency,
)
from mlff.transport.solvation import SolvationShells, solvation_shells
from mlff.transport.structure import RadialDistribution, radial_distribution
from mlff.transport.viscosity import Viscosity, viscosity

__all__ = [
    "Centres",
    "Conductivity",
    "Curves",
    "Diffusion",
    "Estimate",
    "Mean",
    "RadialDistribution",
    "SolvationShells",
    "Viscosity",
    "Window",
    "centres_of_mass",
    "choose_window",
    "conductivity",
    "detect_equilibration",
    "displacements",
    "jackknife",
    "mean_of_series",
    "means_of_series",
    "radial_distribution",
    "self_diffusion",
    "solvation_shells",
    "statistical_inefficiency",
    "viscosity",
    "yeh_hummer",
]
