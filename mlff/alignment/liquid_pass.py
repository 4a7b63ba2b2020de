"""The network's energy of liquids, with the virial of pairs between molecules: what alignment works on.

Only the read-out of the energy moves there, so that charges, Coulomb and dispersion stay what they are and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass

import numpy as np
import torch
from torch import Tensor

from mlff.alignment.molecule_pairs import between_molecules
from mlff.frames import Configuration
from mlff.labelled import LabelledFrame
from mlff.model import ForceField
from mlff.training.batches import TrainingBatch, join, ready_frames
from mlff.training.passes import PairFeatures, TrainingPass
from mlff.units import ATM_PER_KCAL_A3


@plain_dataclass(frozen=True, eq=False)
class LiquidFrame:
    """One periodic frame; `between` `(n_pairs,)` is 1 for half pairs between molecules, else 0."""

    batch: TrainingBatch
    between: Tensor
    volume_A3: float

    def __len__(self) -> int:
        return len(self.batch.numbers)

    def pressure_atm(self, trace: Tensor | float) -> Tensor | float:
        """Pressure of the trace of a virial, kcal/mol."""
        return trace * (ATM_PER_KCAL_A3 / (3.0 * self.volume_A3))


@plain_dataclass(frozen=True, eq=False)
class LiquidTerms:
    """Of the network alone: energy kcal/mol, forces `(n, 3)` kcal/mol/Å, virial `(3, 3)` kcal/mol, and the trace of the
    virial of pairs between molecules."""

    energy: Tensor
    forces: Tensor
    virial: Tensor
    between: Tensor

    def detached(self) -> LiquidTerms:
        """The same numbers without a graph."""
        return LiquidTerms(*(getattr(self, name).detach() for name in self.__dataclass_fields__))


def network_alone(model: ForceField) -> ForceField:
    """The network and its energy read-out with weights of their own; only those of the read-out ask for gradients."""
    bare = model.changed(charges=False, dispersion="none").requires_grad_(False)
    bare.energy.requires_grad_(True)
    return bare


def liquid_frame(bare: ForceField, configuration: Configuration) -> LiquidFrame:
    """A frame ready for passes of `bare`; raises `ValueError` unless it is periodic and names its molecules."""
    if not configuration.pbc.all():
        raise ValueError("a liquid is periodic along all three axes")
    unlabelled = LabelledFrame(configuration)
    nothing = np.zeros(len(bare.reference_energy))
    (ready,) = ready_frames([unlabelled], bare, nothing, labels=(), dispersion_in_labels=True)
    half = bare.batch(configuration).edges.half()
    between = torch.from_numpy(between_molecules(configuration, half)).to(bare.dtype)
    return LiquidFrame(join([ready]), between, abs(float(np.linalg.det(configuration.cell))))


def evaluate(bare: ForceField, frame: LiquidFrame, *, graph: bool = True) -> LiquidTerms:
    """Energy and its slopes; `graph` keeps what a loss of them needs."""
    batch = frame.batch
    inner = PairFeatures(bare.network, batch, TrainingPass(bare).fused)
    energy = bare.energy(bare.network.layers(batch.numbers, inner.edges)).double().sum()
    pull = inner.slopes(energy, graph)
    along = batch.r * (batch.u * pull).sum(dim=1)
    terms = LiquidTerms(
        energy,
        inner.forces(pull, batch),
        inner.virial(pull, batch)[0],
        -(frame.between * along).double().sum(),
    )
    return terms if graph else terms.detached()


def put_back(model: ForceField, bare: ForceField) -> ForceField:
    """`model` with the energy read-out of `bare`."""
    out = model.changed()
    out.energy.load_state_dict(bare.energy.state_dict())
    return out.eval()


def atoms_of(frames: Sequence[LiquidFrame]) -> int:
    """Atoms of all frames together."""
    return sum(map(len, frames))
