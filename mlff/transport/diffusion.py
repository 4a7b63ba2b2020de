"""Self-diffusion from mean square displacements, and its correction for the size of the box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import constants

from mlff.transport.blocks import Estimate, Floats, jackknife
from mlff.transport.checks import check_positive
from mlff.transport.displacements import Curves, Window, choose_window, slopes

CUBIC = 2.837297
"""xi of a cubic periodic box."""
A2_PER_PS = 1e-8
"""One Å2/ps in m2/s."""


@dataclass(frozen=True)
class Diffusion:
    """Self-diffusion of one species in m2/s: in the box as it is, and at infinite size by Yeh and Hummer."""

    name: str
    n_molecules: int
    in_box: Estimate
    corrected: Estimate | None
    """None where there is no viscosity to correct with; worth no more than that viscosity."""
    window: Window


def self_diffusion(
    curves: Curves,
    *,
    viscosity_mPa_s: Estimate | None = None,
    volume_A3: float | None = None,
    temperature_K: float | None = None,
    start_ps: float | None = None,
    end_ps: float | None = None,
) -> list[Diffusion]:
    """D = slope / 6 of every species; corrected with the model's own viscosity where that is given with V and T."""
    found = []
    for k, name in enumerate(curves.names):
        msd = curves.self_msd[:, k]
        window = choose_window(curves.time_ps, msd.mean(axis=0), start_ps, end_ps)
        d = jackknife(partial(_coefficient, curves.time_ps, window), msd)[0]
        corrected = None
        if viscosity_mPa_s is not None and volume_A3 is not None and temperature_K is not None:
            corrected = d.plus(yeh_hummer(viscosity_mPa_s, volume_A3, temperature_K))
        found.append(Diffusion(name, curves.counts[k], d, corrected, window))
    return found


def yeh_hummer(viscosity_mPa_s: Estimate, volume_A3: float, temperature_K: float) -> Estimate:
    """What to add to D of a cubic box, in m2/s: xi k_B T / (6 pi eta L) (Yeh and Hummer, J. Phys. Chem. B 108, 15873).

    Raises `ValueError` for what is not positive.
    """
    check_positive(viscosity_mPa_s=viscosity_mPa_s.value, volume_A3=volume_A3, temperature_K=temperature_K)
    length = np.cbrt(volume_A3) * 1e-10
    eta = viscosity_mPa_s.value * 1e-3
    added = CUBIC * constants.k * temperature_K / (6 * np.pi * eta * length)
    share = viscosity_mPa_s.standard_error / viscosity_mPa_s.value
    return Estimate(float(added), float(abs(added * share)), viscosity_mPa_s.n_blocks)


def _coefficient(time_ps: Floats, window: Window, msd: Floats) -> Floats:
    return slopes(time_ps, msd, window)[:, None] * A2_PER_PS / 6
