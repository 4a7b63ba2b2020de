"""Search from one sense to the other: who is nearest, how often it is of the right class, and what chance would give.

A query of one sense searches the samples of the other (the gallery); it is right if the item found is of its class.

| gallery | question |
|---|---|
| the classes of the query's own group, seen or unseen | the published zero-shot figure |
| all classes | generalised zero-shot: S of seen queries, U of unseen ones, H = 2 S U / (S + U) |

Chance follows from the shares of the classes in the gallery, so it is exact for galleries of unequal classes, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lsm.statistics import Accuracy, accuracy

Similarity = Literal["dot", "cosine"]
Labels = NDArray[np.integer[Any]]
TOP = 5
QUERIES_AT_ONCE = 500


@dataclass(frozen=True)
class Found:
    """One search: top-1 `accuracy` with its binomial error, share of queries with a hit among the first five, chance."""

    accuracy: Accuracy
    chance: float
    top5: float
    top5_chance: float


@dataclass(frozen=True)
class Direction:
    """All searches of one direction; `seen` and `unseen` in galleries of their own group, the others among all classes."""

    query: str
    gallery: str
    seen: Found
    unseen: Found
    all_seen: Found
    all_unseen: Found

    @property
    def name(self) -> str:
        """`audio_to_image`: what searches what."""
        return f"{self.query}_to_{self.gallery}"

    @property
    def harmonic(self) -> float:
        """H of generalised zero-shot search."""
        return harmonic_mean(self.all_seen.accuracy.value, self.all_unseen.accuracy.value)

    @property
    def harmonic_chance(self) -> float:
        """H of the two chance levels."""
        return harmonic_mean(self.all_seen.chance, self.all_unseen.chance)

    def searches(self) -> Iterator[tuple[str, Found]]:
        """Name and outcome of each search."""
        for name in ("seen", "unseen", "all_seen", "all_unseen"):
            yield name, getattr(self, name)


@dataclass(frozen=True)
class Sense:
    """Embedded samples of one sense: `vectors` `(n, d)` and their classes `labels` `(n,)`."""

    name: str
    vectors: NDArray[Any]
    labels: Labels

    def of(self, classes: Collection[int]) -> Sense:
        """The samples of some classes; raises `ValueError` where there is none of one of them."""
        here = set(np.unique(self.labels).tolist())
        if missing := set(classes) - here:
            raise ValueError(f"{self.name}: class {min(missing)} has no sample")
        keep = np.isin(self.labels, list(classes))
        return Sense(self.name, self.vectors[keep], self.labels[keep])


def nearest(queries: NDArray[Any], gallery: NDArray[Any], k: int, similarity: Similarity = "dot") -> NDArray[np.int64]:
    """`(n_queries, min(k, n_gallery))` positions of the most similar items, the best first, the first of equals.

    `queries` `(n_queries, d)`, `gallery` `(n_gallery, d)`; a zero vector has the cosine 0 with everything.
    Raises `ValueError` where there is nothing to search, widths differ or a value is not finite.
    """
    for what, vectors in (("queries", queries), ("gallery", gallery)):
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(f"{what} of shape {vectors.shape}: expected (n, d) with n > 0")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{what} contain values that are not finite")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, the gallery has {gallery.shape[1]}")
    if similarity == "cosine":
        queries, gallery = normalised(queries), normalised(gallery)
    k = min(k, len(gallery))
    found = np.empty((len(queries), k), np.int64)
    for first in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(first, first + QUERIES_AT_ONCE)
        scores = queries[rows] @ gallery.T
        found[rows] = scores.argmax(axis=1)[:, None] if k == 1 else np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return found


def normalised(vectors: NDArray[Any]) -> NDArray[Any]:
    """Rows of `(n, d)` at length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def chance(queries: Labels, gallery: Labels, k: int = 1) -> float:
    """Expected share of queries with a hit if `k` different items of the gallery are drawn blindly."""
    n, k = len(gallery), min(k, len(gallery))
    classes, counts = np.unique(queries, return_counts=True)
    hits = [1 - comb(n - int(np.sum(gallery == c)), k) / comb(n, k) for c in classes]
    return float(np.average(hits, weights=counts))


def search(queries: Sense, gallery: Sense, similarity: Similarity = "dot") -> Found:
    """Let every query search the whole gallery."""
    found = gallery.labels[nearest(queries.vectors, gallery.vectors, TOP, similarity)]
    hit = (found == queries.labels[:, None]).any(axis=1)
    return Found(
        accuracy(queries.labels, found[:, 0]),
        chance(queries.labels, gallery.labels),
        float(hit.mean()),
        chance(queries.labels, gallery.labels, TOP),
    )


def search_both(
    first: Sense, second: Sense, seen: Collection[int], unseen: Collection[int], similarity: Similarity = "dot"
) -> tuple[Direction, Direction]:
    """Both directions (first searches second, second searches first) in all galleries.

    Classes outside `seen` and `unseen` are left out. Raises `ValueError` for a class without a sample in either sense.
    """
    everything = {*seen, *unseen}
    return _direction(first, second, seen, unseen, everything, similarity), _direction(
        second, first, seen, unseen, everything, similarity
    )


def _direction(
    query: Sense,
    gallery: Sense,
    seen: Collection[int],
    unseen: Collection[int],
    everything: Collection[int],
    similarity: Similarity,
) -> Direction:
    all_items = gallery.of(everything)
    return Direction(
        query.name,
        gallery.name,
        search(query.of(seen), gallery.of(seen), similarity),
        search(query.of(unseen), gallery.of(unseen), similarity),
        search(query.of(seen), all_items, similarity),
        search(query.of(unseen), all_items, similarity),
    )


def harmonic_mean(seen: float, unseen: float) -> float:
    """H = 2 S U / (S + U); 0 where both are 0."""
    return 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


def top1(queries: Sense, gallery: Sense, similarity: Similarity = "dot") -> float:
    """Share of queries whose nearest item is of their class: what an epoch is chosen by."""
    found = gallery.labels[nearest(queries.vectors, gallery.vectors, 1, similarity)[:, 0]]
    return float(np.mean(found == queries.labels))
