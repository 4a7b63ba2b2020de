"""A committee chooses what to label next: where its members disagree, but not where all of them have lost their way.

The disagreement about a frame is the largest, over its atoms, root mean square deviation of the members' forces from
their mean (Zhang et al., Comput. Phys. Commun. 253, 107206 (2020)). Frames below `certain` are known, frames between it
and `absurd` teach something, frames beyond are nothing that a stable simulation meets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.units import KCAL_PER_EV

if TYPE_CHECKING:
    from mlff.frames import Configuration
    from mlff.labels.clusters import Cluster
    from mlff.model import ForceField


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Choice:
    """Which frames a committee asks for, and when it has enough. Raises pydantic's `ValidationError`."""

    certain_eV_A: Annotated[float, Field(gt=0, description="members agree below: nothing to learn")] = 0.15
    absurd_eV_A: Annotated[float | None, Field(gt=0, description="beyond: no frame worth a label; null = none is")] = (
        3.0
    )
    most: Annotated[int, Field(ge=1, description="frames of a round, drawn among those that teach something")] = 300
    enough: Annotated[float, Field(gt=0, le=1, description="share of certain frames at which rounds stop")] = 0.95

    def __post_init__(self) -> None:
        if self.absurd_eV_A is not None and self.absurd_eV_A <= self.certain_eV_A:
            raise ValueError(f"absurd_eV_A={self.absurd_eV_A:g}: must be more than certain_eV_A={self.certain_eV_A:g}")


@plain_dataclass(frozen=True, eq=False)
class Chosen:
    """`indices` of the frames to label, in order; shares of all frames that are `certain` and `absurd`; `stop` where
    the committee is certain of enough of them."""

    indices: NDArray[np.int64]
    certain: float
    absurd: float
    stop: bool


def disagreement(
    models: Sequence[ForceField],
    configurations: Sequence[Configuration],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float64]:
    """Of each configuration, `(n,)` eV/Å. Raises `ValueError` for fewer than two models, or elements one has not seen."""
    if len(models) < 2:
        raise ValueError(f"a committee of {len(models)}: at least two models can disagree")
    members = [_forces_by(model) for model in models]
    spreads = np.empty(len(configurations))
    for k, configuration in enumerate(configurations):
        forces = np.stack([member(configuration) for member in members]) / KCAL_PER_EV
        spreads[k] = np.sqrt(np.square(forces - forces.mean(axis=0)).sum(axis=2).mean(axis=0)).max()
        progress(k + 1, len(configurations))
    return spreads


def _forces_by(model: ForceField) -> Callable[[Configuration], NDArray[np.float64]]:
    """Forces in kcal/mol/Å by the fast engine, or by torch where it cannot run the model."""
    from mlff.engine import Engine

    try:
        engine = Engine(model, threads=1)
    except ValueError:
        return lambda c: np.asarray(model.predict(model.batch(c)).forces.numpy(), np.float64)
    return lambda c: engine.evaluate(c).forces


def choose(spread: NDArray[np.float64], choice: Choice, rng: np.random.Generator) -> Chosen:
    """Frames for the next round by their disagreement `(n,)` eV/Å."""
    absurd = np.zeros(len(spread), bool) if choice.absurd_eV_A is None else ~(spread <= choice.absurd_eV_A)
    certain = spread < choice.certain_eV_A
    open_ = np.flatnonzero(~certain & ~absurd)
    drawn = rng.permutation(open_)[: choice.most]
    share = float(certain.mean()) if len(spread) else 1.0
    return Chosen(np.sort(drawn), share, float(absurd.mean()) if len(spread) else 0.0, share >= choice.enough)


def next_clusters(
    models: Sequence[ForceField],
    candidates: Sequence[Cluster],
    choice: Choice,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Cluster], Chosen]:
    """The candidates of an active-learning round that are worth a label; none where the rounds should stop."""
    chosen = choose(disagreement(models, [c.configuration() for c in candidates], progress), choice, rng)
    return [] if chosen.stop else [candidates[k] for k in chosen.indices], chosen
