"""Neighbour lists that last: rows of neighbours within the cutoffs and a skin, kept until atoms have moved half of it.

Atoms are sorted in space, periodic images are atoms of their own ("extended" atoms, each with its `owner`), so a cell
smaller than the cutoff needs no special case. Every pair of real atoms lies in the rows of both; one of the two is
marked to stand for the pair, in turn, so that all rows carry about as many.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlff.fast.team import Each, Team
from mlff.neighbours import MIN_DISTANCE_A, complete_cell


class SkinList:
    """Neighbours of `near_A` and `far_A` (0 = no such list), each widened by `skin_A`; arrays in sorted order.

    | name | shape | meaning |
    |---|---|---|
    | `order` | `(n_atoms,)` | index of each sorted atom in the caller's order |
    | `owner` | `(n_extended,)` uint32 | sorted atom that an extended atom is an image of |
    | `itself` | `(n_atoms,)` | each atom's own place among the extended ones |
    | `position` | `(n_extended, 3)` float64 | present places, Å |
    | `single` | `(3, n_extended)` float32 | the same from a point in their middle |
    | `near`, `far` | `(n_atoms, capacity)` uint32 | extended atoms around each atom |
    | `n_near`, `n_far`, `n_front` | `(n_atoms,)` uint32 | entries of a row; those of `near` that stand for their pair |
    """

    def __init__(self, near_A: float, far_A: float, skin_A: float, team: Team) -> None:
        self.reach = np.array([near_A, far_A])
        self.skin, self.team = skin_A, team
        self.builds = 0
        self.position = np.zeros((0, 3))
        self.near = self.far = np.zeros((0, 0), np.uint32)

    def forget(self) -> None:
        """Make the lists again at the next update, whatever has moved."""
        self.builds = 0

    def update(self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> bool:
        """Move all atoms; True where the lists had to be made again. Raises `ValueError` on overlapping atoms."""
        if self.builds and len(positions) == len(self.order) and np.array_equal(pbc, self.pbc):
            moved2 = np.zeros((self.team.threads, 1))
            arrays = (positions, self.source, self.shift, cell, self.built, self.middle)
            self.team.over(len(self.source), _move, *arrays, self.position, self.single, Each(moved2))
            if moved2.max() < (0.5 * self.skin) ** 2:
                return False
        self._build(positions, cell, pbc)
        self.builds += 1
        return True

    def _build(self, positions: NDArray[Any], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> None:
        full = complete_cell(cell, pbc)
        reach = self.reach + self.skin * (self.reach > 0)
        fraction = positions @ np.linalg.inv(full)
        home = np.where(pbc, np.floor(fraction), 0.0)
        self.pbc, self.order = pbc.copy(), _along_columns(positions - home @ full)
        home, inside = home[self.order], (fraction - home)[self.order]
        owner, images = _images(inside, full, pbc, float(reach.max()))
        source, shift = self.order[owner], images - home[owner]
        grid = _Grid(positions[source] + shift @ cell, float(reach.max()), len(positions))
        # extended atoms lie bin by bin: what one atom looks through are a few runs of memory
        self.owner, images = owner[grid.order].astype(np.uint32), images[grid.order]
        self.source, self.shift = source[grid.order], shift[grid.order]
        self.built, self.position, self.middle = grid.position, grid.position.copy(), grid.position.mean(axis=0)
        self.single = (grid.xyz - self.middle[:, None]).astype(np.float32)
        itself = np.flatnonzero(~images.any(axis=1))
        self.itself = np.empty(len(positions), np.int64)
        self.itself[self.owner[itself]] = itself
        self._fill(grid, reach, _forward(images))

    def _fill(self, grid: _Grid, reach: NDArray[np.float64], forward: NDArray[np.bool_]) -> None:
        n = len(self.order)
        density = max(len(self.position) / grid.volume, 0.05)
        room = [min(len(self.position), int(1.3 * density * 4.19 * r**3) + 24) if r else 0 for r in reach]
        while True:
            self.near, self.far = (_roomy(a, (n, max(r, 1))) for a, r in zip((self.near, self.far), room, strict=True))
            self.n_near, self.n_far, self.n_front = (np.zeros(n, np.uint32) for _ in range(3))
            closest = np.full(n, np.inf)
            bins = (grid.xyz, grid.start, grid.shape, grid.low, grid.width, grid.fullest)
            made = (self.near, self.n_near, self.n_front, self.far, self.n_far, closest)
            self.team.over(n, _rows, self.owner, forward, self.itself, *bins, reach, *made)
            if closest.min(initial=np.inf) < MIN_DISTANCE_A:
                raise ValueError(f"atom {self.order[closest.argmin()]} overlaps another: {closest.min():.2g} Å apart")
            needed = [int(self.n_near.max()), int(self.n_far.max())]
            if all(a <= b for a, b in zip(needed, room, strict=True)):
                return
            room = [max(int(1.1 * a), b) for a, b in zip(needed, room, strict=True)]


def _roomy(array: NDArray[np.uint32], shape: tuple[int, int]) -> NDArray[np.uint32]:
    """The array as it is if it has the rows and room enough: fresh memory costs as much as filling it."""
    enough = array.shape[0] == shape[0] and shape[1] <= array.shape[1] <= 2 * shape[1] + 64
    return array if enough else np.empty(shape, np.uint32)


COLUMN_A = 6.5
"""Width of the columns that atoms are sorted into (measured: 5 to 8 Å differ by 3 %)."""


def _along_columns(position: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of the atoms along columns, up one and down the next: what a column's neighbours need stays in cache."""
    low, extent = position.min(axis=0), np.ptp(position, axis=0) + 1e-9
    a, b, c = np.argsort(extent, kind="stable")
    n = np.maximum(np.round(extent / COLUMN_A), 1).astype(np.int64)
    place = np.minimum((position - low) / extent * n, n - 1).astype(np.int64)
    across = np.where(place[:, a] % 2, n[b] - 1 - place[:, b], place[:, b])
    column = place[:, a] * n[b] + across
    along = (position[:, c] - low[c]) / extent[c]
    return np.argsort(column + 0.999 * np.where(column % 2, 1.0 - along, along), kind="stable")


