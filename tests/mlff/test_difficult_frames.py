"""Frames that a file may hold and that training must refuse in a line, or get right: what has no neighbours, and worse."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from mlff.datasets import FrameFiles
from mlff.labelled import LabelKeys
from mlff.training.options import Training
from mlff.training.trainable import finished, start
from mlff.training.trainer import train
from tests.mlff.label_sets import label_set, labelled
from tests.mlff.samples import crowd, model
from tests.mlff.training.test_trainer import SMALL, WEIGHTS, trainer


def write(path: Path, *positions: list[list[float]]) -> FrameFiles:
    """A file of water-like frames, energies and forces invented."""
    images = []
    for place in positions:
        atoms = Atoms("OHH", place)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -1.0, np.full((3, 3), 0.1)
        images.append(atoms)
    ase.io.write(path, images, format="extxyz")
    return FrameFiles(
        name="mine", train=str(path), dispersion="none", keys=LabelKeys(energy="REF_energy", forces="REF_forces")
    )


GOOD = [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([GOOD[0], GOOD[1], GOOD[1]], r"mine.xyz\[1\]: atoms 1 and 2 overlap"),
        ([GOOD[0], GOOD[1], [float("nan"), 0.0, 0.0]], r"mine.xyz\[1\]: atom 2 has no finite position"),
    ],
)
def test_a_frame_that_cannot_be_computed_is_named(tmp_path: Path, bad: list[list[float]], said: str) -> None:
    files = write(tmp_path / "mine.xyz", GOOD, bad, GOOD)
    with pytest.raises(ValueError, match=said):
        start(SMALL, Training(where_labelled=WEIGHTS), files.load(tmp_path, 0), 0)


def test_a_file_without_frames_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.xyz").write_text("")
    files = FrameFiles(name="mine", train="mine.xyz", dispersion="none")
    with pytest.raises(ValueError, match="mine"):
        files.load(tmp_path, 0)


def test_atoms_without_neighbours_are_trained_on_and_get_their_own_energy() -> None:
    teacher = model(dispersion="none")
    labels = label_set(teacher, 6)
    lone = [labelled(teacher, crowd(1, seed=k, total_charge=1.0), f"lone[{k}]") for k in range(3)]
    labels = type(labels)(**(vars(labels) | {"train": [*labels.train, *lone]}))
    how = Training(epochs=2, batch=3, where_labelled=WEIGHTS, precision="float64")
    made = start(SMALL, how, labels, 0)
    assert [len(f.i) for f in made.train[-3:]] == [0, 0, 0]
    run = trainer(how)
    run = type(run)(made.model, made.train, made.valid, how, made.weights, made.scale, 0, run.ranks)
    assert all(np.isfinite(list(row.values())).all() for row in train(run).history)
    field = finished(made, how, labels)
    p = field.predict(field.batch(lone[0].configuration))
    assert torch.isfinite(p.energy).all() and float(p.charges[0]) == pytest.approx(1.0)
    torch.testing.assert_close(p.forces, torch.zeros(1, 3, dtype=torch.float64))
