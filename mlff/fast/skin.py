"""Neighbour lists that last: rows of neighbours within the cutoffs and a skin, kept until atoms have moved half of it.

Atoms are sorted in space, periodic images are atoms of their own ("extended" atoms, each with its `owner`), so a cell
smaller than the cutoff needs no special case. Every pair of real atoms lies in the rows of both; one of the two is
marked to stand for the pair, in turn, so that all rows carry about as many.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlff.fast.team import Team
from mlff.neighbours import MIN_DISTANCE_A, complete_cell


class SkinList:
    """Neighbours of `near_A` and `far_A` (0 = no such list), each widened by `skin_A`; arrays in sorted order.

    | name | shape | meaning |
    |---|---|---|
    | `order` | `(n_atoms,)` | index of each sorted atom in the caller's order |
    | `owner` | `(n_extended,)` int32 | sorted atom that an extended atom is an image of |
    | `position` | `(n_extended, 3)` float64 | present places, Å |
    | `near`, `far` | `(n_atoms, capacity)` int32 | extended atoms around each atom |
    | `n_near`, `n_far`, `n_front` | `(n_atoms,)` int32 | entries of a row; those of `near` that stand for their pair |
    """

    def __init__(self, near_A: float, far_A: float, skin_A: float, team: Team) -> None:
        self.reach = np.array([near_A, far_A])
        self.skin, self.team = skin_A, team
        self.builds = 0
        self.position = np.zeros((0, 3))

    def forget(self) -> None:
        """Make the lists again at the next update, whatever has moved."""
        self.builds = 0

    def update(self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> bool:
        """Move all atoms; True where the lists had to be made again. Raises `ValueError` on overlapping atoms."""
        if self.builds and len(positions) == len(self.order) and np.array_equal(pbc, self.pbc):
            place = positions[self.order] - self.home @ cell
            moved = place[self.owner] + self.images @ cell
            if np.square(moved - self.built).sum(axis=1).max() < (0.5 * self.skin) ** 2:
                self.position = moved
                return False
        self._build(positions, cell, pbc)
        self.builds += 1
        return True

    def _build(self, positions: NDArray[Any], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> None:
        full = complete_cell(cell, pbc)
        reach = self.reach + self.skin * (self.reach > 0)
        fraction = positions @ np.linalg.inv(full)
        home = np.where(pbc, np.floor(fraction), 0.0)
        inside = fraction - home
        self.order = np.argsort(_along_curve(positions - home @ full), kind="stable")
        self.pbc, self.home = pbc.copy(), home[self.order]
        place, inside = positions[self.order] - self.home @ cell, inside[self.order]
        self.owner, self.images = _images(inside, full, pbc, float(reach.max()))
        extended = place[self.owner] + self.images @ cell
        grid = _Grid(extended, float(reach.max()), len(positions))
        self.owner, self.images = self.owner[grid.order].astype(np.int32), self.images[grid.order]
        self.position = self.built = extended[grid.order]
        itself = np.flatnonzero(~self.images.any(axis=1))
        self.itself = np.empty(len(positions), np.int64)
        self.itself[self.owner[itself]] = itself
        self._fill(grid, reach)

    def _fill(self, grid: _Grid, reach: NDArray[np.float64]) -> None:
        n = len(self.order)
        density = max(len(self.position) / grid.volume, 0.05)
        room = [min(len(self.position), int(1.3 * density * 4.19 * r**3) + 24) if r else 0 for r in reach]
        a, b, c = self.images.T
        forward = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))
        while True:
            self.near, self.far = (np.zeros((n, max(r, 1)), np.int32) for r in room)
            self.n_near, self.n_far, self.n_front = (np.zeros(n, np.int32) for _ in range(3))
            closest = np.full(n, np.inf)

            def share(thread: int, lo: int, hi: int, closest: NDArray[np.float64] = closest) -> None:
                bins = (grid.start, grid.shape, grid.reach, grid.low, grid.width)
                made = (self.near, self.n_near, self.n_front, self.far, self.n_far, closest)
                _rows(lo, hi, self.position, self.owner, forward, self.itself, *bins, reach, *made)

            self.team.run(share, n)
            if closest.min(initial=np.inf) < MIN_DISTANCE_A:
                raise ValueError(f"atom {self.order[closest.argmin()]} overlaps another: {closest.min():.2g} Å apart")
            needed = [int(self.n_near.max()), int(self.n_far.max())]
            if all(a <= b for a, b in zip(needed, room, strict=True)):
                return
            room = [max(int(1.1 * a), b) for a, b in zip(needed, room, strict=True)]


def _along_curve(position: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place of each atom's 3-Å cube on a Z-order curve: neighbours in space become neighbours in memory."""
    cube = np.minimum((position - position.min(axis=0)) / 3.0, 1023).astype(np.int64)
    place = np.zeros(len(position), np.int64)
    for bit in range(10):
        for axis in range(3):
            place |= ((cube[:, axis] >> bit) & 1) << (3 * bit + axis)
    return place


