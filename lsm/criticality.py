"""How close a liquid is to the edge of chaos: the branching factor of its recorded activity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lsm.liquid import Liquid

_WINDOW_MS = 4  # spikes up to this many ms before and after count as ancestors and descendants


def adjacency(liquid: Liquid) -> sparse.csr_matrix:
    """Liquid-to-liquid connections as a `(n, n)` 0/1 matrix, rows sending, columns receiving."""
    n_syn = int(liquid.row_ptr[liquid.n])
    row_ptr = liquid.row_ptr[: liquid.n + 1].astype(np.int64)
    ones = np.ones(n_syn, np.float32)
    return sparse.csr_matrix((ones, liquid.col[:n_syn].astype(np.int64), row_ptr), shape=(liquid.n, liquid.n))


def branching_factor(
    spikes: NDArray[np.uint8], connections: sparse.csr_matrix, first_ms: int = 25, last_ms: int = 225
) -> float:
    """Branching factor of one recorded sample, `spikes` `(T, n)`; NaN for a silent one.

    For each spike of a neuron: liquid spikes among its targets in the 4 ms after it, over those among its sources in the
    4 ms before it (at least 1); the mean over the spikes of a neuron, then over neurons that spike. Only spikes in
    `first_ms .. last_ms` count. Input drives sources and targets alike, so 1.2 to 1.4 is normal (Ivanov & Michmizos
    2021, published code); it is not the branching ratio of an avalanche.
    """
    window = np.asarray(spikes[first_ms : min(last_ms, len(spikes))], np.float32)
    steps = len(window)
    if steps <= 2 * _WINDOW_MS:
        return float("nan")
    running = np.concatenate([np.zeros((1, window.shape[1]), np.float32), np.cumsum(window, axis=0)])
    at = np.arange(_WINDOW_MS, steps - _WINDOW_MS)
    before = running[at] - running[at - _WINDOW_MS]
    after = running[at + _WINDOW_MS + 1] - running[at + 1]
    ancestors = connections.T.dot(before.T).T
    descendants = connections.dot(after.T).T
    own = window[at]
    per_neuron = own.sum(axis=0)
    ratio = (own * descendants / np.maximum(ancestors, 1)).sum(axis=0)
    spiking = per_neuron > 0
    return float((ratio[spiking] / per_neuron[spiking]).mean()) if spiking.any() else float("nan")
