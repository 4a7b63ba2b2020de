from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlff import coulomb
from mlff.frames import Configuration
from mlff.model import Geometry
from mlff.units import COULOMB
from tests.mlff.samples import TRICLINIC, model

BETA, R0 = 18.7, 2.2


def electrostatic(
    positions: np.ndarray, q: np.ndarray, cell: np.ndarray, pbc: object, cutoff: float, **settings: object
) -> torch.Tensor:
    """Total Coulomb energy of given point charges, by the model's own path."""
    field = model(coulomb_cutoff_A=cutoff, dispersion="none", **settings)
    batch = field.batch(Configuration.of(np.full(len(q), 6), positions, cell, pbc))
    terms = field._coulomb(batch, Geometry.of(batch), torch.from_numpy(q))
    return torch.stack([e.sum() for e in terms.values()]).sum()


def rock_salt(a: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return n * a, np.where(n.sum(1) % 2, -1.0, 1.0), 2 * a * np.eye(3)


def test_damping_goes_over_into_coulomb_and_into_a_constant() -> None:
    r = torch.tensor([1e-9, 6.0], dtype=torch.float64)
    shape = coulomb.damped(r, BETA, R0)
    assert shape[0].item() == pytest.approx(1 / R0, rel=1e-6)
    assert shape[1].item() == pytest.approx(1 / 6.0, rel=1e-12)


@pytest.mark.parametrize("long_range", ["sum", "mesh"])
def test_rock_salt_has_its_madelung_constant(long_range: str) -> None:
    positions, q, cell = rock_salt(6.0)
    energy = electrostatic(positions, q, cell, True, 9.0, long_range=long_range, splitting_per_A=0.45, smooth=False)
    madelung = -energy.item() * 6.0 / (4 * COULOMB)
    assert madelung == pytest.approx(1.747564594633, rel=1e-6 if long_range == "sum" else 3e-4)


def scattered(n: int = 20, charge: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    q = rng.normal(size=n)
    return rng.uniform(0, 1, (n, 3)) @ TRICLINIC, q - q.mean() + charge / n


@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_energy_does_not_depend_on_the_splitting(charge: float) -> None:
    # the damping acts within 5 Å only, so the real-space part may reach further
    settings = {"long_range": "sum", "smooth": False}
    positions, q = scattered(charge=charge)
    a = electrostatic(positions, q, TRICLINIC, True, 11.0, splitting_per_A=0.45, **settings)
    b = electrostatic(positions, q, TRICLINIC, True, 7.0, splitting_per_A=0.75, **settings)
    assert a.item() == pytest.approx(b.item(), abs=1e-5)


def test_mesh_gives_the_direct_sum_with_potential_and_forces() -> None:
    positions, q = scattered(40)
    x, charge, cell = (torch.from_numpy(v).requires_grad_() for v in (positions, q, TRICLINIC))
    g = 0.65
    direct = coulomb.reciprocal_energies(x, charge, cell, g)
    mesh = coulomb.mesh_energies(x, charge, cell, g, mesh_A=0.6)
    wanted = torch.autograd.grad(direct.sum(), (x, charge, cell))
    found = torch.autograd.grad(mesh.sum(), (x, charge, cell))
    for a, b in zip((mesh, *found), (direct, *wanted), strict=True):
        assert (a - b).norm() < 3e-4 * b.norm()


def test_direct_sum_is_that_of_an_independent_code() -> None:
    from torchpme import EwaldCalculator
    from torchpme.potentials import CoulombPotential

    positions, q = scattered()
    x, charge, cell = map(torch.from_numpy, (positions, q, TRICLINIC))
    g = 0.65
    theirs = EwaldCalculator(CoulombPotential(smearing=1 / (math.sqrt(2) * g), prefactor=COULOMB), lr_wavelength=0.6)
    none = torch.zeros((0, 2), dtype=torch.int64)
    potential = theirs.double()(charge[:, None], cell, x, none, torch.zeros(0, dtype=torch.float64))[:, 0]
    ours = coulomb.reciprocal_energies(x, charge, cell, g) + coulomb.self_energies(charge, g)
    torch.testing.assert_close(ours, charge * potential, rtol=1e-6, atol=1e-6)


def test_approximate_erfc_is_within_its_bound_and_carries_the_analytic_slope() -> None:
    r = torch.linspace(0.5, 5.0, 50, dtype=torch.float64, requires_grad=True)
    value = coulomb.screen_approximate(r, 0.65)
    slope = torch.autograd.grad(value.sum(), r)[0]
    exact = coulomb.screen(r, 0.65)
    exact_slope = torch.autograd.grad(exact.sum(), r)[0]
    assert 1e-9 < (value - exact).abs().max() < 4e-7
    assert 1e-9 < (slope - exact_slope).abs().max() < 1e-6


def test_smooth_tail_ends_without_step_or_kink() -> None:
    r = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    end = 1 / r + coulomb.tail_removed(r, 0.65, 5.0)
    slope = torch.autograd.grad(end.sum(), r)[0]
    assert end.item() == pytest.approx(0.0, abs=1e-15)
    assert slope.item() == pytest.approx(0.0, abs=1e-15)


def images(positions: np.ndarray, q: np.ndarray, shifts: np.ndarray) -> float:
    """Half the interaction of a neutral group with copies of itself, plus its own."""
    total = 0.0
    for shift in shifts:
        d = np.linalg.norm(positions[:, None] - positions[None] - shift, axis=-1)
        if not shift.any():
            np.fill_diagonal(d, np.inf)
        total += 0.5 * COULOMB * (q[:, None] * q[None] / d).sum()
    return total


GROUP = np.array([[0.0, 0, 0], [4.5, 1.0, 4.2], [-1.0, 4.6, 1.5]])
GROUP_Q = np.array([1.0, -0.4, -0.6])


def test_a_slab_interacts_with_its_copies_in_the_plane_only() -> None:
    cell = np.diag([16.0, 16.0, 1.0])
    radii = np.array([40, 80])
    n = np.stack(np.meshgrid(*[np.arange(-80, 81)] * 2, indexing="ij"), -1).reshape(-1, 2)
    sums = [
        images(GROUP, GROUP_Q, np.c_[16.0 * n[(n**2).sum(1) <= m * m], 0 * n[(n**2).sum(1) <= m * m][:, :1]])
        for m in radii
    ]
    # what lies beyond a radius R falls off as 1/R
    wanted = sums[1] + (sums[1] - sums[0]) * radii[0] / (radii[1] - radii[0])
    found = electrostatic(GROUP, GROUP_Q, cell, [True, True, False], 7.0, splitting_per_A=0.6, smooth=False)
    assert found.item() == pytest.approx(wanted, rel=2e-5)


def test_a_wire_interacts_with_its_copies_along_the_line_only() -> None:
    cell = np.diag([1.0, 1.0, 16.0])
    shifts = np.c_[np.zeros((401, 2)), 16.0 * np.arange(-200, 201)]
    wanted = images(GROUP, GROUP_Q, shifts)
    found = electrostatic(GROUP, GROUP_Q, cell, [False, False, True], 7.0, splitting_per_A=0.6, smooth=False)
    assert found.item() == pytest.approx(wanted, rel=2e-3)


def test_self_energy_is_that_of_a_gaussian_cloud() -> None:
    q = torch.tensor([2.0], dtype=torch.float64)
    assert coulomb.self_energies(q, 0.5).item() == pytest.approx(-COULOMB * 0.5 / math.sqrt(math.pi) * 4)
