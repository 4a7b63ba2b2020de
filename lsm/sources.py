"""Where a learner of two senses takes its features from: cached counts of fixed networks, or anything that has gradients.

A source gives the features of the samples of one sense, for all replicas at once: `(n_replicas, n_samples, n_features)`.
The features of a fixed liquid are f = counts / window (its mean firing rate per step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsm.descent import Scores, one_thread

SENSES = ("first", "second")
DENSE_SIZE = 1 << 25  # 128 MB
"""Most features that are kept as floating-point numbers; of more only those of a batch are converted."""


class Source(Protocol):
    """Samples of one sense as features."""

    @property
    def n_features(self) -> int:
        """Width of the features."""

    @property
    def n_samples(self) -> int:
        """How many samples there are."""

    @property
    def at_once(self) -> int:
        """How many samples are embedded in one piece, to bound memory."""

    @property
    def variables(self) -> dict[str, Tensor]:
        """Fresh variables of its own, trained with the head; none of fixed features."""

    def features(self, variables: Mapping[str, Tensor], index: NDArray[np.int64]) -> Tensor:
        """Features `(n_replicas, n, n_features)` float32 of the samples `index` `(n_replicas, n)`."""

    def take(self, index: NDArray[np.int64]) -> Source:
        """The samples at `index`, in that order."""

    def standardised(self, like: Any = None) -> Source:
        """Features centred and scaled, as measured on `like`, a source of the same kind (None: on itself)."""


@dataclass(frozen=True)
class Cached:
    """Spike counts of fixed networks, one array `(n_samples, n_features)` for each replica, to be divided by `window`.

    `offset` `(n_replicas, 1, n_features)` is subtracted and `factor` `(n_replicas, 1, 1)` multiplied after the division.
    Raises `ValueError` where shapes differ or there is no replica.
    """

    counts: Sequence[NDArray[Any]]
    window: float
    offset: Tensor | float = 0.0
    factor: Tensor | float = 1.0

    def __post_init__(self) -> None:
        shapes = {c.shape for c in self.counts}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise ValueError(f"features of shapes {sorted(shapes)}: every replica needs the same (n, n_features)")

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return int(self.counts[0].shape[1])

    @property
    def n_samples(self) -> int:
        """How many samples there are."""
        return len(self.counts[0])

    @property
    def at_once(self) -> int:
        """How many samples are embedded in one piece."""
        return 2000

    @property
    def variables(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def features(self, variables: Mapping[str, Tensor], index: NDArray[np.int64]) -> Tensor:
        """Rates of the samples `index` `(n_replicas, n)`."""
        if (dense := self._dense) is not None:
            rows = (index + self.n_samples * np.arange(len(self.counts))[:, None]).ravel()
            return dense.index_select(0, torch.from_numpy(rows)).view(*index.shape, -1)
        taken = np.stack([counts[rows] for counts, rows in zip(self.counts, index, strict=True)])
        return self._scaled(taken)

    @cached_property
    def _dense(self) -> Tensor | None:
        """All features at hand, where they are small: a step of training then costs one look-up."""
        if len(self.counts) * self.counts[0].size > DENSE_SIZE:
            return None
        return self._scaled(np.stack(self.counts)).flatten(0, 1)

    def _scaled(self, counts: NDArray[Any]) -> Tensor:
        return (torch.from_numpy(counts.astype(np.float32)) / self.window - self.offset) * self.factor

    def take(self, index: NDArray[np.int64]) -> Cached:
        """The samples at `index`, in that order."""
        return Cached([counts[index] for counts in self.counts], self.window, self.offset, self.factor)

    def standardised(self, like: Cached | None = None) -> Cached:
        """Centred, and divided by one standard deviation of all features, both measured on `like` (None: on itself).

        One deviation for all: rarely active neurons are not blown up. Silent features stay zero.
        """
        means, factors = [], []
        for counts in (like or self).counts:
            rates = np.asarray(counts, np.float64) / self.window
            means.append(rates.mean(axis=0))
            deviation = float((rates - means[-1]).std())
            factors.append(1 / deviation if deviation > 1e-12 else 1.0)
        offset = torch.from_numpy(np.array(means, np.float32))[:, None]
        return Cached(self.counts, self.window, offset, torch.tensor(factors, dtype=torch.float32)[:, None, None])


Project = Callable[[Tensor], Tensor]
Embed = Callable[[str, Source], NDArray[np.float32]]
Score = Callable[[Embed], Scores]


@dataclass(frozen=True)
class Task:
    """What a learner of two senses is given: sources and labels of the training parts, and which samples are pairs.

    `labels[k]` `(n_samples,)` are the classes of sense k, `pairs` `(n_pairs, 2)` positions in both; `seeds` has one entry
    for each replica of the sources.
    """

    first: Source
    second: Source
    labels: tuple[NDArray[np.int64], NDArray[np.int64]]
    pairs: NDArray[np.int64]
    seeds: Sequence[int]

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Each sense with its samples."""
        yield from zip(SENSES, (self.first, self.second), strict=True)

    @property
    def n_features(self) -> tuple[int, int]:
        """Widths of the features of both senses."""
        return self.first.n_features, self.second.n_features


def embed_all(
    project: Project, source: Source, variables: Mapping[str, Tensor], n_replicas: int
) -> NDArray[np.float32]:
    """Embeddings `(n_replicas, n_samples, d)` of all samples of a source by `project`, without gradients."""
    index = np.broadcast_to(np.arange(source.n_samples), (n_replicas, source.n_samples))
    with torch.no_grad(), one_thread():
        parts = [
            project(source.features(variables, index[:, first : first + source.at_once])).numpy()
            for first in range(0, source.n_samples, source.at_once)
        ]
    return np.concatenate(parts, axis=1)