def _images(inside: Any, cell: Any, pbc: Any, reach: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which atoms must be repeated where: owner and whole cell vectors, the atoms themselves first."""
    margin = reach * np.linalg.norm(np.linalg.inv(cell), axis=0)
    owner, image = np.arange(len(inside)), np.zeros((len(inside), 3))
    for axis in np.flatnonzero(pbc):
        f = inside[owner, axis]
        parts = [(owner, image)]
        m = int(np.ceil(margin[axis]))
        for shift in (*range(-m, 0), *range(1, m + 1)):
            close = np.flatnonzero((f + shift >= -margin[axis]) & (f + shift <= 1.0 + margin[axis]))
            moved = image[close]
            moved[:, axis] = shift
            parts.append((owner[close], moved))
        owner, image = np.concatenate([o for o, _ in parts]), np.concatenate([i for _, i in parts])
    return owner, image


def _forward(images: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of an image and the opposite one, True for one."""
    a, b, c = images.T
    return (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))


class _Grid:
    """Extended atoms sorted into bins: half the reach wide, and thin along the axis that a line of bins follows."""

    def __init__(self, position: NDArray[np.float64], reach: float, n_atoms: int) -> None:
        self.low = position.min(axis=0) - 1e-6
        extent = position.max(axis=0) - self.low + 1e-6
        self.volume = float(np.prod(np.maximum(extent, 3.0)))
        # a thin gas in a huge space must not need more bins than atoms
        least = float((np.prod(extent) / (16 * n_atoms + 64)) ** (1 / 3))
        self.width = np.maximum(reach / np.array([2.0, 2.0, 16.0]), least)
        self.shape = (extent / self.width).astype(np.int64) + 1
        bins = ((position - self.low) / self.width).astype(np.int64)
        flat = (bins[:, 0] * self.shape[1] + bins[:, 1]) * self.shape[2] + bins[:, 2]
        self.order = np.argsort(flat, kind="stable")
        self.position = position[self.order]
        self.xyz = np.ascontiguousarray(self.position.T)
        count = np.bincount(flat, minlength=int(self.shape.prod()))
        self.start = np.concatenate([[0], np.cumsum(count)])
        # atoms in a line of bins along the last axis
        self.fullest = int(count.reshape(-1, self.shape[2]).sum(axis=1).max())


