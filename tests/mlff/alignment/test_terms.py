"""Alignment: the pressure that was asked for, measured from outside, and forces that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from mlff.alignment.aligner import Aligner
from mlff.alignment.liquid_pass import LiquidFrame, evaluate, liquid_frame, network_alone
from mlff.alignment.molecule_pairs import between_molecules
from mlff.alignment.terms import Alignment, AlignmentWeights, Liquid, free_of_elements
from mlff.frames import Configuration
from mlff.model import ForceField
from mlff.read_out import ready_for_read_out
from mlff.units import ATM_PER_KCAL_A3
from runners.check import build
from runners.options import CONF
from tests.mlff.label_sets import labelled
from tests.mlff.liquids import liquid
from tests.mlff.samples import TRICLINIC, crowd, model

TORN = Configuration.of(
    [8, 1], [[0.0, 0, 0], [15.0, 0, 0]], [30.0, 30, 30], True, fragments=[0, 0], fragment_charges=[0.0]
)


def _dimers(wrapped: bool) -> Configuration:
    """Seven molecules of two atoms in a triclinic cell smaller than twice the cutoff, some across its faces."""
    rng = np.random.default_rng(0)
    cell = 0.75 * TRICLINIC
    c = crowd(7, seed=1, pbc=True, cell=cell)
    positions = np.repeat(c.positions, 2, axis=0)
    arm = rng.normal(size=(7, 3))
    positions[1::2] += 0.6 * arm / np.linalg.norm(arm, axis=1)[:, None]
    if wrapped:
        share = positions @ np.linalg.inv(cell)
        positions = (share - np.floor(share)) @ cell
    fragments = np.repeat(np.arange(7), 2)
    numbers = np.repeat(c.numbers, 2)
    return Configuration.of(numbers, positions, cell, True, fragments=fragments, fragment_charges=np.zeros(7))


def test_pairs_inside_a_molecule_are_found_through_the_faces_of_any_cell() -> None:
    bare = network_alone(model())
    whole, wrapped = _dimers(False), _dimers(True)
    assert not np.allclose(whole.positions, wrapped.positions)
    for c in (whole, wrapped):
        half = bare.batch(c).edges.half()
        between = between_molecules(c, half)
        # one bond for each molecule; its atoms' other images are neighbours like any others
        assert (~between).sum() == 7
        same = (half.i // 2 == half.j // 2).numpy()
        assert same.sum() > 7 and between[~same].all()
    a, b = (evaluate(bare, liquid_frame(bare, c), graph=False) for c in (whole, wrapped))
    assert float(a.between) == pytest.approx(float(b.between), rel=1e-10)
    with pytest.raises(ValueError, match="names no fragments"):
        between_molecules(replace(whole, fragments=None, fragment_charges=None), half)


def energy_with_molecules_apart(bare: ForceField, frame: LiquidFrame, stretch: float) -> float:
    """Energy where all vectors between molecules are longer by the factor 1 + `stretch` and those inside are as before.

    Its slope at 0 is -`between` of `evaluate`: what a pressure of the pairs between molecules means.
    """
    batch = frame.batch
    longer = 1.0 + stretch * frame.between
    i, j = torch.cat([batch.i, batch.j]), torch.cat([batch.j, batch.i])
    vectors = (batch.r * longer)[:, None] * batch.u
    with torch.no_grad():
        x = bare.network(batch.numbers, i, j, torch.cat([vectors, -vectors]))
        return float(bare.energy(x).double().sum())


def test_the_virial_between_molecules_is_the_slope_of_the_energy_when_they_move_apart() -> None:
    bare = network_alone(model())
    for c in (_dimers(True), liquid(3)):
        frame = liquid_frame(bare, c)
        found = evaluate(bare, frame, graph=False)
        h = 1e-5
        slope = (energy_with_molecules_apart(bare, frame, h) - energy_with_molecules_apart(bare, frame, -h)) / (2 * h)
        assert float(found.between) == pytest.approx(-slope, rel=1e-6)
        p = bare.predict(bare.batch(c))
        torch.testing.assert_close(found.forces, p.forces, atol=1e-10, rtol=0)
        torch.testing.assert_close(found.virial, p.virial[0], atol=1e-10, rtol=0)


def _pressure_atm(field: ForceField, c: Configuration) -> float:
    """-dE/dV of the whole model by straining the box, without kinetic part."""
    energies, h = [], 1e-4
    for sign in (1, -1):
        stretched = replace(c, positions=c.positions * (1 + sign * h), cell=c.cell * (1 + sign * h))
        energies.append(field.predict(field.batch(stretched), forces=False).energy.item())
    volume = abs(np.linalg.det(c.cell))
    return -(energies[0] - energies[1]) / (2 * h) * ATM_PER_KCAL_A3 / (3 * volume)


WATER, OTHER = [liquid(k) for k in range(6)], [liquid(100 + k, (6, 8, 9)) for k in range(6)]


def test_two_liquids_reach_their_pressures_and_keep_their_forces() -> None:
    before = model(dispersion="none")
    clusters = [labelled(before, crowd(6, seed=k), f"c[{k}]") for k in range(6)]
    ready = ready_for_read_out(clusters, before, network_alone(before), "included")
    liquids = [Liquid("water", WATER, 100.0), Liquid("other", OTHER, -150.0)]
    aligner = Aligner(before, liquids, ready, Alignment(steps=20), seed=0)
    after = aligner.run()
    for effect, liquid_ in zip(aligner.effects(), liquids, strict=True):
        assert effect.between_atm == pytest.approx(liquid_.change_atm, abs=10.0)
        assert effect.whole_atm == pytest.approx(liquid_.change_atm, abs=10.0)
        assert effect.forces_rms_kcal_mol_A < 0.03
    for c, wanted in ((liquid(7), 100.0), (liquid(107, (6, 8, 9)), -150.0)):
        assert _pressure_atm(after, c) - _pressure_atm(before, c) == pytest.approx(wanted, abs=20.0)
        forces = (after.predict(after.batch(c)).forces - before.predict(before.batch(c)).forces).square().mean().sqrt()
        assert float(forces) < 0.03
    moved = {k for k, v in after.state_dict().items() if not torch.equal(v, before.state_dict()[k])}
    assert moved and all(k.startswith("energy.") for k in moved)


def test_the_gradient_is_that_of_the_loss() -> None:
    before = model(dispersion="none")
    clusters = [labelled(before, crowd(6, seed=k), f"c[{k}]") for k in range(3)]
    ready = ready_for_read_out(clusters, before, network_alone(before), "included")
    aligner = Aligner(
        before, [Liquid("water", WATER[:3], 50.0), Liquid("other", OTHER[:3], -9.0)], ready, Alignment(), 0
    )
    rng = torch.Generator().manual_seed(0)
    start = aligner.descent.weights
    nudge = 1e-3 * torch.randn(len(start), generator=rng, dtype=start.dtype)
    ways = torch.randn(len(start), generator=rng, dtype=start.dtype)

    def loss_at(step: float) -> float:
        aligner.descent._set(start + nudge + step * ways)
        return aligner.value()[0]

    h = 1e-7
    slope = (loss_at(h) - loss_at(-h)) / (2 * h)
    loss_at(0.0)
    assert float(aligner.value()[1].double() @ ways.double()) == pytest.approx(slope, rel=1e-4)


def test_the_published_descent_takes_a_batch_of_512_clusters_after_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    section = OmegaConf.to_container(OmegaConf.load(CONF / "alignment" / "bamboo2024.yaml"))
    published: Alignment = build(section, "alignment")
    assert published.clusters is None
    before = model(dispersion="none")
    one = ready_for_read_out([labelled(before, crowd(2), "c")], before, network_alone(before), "included")
    sizes: list[int] = []

    def counted(self: Aligner, frames: Sequence[object]) -> tuple[float, torch.Tensor]:
        sizes.append(len(frames))
        return 0.0, torch.zeros(sum(p.numel() for p in self.parameters))

    monkeypatch.setattr(Aligner, "_cluster_loss", counted)
    aligner = Aligner(before, [Liquid("water", WATER[:3], 50.0)], 600 * one, replace(published, steps=1), seed=0)
    aligner.run()
    assert sizes == [512] * len(aligner.frames)


def test_a_liquid_that_is_to_stay_stays() -> None:
    before = model(dispersion="none")
    aligner = Aligner(before, [Liquid("water", WATER, 0.0)], [], Alignment(), seed=0)
    after = aligner.run()
    assert aligner.done == 0
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_a_stopped_round_goes_on_bit_for_bit() -> None:
    liquids = [Liquid("water", WATER[:4], 100.0)]
    for options in (Alignment(steps=6, near_atm=0.0), Alignment(method="sgd", steps=3, learning_rate=1e-9)):
        start = model(dispersion="none")
        states: list = []
        wanted = Aligner(start, liquids, [], options, seed=1).run(save=lambda state, keep=states: keep.append(state()))
        again = Aligner(start, liquids, [], options, seed=1)
        again.restore(states[1])
        found = again.run()
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), wanted.parameters(), strict=True))


def test_the_published_descent_falls_short_where_its_virial_pulls_back() -> None:
    heavy = AlignmentWeights(virial=3e6)
    changes = []
    for options in (Alignment(steps=12, weights=heavy), Alignment(steps=12, whole=False, weights=heavy)):
        aligner = Aligner(model(dispersion="none"), [Liquid("water", WATER, 100.0)], [], options, seed=0)
        aligner.run()
        changes.append(aligner.effects()[0].between_atm)
    assert changes[0] > 90.0 and changes[1] < 80.0


def test_energies_of_elements_are_free() -> None:
    counts = np.array([[2.0, 1.0], [4.0, 2.0], [1.0, 1.0], [5.0, 3.0]])
    energies = counts @ np.array([3.0, -7.0]) / counts.sum(axis=1)
    np.testing.assert_allclose(free_of_elements(counts) @ energies, 0.0, atol=1e-12)
    assert np.linalg.norm(free_of_elements(counts) @ [1.0, 0.0, 0.0, 0.0]) > 0.3


@pytest.mark.parametrize(
    ("liquids", "said"),
    [
        ([Liquid("water", WATER[:2], 10.0)], "water: 2 frames, at least 3 are needed"),
        ([Liquid("water", WATER, 600.0)], r"water: a change of \+600 atm, at most 500 atm in one round"),
        ([Liquid("open", [crowd(5)] * 3, 1.0)], "open: a liquid is periodic along all three axes"),
        (
            [Liquid("gas", [TORN] * 3, 1.0)],
            r"gas: molecule 0 \(atoms 0 to 1\) is not in one piece: the model has torn it",
        ),
    ],
)
def test_what_cannot_be_aligned_is_refused(liquids: list[Liquid], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Aligner(model(dispersion="none"), liquids, [], Alignment(), seed=0)
