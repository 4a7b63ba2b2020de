"""Density alignment: change the pressure that a model exerts, and nothing else (Gong et al., 2025).

Only the read-out of the network's energy moves. On frames of each liquid, with 0 for the model as it was, it minimises

    [c (W_out - W_out0) / 3V - dP]^2 + 1e2 (E - E0)^2 / N + 1e6 MSE(F - F0) + 3e3 MSE(W - W0) / N

and on labelled clusters 0.3 MSE(E) + MSE(F) + 0.1 MSE(W). W_out is the trace of the network's virial over pairs between
molecules, c = 68568 atm Å^3/(kcal/mol). As published (`bamboo2024`) W - W0 pulls against the target and the descent is
SGD of a rate that belongs to the published weights. `modern` lets W0 move along with the target, asks the same of the whole
virial (it is the whole that sets a density), leaves energies free by element and finds its steps by a line search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from mlff.alignment.liquid_pass import LiquidFrame, LiquidTerms, evaluate, liquid_frame
from mlff.frames import Configuration
from mlff.model import ForceField

Weight = Annotated[float, Field(ge=0)]
T = TypeVar("T")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class AlignmentWeights:
    """Weight of each term; units atm, kcal/mol, Å. Defaults are the published ones."""

    pressure: Weight = 1.0
    energy: Weight = 1e2
    forces: Weight = 1e6
    virial: Weight = 3e3
    cluster_energy: Weight = 0.3
    cluster_forces: Weight = 1.0
    cluster_virial: Weight = 0.1


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Alignment:
    """How one round of alignment is done; raises pydantic's `ValidationError` on a bad value."""

    method: Annotated[
        Literal["line_search", "sgd"], Field(description="sgd with the rate below is for parity only")
    ] = "line_search"
    steps: Annotated[int, Field(ge=1, le=10_000, description="of the line search; epochs of sgd")] = 40
    near_atm: Annotated[
        float, Field(ge=0, description="line search: end where training frames miss their targets by less")
    ] = 2.0
    learning_rate: Annotated[float, Field(gt=0, description="sgd")] = 1e-12
    gamma: Annotated[float, Field(gt=0, le=1, description="sgd: factor of the rate at every epoch")] = 0.99
    whole: Annotated[bool, Field(description="ask the whole virial to move as well, not against its old value")] = True
    free_elements: Annotated[bool, Field(description="let energies of elements drift")] = True
    most_atm: Annotated[float, Field(gt=0, le=500, description="largest change of pressure in one round")] = 500.0
    frames: Annotated[int, Field(ge=3, description="of each liquid; every third is for validation")] = 30
    clusters: Annotated[int | None, Field(ge=1, description="labelled clusters that take part; null = all")] = 256
    cluster_batch: Annotated[
        int, Field(ge=1, description="clusters whose energies share a zero; sgd: of a step, drawn from those above")
    ] = 32
    weights: AlignmentWeights = field(default_factory=AlignmentWeights)


@plain_dataclass(frozen=True, eq=False)
class Liquid:
    """Frames of one liquid and the pressure that the model must exert more there."""

    name: str
    frames: Sequence[Configuration]
    change_atm: float


@plain_dataclass(frozen=True)
class Effect:
    """What a round did to one liquid, on frames that were not fitted (means over frames; `spread`: deviation).

    `between_atm` is the change of the pressure of pairs between molecules, `whole_atm` that of the network as a whole.
    """

    name: str
    wanted_atm: float
    between_atm: float
    between_spread_atm: float
    whole_atm: float
    forces_rms_kcal_mol_A: float
    energy_rms_kcal_mol_atom: float


@plain_dataclass(frozen=True, eq=False)
class Anchored:
    """A frame, what the model said of it before, and where its pressure is to go."""

    frame: LiquidFrame
    before: LiquidTerms
    change_atm: float
    counts: NDArray[np.float64]

    @staticmethod
    def of(bare: ForceField, configuration: Configuration, change_atm: float) -> Anchored:
        """Prepare a frame with the model as it is."""
        frame = liquid_frame(bare, configuration)
        counts = np.bincount(configuration.numbers, minlength=len(bare.reference_energy)).astype(np.float64)
        return Anchored(frame, evaluate(bare, frame, graph=False), change_atm, counts)

    def loss(self, terms: LiquidTerms, a: Alignment) -> Tensor:
        """Pressure, forces and virial; the `Aligner` adds the energy, of all frames together."""
        w, frame, n = a.weights, self.frame, len(self.frame)
        moved = terms.virial.double() - self.before.virial.double()
        missed = frame.pressure_atm(terms.between - self.before.between) - self.change_atm
        loss = w.pressure * missed**2
        if a.whole:
            loss = loss + w.pressure * (frame.pressure_atm(moved.trace()) - self.change_atm) ** 2
            share = self.change_atm / float(frame.pressure_atm(1.0)) / 3.0
            moved = moved - share * torch.eye(3, dtype=moved.dtype)
        forces = (terms.forces - self.before.forces).double()
        return loss + w.forces * forces.square().mean() + w.virial * moved.square().mean() / n


def split(frames: Sequence[Configuration]) -> tuple[list[Configuration], list[Configuration]]:
    """Training and validation frames: every third is for validation, as published."""
    train = [f for k, f in enumerate(frames) if k % 3 != 0]
    return train, [f for k, f in enumerate(frames) if k % 3 == 0]


def taken(frames: Sequence[T], n: int) -> list[T]:
    """At most `n` frames, evenly from all of them."""
    if len(frames) <= n:
        return list(frames)
    return [frames[len(frames) * k // n] for k in range(n)]


def free_of_elements(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix `(n_frames, n_frames)` that takes out of energies by atom what energies of elements can explain.

    `counts` `(n_frames, n_elements)` are numbers of atoms.
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    return np.eye(len(shares)) - shares @ np.linalg.pinv(shares)


def effects(bare: ForceField, anchored: dict[str, list[Anchored]]) -> list[Effect]:
    """What happened to each liquid since its frames were anchored."""
    found = []
    for name, frames in anchored.items():
        after = [evaluate(bare, a.frame, graph=False) for a in frames]
        pairs = list(zip(frames, after, strict=True))
        between = np.array([float(a.frame.pressure_atm(t.between - a.before.between)) for a, t in pairs])
        whole = np.array([float(a.frame.pressure_atm((t.virial - a.before.virial).trace())) for a, t in pairs])
        forces = np.concatenate([(t.forces - a.before.forces).numpy().ravel() for a, t in pairs])
        energies = np.array([float(t.energy - a.before.energy) / len(a.frame) for a, t in pairs])
        energies = free_of_elements(np.array([a.counts for a in frames])) @ energies
        found.append(
            Effect(
                name=name,
                wanted_atm=frames[0].change_atm,
                between_atm=float(between.mean()),
                between_spread_atm=float(between.std()),
                whole_atm=float(whole.mean()),
                forces_rms_kcal_mol_A=float(np.sqrt(np.square(forces, dtype=np.float64).mean())),
                energy_rms_kcal_mol_atom=float(np.sqrt(np.square(energies).mean())),
            )
        )
    return found
