"""A made-up problem for heads and prototypes: two senses of classes that are combinations of shared factors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsm.sources import Cached, Task

FACTORS = 3
UNSEEN = (0, 4, 8)  # each level of both factors occurs in seen classes
SEEN = tuple(c for c in range(FACTORS**2) if c not in UNSEEN)
WINDOW = 50.0


class Problem(NamedTuple):
    """A task, test sources of all classes, and their labels."""

    task: Task
    test: tuple[Cached, Cached]
    labels: NDArray[np.int64]


def problem(seeds: tuple[int, ...] = (0, 1), per_class: int = 20, noise: float = 1.0, shared: bool = True) -> Problem:
    """Poisson counts of 30 and 24 neurons, other neurons for each seed; without `shared` factors nothing transfers."""
    rng = np.random.default_rng(1)
    train_labels, test_labels = np.repeat(SEEN, per_class), np.repeat(np.arange(FACTORS**2), per_class)
    sources = []
    for width in (30, 24):
        shape = (len(seeds), FACTORS, width)
        first, second = rng.uniform(0, 8, shape), rng.uniform(0, 8, shape)
        rates = first[:, :, None] + second[:, None] if shared else rng.uniform(0, 16, (len(seeds), 3, 3, width))
        rates = rates.reshape(len(seeds), FACTORS**2, width)
        parts = []
        for labels in (train_labels, test_labels):
            noisy = rates[:, labels] * np.exp(0.2 * noise * rng.standard_normal((len(seeds), len(labels), 1)))
            parts.append(Cached(list(rng.poisson(noisy).astype(np.uint16)), WINDOW))
        sources.append([part.standardised(parts[0]) for part in parts])
    pairs = np.column_stack([np.arange(len(train_labels))] * 2)
    task = Task(sources[0][0], sources[1][0], (train_labels, train_labels), pairs, list(seeds))
    return Problem(task, (sources[0][1], sources[1][1]), test_labels)
