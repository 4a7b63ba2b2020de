"""Shear viscosity by Green-Kubo, with the time-decomposition fit of Zhang, Otani and Maginn (JCTC 11, 3537 (2015)).

eta(t) = V/(k_B T) int_0^t <P(0) P(s)> ds, averaged over five independent components of the pressure tensor: xy, xz, yz,
(xx - yy)/2, (xx + yy - 2 zz)/(2 sqrt 3). The running integral's spread over blocks grows as t^b; the mean is fitted up to
where that spread is 40 % of it, weighted by 1/t^b, with two rising exponentials, whose sum at infinite time is eta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import constants
from scipy.fft import irfft, next_fast_len, rfft

from mlff.transport.blocks import LARGEST_SHARE, Estimate, Floats, jackknife, split_blocks
from mlff.transport.checks import check_finite, check_positive
from mlff.transport.displacements import Window
from mlff.transport.relaxation import Relaxation, fit_relaxation

SPREAD_AT_CUT = 0.4
LEAST_WINDOW_PS = 1.0
"""No stress of a molecular liquid has relaxed before: a window that noise closes earlier says nothing of the viscosity."""
POINTS = 150
"""Points of the running integral that are fitted."""
SLOWEST = 1 / 3
"""Longest relaxation time of the fit as a share of the window: so that the plateau is seen, not extrapolated."""


@dataclass(frozen=True, eq=False)
class Viscosity:
    """`eta` in mPa s; `time_ps`, `running`, `spread`, `fitted` `(n,)` are what the fit saw, in mPa s."""

    eta: Estimate
    window: Window
    exponent: float
    """b of the spread's growth."""
    slowest_ps: float
    """The longer relaxation time of the fit."""
    too_short: bool
    """The window is shorter than any liquid's relaxation, or the slowest part sits at the longest time that it allows."""
    time_ps: Floats
    running: Floats
    spread: Floats
    fitted: Floats


def shear_components(pressure: Floats) -> Floats:
    """The five components `(..., 5)` of pressures `(..., 6)` in the order xx yy zz yz xz xy."""
    xx, yy, zz, yz, xz, xy = np.moveaxis(np.asarray(pressure, np.float64), -1, 0)
    return np.stack([xy, xz, yz, (xx - yy) / 2, (xx + yy - 2 * zz) / (2 * np.sqrt(3))], axis=-1)


def autocorrelation(series: Floats, n_lags: int) -> Floats:
    """<x(0) x(t)> along the last axis for lags 0..n_lags-1; the mean is not taken off."""
    n = series.shape[-1]
    size = next_fast_len(n + n_lags, real=True)
    spectrum = rfft(series, size)
    return irfft(spectrum.real**2 + spectrum.imag**2, size)[..., :n_lags] / (n - np.arange(n_lags))


def running_integrals(pressures: Sequence[Floats], dt_ps: float, n_blocks: int) -> tuple[Floats, Floats]:
    """Lags `(n,)` in ps, and integrals of the autocorrelation `(n_all_blocks, n)` in atm2 ps, each block's own mean."""
    blocks = split_blocks([shear_components(p) for p in pressures], n_blocks)
    n_lags = max(2, int(LARGEST_SHARE * blocks.shape[1]))
    correlation = autocorrelation(np.moveaxis(blocks, 1, 2), n_lags).mean(axis=1)
    steps = 0.5 * dt_ps * (correlation[:, 1:] + correlation[:, :-1])
    return np.arange(n_lags) * np.float64(dt_ps), np.concatenate(
        [np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1
    )


def viscosity(
    pressures: Sequence[Floats], dt_ps: float, volume_A3: float, temperature_K: float, *, n_blocks: int = 5
) -> Viscosity:
    """Viscosity from pressure tensors `(n_steps, 6)` in atm of each replica, order xx yy zz yz xz xy, every `dt_ps`.

    `n_blocks` is for each replica. The pressures are those of equilibrium at constant volume, kinetic part included.
    Raises `ValueError` where there are fewer than two blocks in all or too few samples, for pressures that are not six
    or not finite, and for a time step, volume or temperature that is not positive.
    """
    check_positive(dt_ps=dt_ps, volume_A3=volume_A3, temperature_K=temperature_K)
    if len(pressures) * n_blocks < 2 or min(map(len, pressures)) < 40 * n_blocks:
        raise ValueError("a viscosity needs at least two blocks of 40 pressures")
    if any(np.ndim(p) != 2 or np.shape(p)[1] != 6 for p in pressures):
        raise ValueError(
            f"pressures of shapes {[np.shape(p) for p in pressures]}: expected (n_steps, 6) of each replica"
        )
    check_finite("pressures", pressures)
    lags, integrals = running_integrals(pressures, dt_ps, n_blocks)
    integrals *= volume_A3 * _PER_ATM2_PS / temperature_K
    mean, spread = integrals.mean(axis=0), integrals.std(axis=0, ddof=1)
    cut, exponent = _cut(lags, mean, spread)
    chosen = np.unique(np.linspace(1, cut, min(POINTS, cut)).astype(int))
    t, weights = lags[chosen], lags[chosen] ** (-2 * exponent)
    fits: list[Relaxation] = []

    def plateau(curves: Floats) -> Floats:
        fits.append(fit_relaxation(t, curves, weights / weights.sum(), dt_ps, max(SLOWEST * t[-1], 2 * dt_ps)))
        return fits[-1].plateau[:, None]

    eta = jackknife(plateau, integrals[:, chosen])[0]
    fitted = fits[0].at(lags)[0]
    used = fits[0].amplitudes[0] > 0
    return Viscosity(
        eta=eta,
        window=Window(float(t[0]), float(t[-1])),
        exponent=exponent,
        slowest_ps=float(fits[0].times[0][used].max()) if used.any() else 0.0,
        too_short=_is_too_short(fits[0], float(t[-1])),
        time_ps=lags,
        running=mean,
        spread=spread,
        fitted=fitted,
    )


def _is_too_short(fit: Relaxation, window_ps: float) -> bool:
    if window_ps < LEAST_WINDOW_PS:
        return True
    slow_share = fit.amplitudes[0, 1] / max(fit.plateau[0], 1e-300)
    return bool(fit.plateau[0] <= 0 or (fit.times[0, 1] > 0.9 * SLOWEST * window_ps and slow_share > 0.3))


def _cut(lags: Floats, mean: Floats, spread: Floats) -> tuple[int, float]:
    """Last lag that is fitted, and the exponent b of spread = c t^b up to there."""
    beyond = np.flatnonzero(spread[1:] > SPREAD_AT_CUT * np.abs(mean[1:]))
    # the spread of the first few steps may be large where the correlation oscillates: it has to stay large
    wide = beyond[np.searchsorted(beyond, len(lags) // 50) :]
    cut = int(np.clip(wide[0] if len(wide) else len(lags) - 1, min(20, len(lags) - 1), len(lags) - 1))
    later = slice(max(1, cut // 10), cut + 1)
    positive = spread[later] > 0
    if positive.sum() < 2:
        return cut, 0.5
    slope = np.polyfit(np.log(lags[later][positive]), np.log(spread[later][positive]), 1)[0]
    return cut, float(np.clip(slope, 0.0, 2.0))


_PER_ATM2_PS = constants.atm**2 * 1e-30 * 1e-12 / constants.k * 1e3
"""Å3 atm2 ps / k_B in mPa s K."""
