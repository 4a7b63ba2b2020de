"""What must hold for any weights: derivatives, symmetries, smooth ends, independence of what lies far away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff.frames import Configuration
from mlff.model import ForceField, Prediction
from tests.mlff.samples import BOUNDARIES, ELEMENTS, crowd, model, rotation

FORMS = {
    "element": {},
    "coordination": {"dispersion": "coordination"},
    "mesh": {"long_range": "mesh", "mesh_A": 0.4},
    "no charges": {"charges": False},
}


def predict(field: ForceField, *configurations: Configuration, forces: bool = True) -> Prediction:
    return field.predict(field.batch(*configurations), forces=forces)


def slope(field: ForceField, c: Configuration, strain: np.ndarray, shift: np.ndarray, h: float = 2e-4) -> float:
    """Central difference of the energy, fourth order, as positions are shifted and everything is strained."""

    def energy(s: float) -> float:
        deformation = np.eye(3) + s * strain
        moved = replace(c, positions=(c.positions + s * shift) @ deformation, cell=c.cell @ deformation)
        return predict(field, moved, forces=False).energy.item()

    return (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_forces_are_the_slope_of_the_energy(boundary: str, form: str) -> None:
    field, c = model(**FORMS[form]), crowd(pbc=BOUNDARIES[boundary])
    direction = np.random.default_rng(3).normal(size=c.positions.shape)
    found = -(predict(field, c).forces.numpy() * direction).sum()
    assert found == pytest.approx(slope(field, c, np.zeros((3, 3)), direction), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("form", [f for f in FORMS if f != "mesh"])
@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_virial_is_the_slope_along_a_strain(boundary: str, form: str) -> None:
    field, c = model(**FORMS[form]), crowd(pbc=BOUNDARIES[boundary])
    strain = np.random.default_rng(4).normal(size=(3, 3))
    found = -(predict(field, c).virial[0].numpy() * strain).sum()
    assert found == pytest.approx(slope(field, c, strain, np.zeros((1, 3))), rel=1e-6, abs=1e-5)


def test_forces_at_fixed_charges_differ_by_the_response_of_the_charges() -> None:
    c = crowd(pbc=True)
    free, fixed = predict(model(), c), predict(model(forces="fixed_charges"), c)
    assert free.energy.item() == pytest.approx(fixed.energy.item(), rel=1e-12)
    assert (free.forces - fixed.forces).abs().max() > 1e-3


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_rotation_turns_forces_and_virial_and_nothing_else(boundary: str) -> None:
    field, c, R = model(), crowd(pbc=BOUNDARIES[boundary]), rotation()
    turned = replace(c, positions=c.positions @ R.T, cell=c.cell @ R.T)
    a, b, R = predict(field, c), predict(field, turned), torch.from_numpy(R)
    torch.testing.assert_close(b.energy, a.energy, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(b.charges, a.charges, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(b.forces, a.forces @ R.T, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(b.virial[0], R @ a.virial[0] @ R.T, rtol=1e-8, atol=1e-7)
    torch.testing.assert_close(a.virial[0], a.virial[0].T, rtol=1e-8, atol=1e-7)


def test_mirror_image_has_the_same_energy() -> None:
    field, c = model(), crowd()
    mirrored = replace(c, positions=c.positions * np.array([-1.0, 1.0, 1.0]))
    assert predict(field, mirrored).energy.item() == pytest.approx(predict(field, c).energy.item(), rel=1e-12)


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_translation_and_wrapping_change_nothing(boundary: str) -> None:
    field, c = model(), crowd(pbc=BOUNDARIES[boundary])
    moved = c.positions + np.array([0.3, -5.0, 2.0])
    if boundary == "periodic":
        moved[3] += 2 * c.cell[0] - c.cell[2]
    a, b = predict(field, c), predict(field, replace(c, positions=moved))
    torch.testing.assert_close(b.energy, a.energy, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(b.forces, a.forces, rtol=1e-8, atol=1e-8)
    assert a.forces.sum(dim=0).abs().max() < 1e-9


def test_order_of_atoms_does_not_matter() -> None:
    field, c = model(), crowd(pbc=True)
    order = np.random.default_rng(6).permutation(len(c.numbers))
    a, b = predict(field, c), predict(field, replace(c, positions=c.positions[order], numbers=c.numbers[order]))
    torch.testing.assert_close(b.energy, a.energy)
    torch.testing.assert_close(b.forces, a.forces[order])
    torch.testing.assert_close(b.energies, a.energies[order])


def test_a_batch_gives_what_its_members_give() -> None:
    field = model()
    members = [crowd(9, seed=1), crowd(14, seed=2, pbc=True), crowd(1, seed=3), crowd(11, seed=4, total_charge=1.0)]
    together, alone = predict(field, *members), [predict(field, c) for c in members]
    torch.testing.assert_close(together.energy, torch.cat([p.energy for p in alone]))
    torch.testing.assert_close(together.forces, torch.cat([p.forces for p in alone]))
    torch.testing.assert_close(together.virial, torch.cat([p.virial for p in alone]))
    torch.testing.assert_close(together.charges, torch.cat([p.charges for p in alone]))


def test_energies_of_atoms_and_of_terms_add_up() -> None:
    field = model()
    p = predict(field, crowd(pbc=True), forces=False)
    assert p.energies.sum().item() == pytest.approx(p.energy.item(), rel=1e-12)
    assert sum(e.item() for e in p.terms.values()) == pytest.approx(p.energy.item(), rel=1e-12)


@pytest.mark.parametrize("cutoff", [5.0, 10.0])
@pytest.mark.parametrize("pbc", [False, True])
def test_energy_and_force_are_continuous_where_a_pair_leaves_a_cutoff(cutoff: float, pbc: bool) -> None:
    field, h = model(), 1e-6

    def at(r: float) -> Prediction:
        positions = [[0.0, 0, 0], [1.2, 0.4, 0.1], [r, 0.0, 0.0]]
        return predict(field, Configuration.of([6, 8, 3], positions, 30 * np.eye(3), pbc))

    inside, outside = at(cutoff - h), at(cutoff + h)
    assert inside.energy.item() == pytest.approx(outside.energy.item(), abs=1e-4)
    steepness = abs(inside.forces[2, 0].item()) + 1.0
    assert abs(inside.energy.item() - outside.energy.item()) < 3 * h * steepness
    torch.testing.assert_close(inside.forces, outside.forces, atol=1e-4, rtol=0)


def test_molecules_far_apart_do_not_feel_each_other_when_fragments_keep_their_charges() -> None:
    field, far = model(), 1e5
    a, b = crowd(7, seed=7), crowd(9, seed=8)
    joined = Configuration.of(
        np.r_[a.numbers, b.numbers],
        np.r_[a.positions, b.positions + far],
        fragments=np.r_[np.zeros(7, int), np.ones(9, int)],
        fragment_charges=[0.0, 0.0],
    )
    together, alone = predict(field, joined), [predict(field, a), predict(field, b)]
    assert together.energy.item() == pytest.approx(sum(p.energy.item() for p in alone), abs=1e-6)
    torch.testing.assert_close(together.forces, torch.cat([p.forces for p in alone]), atol=1e-6, rtol=0)
    # one neutral system instead moves charge from one molecule to the other
    smeared = predict(field, replace(joined, fragments=None, fragment_charges=None))
    assert abs(smeared.energy.item() - together.energy.item()) > 1e-2


def test_an_element_that_was_not_trained_is_named_with_those_that_were() -> None:
    field = model()
    field.trained[:] = False
    field.trained[torch.from_numpy(ELEMENTS)] = True
    with pytest.raises(ValueError, match="element Na was not trained; this model knows H, Li, C, O, F, P"):
        field.batch(Configuration.of([11], [[0.0, 0, 0]]))


def test_reference_energies_keep_their_digits_in_float32() -> None:
    field = model(charges=False, dispersion="none")
    field.reference_energy[6] = -123456.789012345
    single = field.float()
    lone = Configuration.of([6], [[0.0, 0, 0]])
    network = model(charges=False, dispersion="none").float()
    assert predict(single, lone).energy.item() - predict(network, lone).energy.item() == pytest.approx(
        -123456.789012345, abs=1e-8
    )


def test_forces_can_be_differentiated_again_for_training() -> None:
    field = model()
    p = field.predict(field.batch(crowd(6), crowd(6, pbc=True)), create_graph=True)
    (p.forces**2).sum().backward()
    weight = field.network.project.weight
    assert weight.grad is not None
    analytic, h = weight.grad[2, 3].item(), 1e-5
    sums = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[2, 3] += sign * h
        sums.append((predict(field, crowd(6), crowd(6, pbc=True)).forces ** 2).sum().item())
        with torch.no_grad():
            weight[2, 3] -= sign * h
    assert analytic == pytest.approx((sums[0] - sums[1]) / (2 * h), rel=1e-5)


def test_a_charged_slab_is_refused() -> None:
    field = model()
    with pytest.raises(ValueError, match="charged system that repeats along some axes only"):
        predict(field, crowd(pbc=[True, True, False], total_charge=1.0))
