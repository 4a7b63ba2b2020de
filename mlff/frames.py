"""Configurations of atoms, and batches of them as tensors.

| name | shape | meaning |
|---|---|---|
| `numbers` | `(n_atoms,)` int64 | atomic numbers |
| `positions` | `(n_atoms, 3)` float64 | Å |
| `cell` | `(3, 3)` float64 | rows a, b, c in Å; zero where there is no periodicity |
| `pbc` | `(3,)` bool | which cell vectors repeat |
| `total_charge` | float | e |
| `fragments` | `(n_atoms,)` int64 | index of the molecule or fragment that keeps its own charge |
| `fragment_charges` | `(n_fragments,)` float64 | e; they add up to `total_charge` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlff.neighbours import Pairs, all_pairs, complete_cell, neighbour_pairs

N_ELEMENTS = 87
"""Rows of every per-element table: index = atomic number, row 0 is a placeholder, the last row is Rn."""

FARTHEST_A = 2e5
"""Largest coordinate: the grid of the neighbour search overflows beyond some 1e6 Å and ends the process with SIGFPE."""

DENSEST_PER_A3 = 1e3
"""Most atoms in a cubic Å of a periodic cell: beyond, the images within a cutoff fill the memory."""


@dataclass(frozen=True, eq=False)
class Configuration:
    """One arrangement of atoms, checked: raises `ValueError` that says which entry cannot be computed."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    total_charge: float = 0.0
    fragments: NDArray[np.int64] | None = None
    fragment_charges: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n = len(self.numbers)
        if n == 0:
            raise ValueError("a configuration without atoms")
        if self.positions.shape != (n, 3):
            raise ValueError(f"positions of shape {self.positions.shape} for {n} atoms, expected ({n}, 3)")
        bad = np.flatnonzero(~np.isfinite(self.positions).all(axis=1))
        if len(bad):
            raise ValueError(f"atom {bad[0]} has no finite position: {self.positions[bad[0]].tolist()}")
        bad = np.flatnonzero((np.abs(self.positions) > FARTHEST_A).any(axis=1))
        if len(bad):
            place = self.positions[bad[0]].tolist()
            raise ValueError(f"atom {bad[0]} is too far away: {place} (allowed: up to {FARTHEST_A:g} Å either way)")
        if not np.isfinite(self.cell).all():
            raise ValueError(f"the cell is not finite: {self.cell.tolist()}")
        if not np.isfinite(self.total_charge):
            raise ValueError(f"total_charge is {self.total_charge}")
        bad = np.flatnonzero((self.numbers < 1) | (self.numbers >= N_ELEMENTS))
        if len(bad):
            raise ValueError(f"atom {bad[0]} has atomic number {self.numbers[bad[0]]}, allowed are 1 to 86")
        if self.pbc.any() and not np.linalg.norm(self.cell[self.pbc], axis=1).all():
            raise ValueError(f"periodic along {self.pbc.tolist()}, but a cell vector is zero: {self.cell.tolist()}")
        if self.pbc.any() and np.linalg.matrix_rank(self.cell[self.pbc]) < self.pbc.sum():
            raise ValueError(f"the periodic cell vectors are linearly dependent: {self.cell.tolist()}")
        volume = abs(np.linalg.det(complete_cell(self.cell, self.pbc)))
        if self.pbc.any() and n > DENSEST_PER_A3 * volume:
            raise ValueError(f"the cell is too small for its {n} atoms: {self.cell.tolist()} (in Å)")
        self._check_fragments(n)

    def _check_fragments(self, n: int) -> None:
        if (self.fragments is None) != (self.fragment_charges is None):
            raise ValueError("fragments and fragment_charges go together: one of them is missing")
        if self.fragments is None or self.fragment_charges is None:
            return
        found = np.unique(self.fragments)
        if self.fragments.shape != (n,) or not np.array_equal(found, np.arange(len(self.fragment_charges))):
            raise ValueError(
                f"fragments must give each of {n} atoms an index 0..{len(self.fragment_charges) - 1} "
                f"(one for each fragment charge), found shape {self.fragments.shape} with {len(found)} indices"
            )
        if abs(self.fragment_charges.sum() - self.total_charge) > 1e-6:
            total = self.fragment_charges.sum()
            raise ValueError(f"fragment_charges add up to {total:g} e, total_charge is {self.total_charge:g} e")

    @staticmethod
    def of(
        numbers: Any,
        positions: Any,
        cell: Any = None,
        pbc: Any = False,
        total_charge: float = 0.0,
        fragments: Any = None,
        fragment_charges: Any = None,
    ) -> Configuration:
        """From anything that numpy can turn into arrays; `pbc` is one bool or three."""
        cell = np.zeros((3, 3)) if cell is None else np.array(cell, np.float64).reshape(-1)
        return Configuration(
            numbers=np.asarray(numbers, np.int64),
            positions=np.array(positions, np.float64),
            cell=np.diag(cell) if cell.size == 3 else cell.reshape(3, 3),
            pbc=np.broadcast_to(np.asarray(pbc, bool), (3,)).copy(),
            total_charge=float(total_charge),
            # a file with one number gives a scalar
            fragments=None if fragments is None else np.atleast_1d(np.asarray(fragments, np.int64)),
            fragment_charges=None
            if fragment_charges is None
            else np.atleast_1d(np.asarray(fragment_charges, np.float64)),
        )