def _images(inside: Any, cell: Any, pbc: Any, reach: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which atoms must be repeated where: owner and whole cell vectors, the atoms themselves first."""
    height = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    n = np.where(pbc, np.ceil(reach / height), 0).astype(int)
    margin = reach / height
    owners, images = [np.arange(len(inside))], [np.zeros((len(inside), 3))]
    for shift in itertools.product(*(range(-m, m + 1) for m in n)):
        if any(shift):
            f = inside + shift
            close = np.flatnonzero(((f >= -margin) & (f <= 1.0 + margin) | ~pbc).all(axis=1))
            owners.append(close)
            images.append(np.broadcast_to(np.array(shift, np.float64), (len(close), 3)))
    return np.concatenate(owners), np.concatenate(images)


class _Grid:
    """Extended atoms counted into bins of a third of the reach."""

    def __init__(self, position: NDArray[np.float64], reach: float, n_atoms: int) -> None:
        self.low = position.min(axis=0) - 1e-6
        extent = position.max(axis=0) - self.low + 1e-6
        self.volume = float(np.prod(np.maximum(extent, 3.0)))
        # a thin gas in a huge space must not need more bins than atoms
        self.width = max(reach / 3.0, float((np.prod(extent) / (8 * n_atoms + 64)) ** (1 / 3)))
        self.shape = (extent / self.width).astype(np.int64) + 1
        self.reach = int(np.ceil(reach / self.width))
        bins = ((position - self.low) / self.width).astype(np.int64)
        flat = (bins[:, 0] * self.shape[1] + bins[:, 1]) * self.shape[2] + bins[:, 2]
        self.order = np.argsort(flat, kind="stable")
        self.start = np.searchsorted(flat[self.order], np.arange(self.shape.prod() + 1)).astype(np.int64)


@njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
def _rows(
    lo, hi, position, owner, forward, itself, start, shape, span, low, width, reach,
    near, n_near, n_front, far, n_far, closest,
):  # fmt: skip
    """Fill the rows `lo..hi`; counts may exceed the room of a row, whose last place is then overwritten."""
    near2, far2 = reach[0] * reach[0], reach[1] * reach[1]
    room_near, room_far = near.shape[1] - 1, far.shape[1] - 1
    back = np.empty(near.shape[1], np.int32)
    for i in range(lo, hi):
        me = itself[i]
        x, y, z = position[me, 0], position[me, 1], position[me, 2]
        bx, by, bz = int((x - low[0]) / width), int((y - low[1]) / width), int((z - low[2]) / width)
        n_f, n_b, n_d = 0, 0, 0
        nearest = np.inf
        for cx in range(max(bx - span, 0), min(bx + span + 1, shape[0])):
            gap_x = max(low[0] + cx * width - x, x - low[0] - (cx + 1) * width, 0.0)
            for cy in range(max(by - span, 0), min(by + span + 1, shape[1])):
                gap_y = max(low[1] + cy * width - y, y - low[1] - (cy + 1) * width, 0.0)
                if gap_x * gap_x + gap_y * gap_y >= max(near2, far2):
                    continue
                line = (cx * shape[1] + cy) * shape[2]
                first, last = start[line + max(bz - span, 0)], start[line + min(bz + span + 1, shape[2])]
                for j in range(first, last):
                    dx, dy, dz = x - position[j, 0], y - position[j, 1], z - position[j, 2]
                    r2 = dx * dx + dy * dy + dz * dz
                    # written always, counted only where it belongs: no branch to mispredict
                    far[i, min(n_d, room_far)] = j
                    n_d += (r2 < far2) & (j != me)
                    if r2 < near2 and j != me:
                        nearest = min(nearest, r2)
                        other = owner[j]
                        if forward[j] if other == i else ((i < other) != (((i + other) & 1) == 1)):
                            near[i, min(n_f, room_near)] = j
                            n_f += 1
                        else:
                            back[min(n_b, room_near)] = j
                            n_b += 1
        for k in range(min(n_b, room_near + 1 - min(n_f, room_near + 1))):
            near[i, n_f + k] = back[k]
        n_near[i], n_front[i], n_far[i] = n_f + n_b, n_f, n_d
        closest[i] = np.sqrt(nearest)
