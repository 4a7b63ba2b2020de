"""Distillation: three disturbed copies of a teacher give a model at least as good as the best of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mlff.distillation import Distillation, sort_by_spread
from mlff.distiller import Distiller, Lessons, lessons
from mlff.model import ForceField
from mlff.opinions import Opinions, ask, offsets, without_offsets
from mlff.training.losses import Weights
from tests.mlff.label_sets import labelled
from tests.mlff.liquids import committee, liquid
from tests.mlff.samples import crowd

NAMES = ("water", "other")
SHAPES = ((8, 1, 1), (6, 9, 15))


def _opinions(models: list[ForceField], n: int = 4) -> tuple[list[Opinions], list[str]]:
    frames = [liquid(10 * k + which, SHAPES[which]) for which in range(2) for k in range(n)]
    return ask(models, frames), [NAMES[which] for which in range(2) for _ in range(n)]


def _lessons(teacher: ForceField, members: list[ForceField], d: Distillation) -> Lessons:
    opinions, names = _opinions(members)
    clusters = [labelled(teacher, crowd(6, seed=k, total_charge=0.0), f"c[{k}]") for k in range(8)]
    sorted_ = sort_by_spread(without_offsets(opinions, 0), names, d)
    return lessons(members[0], sorted_, clusters[:6], clusters[6:], "included", d)


def _force_error(model: ForceField, teacher: ForceField) -> float:
    frames = [liquid(1000 + k, SHAPES[k % 2]) for k in range(4)]
    return float(np.mean([np.abs(o.forces[0] - o.forces[1]).mean() for o in ask([model, teacher], frames)]))


@pytest.mark.parametrize(
    ("options", "disturbed"),
    [
        (Distillation(epochs=8, learning_rate=1e-3), ""),
        (Distillation(learns="read_out", epochs=10, learning_rate=1e-3, alternate=True, spread="none"), "energy."),
    ],
    ids=["all weights", "read-out as published"],
)
def test_the_student_beats_the_best_member_on_frames_it_has_not_seen(options: Distillation, disturbed: str) -> None:
    teacher, members = committee(0.02, disturbed)
    students = Distiller(_lessons(teacher, members, options), options, seed=0)
    student = students.run()
    errors = [_force_error(m, teacher) for m in members]
    assert students.best_epoch > 0
    assert _force_error(student, teacher) < 0.9 * min(errors)


def test_only_the_read_out_moves_in_the_published_form() -> None:
    teacher, members = committee(0.02)
    options = Distillation(learns="read_out", epochs=1, learning_rate=1e-3)
    student = Distiller(_lessons(teacher, members, options), options, seed=0).run()
    before, after = members[0].state_dict(), student.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("energy.") for name in moved)


def test_offsets_between_members_come_off_exactly() -> None:
    teacher, _ = committee()
    members = [teacher.changed() for _ in range(3)]
    rng = np.random.default_rng(0)
    added = np.zeros((3, 87))
    added[1:, [1, 6, 8, 9, 15]] = rng.normal(0, 100, (2, 5))
    for member, energies in zip(members, added, strict=True):
        member.reference_energy += torch.from_numpy(energies)
    frames = [crowd(9, seed=k) for k in range(12)]
    opinions = ask([*members], [f for f in frames if not np.any(f.numbers == 3)] or frames)
    found = offsets(opinions, base=0)
    counts = np.array([o.counts for o in opinions])
    np.testing.assert_allclose(counts @ found.T, counts @ added.T, atol=1e-8)
    plain = without_offsets(opinions, base=0)
    for o in plain:
        np.testing.assert_allclose(o.energies, o.energies[0], atol=1e-8)
    apart = float(np.std(opinions[0].energies))
    assert apart > 10 and float(np.std(plain[0].energies)) < 1e-8


def test_frames_without_agreement_count_less_or_not_at_all() -> None:
    rng = np.random.default_rng(1)
    opinions = []
    for k in range(5):
        frame = liquid(k)
        forces = np.repeat(rng.normal(size=(1, len(frame.numbers), 3)), 3, axis=0)
        forces += 0.1 * rng.normal(size=forces.shape)
        if k == 2:
            forces[:, 7] += 5.0 * rng.normal(size=(3, 3))
        opinions.append(Opinions(frame, np.zeros(3), forces, np.zeros((3, 3, 3))))
    names = ["water"] * 5
    rejected = sort_by_spread(opinions, names, Distillation(spread="reject"))
    assert rejected.rejected == 1 and len(rejected.opinions) == 4
    weighed = sort_by_spread(opinions, names, Distillation(spread="weight"))
    assert weighed.rejected == 0 and weighed.atoms[2].argmin() == 7 and weighed.atoms[2][7] < 0.05
    s = opinions[0].spread / weighed.limit_kcal_mol_A
    np.testing.assert_allclose(weighed.atoms[0], 1 / (1 + s**2))
    plain = sort_by_spread(opinions, names, Distillation(spread="none"))
    assert all((a == 1).all() for a in plain.atoms)
    with pytest.raises(ValueError, match=r"all 5 frames have an atom with a spread above 1e-06"):
        sort_by_spread(opinions, names, Distillation(spread="reject", spread_kcal_mol_A=1e-6))


def test_net_forces_are_learned_of_clusters_and_refused_of_liquids() -> None:
    teacher, members = committee(0.02)
    options = Distillation(epochs=1, clusters=Weights(energy=0.3, net_forces=1.0))
    made = _lessons(teacher, members, options)
    assert set(made.clusters[0].targets) == {"energy", "forces"}  # which the net forces are sums of
    student = Distiller(made, options, seed=3)
    student.run()
    assert np.isfinite(student.history[1:]).all()
    with pytest.raises(ValidationError, match=r"liquid.net_forces: of liquids energy, forces, virial can be learned"):
        Distillation(liquid=Weights(forces=3.0, net_forces=1.0))


def test_a_stopped_student_goes_on_bit_for_bit() -> None:
    teacher, members = committee(0.02)
    options = Distillation(epochs=2, learning_rate=1e-3, liquid=Weights(energy=0.01, forces=3.0, virial=0.01))
    made = _lessons(teacher, members, options)
    whole = Distiller(made, options, seed=3)
    states = []
    wanted = whole.run(save=lambda state: states.append(state()))
    again = Distiller(_lessons(teacher, members, options), options, seed=3)
    again.restore(states[3])
    found = again.run()
    assert all(
        torch.equal(a, b) for a, b in zip(found.state_dict().values(), wanted.state_dict().values(), strict=True)
    )
    np.testing.assert_array_equal(again.history, whole.history)


def test_a_student_that_gets_worse_stays_what_it_was() -> None:
    teacher, members = committee(0.02)
    options = Distillation(epochs=1, learning_rate=3.0)
    students = Distiller(_lessons(teacher, members, options), options, seed=0)
    student = students.run()
    assert students.best_epoch == 0
    pairs = zip(student.state_dict().values(), members[0].state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
