"""Small label sets: frames labelled by a model with random weights, so that the right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlff.datasets import Dispersion, LabelSet
from mlff.frames import Configuration
from mlff.labelled import LabelledFrame
from mlff.model import ForceField
from tests.mlff.samples import crowd


def labelled(teacher: ForceField, configuration: Configuration, name: str = "") -> LabelledFrame:
    """A frame with the labels that a model gives it."""
    p = teacher.predict(teacher.batch(configuration))
    open_ = not configuration.pbc.any()
    charged = teacher.charge is not None
    return LabelledFrame(
        configuration,
        energy=p.energy.item(),
        forces=p.forces.numpy(),
        virial=p.virial[0].numpy(),
        charges=p.charges.numpy() if charged else None,
        dipole=p.dipole[0].numpy() if charged and open_ else None,
        composition=str(len(configuration.numbers)),
        name=name,
    )


def label_set(teacher: ForceField, n: int = 8, dispersion: Dispersion = "included", **more: object) -> LabelSet:
    """`n` clusters of 5 to 8 atoms labelled by `teacher`, the last two for validation."""
    frames = [labelled(teacher, crowd(5 + k % 4, seed=k, **more), f"made[{k}]") for k in range(n)]
    common = [name for name in frames[0].labels if all(name in f.labels for f in frames)]
    return LabelSet("made", frames[:-2], frames[-2:], [], tuple(common), dispersion)


def without(frame: LabelledFrame, *labels: str) -> LabelledFrame:
    """The frame without some of its labels."""
    return replace(frame, **dict.fromkeys(labels))


def moved(configuration: Configuration, atoms: slice, by: np.ndarray) -> Configuration:
    """The configuration with some atoms displaced."""
    positions = configuration.positions.copy()
    positions[atoms] += by
    return replace(configuration, positions=positions)
