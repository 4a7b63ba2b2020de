"""Radial distribution functions and coordination numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlff.transport.blocks import Estimate, Floats
from mlff.transport.checks import check_finite, check_positive
from mlff.transport.equilibration import mean_of_series

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """g(r) `(n_bins,)` at the middles of bins `r_A`; `coordination` is the number of second atoms within each bin's end.

    `first_minimum_A` is where the first shell ends, None where g has no first peak or none that ends within r;
    `n_first_shell` is the number within.
    """

    r_A: Floats
    g: Floats
    coordination: Floats
    first_minimum_A: float | None
    n_first_shell: Estimate | None


def distances(positions: Floats, cell: Floats, first: Indices, second: Indices) -> Floats:
    """`(n_first, n_second)` distances in Å to the nearest image, true up to half of the cell's smallest height."""
    inverse = np.linalg.inv(cell)
    fractions = (positions[second] @ inverse)[None] - (positions[first] @ inverse)[:, None]
    fractions -= np.round(fractions)
    return np.linalg.norm(fractions @ cell, axis=2)


def half_height(cell: Floats) -> float:
    """Half of the smallest distance between opposite faces, Å."""
    return float(0.5 / np.linalg.norm(np.linalg.inv(cell), axis=0).max())


def radial_distribution(
    positions: Sequence[Floats],
    cells: Sequence[Floats],
    first: Indices,
    second: Indices,
    *,
    fragments: Indices | None = None,
    largest_A: float = 10.0,
    bin_A: float = 0.05,
) -> RadialDistribution:
    """g(r) of atoms `second` around atoms `first` over replicas `(n_frames, n_atoms, 3)`, cells `(n_frames, 3, 3)`.

    Pairs within one molecule of `fragments` are left out. r ends at half of the smallest height of the cells. g and the
    running coordination are means over all frames, the number in the first shell is that of `mean_of_series`. Raises
    `ValueError` without atoms or frames, or where positions are not finite.
    """
    if not len(first) or not len(second) or not sum(map(len, positions)):
        raise ValueError("a radial distribution needs frames and atoms of both kinds")
    check_positive(largest_A=largest_A, bin_A=bin_A)
    check_finite("positions", positions)
    check_finite("cells", cells)
    largest = min(largest_A, *(half_height(c) for replica in cells for c in replica))
    edges = np.arange(0.0, largest + 1e-9, bin_A)
    if len(edges) < 2:
        raise ValueError(f"bin_A={bin_A:g}: wider than the {largest:g} Å that there are")
    by_replica = [
        np.stack(list(_counts(p, c, first, second, fragments, edges))) for p, c in zip(positions, cells, strict=True)
    ]
    counts = np.concatenate(by_replica)
    pairs = _allowed(first, second, fragments).sum()
    volume = np.mean(np.abs(np.linalg.det(np.concatenate(cells))))
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    middles = 0.5 * (edges[1:] + edges[:-1])
    g = counts.mean(axis=0) * volume / (shells * max(pairs, 1))
    around = np.cumsum(counts, axis=1) / len(first)
    end = first_minimum(middles, g)
    number = None
    if end is not None:
        within = int(np.searchsorted(middles, end)) + 1
        number = mean_of_series([c[:, :within].sum(axis=1) / len(first) for c in by_replica]).estimate
    return RadialDistribution(middles, g, around.mean(axis=0), end, number)


def first_minimum(r_A: Floats, g: Floats) -> float | None:
    """Where g is least between its first peak above 1 and the next rise; None without such a peak, or without a rise.

    Rises are those that come at least half of the way back to 1: a g that still falls where the box ends has no minimum.
    A gap without any atom ends a shell whatever follows.
    """
    window = np.ones(min(5, len(g)))
    smooth = np.convolve(g, window, mode="same") / np.convolve(np.ones(len(g)), window, mode="same")
    above = np.flatnonzero(smooth > 1.0)
    if not len(above):
        return None
    below = np.flatnonzero(smooth[above[0] :] < 1.0)
    if not len(below):
        return None
    start = above[0] + below[0]
    back = np.flatnonzero(smooth[start:] >= 1.0)
    stop = start + (back[0] if len(back) else len(g) - start)
    least = start + int(np.argmin(smooth[start:stop]))
    ends = smooth[least] == 0 or smooth[least:].max() >= 0.5 * (1.0 + smooth[least])
    return float(r_A[least]) if ends else None


def _allowed(first: Indices, second: Indices, fragments: Indices | None) -> NDArray[np.bool_]:
    allowed = first[:, None] != second[None]
    return allowed if fragments is None else allowed & (fragments[first][:, None] != fragments[second][None])


def _counts(
    positions: Floats, cells: Floats, first: Indices, second: Indices, fragments: Indices | None, edges: Floats
) -> Iterator[Floats]:
    allowed = _allowed(first, second, fragments)
    for frame, cell in zip(positions, cells, strict=True):
        yield np.histogram(distances(frame, cell, first, second)[allowed], edges)[0].astype(np.float64)


def atoms_of(names: Sequence[str], fragments: Indices, species: str, numbers: Indices, element: int) -> Indices:
    """Indices of the atoms of one element in molecules of one species."""
    return np.flatnonzero((np.array(names)[fragments] == species) & (numbers == element))
