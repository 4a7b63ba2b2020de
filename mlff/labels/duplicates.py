"""Clusters that are the same arrangement, however they are turned, mirrored or numbered: only the first is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlff.labels.clusters import Cluster


class Duplicates:
    """Remembers clusters; two are equal where their sorted distances by pair of elements differ by less than
    `tolerance_A` rms, those between molecules apart from those within."""

    def __init__(self, tolerance_A: float) -> None:
        self.tolerance_A = tolerance_A
        self._known: dict[tuple[bytes, int], list[NDArray[np.float64]]] = {}

    def is_new(self, cluster: Cluster) -> bool:
        """Whether nothing like it was seen before; from now on it was."""
        distances = fingerprint(cluster)
        known = self._known.setdefault((np.sort(cluster.numbers).tobytes(), cluster.charge), [])
        if len(distances) and known:
            rms = np.sqrt(np.square(np.stack(known) - distances).mean(axis=1))
            if rms.min() < self.tolerance_A:
                return False
        elif known:
            return False
        known.append(distances)
        return True


def fingerprint(cluster: Cluster) -> NDArray[np.float64]:
    """All distances in Å, `(n (n - 1) / 2,)`, sorted within each kind of pair."""
    i, j = np.triu_indices(len(cluster), 1)
    z = np.sort(np.stack([cluster.numbers[i], cluster.numbers[j]]), axis=0)
    d = np.linalg.norm(cluster.positions[i] - cluster.positions[j], axis=1)
    apart = cluster.fragments[i] != cluster.fragments[j]
    order: NDArray[np.float64] = d[np.lexsort((d, apart, z[1], z[0]))]
    return order


def without_duplicates(
    clusters: Iterable[Cluster], tolerance_A: float, known: Sequence[Cluster] = ()
) -> tuple[list[Cluster], int]:
    """Clusters unlike each other and unlike those `known`, and how many were dropped."""
    seen = Duplicates(tolerance_A)
    for cluster in known:
        seen.is_new(cluster)
    every = list(clusters)
    kept = [cluster for cluster in every if seen.is_new(cluster)]
    return kept, len(every) - len(kept)
