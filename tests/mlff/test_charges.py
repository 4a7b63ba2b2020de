from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff.charges import equilibration_energy, molecules, neutralise
from tests.mlff.samples import crowd, model


def test_each_group_adds_up_to_its_charge() -> None:
    q = torch.tensor([0.5, -0.2, 1.0, 3.0])
    shifted = neutralise(q, torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert shifted.tolist() == pytest.approx([0.85, 0.15, -1.5, 0.5])


@pytest.mark.parametrize("charge", [0.0, 1.0, -2.0])
def test_a_system_keeps_its_total_charge(charge: float) -> None:
    field = model()
    p = field.predict(field.batch(crowd(total_charge=charge)), forces=False)
    assert p.charges.sum().item() == pytest.approx(charge, abs=1e-12)


def test_fragments_keep_their_own_charges() -> None:
    field = model()
    c = crowd(12, total_charge=1.0, fragments=np.arange(12) % 3, fragment_charges=[1.0, 1.0, -1.0])
    q = field.predict(field.batch(c), forces=False).charges
    assert [q[k::3].sum().item() for k in range(3)] == pytest.approx([1.0, 1.0, -1.0])


def test_raw_charges_are_bounded() -> None:
    field = model()
    field.charge.charge_offset[:] = 50.0
    x = torch.zeros(3, 16, dtype=torch.float64)
    group = torch.zeros(3, dtype=torch.int64)
    q = field.charge(x, torch.tensor([1, 6, 8]), group, torch.tensor([6.0], dtype=torch.float64))
    assert q.tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_equilibration_energy_is_a_parabola() -> None:
    q, chi, eta = (torch.tensor([v], dtype=torch.float64) for v in (0.5, 100.0, 40.0))
    assert equilibration_energy(q, chi, eta).item() == pytest.approx(100.0 * 0.5 + 40.0 * 0.25)


def test_molecules_are_what_bonds_connect_also_across_the_boundary() -> None:
    # water split by the boundary, and a lithium ion in the middle
    positions = np.array([[0.1, 5.0, 5.0], [5.0, 5.0, 5.0], [9.3, 5.0, 5.6], [0.3, 5.9, 5.2]])
    found = molecules(np.array([8, 3, 1, 1]), positions, 10.0 * np.eye(3), np.ones(3, bool))
    assert found.tolist() == [0, 1, 0, 0]


def test_ions_of_metals_are_molecules_of_their_own_however_near_their_solvent_is() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [1.9, 0.0, 0.0], [2.5, 0.75, 0.0], [2.5, -0.75, 0.0], [-2.6, 0.0, 0.0]])
    found = molecules(np.array([3, 8, 1, 1, 3]), positions, np.zeros((3, 3)), np.zeros(3, bool))
    assert found.tolist() == [0, 1, 1, 1, 2]
    assert molecules(np.array([3, 3]), positions[[0, 4]], np.zeros((3, 3)), np.zeros(3, bool)).tolist() == [0, 1]
