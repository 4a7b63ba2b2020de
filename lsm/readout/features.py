"""Spike counts as features: divided by their sum, centred, divided by one global standard deviation.

Nothing here copies all counts to floating point, except `standardised`: counts may be a memory map of many gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

CHUNK = 1000
"""Samples that are converted to floating point at a time."""


def chunks(n: int, size: int = CHUNK) -> list[slice]:
    """Slices that cover 0..n, `size` at a time, the last one shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def inverse_sums(counts: NDArray[Any]) -> NDArray[np.float64]:
    """`(n,)` factors that divide each sample by its total count; 1 for a silent sample, which stays all zero.

    The published code divides by zero there, and the NaN then spreads over the whole readout.
    """
    return 1.0 / np.maximum(counts.sum(axis=1, dtype=np.float64), 1.0)


def silent_samples(counts: NDArray[Any]) -> int:
    """Number of samples without a single spike."""
    return int(np.count_nonzero(counts.sum(axis=1, dtype=np.float64) == 0))


def batch_maximum_scales(counts: NDArray[Any], batch: int) -> NDArray[np.float64]:
    """`(n,)` factors that divide each sample by its sum and by the largest share within its batch (published code).

    Samples are batched in the order given; what becomes of a sample therefore depends on its neighbours.
    """
    scales = inverse_sums(counts)
    for part in chunks(len(counts), batch):
        scales[part] /= _largest_share(counts[part], scales[part])
    return scales


def training_maximum(counts: NDArray[Any]) -> float:
    """The largest share that one feature has of its sample's counts; 1 where all samples are silent."""
    scales = inverse_sums(counts)
    return max(_largest_share(counts[part], scales[part], silent=0.0) for part in chunks(len(counts))) or 1.0


def _largest_share(counts: NDArray[Any], scales: NDArray[np.float64], silent: float = 1.0) -> float:
    return float((counts.max(axis=1) * scales).max()) or silent


@dataclass(frozen=True)
class Standard:
    """Mean `(n_features,)` of the L1-normalised training counts and their one standard deviation over all features.

    One global number, not one for each feature: rarely active neurons are not blown up to noise of unit variance.
    """

    mean: NDArray[np.float64]
    deviation: float

    @staticmethod
    def of(counts: NDArray[Any]) -> Standard:
        """Measure `(n, n_features)` training counts, in two passes; deviation 1 where nothing varies."""
        scales = inverse_sums(counts)
        mean = np.zeros(counts.shape[1])
        for part in chunks(len(counts)):
            mean += scales[part] @ counts[part].astype(np.float64)
        mean /= len(counts)
        squares = sum(float(np.square(counts[part] * scales[part, None] - mean).sum()) for part in chunks(len(counts)))
        deviation = (squares / counts.size) ** 0.5
        # Rounding leaves a residue of about 1e-16 of the mean where all samples are equal.
        return Standard(mean, deviation if deviation > 1e-12 * max(mean.max(initial=0.0), 1e-300) else 1.0)

    def standardised(self, counts: NDArray[Any], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """`(n, n_features)` features as one array, for solvers that need all of them at once."""
        out = np.empty(counts.shape, dtype)
        scales = inverse_sums(counts)
        for part in chunks(len(counts)):
            out[part] = (counts[part] * scales[part, None] - self.mean) / self.deviation
        return out
