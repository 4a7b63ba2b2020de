"""The pass that training differentiates gives what the model gives, in every mode and boundary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff.labelled import LabelledFrame
from mlff.model import ForceField
from mlff.scores import compare
from mlff.training.batches import MOST_BYTES, join, ready_frames
from mlff.training.passes import Predicted, TrainingPass, fold
from tests.mlff.label_sets import label_set, labelled, moved
from tests.mlff.samples import crowd, model

MODES = {
    "conservative": {},
    "fixed charges": {"forces": "fixed_charges", "charge_groups": "system", "erfc": "approximate", "smooth": False},
    "no charges": {"charges": False},
}


def run(field: ForceField, frames: list[LabelledFrame], labels: tuple[str, ...], **more: object) -> Predicted:
    ready = list(ready_frames(frames, field, np.zeros(87), labels=labels, dispersion_in_labels=False))
    return TrainingPass(field)(join(ready), virial="virial" in labels, graph=False, **more)


def fragmented(n: int, seed: int) -> LabelledFrame:
    fragments = np.arange(n) % 3
    c = crowd(n, seed=seed, total_charge=1.0, fragments=fragments, fragment_charges=[1.0, 0.0, 0.0])
    return LabelledFrame(c, energy=0.0, virial=np.zeros((3, 3)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_it_gives_what_the_model_gives(mode: str, boundary: str) -> None:
    field = model(dispersion="none", **MODES[mode])
    if boundary == "open":
        frames = [fragmented(9, 1), fragmented(13, 2)]
    else:
        boxes = [crowd(10, seed=3, pbc=True), crowd(14, seed=4, pbc=True, total_charge=1.0)]
        frames = [LabelledFrame(c, energy=0.0, virial=np.zeros((3, 3))) for c in boxes]
    found = run(field, frames, ("energy", "virial"))
    wanted = field.predict(field.batch(*(f.configuration for f in frames)))
    torch.testing.assert_close(found.energy, wanted.energy, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(found.forces, wanted.forces, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(found.virial, wanted.virial, rtol=1e-10, atol=1e-9)
    if found.charges is not None:
        torch.testing.assert_close(found.charges, wanted.charges, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found.dipole, wanted.dipole, rtol=1e-10, atol=1e-9)


def test_the_response_is_what_forces_at_fixed_charges_leave_out() -> None:
    frames = [fragmented(9, 1), fragmented(12, 2)]
    fixed = run(model(dispersion="none", **MODES["fixed charges"]), frames, ("energy",))
    whole = model(dispersion="none", **(MODES["fixed charges"] | {"forces": "conservative"}))
    torch.testing.assert_close(fixed.forces + fixed.response, run(whole, frames, ("energy",)).forces)
    assert fixed.response.abs().max() > 1e-2


def test_fused_messages_change_nothing_but_the_last_digits() -> None:
    torch.manual_seed(0)
    field = ForceField()
    ready = list(ready_frames([fragmented(12, 1), fragmented(13, 2)], field, np.zeros(87), labels=("energy",),
                              dispersion_in_labels=True))  # fmt: skip
    gradients, predicted = [], []
    for fused in (True, False):
        p = TrainingPass(field, fused=fused)(join(ready))
        loss = p.forces.square().mean() + p.energy.square().mean() + p.charges.square().mean()
        names, parameters = zip(*((n, w) for n, w in field.named_parameters()), strict=True)
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
        predicted.append(p)
    for name in ("energy", "forces", "charges", "dipole"):
        torch.testing.assert_close(*(getattr(p, name) for p in predicted), rtol=1e-4, atol=2e-5)
    for name, a, b in zip(names, *gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * (b.abs().max().item() + 1e-6), msg=name)


def test_fused_messages_are_refused_where_they_cannot_work() -> None:
    with pytest.raises(ValueError, match="need float32: on a CPU a width of 64 and 16 heads"):
        TrainingPass(model(), fused=True)


@pytest.mark.parametrize("kind", ["element", "coordination"])
def test_dispersion_in_the_labels_is_taken_off_once(kind: str) -> None:
    teacher = model(dispersion=kind)
    made = label_set(teacher, 5).train
    for stated, bare in ((True, teacher), (False, teacher.changed(dispersion="none"))):
        frames = [labelled(bare, f.configuration) for f in made]
        labels = ("energy", "forces", "virial")
        batch = join(list(ready_frames(frames, teacher, np.zeros(87), labels=labels, dispersion_in_labels=stated)))
        found = TrainingPass(teacher)(batch, virial=True, graph=False)
        for name in labels:
            torch.testing.assert_close(getattr(found, name), batch.targets[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("stated", ["included", "none"])
def test_a_binding_curve_meets_its_labels_and_misses_them_by_the_dispersion_if_that_is_misstated(stated: str) -> None:
    teacher = model()
    dimer = crowd(8, seed=5)
    curve = [moved(dimer, slice(0, 4), np.array([d, 0.0, 0.0])) for d in np.linspace(0.0, -9.0, 7)]
    labels_of = teacher if stated == "included" else teacher.changed(dispersion="none")
    frames = [labelled(labels_of, c) for c in curve]
    right, wrong = (compare(teacher, frames, s) for s in (stated, {"included": "none", "none": "included"}[stated]))
    np.testing.assert_allclose(right.predicted["energy"], right.label["energy"], atol=1e-9)
    d3 = [teacher.predict(teacher.batch(c), forces=False).terms["dispersion"].item() / 8 for c in curve]
    sign = -1.0 if stated == "included" else 1.0
    np.testing.assert_allclose(wrong.predicted["energy"] - wrong.label["energy"], sign * np.array(d3), atol=1e-9)
    assert np.ptp(d3) > 1e-3


def test_folding_a_scale_into_the_weights_gives_the_scaled_energies() -> None:
    frames = [fragmented(9, 1)]
    field = model(dispersion="none")
    # an offset of the electronegativity is not the network's and is not scaled
    ready = list(ready_frames(frames, field, np.zeros(87), labels=("energy",), dispersion_in_labels=False))
    scaled = TrainingPass(field, 7.5)(join(ready), graph=False)
    fold(field, 7.5)
    folded = field.predict(field.batch(frames[0].configuration))
    torch.testing.assert_close(folded.energy, scaled.energy, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(folded.forces, scaled.forces, rtol=1e-9, atol=1e-9)


def test_frames_that_repeat_along_some_axes_only_are_refused() -> None:
    slab = LabelledFrame(crowd(6, pbc=[True, True, False]), energy=0.0, name="slab")
    with pytest.raises(ValueError, match="slab: training needs frames that are open or periodic along all three axes"):
        run(model(), [slab], ("energy",))


def test_a_dipole_of_a_periodic_frame_is_refused() -> None:
    box = LabelledFrame(crowd(6, pbc=True), energy=0.0, dipole=np.zeros(3), name="box")
    with pytest.raises(ValueError, match="box: a dipole label of a periodic frame has no meaning"):
        run(model(), [box], ("energy", "dipole"))


def test_matrices_that_would_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlff.training.batches.MOST_BYTES", MOST_BYTES >> 24)
    with pytest.raises(ValueError, match=r"Coulomb matrices of 1 frames need .* train without charges"):
        run(model(), [fragmented(14, 1)], ("energy",))
