"""Densities of several liquids with one model after another: boxes that are relaxed once and go on from run to run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.checkpoint import fingerprint
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

    def first(self, target: Target, model: ForceField, label: str) -> Run:
        """Pack, relax and simulate a liquid."""
        from mlff.system.liquid import pack

        context = self.context
        box = pack(target.system, context.seed)
        about = self._about(target, model, label) | {"relaxation": asdict(self.relaxation)}
        stretch = self._stretch(target, label, about)
        calculator = self._calculator(model)
        with stretch.cache.alone(context.progress.say):
            atoms = stretch.relaxed(box, calculator, self.relaxation, target.temperature_K, context.seed)
            return self._run(stretch, atoms, box.names, calculator, target)

    def again(self, target: Target, model: ForceField, before: Run, label: str, length_ps: float | None = None) -> Run:
        """Simulate on from the end of another run, with another model; exactly `length_ps` where that is given."""
        about = self._about(target, model, label) | {"start": fingerprint(before.end.positions), "length_ps": length_ps}
        stretch = self._stretch(target, label, about)
        names = before.trajectory().names
        with stretch.cache.alone(self.context.progress.say):
            return self._run(stretch, before.end, names, self._calculator(model), target, length_ps)

    def clear(self) -> None:
        """Forget what was kept on disk."""
        for stretch in self.stretches:
            stretch.clear()

    def _about(self, target: Target, model: ForceField, label: str) -> dict[str, Any]:
        weights = [v.detach().cpu().numpy() for v in model.state_dict().values()]
        return {
            "system": asdict(target.system),
            "temperature_K": target.temperature_K,
            "md": asdict(self.md),
            "model": fingerprint(*weights) + repr(model.parameters_of),
            "label": label,
            "seed": self.context.seed,
        }

    def _stretch(self, target: Target, label: str, about: dict[str, Any]) -> Stretch:
        stretch = Stretch(self.context, f"{target.name} {label}", about)
        self.stretches.append(stretch)
        return stretch

    def _calculator(self, model: ForceField) -> Any:
        from mlff.dynamics.stability import calculator

        return calculator(model, self.context.threads)

    def _run(
        self,
        stretch: Stretch,
        atoms: Atoms,
        names: tuple[str, ...],
        calculator: Any,
        target: Target,
        length_ps: float | None = None,
    ) -> Run:
        """Simulate until the density is precise enough, in lengths of `md`; a resumed run goes on in the length it was in."""
        md = self.md if length_ps is None else replace(self.md, length_ps=length_ps)
        longest = self.precision.longest if length_ps is None else 1
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


def _measured(path: Path, target: Target) -> Measured:
    from mlff.alignment.pressure import measured
    from mlff.dynamics.trajectory import read_thermo

    thermo = read_thermo(path)
    return measured(thermo.density_g_cm3, np.asarray(thermo.volume_A3), target.temperature_K)
