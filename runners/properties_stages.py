"""The stages behind `runner=properties`: what is simulated for each replica, what it costs, and what is read afterwards.

A stage of a replica is a `Stretch`, named by what its result depends on: a killed run goes on inside the stage that it
was in, and a run with longer transport finds the densities of the shorter one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.check import UserError
from runners.progress import format_seconds
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


def replica_seeds(seed: int, n: int) -> list[int]:
    """A seed for each replica; the first replicas of a larger number are those of a smaller one."""
    return [int(np.random.SeedSequence([seed, k]).generate_state(1)[0]) for k in range(n)]


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
        self.context, self.boxes, self.relaxation = context, boxes, relaxation
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
        with self.context.phase("timing"):
            seconds = _seconds_per_step(atoms, self.calculator)
        stages = [p.density, *([p.settle, p.transport] if p.transport else [])]
        soft = self.relaxation.steps + 1000 * self.relaxation.soft_start_ps / self.relaxation.time_step_fs
        steps = len(self.boxes) * (soft + sum(d.n_steps for d in stages))
        simulated = len(self.boxes) * sum(d.length_ps for d in stages)
        say(
            f"{self.boxes[0].composition}: {len(atoms)} atoms, {len(self.boxes)} replicas; {simulated:g} ps in all, "
            f"{1000 * seconds:.1f} ms a step: about {format_seconds(steps * seconds)}, less what is there already"
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

        p, ended = self.protocol, []
        for stage, box, seed in zip(self.density_stages, self.boxes, self.seeds, strict=True):
            target = p.density.temperature_K or self.temperature_K
            atoms = stage.relaxed(box, self.calculator, self.relaxation, target, seed)
            _, state = stage.run(atoms, box.names, self.calculator, p.density, self.temperature_K, seed)
            ended.append(state.put_on(box.atoms))
        densities = density([read_thermo(s.folder / "trajectory.h5md") for s in self.density_stages])
        self.context.progress.say(f"density: {densities.mean.estimate} g/cm3")
        if p.transport is None:
            return Found(densities, None, len(self.boxes))
        paths = [self._at_constant_volume(k, a, densities.mean.estimate.value) for k, a in enumerate(ended)]
        with self.context.phase("analysis"):
            runs = [(read_trajectory(path), read_thermo(path)) for path in paths]
            found = transport(runs, n_blocks=p.blocks, start_ps=p.fit_start_ps, end_ps=p.fit_end_ps)
        return Found(densities, found, len(self.boxes))

    def _at_constant_volume(self, k: int, atoms: Atoms, density: float) -> Path:
        """Settle and run one replica at the mean density of all; returns its trajectory."""
        from mlff.system.box import at_density

        p, names, seed = self.protocol, self.boxes[k].names, self.seeds[k]
        settle = self._stage("settle", k, p.settle, density=density)
        run = self._stage("transport", k, p.transport, density=density, settle=asdict(p.settle))
        self.later_stages += [settle, run]
        start = at_density(atoms, density)
        _, state = settle.run(start, names, self.calculator, p.settle, self.temperature_K, seed)
        path, _ = run.run(state.put_on(start), names, self.calculator, p.transport, self.temperature_K, seed + 1)
        return path

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
