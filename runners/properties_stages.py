"""The stages behind `runner=properties`: what is simulated for each replica, what it costs, and what is read afterwards.

A stage of a replica is a `Stretch`, named by what its result depends on: a killed run goes on inside the stage that it
was in, and a run with longer transport finds the densities of the shorter one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff.streams import replica_seeds
from runners.check import UserError
from runners.progress import format_seconds
from runners.side_by_side import pays, side_by_side
from runners.simulation import Models, Stretch
from runners.systems import tell_composition

if TYPE_CHECKING:
    from ase import Atoms

    from mlff.dynamics.relaxation import Relaxation
    from mlff.dynamics.simulation import Dynamics
    from mlff.properties import Densities, Transport
    from mlff.protocol import Protocol
    from mlff.system.box import Box
    from runners.context import Context

TIMED_CALLS = 5
FLAT = 1e-6
"""Relative spread of the volume below which it was constant."""


@dataclass(frozen=True, eq=False)
class Found:
    """Properties of a liquid: of its runs at constant pressure, and of those at constant volume."""

    densities: Densities | None
    transport: Transport | None
    n_replicas: int
    warning: str | None = None
    """What to tell the user before the results."""


def read_runs(paths: Sequence[str], p: Protocol) -> Found:
    """Properties from trajectories of `runner=md`: density where the volume moved, transport where it did not.

    Raises `UserError` where the files are no replicas of one liquid, or of dynamics that give no transport.
    """
    from mlff.dynamics.trajectory import read_origin, read_thermo, read_trajectory
    from mlff.properties import check_replicas, density, transport

    files = [Path(path).expanduser() for path in paths]
    if len({f.resolve() for f in files}) < len(files):
        raise UserError("runner.trajectory: a file is given twice; replicas are independent runs")
    runs = {str(f): (read_origin(f), read_thermo(f)) for f in files}
    thermos = [thermo for _, thermo in runs.values()]
    constant = [bool(np.ptp(t.volume_A3) <= FLAT * t.volume_A3.mean()) for t in thermos]
    if len(set(constant)) > 1:
        raise UserError("runner.trajectory: runs at constant volume and at constant pressure cannot be averaged")
    try:
        check_replicas(runs, for_transport=constant[0])
    except ValueError as error:
        raise UserError(f"runner.trajectory: {error}") from error
    if not constant[0]:
        return Found(density(thermos), None, len(files))
    found = transport(
        [(read_trajectory(f), thermo) for f, thermo in zip(files, thermos, strict=True)],
        n_blocks=p.blocks,
        start_ps=p.fit_start_ps,
        end_ps=p.fit_end_ps,
    )
    silent = [name for name, (origin, _) in runs.items() if origin.conditions is None]
    return Found(None, found, len(files), _unknown_dynamics(silent) if silent else None)


def _unknown_dynamics(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)}: written before trajectories told how they were made; transport is right only if that was "
        "nve, or nvt or csvr with temperature_damping_fs of 1000 or more"
    )


class Simulation:
    """All stages of all replicas of one run."""

    def __init__(self, context: Context, models: Models, boxes: Sequence[Box], relaxation: Relaxation) -> None:
        self.context, self.models, self.boxes, self.relaxation = context, models, boxes, relaxation
        self.protocol = context.properties
        self.calculator = models.calculator(context.threads)
        self.about: dict[str, Any] = {
            "system": context.config["system"],
            "relaxation": asdict(relaxation),
            "models": models.fingerprint,
        }
        self.seeds = replica_seeds(context.seed, len(boxes))
        self.density_stages = [self._stage("density", k, self.protocol.density) for k in range(len(boxes))]
        self.later_stages: list[Stretch] = []

    def _stage(self, name: str, k: int, dynamics: Dynamics, **more: Any) -> Stretch:
        about = {**self.about, "dynamics": asdict(dynamics), "seed": self.seeds[k], **more}
        return Stretch(self.context, f"stage-{name}-{k}", about)

    @property
    def temperature_K(self) -> float:
        """The system's; the dynamics may set their own."""
        return float(self.context.system.temperature_K)

    def announce(self) -> None:
        """Say what will be done, at what cost and with what error bars; the cost is that of steps measured now."""
        p, say, atoms = self.protocol, self.context.progress.say, self.boxes[0].atoms
        stages = [p.density, *([p.settle, p.transport] if p.transport else [])]
        soft = self.relaxation.steps + 1000 * self.relaxation.soft_start_ps / self.relaxation.time_step_fs
        steps = len(self.boxes) * (soft + sum(d.n_steps for d in stages))
        simulated = len(self.boxes) * sum(d.length_ps for d in stages)
        at_once = min(self.context.threads, len(self.boxes)) if self._pays(round(steps)) else 1
        with self.context.phase("timing"):
            seconds = _seconds_per_step(atoms, self.models.calculator(max(1, self.context.threads // at_once)))
        beside = f", {at_once} at a time" if at_once > 1 else ""
        turns = math.ceil(len(self.boxes) / at_once) / len(self.boxes)
        say(
            f"{self.boxes[0].composition}: {len(atoms)} atoms, {len(self.boxes)} replicas{beside}; {simulated:g} ps in all, "
            f"{1000 * seconds:.1f} ms a step: about {format_seconds(turns * steps * seconds)}, less what is there already"
        )
        tell_composition(self.context, self.context.system)
        for name, error in self._expected().items():
            what = f"± {100 * error:.1f} %" if error <= 0.5 else "will not be resolved"
            say(f"  expected 95 % error of {name}: {what}")
        self.context.tracker.metrics({"cost/ms_per_step": 1000 * seconds})

    def _expected(self) -> dict[str, float]:
        from mlff.transport.resolved import Planned, expected_errors

        box, p = self.boxes[0], self.protocol
        charges = np.asarray(box.atoms.info["fragment_charges"])
        mass = box.atoms.get_masses().sum()
        known = next((v.density_g_cm3 for v in self.context.system.measured if v.density_g_cm3), box.density_g_cm3)
        planned = Planned(
            n_replicas=len(self.boxes),
            n_blocks=p.blocks,
            density_ps=p.density.length_ps,
            transport_ps=p.transport.length_ps if p.transport else 0.0,
            volume_A3=mass * 1.6605390666 / known,
            temperature_K=p.density.temperature_K or self.temperature_K,
            n_solvent=int((charges == 0).sum()),
            n_ions=int((charges != 0).sum()),
            n_pairs=int(min((charges > 0).sum(), (charges < 0).sum())),
        )
        return expected_errors(planned)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process works on the same replicas."""
        with contextlib.ExitStack() as stack:
            for stage in self.density_stages:
                stack.enter_context(stage.cache.alone(self.context.progress.say))
            yield

    def run(self) -> Found:
        """Simulate everything that is not on disk, and analyse it."""
        from mlff.dynamics.trajectory import read_thermo, read_trajectory
        from mlff.properties import density, transport

        p, stages, replicas = self.protocol, self.density_stages, range(len(self.boxes))
        left = sum(max(0, p.density.n_steps - s.reached()) for s in stages)
        if self._pays(left):
            ended = side_by_side(self.context, [partial(_at_constant_pressure, *self._given(), k) for k in replicas])
        else:
            ended = [self.at_constant_pressure(k) for k in replicas]
        densities = density([read_thermo(s.folder / "trajectory.h5md") for s in self.density_stages])
        self.context.progress.say(f"density: {densities.mean.estimate} g/cm3")
        if p.transport is None:
            return Found(densities, None, len(self.boxes))
        value = densities.mean.estimate.value
        pairs = [self._later(k, value) for k in replicas]
        self.later_stages = [stage for pair in pairs for stage in pair]
        whole = len(pairs) * (p.settle.n_steps + p.transport.n_steps)
        left = whole - sum(stage.reached() for stage in self.later_stages)
        if self._pays(left):
            parts = [partial(_at_constant_volume, *self._given(), k, ended[k], value) for k in replicas]
            paths = side_by_side(self.context, parts)
        else:
            paths = [self.at_constant_volume(k, ended[k], value) for k in replicas]
        with self.context.phase("analysis"):
            runs = [(read_trajectory(path), read_thermo(path)) for path in paths]
            found = transport(runs, n_blocks=p.blocks, start_ps=p.fit_start_ps, end_ps=p.fit_end_ps)
        return Found(densities, found, len(self.boxes))

    def at_constant_pressure(self, k: int) -> Atoms:
        """Relax and run one replica; returns its box at the end."""
        p, stage, box, seed = self.protocol, self.density_stages[k], self.boxes[k], self.seeds[k]
        target = p.density.temperature_K or self.temperature_K
        atoms = stage.relaxed(box, self.calculator, self.relaxation, target, seed)
        _, state = stage.run(atoms, box.names, self.calculator, p.density, self.temperature_K, seed)
        return state.put_on(box.atoms)

    def at_constant_volume(self, k: int, atoms: Atoms, density: float) -> Path:
        """Settle and run one replica at the mean density of all; returns its trajectory."""
        from mlff.system.box import at_density

        p, names, seed = self.protocol, self.boxes[k].names, self.seeds[k]
        settle, run = self._later(k, density)
        start = at_density(atoms, density)
        _, state = settle.run(start, names, self.calculator, p.settle, self.temperature_K, seed)
        path, _ = run.run(state.put_on(start), names, self.calculator, p.transport, self.temperature_K, seed + 1)
        return path

    def _later(self, k: int, density: float) -> tuple[Stretch, Stretch]:
        """Stages of a replica at constant volume: to settle, and to read from."""
        p = self.protocol
        settle = self._stage("settle", k, p.settle, density=density)
        return settle, self._stage("transport", k, p.transport, density=density, settle=asdict(p.settle))

    def _pays(self, n_steps: int) -> bool:
        """Whether replicas with so many steps left in all run side by side."""
        return pays(self.context, len(self.boxes), len(self.boxes[0].atoms), n_steps)

    def _given(self) -> tuple[Models, Sequence[Box], Relaxation]:
        return self.models, self.boxes, self.relaxation

    def store(self) -> None:
        """Keep every trajectory among the artifacts."""
        from mlff.dynamics.trajectory import topology

        (self.context.output_dir / "topology.pdb").write_text(
            topology(self.boxes[0].atoms, self.boxes[0].names), encoding="utf-8"
        )
        self.context.tracker.artifact(self.context.output_dir / "topology.pdb", "trajectory")
        for stage in (*self.density_stages, *self.later_stages):
            named = stage.folder / f"{stage.name.removeprefix('stage-')}.h5md"
            (stage.folder / "trajectory.h5md").rename(named)
            self.context.tracker.artifact(named, "trajectory")

    def clear(self) -> None:
        """Forget what was saved to go on from."""
        for stage in (*self.density_stages, *self.later_stages):
            stage.clear()


def _apart(models: Models, boxes: Sequence[Box], relaxation: Relaxation, context: Context) -> Simulation:
    """The same simulation in another process; what was not to be used the first one has cleared."""
    return Simulation(replace(context, resume=True), models, boxes, relaxation)


def _at_constant_pressure(
    models: Models, boxes: Sequence[Box], relaxation: Relaxation, k: int, context: Context
) -> Atoms:
    return _apart(models, boxes, relaxation, context).at_constant_pressure(k)


def _at_constant_volume(
    models: Models, boxes: Sequence[Box], relaxation: Relaxation, k: int, atoms: Atoms, density: float, context: Context
) -> Path:
    return _apart(models, boxes, relaxation, context).at_constant_volume(k, atoms, density)


def _seconds_per_step(atoms: Atoms, calculator: Any) -> float:
    """Median wall time of energy and force calls with lists kept, after two that compile and make them."""
    moved, seconds = atoms.copy(), []
    moved.calc = calculator
    for k in range(2 + TIMED_CALLS):
        began = time.perf_counter()
        moved.positions += 1e-3 * (-1) ** k
        moved.get_forces()
        seconds.append(time.perf_counter() - began)
    calculator.forget()
    return float(np.median(seconds[2:]))
