"""Clusters moved away from where they were cut: what a force field must know beside the liquid's own arrangements.

Molecules are shifted, turned and brought closer or further as rigid bodies (close contacts, gaps), and their atoms
displaced (stretched bonds, bent angles); how much is drawn anew for each cluster, from nothing up to the settings.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.labels.clusters import Cluster

CONTACT = 0.55
"""Atoms of two molecules come no nearer than this share of the sum of their van der Waals radii."""
ION_RADIUS_A = 1.2
"""Of an atom that is a molecule by itself, such as Li+, which comes nearer to others than its van der Waals radius."""
_TRIES = 20


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Perturbation:
    """Largest moves; a cluster that comes too close in every try is left as it was. 0 leaves a kind of move out."""

    displacement_A: Annotated[float, Field(ge=0, le=0.5, description="rms of atoms by component")] = 0.08
    shift_A: Annotated[float, Field(ge=0, le=3, description="rms of molecules by component")] = 0.3
    turn_deg: Annotated[float, Field(ge=0, le=180, description="rms of turns of molecules about their centres")] = 15.0
    squeeze: Annotated[float, Field(ge=0, lt=0.5, description="largest relative change of distances of centres")] = 0.12


def perturbed(cluster: Cluster, settings: Perturbation, rng: np.random.Generator) -> Cluster:
    """A copy whose molecules and atoms are moved, about its own centre."""
    for _ in range(_TRIES):
        positions = _moved(cluster, settings, rng)
        if closest_contact(cluster, positions) >= CONTACT:
            return replace(cluster, positions=positions - positions.mean(axis=0))
    return cluster


def _moved(cluster: Cluster, settings: Perturbation, rng: np.random.Generator) -> NDArray[np.float64]:
    share = rng.uniform(0.0, 1.0, 3)
    scale = 1.0 + settings.squeeze * rng.uniform(-1.0, 1.0)
    positions = cluster.positions.copy()
    for k in range(len(cluster.fragment_charges)):
        atoms = cluster.fragments == k
        centre = positions[atoms].mean(axis=0)
        turn = _rotation(np.radians(settings.turn_deg) * share[0] * rng.normal(size=3))
        shift = settings.shift_A * share[1] * rng.normal(size=3)
        positions[atoms] = (positions[atoms] - centre) @ turn.T + scale * centre + shift
    return positions + settings.displacement_A * share[2] * rng.normal(size=positions.shape)


def _rotation(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vector).as_matrix(), np.float64)


def closest_contact(cluster: Cluster, positions: NDArray[np.float64]) -> float:
    """Smallest distance of atoms of two molecules, as a share of the sum of their radii; infinite for one molecule."""
    from ase.data import vdw_radii

    radii = np.nan_to_num(vdw_radii[cluster.numbers], nan=2.0)
    alone = np.bincount(cluster.fragments)[cluster.fragments] == 1
    radii[alone] = np.minimum(radii[alone], ION_RADIUS_A)
    i, j = np.triu_indices(len(cluster), 1)
    apart = cluster.fragments[i] != cluster.fragments[j]
    i, j = i[apart], j[apart]
    if not len(i):
        return np.inf
    return float((np.linalg.norm(positions[i] - positions[j], axis=1) / (radii[i] + radii[j])).min())
