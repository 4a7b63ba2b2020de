"""Made-up time series with known answers: correlated noise, Maxwell stress, random walks of ions that move together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from mlff.transport import Centres

Floats = NDArray[np.float64]


def ornstein_uhlenbeck(rng: np.random.Generator, shape: tuple[int, ...], dt: float, tau: float) -> Floats:
    """Stationary, variance 1, correlation exp(-t/tau) along the last axis."""
    decay = np.exp(-dt / tau)
    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - decay**2)
    return np.asarray(lfilter([1.0], [1.0, -decay], noise, axis=-1))


def pressures(components: Floats) -> Floats:
    """Pressure tensors `(n, 6)` xx yy zz yz xz xy, free of trace, whose five shear components `(5, n)` are given."""
    xy, xz, yz, difference, last = components
    zz = -last * 2 / np.sqrt(3)
    return np.stack([-zz / 2 + difference, -zz / 2 - difference, zz, yz, xz, xy], axis=-1)


D = {"Li": 0.02, "PF6": 0.03, "EC": 0.10}
"""Å2/ps."""
CHARGE = {"Li": 1.0, "PF6": -1.0, "EC": 0.0}
NAMES = ("Li",) * 10 + ("PF6",) * 10 + ("EC",) * 20


def ions(rng: np.random.Generator, n_frames: int, dt: float, pairing: float) -> Centres:
    """Random walks; each cation shares its steps with one anion: their correlation is `pairing`."""
    steps = rng.standard_normal((n_frames, len(NAMES), 3))
    steps[:, 10:20] = pairing * steps[:, :10] + np.sqrt(1 - pairing**2) * steps[:, 10:20]
    walks = np.cumsum(np.sqrt(2 * dt * np.array([D[n] for n in NAMES]))[:, None] * steps, axis=0)
    return Centres(dt, walks, np.ones(len(NAMES)), np.array([CHARGE[n] for n in NAMES]), NAMES)