_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}


@njit(**_FAST)
def _move(lo, hi, positions, source, shift, cell, built, middle, position, single, moved2):
    """Present places of extended atoms, and the largest squared distance that one has moved."""
    largest = 0.0
    for e in range(lo, hi):
        i, d2 = source[e], 0.0
        for d in range(3):
            x = positions[i, d] + shift[e, 0] * cell[0, d] + shift[e, 1] * cell[1, d] + shift[e, 2] * cell[2, d]
            position[e, d] = x
            single[d, e] = x - middle[d]
            d2 += (x - built[e, d]) * (x - built[e, d])
        largest = max(largest, d2)
    moved2[0] = largest


@njit(**_FAST)
def _rows(
    lo, hi, owner, forward, itself, xyz, start, shape, low, width, fullest, reach,
    near, n_near, n_front, far, n_far, closest,
):  # fmt: skip
    """Fill the rows `lo..hi`; counts may exceed the room of a row, whose last place is then overwritten.

    What may or may not belong to a list is written always and counted only where it does: no branch to mispredict.
    """
    near2, far2 = reach[0] * reach[0], reach[1] * reach[1]
    widest2 = max(near2, far2)
    room_near, room_far = near.shape[1] - 1, far.shape[1] - 1
    close, back, r2 = np.empty(near.shape[1], np.uint32), np.empty(near.shape[1], np.uint32), np.empty(fullest)
    px, py, pz = xyz[0], xyz[1], xyz[2]
    span_x, span_y = int(np.ceil(np.sqrt(widest2) / width[0])), int(np.ceil(np.sqrt(widest2) / width[1]))
    for i in range(lo, hi):
        me = itself[i]
        x, y, z = px[me], py[me], pz[me]
        bx, by = int((x - low[0]) / width[0]), int((y - low[1]) / width[1])
        n_c, n_d = 0, 0
        nearest = np.inf
        for cx in range(max(bx - span_x, 0), min(bx + span_x + 1, shape[0])):
            gap_x = max(low[0] + cx * width[0] - x, x - low[0] - (cx + 1) * width[0], 0.0)
            for cy in range(max(by - span_y, 0), min(by + span_y + 1, shape[1])):
                gap_y = max(low[1] + cy * width[1] - y, y - low[1] - (cy + 1) * width[1], 0.0)
                left2 = widest2 - gap_x * gap_x - gap_y * gap_y
                if left2 <= 0.0:
                    continue
                half, line = np.sqrt(left2) + 1e-9, (cx * shape[1] + cy) * shape[2]
                first = start[line + max(int((z - half - low[2]) / width[2]), 0)]
                last = start[line + min(int((z + half - low[2]) / width[2]), shape[2] - 1) + 1]
                for k in range(last - first):
                    dx, dy, dz = x - px[first + k], y - py[first + k], z - pz[first + k]
                    r2[k] = dx * dx + dy * dy + dz * dz
                if first <= me < last:
                    r2[me - first] = np.inf
                for k in range(last - first):
                    far[i, min(n_d, room_far)] = first + k
                    n_d += r2[k] < far2
                if widest2 - left2 < near2:
                    for k in range(last - first):
                        close[min(n_c, room_near)] = first + k
                        n_c += r2[k] < near2
                        nearest = min(nearest, r2[k])
        n_f, n_b = 0, 0
        for k in range(min(n_c, room_near + 1)):
            j = close[k]
            other = owner[j]
            front = forward[j] if other == i else ((i < other) != (((i + other) & 1) == 1))
            near[i, n_f] = back[n_b] = j
            n_f += front
            n_b += not front
        for k in range(n_b):
            near[i, n_f + k] = back[k]
        n_near[i], n_front[i], n_far[i] = n_c, n_f, n_d
        closest[i] = np.sqrt(nearest)
