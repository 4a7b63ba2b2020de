"""Frames packed on a device give the batches that joining them gives, and a training run that is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff.training.batches import join, ready_frames
from mlff.training.devices import find_device
from mlff.training.options import Training
from mlff.training.packed import PackedFrames
from mlff.training.trainable import start
from mlff.training.trainer import train
from tests.mlff.label_sets import label_set, labelled
from tests.mlff.samples import crowd, model
from tests.mlff.training.test_trainer import SMALL, WEIGHTS, trainer

LABELS = ("energy", "forces", "virial", "charges")


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_a_packed_batch_is_the_joined_one(boundary: str) -> None:
    field = model(dispersion="none")
    frames = [labelled(field, crowd(n, seed=n, pbc=boundary == "periodic")) for n in (9, 13, 6)]
    fragments = {"fragments": np.arange(8) % 2, "fragment_charges": np.array([1.0, 0.0]), "total_charge": 1.0}
    frames.append(labelled(field, crowd(8, seed=4, pbc=boundary == "periodic", **fragments)))
    ready = list(ready_frames(frames, field, np.zeros(87), labels=LABELS, dispersion_in_labels=False))
    packed = PackedFrames(ready, torch.device("cpu"))
    for chosen in ([3, 0], [2], [1, 3, 2, 0]):
        found, wanted = packed.batch(chosen), join([ready[k] for k in chosen])
        # the elements of all frames stand for those of the batch
        assert torch.equal(found.elements[found.kind], found.numbers)
        for name in set(vars(wanted)) - {"elements", "kind", "targets"}:
            a, b = getattr(found, name), getattr(wanted, name)
            assert (a is None) == (b is None) and (a is None or torch.equal(a, b)), name
            assert a is None or a.is_contiguous()
        assert all(torch.equal(found.targets[name], t) for name, t in wanted.targets.items())


def test_training_on_packed_frames_is_the_same_training() -> None:
    # a GPU is not everywhere: its path is taken on the CPU
    how = Training(epochs=2, batch=3, pieces=1, where_labelled=WEIGHTS, precision="float64")
    plain = trainer(how)
    wanted = train(plain)
    other = trainer(how)
    other.packed = PackedFrames(other.frames, torch.device("cpu"))
    other.packed_valid = PackedFrames(other.valid, torch.device("cpu"))
    found = train(other)
    torch.testing.assert_close(other.flat.values, plain.flat.values, rtol=1e-9, atol=1e-12)
    for a, b in zip(found.history, wanted.history, strict=True):
        assert a == pytest.approx(b, rel=1e-8)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("cpu").type == find_device("auto").type == "cpu"
    with pytest.raises(ValueError, match=r"training.device=cuda: torch finds no CUDA device on this machine; set cpu"):
        start(SMALL, Training(device="cuda", where_labelled=WEIGHTS), label_set(model(dispersion="none"), 4), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_training_on_a_gpu_goes_on_where_it_was_and_learns() -> None:
    how = Training(epochs=4, batch=3, where_labelled=WEIGHTS, precision="float64", device="cuda")
    states: list[dict] = []
    run, plain, resumed = trainer(how), trainer(replace(how, device="cpu", pieces=1)), trainer(how)
    history, wanted = train(run, save=lambda state: states.append(state())).history, train(plain).history
    torch.testing.assert_close(run.flat.values.cpu(), plain.flat.values, rtol=1e-6, atol=1e-8)
    assert history[-1] == pytest.approx(wanted[-1], rel=1e-6)
    resumed.restore(states[2])
    train(resumed)
    torch.testing.assert_close(resumed.flat.values, run.flat.values, rtol=1e-6, atol=1e-8)
