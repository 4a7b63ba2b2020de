"""Independent blocks and the jackknife: how every error of a transport property is found.

A run is cut into blocks that are much longer than what is correlated; blocks of all replicas are samples of the same
thing. A property is a function of the mean over blocks; leaving out one block after another gives its error, also for
ratios and fits (Efron and Stein, Ann. Stat. 9, 586 (1981)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlff.transport.checks import check_positive

Floats = NDArray[np.float64]

LARGEST_SHARE = 0.25
"""Longest lag as a share of a block."""

ROUNDING = 1e-9
"""Errors that are a smaller share of their value come from rounding."""


def students_t(n_blocks: int) -> float:
    """By what a standard error from so many blocks grows to half of the 95 % confidence interval; inf below two."""
    from scipy.stats import t

    return float(t.ppf(0.975, n_blocks - 1)) if n_blocks > 1 else math.inf


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error from `n_blocks` independent blocks (infinite from fewer than two).

    `n_blocks` is 0 where what was averaged never changed: then nothing was learnt of how it would.
    """

    value: float
    standard_error: float
    n_blocks: int

    @property
    def error(self) -> float:
        """Half of the 95 % confidence interval: Student's t with n_blocks - 1 degrees of freedom."""
        return self.standard_error * students_t(self.n_blocks) if self.n_blocks > 1 else math.inf

    @property
    def has_error(self) -> bool:
        """Whether the error says something: not infinite, and not zero because all blocks are alike by chance."""
        return ROUNDING * abs(self.value) < self.error < math.inf

    @property
    def relative_error(self) -> float:
        """`error` as a share of the value."""
        return self.error / abs(self.value) if self.value else math.inf

    def scaled(self, factor: float) -> Estimate:
        """The same in other units."""
        return Estimate(self.value * factor, self.standard_error * abs(factor), self.n_blocks)

    def plus(self, other: Estimate) -> Estimate:
        """Sum with an independent estimate; the fewer blocks of the two count."""
        n = min(self.n_blocks, other.n_blocks)
        return Estimate(self.value + other.value, math.hypot(self.standard_error, other.standard_error), n)

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"


def jackknife(statistic: Callable[..., Floats], *blocks: Floats) -> list[Estimate]:
    """Estimates of all that `statistic` returns.

    `blocks` are one or more arrays `(n_blocks, ...)`. `statistic` gets their means, stacked along a first axis
    `(k, ...)` (all blocks, then each left out), and returns `(k, n_values)`.
    """
    n = len(blocks[0])
    check_positive(n_blocks=n)
    values = np.asarray(statistic(*(with_each_left_out(b) for b in blocks)))
    if n < 2:
        return [Estimate(float(v), math.inf, n) for v in values[0]]
    spread = np.square(values[1:] - values[1:].mean(axis=0)).sum(axis=0)
    errors = np.sqrt((n - 1) / n * spread)
    return [Estimate(float(v), float(e), n) for v, e in zip(values[0], errors, strict=True)]


def with_each_left_out(blocks: Floats) -> Floats:
    """Mean over blocks, then the means with each block left out: `(1 + n_blocks, ...)`, or `(1, ...)` of one block."""
    n, mean = len(blocks), blocks.mean(axis=0)
    return mean[None] if n < 2 else np.concatenate([mean[None], mean + (mean - blocks) / (n - 1)])


def split_blocks(series: Sequence[Floats], n_blocks: int) -> Floats:
    """`(n_series * n_blocks, length, ...)`: every series cut into equal blocks; what is over is left out at its start.

    Raises `ValueError` where a block would be empty.
    """
    check_positive(n_blocks=n_blocks, n_series=len(series))
    length = min(len(s) for s in series) // n_blocks
    if length < 1:
        raise ValueError(f"{min(len(s) for s in series)} samples cannot be cut into {n_blocks} blocks")
    return np.concatenate([s[len(s) - n_blocks * length :].reshape(n_blocks, length, *s.shape[1:]) for s in series])
