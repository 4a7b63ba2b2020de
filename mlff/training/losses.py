"""What training minimises: weighted errors of energies, forces, virials, charges, dipoles and net forces on molecules.

Every term is a mean over the whole batch, of all processes together. `squared` (Gong et al., 2025, public
configuration): mean squared errors over atoms x 3, frames x 9, atoms, frames x 3; the energy either

    mean_free   of whole frames, the batch means of prediction and label taken off first, as published
    per_atom    of E / n, so that large frames weigh no more than small ones

`absolute`: |E error| / n and the length of each atom's force error instead of their squares, so that few strained frames do
not rule the rest; charges and dipoles stay squared. `response` is the force through the charges alone, with target 0.

`net_forces`: squared errors of the sums of the forces on each molecule, over molecules x 3. They are what molecules feel of
one another, hence what sets a density, and a small part of the forces on atoms, most of which are bonds (Magdău et al.,
npj Comput. Mater. 9, 146 (2023)): a force loss hardly sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from mlff.labelled import LABELS
from mlff.training.batches import ReadyFrame, TrainingBatch
from mlff.training.passes import Predicted

EnergyLoss = Literal["mean_free", "per_atom"]
Form = Literal["squared", "absolute"]
Weight = Annotated[float, Field(ge=0)]
TERMS = (*LABELS, "response", "net_forces")
_TINY = 1e-12


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Weights:
    """Weight of each term; null leaves it to the preset. Units of the errors: kcal/mol, kcal/mol/Å, e, Debye."""

    energy: Weight | None = None
    forces: Weight | None = None
    virial: Weight | None = None
    charges: Weight | None = None
    dipole: Weight | None = None
    response: Annotated[
        Weight | None, Field(description="of the force through the charges, where that is left out")
    ] = None
    net_forces: Annotated[
        Weight | None, Field(description="of the net force on each molecule, from the force labels")
    ] = None

    def given(self) -> dict[str, float]:
        """Weights that are not null."""
        return {name: w for name in TERMS if (w := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Counts:
    """Frames, atoms and molecules of the whole batch, on all processes together."""

    frames: int
    atoms: int
    molecules: int

    @staticmethod
    def of(frames: Sequence[ReadyFrame]) -> Counts:
        """Of some frames."""
        return Counts(len(frames), sum(map(len, frames)), sum(len(f.group_charge) for f in frames))


Total = Callable[[Tensor], Tensor]
"""Sum of a tensor over all processes."""


@dataclass(frozen=True)
class Loss:
    """Weighted mean errors; `weights` by term."""

    weights: Mapping[str, float]
    energy: EnergyLoss = "per_atom"
    form: Form = "squared"

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms with a weight above zero."""
        return tuple(name for name in TERMS if self.weights.get(name, 0.0) > 0)

    def __call__(self, p: Predicted, batch: TrainingBatch, counts: Counts, total: Total = lambda t: t) -> Tensor:
        """This process' share of each weighted term, `(n_terms,)`: they add up to the loss over terms and processes."""
        shares = []
        for name in self.terms:
            found = p.forces if name == "net_forces" else getattr(p, name)
            assert found is not None
            shares.append(self.weights[name] * getattr(self, f"_{name}")(found, batch, counts, total))
        return torch.stack(shares)

    def stand_by(self, like: Tensor, total: Total) -> None:
        """What a process without frames of the batch does: take part in the sums of the others."""
        if self.energy == "mean_free" and "energy" in self.terms:
            total(like.new_zeros(()))

    def _energy(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        error = found - batch.targets["energy"]
        if self.energy == "mean_free":
            # its mean is the same constant for every process, and its own derivative adds up to nothing
            error = error - total(error.detach().sum()) / counts.frames
        else:
            error = error / batch.counts.to(error)
        return (error.square() if self.form == "squared" else error.abs()).sum() / counts.frames

    def _forces(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        squares = (found - batch.targets["forces"]).square()
        if self.form == "squared":
            return squares.sum() / (3 * counts.atoms)
        return (squares.sum(dim=1) + _TINY).sqrt().sum() / counts.atoms

    def _virial(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        return (found - batch.targets["virial"]).square().sum() / (9 * counts.frames)

    def _charges(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        return (found - batch.targets["charges"]).square().sum() / counts.atoms

    def _dipole(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        return (found - batch.targets["dipole"]).square().sum() / (3 * counts.frames)

    def _response(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        return found.square().sum() / (3 * counts.atoms)

    def _net_forces(self, found: Tensor, batch: TrainingBatch, counts: Counts, total: Total) -> Tensor:
        return _net(found - batch.targets["forces"], batch).square().sum() / (3 * counts.molecules)


def _net(forces: Tensor, batch: TrainingBatch) -> Tensor:
    """Sum of the forces on each molecule, `(n_molecules, 3)`."""
    return forces.new_zeros(len(batch.group_charge), 3).index_add(0, batch.group, forces)


def error_sums(p: Predicted, batch: TrainingBatch) -> dict[str, Tensor]:
    """For each label that was predicted: sums of |error|, error and error^2 over its entries, and how many they are.

    Energies by atom: E / n; with forces, net forces on molecules. Shapes `(4,)`.
    """
    errors = {}
    for name, target in batch.targets.items():
        found = getattr(p, name)
        if found is None:
            continue
        error = (found.detach() - target).double()
        if name == "energy":
            error = error / batch.counts
        errors[name] = error
    if "forces" in errors:
        errors["net_forces"] = _net(errors["forces"], batch)
    return {
        name: torch.stack([e.abs().sum(), e.sum(), e.square().sum(), e.new_full((), float(e.numel()))])
        for name, e in errors.items()
    }
