"""Clusters: a few neighbouring molecules out of a box, with the charges of their ions, in vacuum.

A box is ASE's `Atoms` as `mlff.system.liquid.pack` and trajectories give it: `arrays["fragments"]` `(n_atoms,)` numbers the
molecules, `info["fragment_charges"]` `(n_fragments,)` says their charges in e.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from mlff.frames import Configuration

_IMAGES = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
Count = Annotated[int, Field(ge=1)]


@plain_dataclass(frozen=True, eq=False)
class Cluster:
    """Molecules in vacuum: `numbers` `(n_atoms,)`, `positions` `(n_atoms, 3)` Å about their centre, `fragments`
    `(n_atoms,)` from 0, `fragment_charges` `(n_fragments,)` e, `names` of the species, `source` where it was cut."""

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    fragments: NDArray[np.int64]
    fragment_charges: NDArray[np.float64]
    names: tuple[str, ...]
    source: str = ""

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def charge(self) -> int:
        """Total charge, e."""
        return round(float(self.fragment_charges.sum()))

    @property
    def composition(self) -> str:
        """`DMC(3):Li(1)`: species in alphabetical order."""
        return ":".join(f"{name}({n})" for name, n in sorted(Counter(self.names).items()))

    @property
    def key(self) -> str:
        """Digest of the atoms, their places (to 1e-6 Å) and the charge: what a label belongs to."""
        places = np.round(self.positions * 1e6).astype(np.int64)
        return hashlib.blake2b(
            self.numbers.astype(np.int64).tobytes() + places.tobytes() + str(self.charge).encode(), digest_size=12
        ).hexdigest()

    def configuration(self) -> Configuration:
        """The same for the force field."""
        from mlff.frames import Configuration

        return Configuration.of(
            self.numbers,
            self.positions,
            total_charge=float(self.fragment_charges.sum()),
            fragments=self.fragments,
            fragment_charges=self.fragment_charges,
        )


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Cut:
    """How clusters are cut: a molecule and its nearest neighbours. Raises pydantic's `ValidationError`."""

    fewest: Annotated[Count, Field(description="molecules of a cluster, ions counted")] = 1
    most: Annotated[Count, Field(description="molecules of a cluster, ions counted")] = 8
    most_atoms: Annotated[int, Field(ge=2, description="a molecule that would exceed it is passed over")] = 60
    ions_first: Annotated[
        float, Field(ge=0, le=1, description="share of clusters around an ion, where there are any")
    ] = 0.5
    largest_charge: Annotated[int, Field(ge=1, description="of a cluster, either sign, e")] = 1

    def __post_init__(self) -> None:
        if self.fewest > self.most:
            raise ValueError(f"fewest={self.fewest}: is more than most={self.most}")


def cut(
    box: Any, settings: Cut, rng: np.random.Generator, *, names: Sequence[str] | None = None, source: str = ""
) -> Cluster:
    """One cluster of a box: a random molecule with its nearest ones, how many is drawn.

    Molecules are counted by the shortest distance between atoms, over periodic images; each is taken once. `names` are
    those of the box's molecules (else their formulas). Raises `ValueError` for a box that does not say which atoms
    belong together, or whose every molecule is too large.
    """
    molecules = whole_molecules(box)
    charges = np.asarray(box.info["fragment_charges"], np.float64)
    ions = np.flatnonzero(charges)
    around_ion = len(ions) > 0 and rng.random() < settings.ions_first
    pool = ions if around_ion else np.arange(len(molecules))
    fitting = [
        k for k in pool if len(molecules[k]) <= settings.most_atoms and abs(charges[k]) <= settings.largest_charge
    ]
    if not fitting:
        raise ValueError(f"most_atoms={settings.most_atoms}: every molecule of {source or 'the box'} has more")
    first = int(rng.choice(fitting))
    wanted = int(rng.integers(settings.fewest, settings.most + 1))
    shift, distance = _nearest_images(box, molecules, first)
    chosen, n_atoms, total = [first], len(molecules[first]), charges[first]
    for k in np.argsort(distance, kind="stable"):
        if len(chosen) == wanted:
            break
        if k == first or n_atoms + len(molecules[k]) > settings.most_atoms:
            continue
        if abs(total + charges[k]) > settings.largest_charge:
            continue
        chosen.append(int(k))
        n_atoms, total = n_atoms + len(molecules[k]), total + charges[k]
    return _gathered(box, molecules, chosen, shift, names, source)


