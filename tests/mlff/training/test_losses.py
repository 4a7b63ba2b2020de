"""Losses against numbers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mlff.training.losses import Counts, Loss, Weights, error_sums
from mlff.training.passes import Predicted

# two frames of two and four atoms
COUNTS = torch.tensor([2, 4])
FORCES = torch.zeros(6, 3)
FORCES[0] = torch.tensor([3.0, 4.0, 0.0])
FORCES[5, 2] = 12.0
GROUP = torch.tensor([0, 0, 1, 1, 2, 2])


def batch(**targets: Any) -> Any:
    return SimpleNamespace(
        counts=COUNTS,
        group=GROUP,
        group_charge=torch.zeros(3),
        targets={k: torch.as_tensor(v) for k, v in targets.items()},
    )


def shares(loss: Loss, predicted: Predicted, **targets: Any) -> list[float]:
    return loss(predicted, batch(**targets), Counts(2, 6, 3)).tolist()


def predicted(**values: Any) -> Predicted:
    return Predicted(**({"energy": torch.zeros(2)} | values))


def test_published_energy_loss_knows_no_constant() -> None:
    loss = Loss({"energy": 0.01}, "mean_free")
    # errors 3 and 7 about their mean 5
    assert shares(loss, predicted(energy=torch.tensor([13.0, 27.0])), energy=[10.0, 20.0]) == pytest.approx([0.01 * 4])
    assert shares(loss, predicted(energy=torch.tensor([110.0, 120.0])), energy=[10.0, 20.0]) == pytest.approx([0.0])


def test_energy_loss_by_atom_weighs_all_frames_alike() -> None:
    found = predicted(energy=torch.tensor([11.0, 18.0]))
    # errors 1/2 and -2/4
    assert shares(Loss({"energy": 2.0}), found, energy=[10.0, 20.0]) == pytest.approx([2.0 * 0.25])
    assert shares(Loss({"energy": 2.0}, form="absolute"), found, energy=[10.0, 20.0]) == pytest.approx([2.0 * 0.5])


def test_force_loss_is_over_components_or_over_lengths() -> None:
    found = predicted(forces=FORCES)
    assert shares(Loss({"forces": 0.3}), found, forces=torch.zeros(6, 3)) == pytest.approx([0.3 * (25 + 144) / 18])
    absolute = Loss({"forces": 0.3}, form="absolute")
    assert shares(absolute, found, forces=torch.zeros(6, 3)) == pytest.approx([0.3 * (5 + 12) / 6], rel=1e-5)


def test_net_forces_are_those_on_whole_molecules() -> None:
    forces = torch.zeros(6, 3)
    forces[0, 0], forces[1, 0] = 5.0, -5.0  # inside one molecule: no net force
    forces[2, 1], forces[3, 1], forces[4, 2] = 1.0, 2.0, -4.0
    loss = Loss({"forces": 1.0, "net_forces": 0.5})
    of_atoms, of_molecules = shares(loss, predicted(forces=forces), forces=torch.zeros(6, 3))
    assert of_atoms == pytest.approx((50 + 1 + 4 + 16) / 18)
    assert of_molecules == pytest.approx(0.5 * (9 + 16) / 9)
    sums = error_sums(predicted(forces=forces), batch(forces=torch.zeros(6, 3)))
    assert sums["net_forces"].tolist() == pytest.approx([7.0, -1.0, 25.0, 9.0])


def test_a_force_without_error_has_a_gradient_without_nan() -> None:
    forces = torch.zeros(6, 3, requires_grad=True)
    loss = Loss({"forces": 1.0}, form="absolute")(
        predicted(forces=forces), batch(forces=torch.zeros(6, 3)), Counts(2, 6, 3)
    )
    loss.sum().backward()
    assert forces.grad.isfinite().all()


def test_the_other_terms_are_means_of_squares() -> None:
    weights = {"virial": 0.01, "charges": 10.0, "dipole": 10.0, "response": 300.0}
    found = predicted(
        virial=torch.full((2, 3, 3), 2.0), charges=torch.full((6,), 0.1), dipole=torch.full((2, 3), 0.5),
        response=torch.full((6, 3), 0.2),
    )  # fmt: skip
    targets = {"virial": torch.zeros(2, 3, 3), "charges": torch.zeros(6), "dipole": torch.zeros(2, 3)}
    assert Loss(weights).terms == ("virial", "charges", "dipole", "response")
    assert shares(Loss(weights), found, **targets) == pytest.approx([0.04, 0.1, 2.5, 12.0])


def test_shares_of_two_processes_add_up_to_the_loss_of_one() -> None:
    energy = torch.tensor([13.0, 27.0])
    whole = shares(Loss({"energy": 1.0}, "mean_free"), predicted(energy=energy), energy=[10.0, 20.0])
    sums = iter([torch.tensor(10.0), torch.tensor(10.0)])
    parts = []
    for k in range(2):
        one = SimpleNamespace(counts=COUNTS[k : k + 1], targets={"energy": torch.tensor([10.0 * (k + 1)])})
        loss = Loss({"energy": 1.0}, "mean_free")
        parts.append(loss(Predicted(energy[k : k + 1]), one, Counts(2, 6, 3), lambda t: next(sums)).item())
    assert sum(parts) == pytest.approx(whole[0])


def test_error_sums_are_those_of_the_metrics() -> None:
    found = predicted(energy=torch.tensor([11.0, 18.0]), forces=FORCES)
    sums = error_sums(found, batch(energy=[10.0, 20.0], forces=torch.zeros(6, 3), charges=torch.zeros(6)))
    assert sums["energy"].tolist() == pytest.approx([1.0, 0.0, 0.5, 2.0])
    assert sums["forces"].tolist() == pytest.approx([19.0, 19.0, 169.0, 18.0])
    assert "charges" not in sums


def test_weights_are_not_negative_and_have_known_names() -> None:
    assert Weights(forces=2.0, charges=0.0).given() == {"forces": 2.0, "charges": 0.0}
    for bad in ({"forces": -1.0}, {"quadrupole": 1.0}):
        with pytest.raises(ValidationError):
            Weights(**bad)
