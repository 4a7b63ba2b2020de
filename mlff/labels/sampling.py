"""Where clusters come from: packed boxes, frames of trajectories, boxes in files, or clusters as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff.frames import stated_charge
from mlff.labelled import read_atoms
from mlff.labels.clusters import Cluster, Cut, cut
from mlff.labels.perturbation import Perturbation, perturbed

if TYPE_CHECKING:
    from ase import Atoms

    from mlff.system.liquid import System

FRAGMENT_NAMES = ("fragments", "molID")


@dataclass(frozen=True, eq=False)
class Source:
    """A box that clusters are cut from: atoms as `clusters.py` wants them, species of its molecules, and its name."""

    atoms: Atoms
    names: tuple[str, ...] | None
    name: str


def packed_boxes(system: System, n: int, seed: int) -> list[Source]:
    """`n` boxes of a system, packed one unlike the other."""
    from mlff.streams import generator
    from mlff.system.liquid import pack

    seeds = generator(seed, "boxes").integers(2**31, size=n)
    boxes = [pack(system, int(s)) for s in seeds]
    return [Source(box.atoms, box.names, f"{system.name}[packed {k}]") for k, box in enumerate(boxes)]


def boxes_in(path: Path, most: int | None = None) -> list[Source]:
    """Frames of an H5MD trajectory of `runner=md`, or of an extended XYZ file, `most` of them taken evenly.

    Raises `ValueError` for a file that is neither or does not say which molecule an atom belongs to.
    """
    if path.suffix in (".h5", ".h5md", ".hdf5"):
        return _trajectory(path, most)
    read = read_atoms(path)
    return [_boxed(read[k], f"{path.name}[{k}]") for k in evenly(len(read), most)]


def clusters_in(path: Path) -> list[Cluster]:
    """Open clusters of an extended XYZ file, to be labelled as they are; without `fragments` a frame is one molecule.

    Neutral single atoms, which label sets carry for their energies, are left out.
    """
    clusters = [_whole(atoms, f"{path.name}[{k}]") for k, atoms in enumerate(read_atoms(path))]
    return [cluster for cluster in clusters if len(cluster) > 1 or cluster.charge]


def sample(
    sources: Sequence[Source], n: int, settings: Cut, perturbation: Perturbation | None, rng: np.random.Generator
) -> list[Cluster]:
    """`n` clusters, as many from each box as from any other (give or take one), moved where `perturbation` says how."""
    if not sources:
        raise ValueError("no box to cut clusters from")
    clusters = []
    for k in range(n):
        source = sources[k % len(sources)]
        cluster = cut(source.atoms, settings, rng, names=source.names, source=source.name)
        clusters.append(cluster if perturbation is None else perturbed(cluster, perturbation, rng))
    return clusters


def evenly(n: int, most: int | None) -> list[int]:
    """Indices of at most `most` of `n` things, from first to last."""
    if most is None or n <= most:
        return list(range(n))
    return [int(k) for k in np.linspace(0, n - 1, most).round()]


def _trajectory(path: Path, most: int | None) -> list[Source]:
    from ase import Atoms

    from mlff.dynamics.trajectory import read_trajectory

    t = read_trajectory(path)
    if t.fragments is None or t.fragment_charges is None:
        raise ValueError(f"{path}: does not say which molecule an atom belongs to")
    sources = []
    for k in evenly(len(t.time_ps), most):
        atoms = Atoms(t.numbers, np.asarray(t.positions[k], np.float64), cell=t.cells[k], pbc=True)
        atoms.arrays["fragments"] = np.asarray(t.fragments, np.int64)
        atoms.info["fragment_charges"] = t.fragment_charges
        sources.append(Source(atoms, t.names or None, f"{path.name}[{t.time_ps[k]:g} ps]"))
    return sources


def _boxed(atoms: Any, name: str) -> Source:
    fragments = next((atoms.arrays[k] for k in FRAGMENT_NAMES if k in atoms.arrays), None)
    if fragments is None:
        raise ValueError(f"{name}: does not say which molecule an atom belongs to (a column {FRAGMENT_NAMES[0]!r})")
    index = np.unique(fragments, return_inverse=True)[1]
    charges = np.atleast_1d(np.asarray(atoms.info.get("fragment_charges", np.zeros(index.max() + 1)), np.float64))
    told = _stated(atoms, name)
    total = float(charges.sum()) if told is None else told
    if len(charges) != index.max() + 1 or abs(charges.sum() - total) > 1e-6:
        raise ValueError(f"{name}: fragment_charges do not fit {index.max() + 1} molecules and total_charge={total:g}")
    atoms.arrays["fragments"], atoms.info["fragment_charges"] = index, charges
    return Source(atoms, None, name)


def _stated(atoms: Any, name: str) -> float | None:
    try:
        return stated_charge(atoms.info)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _whole(atoms: Any, name: str) -> Cluster:
    if atoms.pbc.any():
        raise ValueError(f"{name}: is periodic; labels are for open clusters, which are cut from boxes")
    if not any(k in atoms.arrays for k in FRAGMENT_NAMES):
        atoms.arrays["fragments"] = np.zeros(len(atoms), np.int64)
        atoms.info["fragment_charges"] = np.array([_stated(atoms, name) or 0.0])
    box = _boxed(atoms, name).atoms
    fragments = box.arrays["fragments"]
    species = tuple(box[fragments == k].get_chemical_formula() for k in range(len(box.info["fragment_charges"])))
    charges = box.info["fragment_charges"]
    return Cluster(box.numbers.astype(np.int64), box.positions.copy(), fragments, charges, species, name)
