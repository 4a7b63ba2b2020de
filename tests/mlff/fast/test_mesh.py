"""The engine's mesh gives the torch model's mesh, and both the direct sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff import coulomb
from mlff.fast.mesh import Field, ParticleMesh
from mlff.fast.team import Team
from tests.mlff.samples import TRICLINIC

G = 0.65
BOX = 2.0 * TRICLINIC


def charges(n: int = 60, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Atoms in and around a cell, and charges that do not add up to zero."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 1.7, (n, 3)) @ BOX, rng.normal(size=n) * 0.5


def by_torch(form: str, positions: np.ndarray, q: np.ndarray, cell: np.ndarray, mesh_A: float) -> Field:
    x, charge, box = (torch.from_numpy(v.copy()).requires_grad_() for v in (positions, q, cell))
    if form == "mesh":
        energy = coulomb.mesh_energies(x, charge, box, G, mesh_A).sum()
    else:
        energy = coulomb.reciprocal_energies(x, charge, box, G).sum()
    dx, dq, dcell = (g.numpy() for g in torch.autograd.grad(energy, (x, charge, box)))
    return Field(dq, -dx, -(positions.T @ dx + cell.T @ dcell))


def differences(a: Field, b: Field) -> list[float]:
    return [float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]


def test_mesh_is_that_of_the_torch_model() -> None:
    positions, q = charges()
    mesh = ParticleMesh(G, 0.6, Team(1))
    # the last cells keep the size of the mesh, then change it
    for cell in (BOX, 1.001 * BOX, 1.2 * BOX):
        found = mesh.field(positions, q, cell)
        assert max(differences(found, by_torch("mesh", positions, q, cell, 0.6))) < 3e-6


@pytest.mark.parametrize(("mesh_A", "tolerance"), [(0.6, 3e-4), (0.4, 2e-5)])
def test_mesh_gives_the_direct_sum(mesh_A: float, tolerance: float) -> None:
    positions, q = charges()
    found = ParticleMesh(G, mesh_A, Team(1)).field(positions, q, BOX)
    assert max(differences(found, by_torch("direct", positions, q, BOX, mesh_A))) < tolerance


def test_any_number_of_threads_gives_the_same_field() -> None:
    positions, q = charges()
    one, seven = (ParticleMesh(G, 0.6, Team(n)).field(positions, q, BOX) for n in (1, 7))
    assert max(differences(one, seven)) < 1e-6


def test_a_cell_narrower_than_a_spline_is_covered_by_enough_points() -> None:
    cell = np.diag([3.0, 3.5, 4.0])
    positions, q = np.array([[0.1, 0.2, 0.3], [1.4, 1.9, 2.2]]), np.array([1.0, -1.0])
    found = ParticleMesh(G, 0.6, Team(2)).field(positions, q, cell)
    assert max(differences(found, by_torch("direct", positions, q, cell, 0.6))) < 3e-4
