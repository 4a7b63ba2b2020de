"""From a density that is off to the pressure that a model must exert more, and whether it did.

    kappa_T = var(V) / (kT <V>)                          compressibility from the run's own fluctuations of volume
    dP      = ln(rho_found / rho_measured) / kappa_T     what the model must push outwards more, in atm

A liquid that is too dense needs a positive dP: at the same outer pressure it then expands by -dP kappa_T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlff.units import ATM_PER_KCAL_A3

KB_KCAL = 0.0019872042586408316
"""Boltzmann's constant, kcal/mol/K (CODATA 2018)."""
LIKELY_PER_ATM = (2e-5, 5e-4)
"""Compressibilities of molecular liquids, 2e-10 to 5e-9 per Pa; a short run's estimate is kept within."""


@dataclass(frozen=True)
class Measured:
    """A density from a run at constant pressure: g/cm3, half its 95 % interval, compressibility per atm."""

    density_g_cm3: float
    error_g_cm3: float
    compressibility_per_atm: float

    def __post_init__(self) -> None:
        if not (self.density_g_cm3 > 0 and self.error_g_cm3 >= 0 and self.compressibility_per_atm > 0):
            raise ValueError(f"not a measured density: {self}")


def compressibility_per_atm(volumes_A3: NDArray[np.float64], temperature_K: float) -> float:
    """kappa_T from volumes of an equilibrated run at constant pressure, kept within `LIKELY_PER_ATM`.

    Raises `ValueError` for fewer than two volumes.
    """
    if len(volumes_A3) < 2:
        raise ValueError(f"a compressibility from {len(volumes_A3)} volumes; a longer run is needed")
    mean, variance = float(np.mean(volumes_A3)), float(np.var(volumes_A3, ddof=1))
    found = variance / (KB_KCAL * temperature_K * mean) / ATM_PER_KCAL_A3
    return float(np.clip(found, *LIKELY_PER_ATM))


def wanted_change_atm(found: Measured, target_g_cm3: float, most_atm: float) -> float:
    """Pressure that the model must exert more, at most `most_atm` either way in one round."""
    change = math.log(found.density_g_cm3 / target_g_cm3) / found.compressibility_per_atm
    return max(-most_atm, min(most_atm, change))


def covers(found: Measured, target_g_cm3: float, tolerance_g_cm3: float = 0.0) -> bool:
    """Whether the error bar (or the tolerance, where that is wider) around a density covers the target."""
    return abs(found.density_g_cm3 - target_g_cm3) <= max(found.error_g_cm3, tolerance_g_cm3)


def corrected(before: Measured, after: Measured, change_atm: float) -> Measured:
    """`after` with the compressibility that the last change of pressure has shown, where that is beyond the noise."""
    moved = math.log(before.density_g_cm3 / after.density_g_cm3)
    noise = math.hypot(before.error_g_cm3, after.error_g_cm3) / after.density_g_cm3
    if change_atm == 0.0 or abs(moved) < 2.0 * noise or moved * change_atm <= 0.0:
        return after
    return replace(after, compressibility_per_atm=float(np.clip(moved / change_atm, *LIKELY_PER_ATM)))


def check_direction(names: Sequence[str], change_atm: Sequence[float], moved_g_cm3: Sequence[float]) -> None:
    """Raise `ValueError` where densities went the wrong way when pressures were changed.

    `moved_g_cm3`: density with the changed model less density with the old one, same start and seed. A positive change
    pushes outwards and lowers the density. Judged over all liquids together, so that noise in one is no alarm.
    """
    agreement = -float(np.dot(change_atm, moved_g_cm3))
    if np.any(np.asarray(change_atm) != 0.0) and agreement <= 0.0:
        told = ", ".join(
            f"{n}: {p:+.0f} atm moved the density by {d:+.4f} g/cm3"
            for n, p, d in zip(names, change_atm, moved_g_cm3, strict=True)
        )
        raise ValueError(f"the pressure change has the wrong sign or unit ({told}): more pressure must lower a density")


def measured(density_g_cm3: NDArray[np.float64], volume_A3: NDArray[np.float64], temperature_K: float) -> Measured:
    """Density with half its 95 % interval, and compressibility, from the equilibrated part of a run at constant pressure.

    Too short a run for blocks has twice the standard error that its correlation time gives.
    """
    from mlff.transport import mean_of_series

    mean = mean_of_series([np.asarray(density_g_cm3, np.float64)])
    start = mean.starts[0]
    kept = np.asarray(density_g_cm3[start:], np.float64)
    error = mean.estimate.error
    if not np.isfinite(error):
        error = 2.0 * float(kept.std()) * math.sqrt(mean.inefficiency / len(kept))
    return Measured(mean.estimate.value, error, compressibility_per_atm(volume_A3[start:], temperature_K))


def equilibrium_from(density_g_cm3: NDArray[np.float64]) -> int:
    """First sample of a run's equilibrated part, as `measured` takes it."""
    from mlff.transport import detect_equilibration

    return detect_equilibration(np.asarray(density_g_cm3, np.float64))[0]
