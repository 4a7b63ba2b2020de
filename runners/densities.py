"""Densities of several liquids with one model after another: boxes that are relaxed once and go on from run to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.checkpoint import fingerprint
from runners.side_by_side import pays, side_by_side
from runners.simulation import Stretch

if TYPE_CHECKING:
    from ase import Atoms

    from mlff.alignment.pressure import Measured
    from mlff.dynamics.relaxation import Relaxation
    from mlff.dynamics.simulation import Dynamics
    from mlff.dynamics.trajectory import Trajectory
    from mlff.frames import Configuration
    from mlff.model import ForceField
    from runners.context import Context
    from runners.systems import Target


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated liquid: its trajectory's file, what was measured, the box at its end."""

    path: Path
    measured: Measured
    end: Atoms

    def trajectory(self) -> Trajectory:
        """All frames."""
        from mlff.dynamics.trajectory import read_trajectory

        return read_trajectory(self.path)

    def frames(self, n: int) -> list[Configuration]:
        """At most `n` equilibrated frames; of a run that never settles those of its second half."""
        from mlff.alignment.liquid_frames import configurations
        from mlff.alignment.pressure import equilibrium_from
        from mlff.dynamics.trajectory import read_thermo

        thermo = read_thermo(self.path)
        start = min(equilibrium_from(thermo.density_g_cm3), len(thermo.time_ps) // 2)
        return configurations(self.trajectory(), n, float(thermo.time_ps[start] - thermo.time_ps[0]))


@dataclass(frozen=True, eq=False)
class Ask:
    """One run that is wanted: of a packed and relaxed box or, `before` given, on from the end of another one, with
    another model; exactly `length_ps` where that is given.
    """

    target: Target
    model: ForceField
    label: str
    before: Run | None = None
    length_ps: float | None = None


@dataclass(frozen=True)
class Precision:
    """A run goes on until half its 95 % interval is `g_cm3`, at most `longest` times as long as `md` says."""

    g_cm3: float = math.inf
    longest: int = 1


class Densities:
    """Runs liquids at constant pressure; every run is kept on disk until `clear`, so that a killed job finds it again."""

    def __init__(self, context: Context, md: Dynamics, relaxation: Relaxation, precision: Precision) -> None:
        self.context, self.md, self.relaxation, self.precision = context, md, relaxation, precision
        self.stretches: list[Stretch] = []

    def all(self, asks: Sequence[Ask]) -> list[Run]:
        """What is asked for, in that order; boxes side by side where there are several and they take long."""
        stretches = [self._opened(ask) for ask in asks]
        self.stretches += stretches
        left = sum(max(0, self._md(a).n_steps - s.reached()) for a, s in zip(asks, stretches, strict=True))
        if not pays(self.context, len(asks), max(a.target.system.n_atoms for a in asks), left):
            return [self.one(ask, stretch) for ask, stretch in zip(asks, stretches, strict=True)]
        given = self.md, self.relaxation, self.precision
        return side_by_side(self.context, [partial(_apart, *given, ask) for ask in asks])

    def one(self, ask: Ask, stretch: Stretch | None = None) -> Run:
        """One run, in this process."""
        from mlff.dynamics.stability import calculator
        from mlff.system.liquid import pack

        context, target = self.context, ask.target
        stretch = stretch or self._opened(ask)
        models = calculator(ask.model, context.threads)
        box = None if ask.before else pack(target.system, context.seed)
        with stretch.cache.alone(context.progress.say):
            if box is not None:
                atoms = stretch.relaxed(box, models, self.relaxation, target.temperature_K, context.seed)
                return self._run(stretch, atoms, box.names, models, ask)
            assert ask.before is not None
            return self._run(stretch, ask.before.end, ask.before.trajectory().names, models, ask)

    def clear(self) -> None:
        """Forget what was kept on disk."""
        for stretch in self.stretches:
            stretch.clear()

    def _opened(self, ask: Ask) -> Stretch:
        """The place on disk of a run, named by all that its result depends on."""
        weights = [v.detach().cpu().numpy() for v in ask.model.state_dict().values()]
        about: dict[str, Any] = {
            "system": asdict(ask.target.system),
            "temperature_K": ask.target.temperature_K,
            "md": asdict(self.md),
            "model": fingerprint(*weights) + repr(ask.model.parameters_of),
            "label": ask.label,
            "seed": self.context.seed,
        }
        if ask.before is None:
            about |= {"relaxation": asdict(self.relaxation)}
        else:
            about |= {"start": fingerprint(ask.before.end.positions), "length_ps": ask.length_ps}
        return Stretch(self.context, f"{ask.target.name} {ask.label}", about)

    def _md(self, ask: Ask) -> Dynamics:
        return self.md if ask.length_ps is None else replace(self.md, length_ps=ask.length_ps)

    def _run(self, stretch: Stretch, atoms: Atoms, names: tuple[str, ...], calculator: Any, ask: Ask) -> Run:
        """Simulate until the density is precise enough, in lengths of `md`; a resumed run goes on in the length it was in."""
        md, target = self._md(ask), ask.target
        longest = self.precision.longest if ask.length_ps is None else 1
        lengths = min(max(1, math.ceil(stretch.reached() / md.n_steps)), longest)
        while True:
            whole = replace(md, length_ps=lengths * md.length_ps)
            path, end = stretch.run(atoms, names, calculator, whole, target.temperature_K, self.context.seed)
            found = _measured(path, target)
            if found.error_g_cm3 <= self.precision.g_cm3 or lengths == longest:
                return Run(path, found, end.put_on(atoms))
            lengths += 1
            self.context.progress.say(
                f"{stretch.name}: ± {found.error_g_cm3:.4f} g/cm3 after {whole.length_ps:g} ps, {self.precision.g_cm3:g} "
                f"is wanted; on to {lengths * md.length_ps:g} ps"
            )


def _apart(md: Dynamics, relaxation: Relaxation, precision: Precision, ask: Ask, context: Context) -> Run:
    """One run in a process that was made for it."""
    kept = replace(context, resume=True)  # the parent has cleared what was not to be used
    return Densities(kept, md, relaxation, precision).one(ask)


def _measured(path: Path, target: Target) -> Measured:
    from mlff.alignment.pressure import measured
    from mlff.dynamics.trajectory import read_thermo

    thermo = read_thermo(path)
    return measured(thermo.density_g_cm3, np.asarray(thermo.volume_A3), target.temperature_K)
