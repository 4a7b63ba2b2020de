"""Density functionals by PySCF: charges from the potential, forces, and the dispersion that a correction adds."""

from __future__ import annotations

import numpy as np
import pytest

from mlff.labels.dft import Pyscf
from mlff.labels.methods import NotLabelled
from mlff.labels.potential_charges import HEADSPACE_A, fit_charges, grid_points
from mlff.units import BOHR_A, DEBYE_EA
from tests.mlff.cluster_samples import WATER

OXYGEN = np.array([8, 1, 1])


def test_charges_that_made_a_potential_come_back() -> None:
    charges = np.array([-0.9, 0.5, 0.7])
    points = grid_points(OXYGEN, WATER, 0.4)
    inverse = BOHR_A / np.linalg.norm(points[:, None] - WATER, axis=2)
    np.testing.assert_allclose(fit_charges(WATER, points, inverse @ charges, 0.3), charges, atol=1e-10)
    assert fit_charges(np.zeros((1, 3)), points, inverse[:, 0], 1.0) == [1.0]


def test_the_grid_lies_outside_the_molecule_and_not_far_from_it() -> None:
    points = grid_points(OXYGEN, WATER, 0.4)
    distance = np.linalg.norm(points[:, None] - WATER, axis=2)
    assert (distance[:, 0] >= 1.52).all() and (distance[:, 1:] >= 1.2).all()
    assert distance.min(axis=1).max() <= HEADSPACE_A and len(points) > 500
    assert len(grid_points(OXYGEN, WATER, 0.2)) == pytest.approx(8 * len(points), rel=0.1)


def test_water_has_the_charges_and_the_dipole_of_its_density() -> None:
    pytest.importorskip("pyscf", reason="PySCF is missing: pip install 'lsmrun[qm]'")
    theory, h = Pyscf(basis="def2-svp", grid_level=1), 2e-3
    found = theory.compute(OXYGEN, WATER, 0)
    assert -0.9 < found.charges[0] < -0.6 and found.charges.sum() == pytest.approx(0.0, abs=1e-10)
    assert found.charges[1] == pytest.approx(found.charges[2], abs=2e-3)
    np.testing.assert_allclose(found.charges @ WATER / DEBYE_EA, found.dipole, atol=0.06)
    assert 1.7 < np.linalg.norm(found.dipole) < 2.4 and 6 < found.gap_eV < 13
    up, down = (theory.compute(OXYGEN, WATER + step, 0).energy for step in _steps(h))
    assert found.forces[1, 0] == pytest.approx(-(up - down) / (2 * h), abs=0.1)
    assert theory.dispersion == "none" and theory.title == "B3LYP/def2-svp"


def _steps(h: float) -> list[np.ndarray]:
    step = np.zeros((3, 3))
    step[1, 0] = h
    return [step, -step]


def test_a_correction_adds_dispersion() -> None:
    pytest.importorskip("pyscf", reason="PySCF is missing: pip install 'lsmrun[qm]'")
    pytest.importorskip("pyscf.dispersion", reason="pyscf-dispersion is missing: pip install 'lsmrun[qm]'")
    numbers, places = np.array([2, 2]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    bare = Pyscf(basis="sto-3g", grid_level=0)
    corrected = Pyscf(basis="sto-3g", grid_level=0, correction="d3bj")
    assert corrected.dispersion == "included" and corrected.title.endswith("-d3bj")
    gain = corrected.compute(numbers, places, 0).energy - bare.compute(numbers, places, 0).energy
    assert -0.5 < gain < -1e-3


def test_an_open_shell_and_a_field_that_does_not_settle_are_refused() -> None:
    pytest.importorskip("pyscf", reason="PySCF is missing: pip install 'lsmrun[qm]'")
    with pytest.raises(NotLabelled, match="9 electrons"):
        Pyscf(basis="sto-3g").compute(OXYGEN, WATER, 1)
