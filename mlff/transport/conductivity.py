"""Ionic conductivity of a box: without correlations (Nernst-Einstein) and with all of them (Einstein-Helfand).

Charges are formal and sit at the centres of mass of the ions; frame: barycentric; no correction for the size of the box.

    sigma_NE = e2/(V k_B T) sum_i N_i z_i^2 D_i
    L_ab     = e2/(6 V k_B T) d/dt <dR_a . dR_b>     R_a = sum of z r over cations (+) or anions (-)
    sigma    = L_++ + 2 L_+- + L_--                  Haven ratio = sigma_NE / sigma, both of the same box
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import constants

from mlff.transport.blocks import Estimate, Floats, jackknife
from mlff.transport.checks import check_positive
from mlff.transport.displacements import Curves, Window, choose_window, slopes


@dataclass(frozen=True)
class Conductivity:
    """Conductivities in S/m, and ratios; all of the uncorrected box.

    `t_ne` is the apparent transport number of the cations, from self-diffusion alone, as NMR gives it. `t_barycentric`
    and `t_solvent` are (L_++ + L_+-)/sigma with displacements relative to the centre of mass of everything, and of the
    neutral molecules: Onsager's transference number t+, the latter the t+^0 of concentrated-solution theory.
    """

    nernst_einstein: Estimate
    collective: Estimate
    haven_ratio: Estimate
    t_ne: Estimate
    t_barycentric: Estimate
    t_solvent: Estimate | None
    """None where all molecules are ions."""
    n_pairs: int
    """Fewer of cations and anions in one box."""
    window: Window


def conductivity(
    curves: Curves,
    volume_A3: float,
    temperature_K: float,
    *,
    start_ps: float | None = None,
    end_ps: float | None = None,
) -> Conductivity:
    """Both conductivities from displacements; raises `ValueError` without ions of both signs, or
    for a volume or temperature that is not positive.

    The window of the ions is where their own displacements are diffusive; that of the charge is the same, since the
    collective curve is too noisy to choose by.
    """
    check_positive(volume_A3=volume_A3, temperature_K=temperature_K)
    z, n = np.array(curves.ion_charges), np.array(curves.counts)
    if not curves.charge.shape[2]:
        raise ValueError("a conductivity needs cations and anions")
    weights = n * z**2
    ions = curves.self_msd.mean(axis=0)[z != 0]
    window = choose_window(curves.time_ps, np.average(ions, axis=0, weights=weights[z != 0]), start_ps, end_ps)
    factor = constants.e**2 / (6 * volume_A3 * 1e-30 * constants.k * temperature_K) * 1e-8

    def values(self_msd: Floats, charge: Floats, charge_solvent: Floats) -> Floats:
        own = factor * slopes(curves.time_ps, self_msd, window) * weights
        ne, cations = own.sum(axis=1), own[:, z > 0].sum(axis=1)
        (pp, mm, pm), (pp0, _, pm0) = (
            np.moveaxis(factor * slopes(curves.time_ps, c, window), 1, 0) for c in (charge, charge_solvent)
        )
        sigma = pp + mm + 2 * pm
        return np.stack([ne, sigma, ne / sigma, cations / ne, (pp + pm) / sigma, (pp0 + pm0) / sigma], axis=1)

    ne, sigma, haven, t_ne, t_barycentric, t_solvent = jackknife(
        values, curves.self_msd, curves.charge, curves.charge_solvent
    )
    return Conductivity(
        nernst_einstein=ne,
        collective=sigma,
        haven_ratio=haven,
        t_ne=t_ne,
        t_barycentric=t_barycentric,
        t_solvent=t_solvent if (z == 0).any() else None,
        n_pairs=int(min(n[z > 0].sum(), n[z < 0].sum())),
        window=window,
    )