def whole_molecules(box: Any) -> list[NDArray[np.int64]]:
    """Indices of the atoms of each molecule. Raises `ValueError` where the box does not say."""
    if "fragments" not in box.arrays or "fragment_charges" not in box.info:
        raise ValueError("the box does not say which molecule an atom belongs to (fragments, fragment_charges)")
    fragments = np.asarray(box.arrays["fragments"], np.int64)
    n = len(box.info["fragment_charges"])
    if not np.array_equal(np.unique(fragments), np.arange(n)):
        raise ValueError(f"fragments must be numbered 0 to {n - 1}, one for each of {n} fragment_charges")
    order = np.argsort(fragments, kind="stable")
    return np.split(order, np.cumsum(np.bincount(fragments))[:-1])


def _nearest_images(
    box: Any, molecules: Sequence[NDArray[np.int64]], first: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift of each atom `(n_atoms, 3)` Å that makes molecules whole and brings them nearest to molecule `first`, and
    their distance from it `(n_molecules,)` Å by the closest pair of atoms."""
    shift, distance = np.zeros((len(box), 3)), np.zeros(len(molecules))
    images = np.unique(_IMAGES * box.pbc, axis=0) @ np.where(box.pbc[:, None], box.cell.array, 0.0)
    places = [_unbroken(box.positions[atoms], box) for atoms in molecules]
    centres = np.array([place.mean(axis=0) for place in places])
    rough = _minimal(centres - centres[first], box) - (centres - centres[first])
    for k, atoms in enumerate(molecules):
        there = places[k] + rough[k]
        if k != first:
            gaps = np.linalg.norm(there[None, :, None] + images[:, None, None] - places[first], axis=3).min(axis=(1, 2))
            distance[k] = gaps.min()
            there = there + images[np.argmin(gaps)]
        shift[atoms] = there - box.positions[atoms]
    return shift, distance


def _unbroken(positions: NDArray[np.float64], box: Any) -> NDArray[np.float64]:
    """A molecule in one piece: every atom at the image nearest to an atom that is already placed."""
    if not box.pbc.any() or np.ptp(positions, axis=0).max() < 0.5 * _smallest_height(box):
        return positions
    placed = positions.copy()
    done, waiting = [0], list(range(1, len(placed)))
    while waiting:
        d = _minimal((placed[waiting][:, None] - placed[done]).reshape(-1, 3), box).reshape(len(waiting), len(done), 3)
        length = np.linalg.norm(d, axis=2)
        w, near = np.unravel_index(int(np.argmin(length)), length.shape)
        placed[waiting[w]] = placed[done[near]] + d[w, near]
        done.append(waiting.pop(w))
    return placed


def _smallest_height(box: Any) -> float:
    """Shortest distance between opposite faces along periodic directions, Å; what is shorter by half is in one piece."""
    return float(1.0 / np.linalg.norm(box.cell.reciprocal().array[box.pbc], axis=1).max())


def _minimal(vectors: NDArray[np.float64], box: Any) -> NDArray[np.float64]:
    """The shortest periodic images of vectors."""
    if not box.pbc.any():
        return vectors
    from ase.geometry import find_mic

    found: NDArray[np.float64] = find_mic(np.atleast_2d(vectors), box.cell, box.pbc)[0]
    return found.reshape(np.shape(vectors))


def _gathered(
    box: Any,
    molecules: Sequence[NDArray[np.int64]],
    chosen: Sequence[int],
    shift: NDArray[np.float64],
    names: Sequence[str] | None,
    source: str,
) -> Cluster:
    atoms = np.concatenate([molecules[k] for k in chosen])
    positions = box.positions[atoms] + shift[atoms]
    species = [names[k] if names is not None else box[molecules[k]].get_chemical_formula() for k in chosen]
    return Cluster(
        numbers=np.asarray(box.numbers[atoms], np.int64),
        positions=positions - positions.mean(axis=0),
        fragments=np.repeat(np.arange(len(chosen)), [len(molecules[k]) for k in chosen]),
        fragment_charges=np.asarray(box.info["fragment_charges"], np.float64)[list(chosen)],
        names=tuple(species),
        source=source,
    )
