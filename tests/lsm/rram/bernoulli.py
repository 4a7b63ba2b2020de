"""Synthetic input for liquids: independent spikes of a given density."""

from __future__ import annotations

import numpy as np

from lsm.encode import Events


def bernoulli(n_samples: int, n_in: int, steps: int, density: float, seed: int = 0) -> Events:
    """`n_samples` rasters in which each channel spikes in a step with probability `density`."""
    rasters = np.random.default_rng(seed).random((n_samples, steps, n_in)) < density
    pairs = [np.nonzero(raster) for raster in rasters]
    return Events.from_lists([t for t, _ in pairs], [c for _, c in pairs], n_in, steps)
