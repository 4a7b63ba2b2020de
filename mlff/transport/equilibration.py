"""Where a series has come to equilibrium, and the mean of what follows with an honest error.

Equilibrium begins where the number of independent samples left is largest (Chodera, J. Chem. Theory Comput. 12, 1799
(2016)); the statistical inefficiency g is the number of samples that count as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from mlff.transport.blocks import Estimate, Floats, jackknife, split_blocks
from mlff.transport.checks import check_finite

INDEPENDENT = 20.0
"""Length of a block in statistical inefficiencies: the correlation left between neighbours is then a few per cent."""
MOST_BLOCKS = 20
N_STARTS = 20
DOUBT = 0.05
"""Replicas that differ by more than their blocks allow, at this level of an F test, are themselves what is independent."""
MARGIN = 0.25
"""What is left out beyond the best start, as a share of it: there the transient is only as small as the noise."""


def statistical_inefficiency(series: Floats) -> float:
    """g = 1 + 2 sum_t (1 - t/N) C(t), summed to the first zero of the autocorrelation C; at least 1."""
    check_finite("samples", [np.asarray(series)])
    x = np.asarray(series, np.float64) - np.mean(series)
    n = len(x)
    if n < 2 or not np.ptp(series):
        return 1.0
    size = next_fast_len(2 * n, real=True)
    spectrum = rfft(x, size)
    raw = irfft(spectrum.real**2 + spectrum.imag**2, size)[:n]
    correlation = raw / raw[0] * n / (n - np.arange(n))
    below = np.flatnonzero(correlation <= 0)
    end = int(below[0]) if len(below) else n
    t = np.arange(1, end)
    return max(1.0, float(1 + 2 * np.sum((1 - t / n) * correlation[1:end])))


def detect_equilibration(series: Floats) -> tuple[int, float]:
    """First sample of equilibrium, and the statistical inefficiency from there on.

    Starts up to 70 % of the series are tried. A rest that stands still counts as one sample: else a jump of what
    changes seldom would pass for the end of a transient.
    """
    x = np.asarray(series, np.float64)
    check_finite("samples", [x])
    if not np.ptp(x):
        return 0, 1.0
    starts = np.unique(np.linspace(0, 0.7 * len(x), N_STARTS).astype(int))
    inefficiency = np.array([statistical_inefficiency(x[s:]) if np.ptp(x[s:]) else len(x) - s for s in starts])
    best = int(np.argmax((len(x) - starts) / inefficiency))
    return int((1 + MARGIN) * starts[best]), float(inefficiency[best])


@dataclass(frozen=True)
class Mean:
    """Mean of one quantity over replicas, each cut where its equilibrium begins."""

    estimate: Estimate
    starts: tuple[int, ...]
    """First sample used of each replica."""
    inefficiency: float
    """Largest statistical inefficiency of a replica, in samples."""


def mean_of_series(replicas: Sequence[Floats], *, compare: bool = True) -> Mean:
    """Mean over replicas `(n_samples,)` of the same quantity, with an error from blocks of twenty inefficiencies.

    A replica too short for two such blocks counts as one block; one replica of that kind has an infinite error. Where
    something slower than the blocks holds replicas apart (one-way analysis of variance), each counts as one block, too:
    a glass that has not relaxed gets the error that its replicas show. What changes in no replica has an infinite error
    from 0 blocks, wherever the replicas stand. `compare=False` leaves the comparison of replicas to the caller. Raises
    `ValueError` without samples.
    """
    return means_of_series([np.asarray(r)[:, None] for r in replicas], compare=compare)[0]


def means_of_series(replicas: Sequence[Floats], *, compare: bool = True) -> list[Mean]:
    """Means of several quantities `(n_samples, n_quantities)` of the same samples, as `mean_of_series` gives one.

    All are cut alike, by the slowest of them: so shares of a whole still add up to one.
    """
    if not replicas or min(map(len, replicas)) < 1:
        raise ValueError("a mean needs at least one sample of every replica")
    check_finite("samples", replicas)
    found = [[detect_equilibration(x) for x in np.transpose(r)] for r in replicas]
    starts = tuple(max(start for start, _ in f) for f in found)
    inefficiency = max(g for f in found for _, g in f)
    kept = [np.asarray(r, np.float64)[start:] for r, start in zip(replicas, starts, strict=True)]
    n_blocks = int(np.clip(min(map(len, kept)) / (INDEPENDENT * inefficiency), 1, MOST_BLOCKS))
    blocks = split_blocks(kept, n_blocks)
    estimates = [_estimate(b.reshape(len(replicas), n_blocks, -1), compare) for b in np.moveaxis(blocks, 2, 0)]
    return [Mean(estimate, starts, inefficiency) for estimate in estimates]


def _estimate(blocks: Floats, compare: bool) -> Estimate:
    """Of samples `(n_replicas, n_blocks, length)`."""
    if not np.ptp(blocks, axis=(1, 2)).any():
        return Estimate(float(blocks.mean()), math.inf, 0)
    means = blocks.mean(axis=2)
    if compare and means.shape[1] > 1 and _apart(means):
        means = means.mean(axis=1, keepdims=True)
    return jackknife(lambda m: m, means.reshape(-1, 1))[0]


def _apart(blocks: Floats) -> bool:
    """Whether the means of rows `(n_replicas, n_blocks)` differ by more than the spread within them explains."""
    if len(blocks) < 2:
        return False
    if not np.ptp(blocks, axis=1).any():
        return bool(np.ptp(blocks))
    from scipy.stats import f_oneway

    return bool(f_oneway(*blocks).pvalue < DOUBT)
