"""What several models say of the same frames: mean, spread, and the energies of elements by which they differ.

Training leaves the energy of each element open (`references.py`, `losses.py`), so that two equally good models may differ
by any sum of energies of elements. These offsets are taken off before energies are compared or averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlff.engine import Engine
from mlff.frames import Configuration
from mlff.labelled import LabelledFrame
from mlff.model import ForceField, check_committee
from mlff.training.references import N_ROWS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Opinions:
    """One frame by m models: `energies` `(m,)` kcal/mol, `forces` `(m, n, 3)` kcal/mol/Å, `virials` `(m, 3, 3)` kcal/mol."""

    configuration: Configuration
    energies: Floats
    forces: Floats
    virials: Floats

    @property
    def spread(self) -> Floats:
        """Deviation of each atom's force from the mean, root mean square over models, `(n,)` kcal/mol/Å."""
        away = self.forces - self.forces.mean(axis=0)
        return np.asarray(np.sqrt(np.square(away).sum(axis=2).mean(axis=0)))

    @property
    def counts(self) -> Floats:
        """`(87,)` atoms of each element."""
        return np.bincount(self.configuration.numbers, minlength=N_ROWS).astype(np.float64)


def ask(
    models: Sequence[ForceField],
    configurations: Sequence[Configuration],
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Opinions]:
    """Predict every frame with every model; raises `ValueError` for elements that one does not know, or equal models."""
    check_committee(models)
    engines = [_by_engine(model, threads) or _by_torch(model) for model in models]
    found = []
    for c in configurations:
        said = [engine(c) for engine in engines]
        found.append(Opinions(c, *(np.stack([s[k] for s in said]) for k in range(3))))
        progress(len(found), len(configurations))
    return found


def offsets(opinions: Sequence[Opinions], base: int) -> Floats:
    """Energies of elements `(m, 87)` by which each model lies above model `base`: least squares over frames, by atom."""
    energies = np.array([o.energies for o in opinions])
    counts = np.array([o.counts for o in opinions])
    size = counts.sum(axis=1, keepdims=True)
    above = (energies - energies[:, base, None]) / size
    return np.asarray(np.linalg.lstsq(counts / size, above, rcond=1e-9)[0].T)


def without_offsets(opinions: Sequence[Opinions], base: int) -> list[Opinions]:
    """The same opinions with all energies counted as model `base` counts them."""
    above = offsets(opinions, base)
    return [Opinions(o.configuration, o.energies - above @ o.counts, o.forces, o.virials) for o in opinions]


def mean_frames(opinions: Sequence[Opinions], names: Sequence[str]) -> list[LabelledFrame]:
    """Frames labelled with the means over models; `names` of liquids become compositions."""
    return [
        LabelledFrame(
            o.configuration,
            energy=float(o.energies.mean()),
            forces=o.forces.mean(axis=0),
            virial=o.virials.mean(axis=0),
            composition=name,
            name=f"{name}[{k}]",
        )
        for k, (o, name) in enumerate(zip(opinions, names, strict=True))
    ]


Said = tuple[float, Floats, Floats]


def _by_engine(model: ForceField, threads: int) -> Callable[[Configuration], Said] | None:
    """Prediction on the fast path where it is made for the model."""
    try:
        engine = Engine(model, threads=threads, skin_A=0.0)
    except ValueError:
        return None

    def predict(c: Configuration) -> Said:
        found = engine.evaluate(c)
        return found.energy, found.forces, found.virial

    return predict


def _by_torch(model: ForceField) -> Callable[[Configuration], Said]:
    def predict(c: Configuration) -> Said:
        p = model.predict(model.batch(c))
        return p.energy.item(), p.forces.numpy(), p.virial[0].numpy()

    return predict
