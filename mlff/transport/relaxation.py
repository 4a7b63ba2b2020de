"""Sums of two rising exponentials fitted to many curves at once: the shape of a running Green-Kubo integral.

I(t) = a1 (1 - exp(-t/tau1)) + a2 (1 - exp(-t/tau2)), a1, a2 >= 0. For given times the amplitudes follow by linear least
squares, so that all pairs of times on a logarithmic grid are tried: no start values, no local minimum. The best pair is
refined on a finer grid around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlff.transport.blocks import Floats

COARSE, FINE = 24, 9
CHUNK = 64
"""Curves that are fitted together: bounds memory."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Fits of `n_curves` curves: `amplitudes` and `times` `(n_curves, 2)`, the slower last."""

    amplitudes: Floats
    times: Floats

    @property
    def plateau(self) -> Floats:
        """I at infinite time, `(n_curves,)`."""
        return self.amplitudes.sum(axis=1)

    def at(self, t: Floats) -> Floats:
        """The fitted curves at times `(n,)`: `(n_curves, n)`."""
        rising = -np.expm1(-t[None, None] / self.times[:, :, None])
        return np.einsum("ka,kat->kt", self.amplitudes, rising)


def fit_relaxation(t: Floats, curves: Floats, weights: Floats, fastest: float, slowest: float) -> Relaxation:
    """Fit `curves` `(n_curves, n)` at times `t` `(n,)` with weights of the squares; times within [fastest, slowest]."""
    grid = np.geomspace(fastest, slowest, COARSE)
    parts = []
    for k in range(0, len(curves), CHUNK):
        chunk = curves[k : k + CHUNK]
        times = np.broadcast_to(grid, (len(chunk), 2, COARSE))
        step = np.log(slowest / fastest) / (COARSE - 1)
        for _ in range(3):
            best = _best(t, chunk, weights, times)
            nearby = np.log(best.times)[:, :, None] + step * np.linspace(-1, 1, FINE)
            times = np.exp(np.clip(nearby, np.log(fastest), np.log(slowest)))
            step *= 2 / (FINE - 1)
        parts.append(_best(t, chunk, weights, times))
    return Relaxation(np.concatenate([p.amplitudes for p in parts]), np.concatenate([p.times for p in parts]))


def _best(t: Floats, curves: Floats, weights: Floats, times: Floats) -> Relaxation:
    """The best pair of `times` `(n_curves, 2, n_times)` for each curve."""
    rising = -np.expm1(-t / times[..., None])  # (k, 2, m, n)
    weighted = rising * weights
    on = np.einsum("kamn,kn->kam", weighted, curves)
    square = np.einsum("kamn,kamn->kam", weighted, rising)
    mixed = np.einsum("kmn,kpn->kmp", weighted[:, 0], rising[:, 1])
    b1, b2 = on[:, 0, :, None], on[:, 1, None, :]
    s1, s2 = square[:, 0, :, None], square[:, 1, None, :]
    determinant = s1 * s2 - mixed**2
    safe = np.where(determinant > 1e-9 * s1 * s2, determinant, np.inf)
    first, second = (b1 * s2 - b2 * mixed) / safe, (b2 * s1 - b1 * mixed) / safe
    both = (first >= 0) & (second >= 0) & np.isfinite(safe)
    gain = np.where(both, first * b1 + second * b2, -np.inf)
    shape = gain.shape
    alone = [np.where(b > 0, b**2 / s, -np.inf) * np.ones(shape) for b, s in ((b1, s1), (b2, s2))]
    gains = np.stack([gain, *alone]).reshape(3, len(curves), -1)
    which, pair = np.divmod(gains.transpose(1, 0, 2).reshape(len(curves), -1).argmax(axis=1), shape[1] * shape[2])
    row, i, j = np.arange(len(curves)), *np.divmod(pair, shape[2])
    a1 = np.choose(which, [first[row, i, j], on[row, 0, i] / square[row, 0, i], np.zeros(len(row))])
    a2 = np.choose(which, [second[row, i, j], np.zeros(len(row)), on[row, 1, j] / square[row, 1, j]])
    amplitudes = np.stack([a1, a2], axis=1)
    found = np.stack([times[row, 0, i], times[row, 1, j]], axis=1)
    order = np.argsort(found, axis=1)
    return Relaxation(np.take_along_axis(amplitudes, order, 1), np.take_along_axis(found, order, 1))
