"""What a measured accuracy is worth: errors, chance, confusion, paired tests, folds. Accuracies are shares of 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Accuracy:
    """Share of `n` samples that are right, with its binomial standard error sqrt(p (1 - p) / n)."""

    value: float
    standard_error: float
    n: int


def accuracy(labels: Labels, predicted: Labels) -> Accuracy:
    """Accuracy of `(n,)` predictions; raises `ValueError` if there are none or the lengths differ."""
    right = _right(labels, predicted)
    share = float(right.mean())
    return Accuracy(share, (share * (1 - share) / len(right)) ** 0.5, len(right))


@dataclass(frozen=True)
class Chance:
    """What blind guessing gives: always the largest class of the training set, or one of the classes at random."""

    largest_class: float
    uniform: float


def chance_level(train_labels: Labels, n_classes: int) -> Chance:
    """Chance accuracy for labels in 0..n_classes-1; raises `ValueError` without training labels."""
    if not len(train_labels):
        raise ValueError("the chance level needs training labels, there are none")
    return Chance(float(np.bincount(train_labels, minlength=n_classes).max() / len(train_labels)), 1 / n_classes)


def confusion_matrix(labels: Labels, predicted: Labels, n_classes: int) -> NDArray[np.int64]:
    """`(n_classes, n_classes)` numbers of samples; row = true class, column = predicted class."""
    _right(labels, predicted)
    for name, values in (("labels", labels), ("predictions", predicted)):
        if values.min() < 0 or values.max() >= n_classes:
            raise ValueError(f"{name} span {values.min()}..{values.max()}, allowed 0..{n_classes - 1}")
    pairs = np.asarray(labels, np.int64) * n_classes + predicted
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


@dataclass(frozen=True)
class McNemar:
    """Samples that only one of two classifiers has right, and the two-sided exact p-value of that split."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(labels: Labels, first: Labels, second: Labels) -> McNemar:
    """Exact McNemar test of two classifiers on the same samples.

    Under the null hypothesis each sample on which they disagree is a fair coin. p = 1 where they never disagree.
    """
    from scipy.stats import binomtest

    right_first, right_second = _right(labels, first), _right(labels, second)
    only_first = int(np.count_nonzero(right_first & ~right_second))
    only_second = int(np.count_nonzero(right_second & ~right_first))
    disagreements = only_first + only_second
    p_value = float(binomtest(only_first, disagreements, 0.5).pvalue) if disagreements else 1.0
    return McNemar(only_first, only_second, p_value)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1; NaN of a single value) of `n` networks, seeds or folds."""

    mean: float
    standard_deviation: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.standard_deviation:.2g} (n = {self.n})"


def mean_and_deviation(values: ArrayLike) -> Spread:
    """Mean ± sample standard deviation; raises `ValueError` without values."""
    data = np.asarray(values, np.float64).ravel()
    if not data.size:
        raise ValueError("mean and standard deviation of no values")
    return Spread(float(data.mean()), float(data.std(ddof=1)) if data.size > 1 else float("nan"), data.size)


def stratified_folds(labels: Labels, n_folds: int, seed: int) -> list[NDArray[np.int64]]:
    """`n_folds` ascending index arrays that share all samples out, each class as evenly as its size allows.

    Which fold gets the odd samples rotates from class to class, so that the folds are of equal size within one.
    Raises `ValueError` unless 2 <= n_folds <= the size of the smallest class.
    """
    sizes = np.unique_counts(labels).counts
    smallest = int(sizes.min()) if sizes.size else 0
    if not 2 <= n_folds <= smallest:
        raise ValueError(f"n_folds={n_folds}: allowed 2..{smallest}, the size of the smallest class")
    rng = np.random.default_rng(seed)
    by_class = np.concatenate([rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)])
    return [np.sort(by_class[k::n_folds]) for k in range(n_folds)]


def _right(labels: Labels, predicted: Labels) -> NDArray[np.bool_]:
    if labels.shape != predicted.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels of shape {labels.shape} cannot be compared with predictions of {predicted.shape}")
    return np.asarray(labels == predicted)
