"""What one recorded sample tells about a liquid's dynamics: rates, branching factor, synchrony, astrocyte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lsm.criticality import branching_factor
from lsm.protocol import Recording

FIRST_MS, LAST_MS = 25, 225
"""Onset and end of a sample are left out, as for the branching factor."""
BIN_MS = 10
"""Width of the bins of the synchrony measures."""


@dataclass(frozen=True)
class Activity:
    """One sample of `T` ms; NaN where a silent or very short sample leaves a number undefined.

    `counts` `(n,)` spikes of each liquid neuron; `population`, `inputs` `(T,)` spikes per ms of all liquid neurons and
    of all input neurons; `steady` the population without onset and end, `shuffled` the same with every neuron's spikes
    rotated in time by a step of its own: what is left without any common timing. `astrocyte`, `eta` `(T,)`.
    """

    branching_factor: float
    fano_factor: float
    correlation: float
    counts: NDArray[np.int64]
    population: NDArray[np.int64]
    inputs: NDArray[np.int64]
    steady: NDArray[np.int64]
    shuffled: NDArray[np.int64]
    astrocyte: NDArray[np.float64]
    eta: NDArray[np.float64]


def analyse(
    recording: Recording,
    connections: sparse.csr_matrix,
    rng: np.random.Generator,
    steady_steps: tuple[int, int] = (FIRST_MS, LAST_MS),
    bin_steps: int = BIN_MS,
) -> Activity:
    """Reduce one recording to its `Activity`; `connections` as `lsm.criticality.adjacency` gives them."""
    spikes = recording.spikes
    first, last = steady_steps
    steady = spikes[first:last]
    window = binned(steady, bin_steps)
    return Activity(
        branching_factor=branching_factor(spikes, connections, first, last),
        fano_factor=fano_factor(window.sum(axis=1)),
        correlation=pairwise_correlation(window),
        counts=spikes.sum(axis=0, dtype=np.int64),
        population=spikes.sum(axis=1, dtype=np.int64),
        inputs=recording.inputs.sum(axis=1, dtype=np.int64),
        steady=steady.sum(axis=1, dtype=np.int64),
        shuffled=rotated(steady, rng).sum(axis=1, dtype=np.int64),
        astrocyte=recording.astrocyte,
        eta=recording.eta,
    )


def rotated(spikes: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """`(T, n)` spikes, each neuron's rotated in time by a random number of steps: same rates and intervals, no synchrony."""
    steps, n = spikes.shape
    at = (np.arange(steps)[:, None] + rng.integers(0, max(steps, 1), n)) % max(steps, 1)
    return np.take_along_axis(spikes, at, axis=0)


def binned(spikes: NDArray[np.uint8], bin_ms: int = BIN_MS) -> NDArray[np.int64]:
    """Spike counts `(bins, n)` of `(T, n)` spikes; an incomplete last bin is left out."""
    bins = len(spikes) // bin_ms
    return spikes[: bins * bin_ms].reshape(bins, bin_ms, spikes.shape[1]).sum(axis=1, dtype=np.int64)


def fano_factor(counts: NDArray[np.int64]) -> float:
    """Variance over mean of `(bins,)` population counts: 1 for independent Poisson neurons, more if they fire together."""
    if len(counts) < 2 or not counts.any():
        return float("nan")
    return float(counts.var(ddof=1) / counts.mean())


def pairwise_correlation(counts: NDArray[np.int64]) -> float:
    """Mean Pearson correlation over all pairs of neurons whose counts `(bins, n)` vary.

    The mean over pairs follows from the sum s of the standardised counts of m neurons: (var(s) - m) / (m (m - 1)).
    """
    deviation = counts.std(axis=0)
    varying = counts[:, deviation > 0]
    m = varying.shape[1]
    if m < 2:
        return float("nan")
    total = ((varying - varying.mean(axis=0)) / deviation[deviation > 0]).sum(axis=1)
    return float((total.var() - m) / (m * (m - 1)))
