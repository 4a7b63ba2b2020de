"""Which atoms see which: lists of pairs within a cutoff, through any number of periodic images (vesin)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

MIN_DISTANCE_A = 1e-4
"""Two atoms nearer than this are taken for a duplicate: every direction-dependent term is undefined there."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of atoms; the vector of a pair points from `j` (sender) to `i` (receiver).

    | name | shape | meaning |
    |---|---|---|
    | `i`, `j` | `(n_pairs,)` int64 | receiver and sender |
    | `shift` | `(n_pairs, 3)` float64 | whole cell vectors added to atom `j` |
    """

    i: torch.Tensor
    j: torch.Tensor
    shift: torch.Tensor

    def __len__(self) -> int:
        return len(self.i)

    def vectors(
        self, positions: torch.Tensor, cells: torch.Tensor, system: torch.Tensor, strain: torch.Tensor
    ) -> torch.Tensor:
        """r_i - r_j in Å, `(n_pairs, 3)` float64, each system deformed by its `strain` `(n_systems, 3, 3)`."""
        of_pair = system[self.i]
        r = positions[self.i] - positions[self.j]
        if bool(self.shift.any()):
            r = r - torch.einsum("pa,pab->pb", self.shift, cells[of_pair])
        return r + torch.einsum("pa,pab->pb", r, strain[of_pair])

    def half(self) -> Pairs:
        """Each pair once: of (i, j, S) and (j, i, -S) the one with i < j; of an atom's own images one of S, -S."""
        s = self.shift
        forward = (s[:, 0] > 0) | ((s[:, 0] == 0) & ((s[:, 1] > 0) | ((s[:, 1] == 0) & (s[:, 2] > 0))))
        keep = (self.i < self.j) | ((self.i == self.j) & forward)
        return Pairs(self.i[keep], self.j[keep], self.shift[keep])

    def shifted_by(self, start: int) -> Pairs:
        """The same pairs with `start` added to all atom indices."""
        return Pairs(self.i + start, self.j + start, self.shift)

    def to(self, device: torch.device | str) -> Pairs:
        """The same pairs on another device."""
        return Pairs(self.i.to(device), self.j.to(device), self.shift.to(device))

    @staticmethod
    def join(parts: Sequence[Pairs]) -> Pairs:
        """All pairs of several lists, in order; no lists give no pairs."""
        none = torch.zeros(0, dtype=torch.int64)
        return Pairs(
            torch.cat([none, *(p.i for p in parts)]),
            torch.cat([none, *(p.j for p in parts)]),
            torch.cat([torch.zeros((0, 3), dtype=torch.float64), *(p.shift for p in parts)]),
        )


def neighbour_pairs(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff_A: float
) -> Pairs:
    """All directed pairs with |r_ij| < `cutoff_A`, sorted by receiver; cells smaller than the cutoff are fine.

    Raises `ValueError` naming two atoms that lie on top of each other.
    """
    from vesin import NeighborList

    finder = NeighborList(cutoff=cutoff_A, full_list=True, sorted=True)
    i, j, shift, d = finder.compute(positions, complete_cell(cell, pbc), pbc, quantities="ijSd")
    if len(d) and d.min() < MIN_DISTANCE_A:
        k = int(d.argmin())
        raise ValueError(f"atoms {int(i[k])} and {int(j[k])} overlap: {d[k]:.2g} Å apart")
    keep = d < cutoff_A
    if not keep.all():
        i, j, shift = i[keep], j[keep], shift[keep]
    return Pairs(
        torch.from_numpy(i.astype(np.int64)),
        torch.from_numpy(j.astype(np.int64)),
        torch.from_numpy(shift.astype(np.float64)),
    )


def all_pairs(n_atoms: int) -> Pairs:
    """Every pair of an open system once."""
    i, j = torch.triu_indices(n_atoms, n_atoms, offset=1)
    return Pairs(i, j, torch.zeros((len(i), 3), dtype=torch.float64))


def complete_cell(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The cell with each direction that does not repeat replaced by a unit vector normal to those that do."""
    if not pbc.any():
        return np.eye(3)
    full = np.array(cell, np.float64)
    full[~pbc] = 0.0
    for axis in np.flatnonzero(~pbc):
        # the last right singular vectors span what the rows so far leave out
        full[axis] = np.linalg.svd(full)[2][-1]
    return full
