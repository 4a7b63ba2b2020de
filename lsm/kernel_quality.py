"""How many inputs a liquid tells apart, and how many noisy versions of one input it wrongly tells apart: ranks.

Columns are samples, rows neurons, entries raw spike counts. Separation rank: columns of different inputs. Generalisation
rank: columns are noisy copies of ONE input; the lower the better, and kernel quality is the difference of the two
(Legenstein & Maass 2007, Neural Networks 20:323). Ivanov & Michmizos 2021 compare the separation rank with the rank of
a noisy version of the whole test set instead, whose columns are different inputs again.

A numerical rank counts the singular values above a tolerance, and the tolerance of `numpy.linalg.matrix_rank` follows
the type of the matrix. In double precision noisy whole numbers are full rank whatever they mean. The published ranks
come out in single precision, the type of the original's counts: there the tolerance is near one spike, and grows with
the largest singular value, so that strong firing alone lowers the rank. The effective rank beside both, exp of the
entropy of the singular values (Roy & Vetterli 2007), weighs dimensions by their strength and has no tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a count matrix, descending, and what follows from them.

    `rank` is that of single precision, `rank_double` that of double precision.
    """

    values: NDArray[np.float64]
    rank: int
    rank_double: int
    effective_rank: float


def spectrum(counts: NDArray[Any]) -> Spectrum:
    """Spectrum of `(samples, n)` spike counts, with the tolerances of `numpy.linalg.matrix_rank` for either precision."""
    matrix = np.asarray(counts, np.float64)
    values = np.asarray(np.linalg.svd(matrix, compute_uv=False), np.float64)
    if not values.size or values[0] == 0:
        return Spectrum(values, 0, 0, 0.0)
    single, double = (
        int((values > values[0] * max(matrix.shape) * np.finfo(precision).eps).sum())
        for precision in (np.float32, np.float64)
    )
    share = values / values.sum()
    share = share[share > 0]
    return Spectrum(values, single, double, float(np.exp(-(share * np.log(share)).sum())))


def draw_columns(labels: NDArray[np.int64], per_class: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `per_class` random samples of each class that occurs, without repetition, class after class.

    Raises `ValueError` if a class has fewer.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if len(sizes) and per_class > sizes.min():
        name, size = classes[sizes.argmin()], sizes.min()
        raise ValueError(f"{per_class} samples of each class wanted: class {name} has {size}")
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in classes])


@dataclass(frozen=True)
class ScoreRanges:
    """Smallest and largest value that each step of the published score rescales to 0..1."""

    separation: tuple[float, float]
    noisy: tuple[float, float]
    difference: tuple[float, float]


PUBLISHED_RANGES = ScoreRanges((558.096, 994.459), (127.499, 993.284), (-0.375889, 0.0650253))
"""Over all four models on MNIST and N-MNIST, ten networks each (Ivanov & Michmizos 2021, published data)."""
SCORED_SIZE = 1000
"""Neurons, and samples of a draw, of those networks: ranks of other sizes are not comparable."""


def kernel_scores(
    ranks: Mapping[str, tuple[ArrayLike, ArrayLike]], ranges: ScoreRanges | None = None
) -> dict[str, NDArray[np.float64]]:
    """The published score of every network: `ranks` and result are by model, `(separation, noisy)` to scores.

    Both ranks are rescaled to 0..1 over all models and data sets together, subtracted, and the differences rescaled to
    0..1 again; 1 is best. Without `ranges` they are taken from `ranks`, so that scores compare only inside one table.
    Raises `ValueError` if a model's two lists differ in length or a range is empty.
    """
    pairs = {name: (np.atleast_1d(pair[0]), np.atleast_1d(pair[1])) for name, pair in ranks.items()}
    for name, (separation, noisy) in pairs.items():
        if separation.shape != noisy.shape:
            raise ValueError(f"{name}: {separation.size} separation ranks and {noisy.size} noisy ranks")
    clean, perturbed = (np.concatenate([pair[k] for pair in pairs.values()]) for k in (0, 1))
    of_clean = ranges.separation if ranges else (clean.min(), clean.max())
    of_noisy = ranges.noisy if ranges else (perturbed.min(), perturbed.max())
    difference = {name: _rescaled(s, *of_clean) - _rescaled(p, *of_noisy) for name, (s, p) in pairs.items()}
    joined = np.concatenate(list(difference.values()))
    final = ranges.difference if ranges else (joined.min(), joined.max())
    return {name: _rescaled(values, *final) for name, values in difference.items()}


def published_score(separation: float, noisy: float) -> float:
    """Score of one network of 1,000 neurons from its ranks of 1,000 samples, as it would stand in the published table.

    The published final score of a model is the mean over its networks on both data sets.
    """
    return float(kernel_scores({"": (separation, noisy)}, PUBLISHED_RANGES)[""][0])


def _rescaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    if high <= low:
        raise ValueError(f"values from {low:g} to {high:g} cannot be rescaled to 0..1")
    return (np.asarray(values, np.float64) - low) / (high - low)
