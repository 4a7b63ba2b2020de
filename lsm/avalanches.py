"""Avalanches of population activity and the power law that their sizes may follow.

An avalanche is an unbroken run of milliseconds in which the population fires more than `threshold` spikes per ms; with
threshold 0 it ends at the first bin without spikes (Beggs & Plenz 2003, J. Neurosci. 23:11167). Its size is the area
above the threshold, not above zero: the latter distorts the scaling (Villegas et al. 2019, Phys. Rev. E 100:012133).

A liquid is driven all the time, through the same inputs everywhere, and hardly ever silent: excursions above a threshold
then mix cascades with fluctuations of the drive. An exponent is evidence of criticality only together with a small KS
distance and a positive comparison with an exponential tail, and not even then proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_TAIL = 50
"""Fewer values than this in the tail are not fitted."""
_MOST_CUTOFFS = 50
_EXPONENTS = (1.0001, 20.0)


@dataclass(frozen=True)
class Avalanches:
    """`sizes` (spikes above the threshold) and `durations` (ms), both `(n,)`, of complete avalanches."""

    sizes: NDArray[np.int64]
    durations: NDArray[np.int64]


def avalanches(population: NDArray[np.integer[Any]], threshold: int) -> Avalanches:
    """Avalanches in `(T,)` spikes per ms; those cut off by the first or the last bin are left out."""
    padded = np.concatenate([[0], (population > threshold).astype(np.int8), [0]])
    edges = np.diff(padded)
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    whole = (starts > 0) & (stops < len(population))
    starts, stops = starts[whole], stops[whole]
    area = np.concatenate([[0], np.cumsum(population.astype(np.int64) - threshold)])
    return Avalanches(area[stops] - area[starts], stops - starts)


@dataclass(frozen=True)
class PowerLaw:
    """p(x) ~ x^-exponent for the `n_tail` whole numbers x >= `x_min`.

    `ks_distance` is the largest gap between the cumulative distributions of tail and fit; `versus_geometric` the
    normalised likelihood ratio against a geometric (exponential) tail: above +2 the power law is better, below -2 worse.
    """

    exponent: float
    standard_error: float
    x_min: int
    n_tail: int
    ks_distance: float
    versus_geometric: float


def fit_power_law(values: ArrayLike, x_min: int | None = None) -> PowerLaw | None:
    """Exact discrete maximum likelihood; without `x_min` the cutoff of the smallest KS distance is taken.

    `values` are whole numbers >= 1. None if the tail has fewer than `MIN_TAIL` values or they are all the same.
    Source: Clauset, Shalizi & Newman 2009, SIAM Review 51:661, eqs. 3.7, 3.9 and appendix C.
    """
    data = np.sort(np.asarray(values, np.int64).ravel())
    cutoffs = _cutoffs(data) if x_min is None else np.array([x_min])
    fits = [fit for cutoff in cutoffs if (fit := _fit_tail(data[data >= cutoff], int(cutoff))) is not None]
    return min(fits, key=lambda fit: fit.ks_distance, default=None)


def _cutoffs(data: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values that leave a tail long enough, at most `_MOST_CUTOFFS` of them, small ones closer together."""
    distinct = np.unique(data[: max(len(data) - MIN_TAIL + 1, 0)])
    at = np.unique(np.geomspace(1, max(len(distinct), 1), _MOST_CUTOFFS).astype(int)) - 1
    return distinct[at] if len(distinct) else distinct


def _fit_tail(tail: NDArray[np.int64], x_min: int) -> PowerLaw | None:
    from scipy.optimize import minimize_scalar
    from scipy.special import zeta

    if len(tail) < MIN_TAIL or tail[0] == tail[-1]:
        return None
    logs = np.log(tail)

    def loss(a: float) -> float:
        return float(a * logs.mean() + np.log(zeta(a, x_min)))

    exponent = float(minimize_scalar(loss, bounds=_EXPONENTS, method="bounded", options={"xatol": 1e-6}).x)
    distinct, counts = np.unique(tail, return_counts=True)
    measured = np.cumsum(counts) / len(tail)
    fitted = 1 - zeta(exponent, distinct + 1) / zeta(exponent, x_min)
    h = 1e-3
    curvature = (loss(exponent + h) - 2 * loss(exponent) + loss(exponent - h)) / h**2
    return PowerLaw(
        exponent=exponent,
        standard_error=float(1 / np.sqrt(len(tail) * curvature)) if curvature > 0 else float("nan"),
        x_min=x_min,
        n_tail=len(tail),
        ks_distance=float(np.abs(measured - fitted).max()),
        versus_geometric=_versus_geometric(tail, x_min, -exponent * logs - np.log(zeta(exponent, x_min))),
    )


def _versus_geometric(tail: NDArray[np.int64], x_min: int, log_power: NDArray[np.float64]) -> float:
    """Vuong's statistic: the sum of log-likelihood differences in units of its standard deviation."""
    above = tail - x_min
    p = 1 / (1 + above.mean())
    difference = log_power - (np.log(p) + above * np.log1p(-p))
    spread = difference.std()
    return float(difference.sum() / (spread * np.sqrt(len(tail)))) if spread > 0 else 0.0