CHARGE_KEYS = ("charge", "total_charge")
"""What the charge of a whole frame is called: by ASE's users, and in files of labels."""


def stated_charge(info: Mapping[str, Any]) -> float | None:
    """Total charge in e as `atoms.info` or the head of a frame tells it; None where it is silent.

    Raises `ValueError` for what is no number, and where `charge` and `total_charge` differ.
    """
    told = {}
    for key in (k for k in CHARGE_KEYS if k in info):
        try:
            told[key] = float(info[key])
        except (TypeError, ValueError):
            raise ValueError(f"{key} is {info[key]!r}: it must be a number, the total charge in e") from None
    if len(told) > 1 and abs(told["charge"] - told["total_charge"]) > 1e-6:
        raise ValueError(
            f"charge is {told['charge']:g} e, total_charge is {told['total_charge']:g} e: give one of them"
        )
    return next(iter(told.values()), None)


@dataclass(frozen=True, eq=False)
class Batch:
    """Several configurations side by side, with the pairs of each cutoff; systems never see each other.

    | name | shape | meaning |
    |---|---|---|
    | `system` | `(n_atoms,)` int64 | which configuration an atom belongs to |
    | `cells`, `pbc` | `(n_systems, 3, 3)`, `(n_systems, 3)` | |
    | `group` | `(n_atoms,)` int64 | atoms whose charges add up to one number: a system or a fragment |
    | `group_charge` | `(n_groups,)` float64 | that number, e |
    | `edges` | directed pairs within the network's cutoff, sorted by receiver | |
    | `coulomb` | each pair once: within the Coulomb cutoff, or all pairs of an open system | |
    | `dispersion` | each pair once, within the dispersion cutoff | |
    """

    numbers: torch.Tensor
    positions: torch.Tensor
    system: torch.Tensor
    cells: torch.Tensor
    pbc: torch.Tensor
    group: torch.Tensor
    group_charge: torch.Tensor
    edges: Pairs
    coulomb: Pairs
    dispersion: Pairs

    @property
    def n_systems(self) -> int:
        """Number of configurations."""
        return len(self.cells)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Cutoffs:
    """Distances in Å within which pairs are listed; `coulomb=None` lists all pairs of open systems.

    `dispersion=0` lists none.
    """

    network: float
    coulomb: float
    dispersion: float
    all_pairs_if_open: bool = True


def collate(configurations: Sequence[Configuration], cutoffs: Cutoffs, *, per_fragment: bool = False) -> Batch:
    """Join configurations, finding their pairs; `per_fragment` constrains charges by fragment where these are given."""
    if not configurations:
        raise ValueError("an empty set of configurations")
    lists: list[list[Pairs]] = [[], [], []]
    groups, charges, start, n_groups = [], [], 0, 0
    for c in configurations:
        for kind, pairs in enumerate(_pairs_of(c, cutoffs)):
            lists[kind].append(pairs.shifted_by(start))
        if per_fragment and c.fragments is not None and c.fragment_charges is not None:
            group, charge = c.fragments, c.fragment_charges
        else:
            group, charge = np.zeros(len(c.numbers), np.int64), np.array([c.total_charge])
        groups.append(group + n_groups)
        charges.append(charge)
        n_groups += len(charge)
        start += len(c.numbers)
    counts = torch.tensor([len(c.numbers) for c in configurations])
    return Batch(
        numbers=torch.from_numpy(np.concatenate([c.numbers for c in configurations])),
        positions=torch.from_numpy(np.concatenate([c.positions for c in configurations])),
        system=torch.repeat_interleave(torch.arange(len(counts)), counts),
        cells=torch.from_numpy(np.stack([c.cell for c in configurations])),
        pbc=torch.from_numpy(np.stack([c.pbc for c in configurations])),
        group=torch.from_numpy(np.concatenate(groups)),
        group_charge=torch.from_numpy(np.concatenate(charges)),
        edges=Pairs.join(lists[0]),
        coulomb=Pairs.join(lists[1]),
        dispersion=Pairs.join(lists[2]),
    )


def _pairs_of(c: Configuration, cutoffs: Cutoffs) -> tuple[Pairs, Pairs, Pairs]:
    edges = neighbour_pairs(c.positions, c.cell, c.pbc, cutoffs.network)
    if cutoffs.all_pairs_if_open and not c.pbc.any():
        coulomb = all_pairs(len(c.numbers))
    elif cutoffs.coulomb == cutoffs.network:
        coulomb = edges.half()
    else:
        coulomb = neighbour_pairs(c.positions, c.cell, c.pbc, cutoffs.coulomb).half()
    if not cutoffs.dispersion:
        return edges, coulomb, Pairs.join([])
    return edges, coulomb, neighbour_pairs(c.positions, c.cell, c.pbc, cutoffs.dispersion).half()
