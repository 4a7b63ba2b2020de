"""Small molecules, ions and boxes of them with known geometry."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlff.labels.clusters import Cluster

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
PF6 = 1.629 * np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]])


def waters(distance_A: float = 2.9, n: int = 2) -> Cluster:
    """Water molecules in a row."""
    positions = np.concatenate([WATER + np.array([0.0, 0.0, k * distance_A]) for k in range(n)])
    return Cluster(
        np.tile([8, 1, 1], n),
        positions - positions.mean(axis=0),
        np.repeat(np.arange(n), 3),
        np.zeros(n),
        ("water",) * n,
        "made",
    )


def ion_pair(distance_A: float) -> Cluster:
    """PF6- with Li+ above the middle of a face, `distance_A` from P."""
    lithium = np.full((1, 3), distance_A / np.sqrt(3))
    positions = np.concatenate([PF6, lithium])
    return Cluster(
        np.array([15] + [9] * 6 + [3]),
        positions - positions.mean(axis=0),
        np.array([0] * 7 + [1]),
        np.array([-1.0, 1.0]),
        ("PF6", "Li"),
        "made",
    )


def box(seed: int = 0, wrapped: bool = False) -> Atoms:
    """27 waters, two of them ions of one atom (Li+ and F-) in a periodic triclinic box, on a grid of 3.4 Å."""
    rng = np.random.default_rng(seed)
    grid = 3.4 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    numbers, positions, fragments = [], [], []
    for k, site in enumerate(grid):
        species = {5: [3], 20: [9]}.get(k, [8, 1, 1])
        numbers += species
        positions.append(site + WATER[: len(species)] + rng.uniform(-0.2, 0.2, 3))
        fragments += [k] * len(species)
    cell = np.array([[10.2, 0, 0], [2.0, 10.2, 0], [0, -1.5, 10.2]])
    atoms = Atoms(numbers, np.concatenate(positions), cell=cell, pbc=True)
    atoms.arrays["fragments"] = np.array(fragments)
    charges = np.zeros(27)
    charges[[5, 20]] = 1.0, -1.0
    atoms.info["fragment_charges"] = charges
    if wrapped:
        atoms.wrap()
    return atoms
