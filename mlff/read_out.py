"""What is left for the network when all other terms of a model stand still: frames to fit a read-out to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mlff.datasets import Dispersion
from mlff.labelled import LabelledFrame
from mlff.model import ForceField
from mlff.training.batches import ReadyFrame, ready_frames, virial_of_forces

FITTED = ("energy", "forces", "virial")


def left_for_network(
    frames: Iterable[LabelledFrame], model: ForceField, bare: ForceField, dispersion: Dispersion
) -> list[LabelledFrame]:
    """Frames whose labels are reduced by all that `model` says beside its network; `bare` is that network alone.

    `dispersion` tells whether the labels contain it. The virial of an open cluster without one is that of its forces.
    """
    used = model.changed(dispersion="none") if model.dispersion is not None and dispersion == "none" else model
    left = []
    for frame in frames:
        if frame.energy is None or frame.forces is None:
            raise ValueError(f"{frame.name}: needs energy and forces")
        whole = used.predict(used.batch(frame.configuration))
        alone = bare.predict(bare.batch(frame.configuration))
        virial = frame.virial if frame.virial is not None else virial_of_forces(frame)
        left.append(
            replace(
                frame,
                energy=float(frame.energy - (whole.energy - alone.energy).item()),
                forces=frame.forces - (whole.forces - alone.forces).numpy(),
                virial=virial - (whole.virial - alone.virial)[0].numpy(),
                charges=None,
                dipole=None,
            )
        )
    return left


def ready_for_read_out(
    frames: Sequence[LabelledFrame], model: ForceField, bare: ForceField, dispersion: Dispersion
) -> list[ReadyFrame]:
    """The same, in the form that training takes."""
    left = left_for_network(frames, model, bare, dispersion)
    reference = bare.reference_energy.numpy().astype(np.float64)
    return list(ready_frames(left, bare, reference, labels=FITTED, dispersion_in_labels=True))
