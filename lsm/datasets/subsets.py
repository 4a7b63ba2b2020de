"""Which samples of a labelled set are used: class-balanced subsets and stratified splits, both seeded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lsm.encode import Dataset, Split, concatenate
from lsm.streams import generator

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=1)]
PARTS = ("train", "valid", "test")
Pick = Callable[[str, NDArray[np.int64]], NDArray[np.int64]]
"""Chooses samples of a part before they are read or made: `pick(part, labels) -> positions`."""


@dataclass(frozen=True, config=STRICT)
class SubsetOptions:
    """How many samples of each part are used; `None` takes all there are."""

    n_train: Annotated[Count | None, Field(description="training samples; null = all")] = None
    n_valid: Annotated[Count | None, Field(description="validation samples; null = all")] = None
    n_test: Annotated[Count | None, Field(description="test samples; null = all")] = None

    def choose(self, part: str, labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Indices of the chosen samples of `part` (train, valid or test), ascending.

        Raises `ValueError` where fewer samples are there than asked for.
        """
        n = {"train": self.n_train, "valid": self.n_valid, "test": self.n_test}[part]
        if n is None:
            return np.arange(len(labels))
        if n > len(labels):
            raise ValueError(f"data.n_{part}={n}: only {len(labels)} samples are available")
        return balanced_subset(labels, n, generator(seed, f"subset/{part}"))


def balanced_subset(labels: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`n` indices with equal class counts as far as the classes reach, ascending.

    A class that is too small gives all it has; samples that cannot be shared out evenly go to classes drawn at random.
    """
    classes = rng.permutation(np.unique(labels))
    pools = {c: rng.permutation(np.flatnonzero(labels == c)) for c in classes}
    share = _equal_shares(np.array([len(pools[c]) for c in classes]), n)
    chosen = [pools[c][:k] for c, k in zip(classes, share, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def stratified_split(
    labels: NDArray[np.int64], n_valid: int, n_test: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of train, valid and test (each ascending) with the class shares of the whole in each part.

    Every part that is not empty gets at least one sample of each class. Raises `ValueError` where a class or a part is
    too small for that.
    """
    classes, counts = np.unique(labels, return_counts=True)
    need = 1 + (n_valid > 0) + (n_test > 0)
    if counts.min() < need:
        raise ValueError(f"class {classes[counts.argmin()]} has {counts.min()} samples; a split needs {need} of each")
    for name, n in (("validation", n_valid), ("test", n_test)):
        if 0 < n < len(classes):
            raise ValueError(f"a {name} part of {n} samples cannot hold all {len(classes)} classes")
    test = _proportional_shares(counts, n_test, reserve=1 + (n_valid > 0))
    valid = _proportional_shares(counts - test, n_valid, reserve=1)
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for c, n_v, n_t in zip(classes, valid, test, strict=True):
        pool = rng.permutation(np.flatnonzero(labels == c))
        for part, members in zip(parts, (pool[n_v + n_t :], pool[:n_v], pool[n_v : n_v + n_t]), strict=True):
            part.append(members)
    train_index, valid_index, test_index = (np.sort(np.concatenate(p)).astype(np.int64) for p in parts)
    return train_index, valid_index, test_index


def without_validation(dataset: Dataset, seed: int) -> Dataset:
    """Validation samples train too, in one order for all, drawn by the seed: for choices by the test part, as published."""
    parts = (dataset.train, dataset.valid)
    names = tuple(name for part in parts for name in part.names)
    whole = Split(concatenate([p.inputs for p in parts]), np.concatenate([p.labels for p in parts]), names)
    order = generator(seed, "order of training samples").permutation(len(whole))
    return dataclasses.replace(dataset, train=whole.take(order), valid=dataset.valid.take(order[:0]))


def _equal_shares(sizes: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """Fill classes of the given sizes evenly with `n` samples in all; leftovers go to the first that have room."""
    low, high = 0, int(sizes.max())
    while low < high:  # the largest level that does not need more than n samples
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(sizes, level).sum() <= n else (low, level - 1)
    share = np.minimum(sizes, low).astype(np.int64)
    share[np.flatnonzero(sizes > low)[: n - int(share.sum())]] += 1
    return share


def _proportional_shares(sizes: NDArray[np.integer], n: int, reserve: int) -> NDArray[np.int64]:
    """Share `n` out in proportion to `sizes` (largest remainders), at least 1 each, leaving `reserve` in each class."""
    if n == 0:
        return np.zeros(len(sizes), np.int64)
    room = sizes - reserve
    if n > room.sum():
        raise ValueError(f"a part of {n} samples is too large for {int(sizes.sum())} samples in {len(sizes)} classes")
    exact = n * sizes / sizes.sum()
    share = np.clip(np.floor(exact).astype(np.int64), 1, room)
    while share.sum() != n:
        step = 1 if share.sum() < n else -1
        able = share < room if step > 0 else share > 1
        share[np.argmax(np.where(able, step * (exact - share), -np.inf))] += step
    return share
