"""From several models to one: the options, and what the student is to say of a frame of a liquid.

As published (`bamboo2024`; Gong et al., 2025): the energy's read-out of one member learns the committee's means on frames
of liquids, in turn with batches of labelled clusters,

    liquid    3.0 MSE(F) + 0.01 (E - <E>)^2 / N + 0.01 MSE(W) / N
    clusters  0.3 MSE(E) + 1.0 MSE(F) + 0.1 MSE(W)

`modern`: all weights learn, from both at every step, and a frame's atoms count the less, the more the members disagree on
them; energies of elements by which members differ are taken off first (`remove_offsets`, `opinions.py`). As published they
stay in <E>, which then tells of the members' arbitrary zeros as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from mlff.training.batches import ReadyFrame, TrainingBatch, join
from mlff.training.losses import Weights

if TYPE_CHECKING:
    from mlff.opinions import Opinions
    from mlff.training.passes import Predicted

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
OF_LIQUIDS = ("energy", "forces", "virial")
"""What the committee teaches of a liquid."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Distillation:
    """How to distil; raises pydantic's `ValidationError` on a bad value."""

    learns: Annotated[Literal["all", "read_out"], Field(description="which weights; read_out = of the energy")] = "all"
    epochs: Count = 10
    learning_rate: Positive = 3e-4
    gamma: Annotated[float, Field(gt=0, le=1, description="factor of the rate at every epoch")] = 0.8
    alternate: Annotated[bool, Field(description="a step on a liquid, then one on clusters; else both at once")] = False
    frames: Annotated[int, Field(ge=3, description="most frames of one liquid; every third is for validation")] = 960
    batch: Annotated[Count, Field(description="clusters of a step")] = 8
    spread: Annotated[Literal["none", "weight", "reject"], Field(description="what disagreement does")] = "weight"
    spread_kcal_mol_A: Annotated[
        float | None,
        Field(gt=0, description="disagreement that halves an atom's weight, or rejects; null = by the set"),
    ] = None
    remove_offsets: Annotated[
        bool, Field(description="take off energies of elements by which members differ; published: no")
    ] = True
    liquid: Annotated[Weights, Field(description="energy, forces, virial of liquids")] = field(
        default_factory=lambda: Weights(energy=0.01, forces=3.0, virial=0.01)
    )
    clusters: Annotated[Weights, Field(description="labels of clusters")] = field(
        default_factory=lambda: Weights(energy=0.3, forces=1.0, virial=0.1)
    )
    select: Annotated[Literal["best", "last"], Field(description="epoch by validation loss; last")] = "best"

    @model_validator(mode="after")
    def _taught(self) -> Distillation:
        strange = sorted(name for name, w in self.liquid.given().items() if w > 0 and name not in OF_LIQUIDS)
        if strange:
            raise ValueError(f"liquid.{strange[0]}: of liquids {', '.join(OF_LIQUIDS)} can be learned")
        return self


@plain_dataclass(frozen=True, eq=False)
class Taught:
    """A frame of a liquid with the means to learn, and the weight of each atom `(n,)`, on average 1."""

    batch: TrainingBatch
    atoms: Tensor

    @staticmethod
    def of(ready: ReadyFrame, atoms: np.ndarray) -> Taught:
        """One frame as a batch of its own."""
        return Taught(join([ready]), torch.from_numpy(atoms / atoms.mean()).to(ready.positions.dtype))

    def loss(self, p: Predicted, weights: Mapping[str, float]) -> Tensor:
        """The published loss of a liquid, its forces weighted by atom."""
        n, targets = len(self.batch.numbers), self.batch.targets
        assert p.forces is not None
        loss = weights.get("energy", 0.0) * (p.energy - targets["energy"]).square().sum() / n
        squares = (p.forces - targets["forces"]).square().mean(dim=1)
        loss = loss + weights.get("forces", 0.0) * (self.atoms * squares).mean()
        if p.virial is not None:
            loss = loss + weights.get("virial", 0.0) * (p.virial - targets["virial"]).square().mean() / n
        return loss


@plain_dataclass(frozen=True, eq=False)
class Sorted:
    """Frames that are kept, the weight of their atoms, whether they are for validation, and how many were rejected."""

    opinions: list[Opinions]
    atoms: list[np.ndarray]
    names: list[str]
    held: list[bool]
    rejected: int
    limit_kcal_mol_A: float


def sort_by_spread(opinions: Sequence[Opinions], names: Sequence[str], d: Distillation) -> Sorted:
    """Weigh or reject frames by the committee's disagreement.

    An atom's weight is 1 / (1 + (s / limit)^2); a frame is rejected where its worst atom has s above the limit. Without a
    limit: twice the median of atoms to weigh, four times the median of the frames' worst atoms to reject.
    Raises `ValueError` where nothing is left.
    """
    spreads = [o.spread for o in opinions]
    worst = np.array([s.max() for s in spreads])
    usual = {"weight": 2.0 * float(np.median(np.concatenate(spreads))), "reject": 4.0 * float(np.median(worst))}
    limit = d.spread_kcal_mol_A or usual.get(d.spread, np.inf)
    kept = [k for k in range(len(opinions)) if d.spread != "reject" or worst[k] <= limit]
    if not kept:
        raise ValueError(f"all {len(opinions)} frames have an atom with a spread above {limit:g} kcal/mol/Å")
    weigh = d.spread == "weight" and limit > 0.0
    atoms = [1.0 / (1.0 + np.square(spreads[k] / limit)) if weigh else np.ones(len(spreads[k])) for k in kept]
    held = held_out(names)
    parts = ([opinions[k] for k in kept], atoms, [names[k] for k in kept], [held[k] for k in kept])
    return Sorted(*parts, len(opinions) - len(kept), limit)


def held_out(names: Sequence[str]) -> list[bool]:
    """Of the frames of each liquid every third one is for validation, the first included."""
    seen: Counter[str] = Counter()
    held = []
    for name in names:
        held.append(seen[name] % 3 == 0)
        seen[name] += 1
    return held
