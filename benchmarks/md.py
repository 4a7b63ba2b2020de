"""Molecular dynamics on a CPU: ns/day of a packed electrolyte by size and threads, and what is not the engine.

`python -m benchmarks --only md`. One step is the integrator, the engine, and all that is recorded: thermodynamics and
pressure of every step, frames, limits. The smallest box is also timed in two processes at once, as `runner=align`, `loop`
and `properties` run theirs. On a machine with other work only CPU times count: ns/day follows wall time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

from ase import Atoms

from benchmarks import boxes, table
from mlff.calculator import MLFFCalculator
from mlff.dynamics.integrators import Ensemble
from mlff.dynamics.relaxation import Relaxation, relax
from mlff.dynamics.simulation import Dynamics, Step, simulate
from mlff.dynamics.trajectory import Recorder
from mlff.engine import Engine, Result
from mlff.frames import Configuration
from mlff.system.liquid import System, pack

ENSEMBLES: tuple[Ensemble, ...] = ("npt", "nvt", "nve")


@dataclass(frozen=True)
class Effort:
    """Sizes of boxes, threads, and time steps of 1 fs that are timed for 1,000 atoms (fewer in larger boxes)."""

    sizes: tuple[int, ...] = (200, 500, 1000, 4000, 10000)
    threads: tuple[int, ...] = (1, 2)
    steps: int = 200


BESIDE_S = 600.0
"""How long one of two processes is waited for: longer than it takes to compile for a new machine."""
QUICK = Effort(sizes=(250,), threads=(1,), steps=10)


@dataclass
class Spent:
    """CPU and wall seconds inside the engine."""

    cpu: float = 0.0
    wall: float = 0.0


def md_rows(effort: Effort) -> Iterator[dict[str, Any]]:
    """A row for each size, ensemble and number of threads; the time unit is one step of 1 fs."""
    model, weights = boxes.model()
    for size in effort.sizes:
        box = pack(electrolyte(size), seed=0)
        ready = None
        for threads in effort.threads:
            spent = Spent()
            calculator = MLFFCalculator(model, fast=True, threads=threads)
            for engine in calculator.engines:
                _clocked(engine, spent)
            if ready is None:
                short = Relaxation(steps=50, soft_start_ps=0.01, limit_eV_A=1000.0)
                ready = relax(box.atoms, calculator, short, temperature_K=300.0, seed=0)
            n_steps = max(5, effort.steps * 1000 // max(size, 1000))
            for ensemble in ENSEMBLES if size == effort.sizes[0] else ENSEMBLES[:1]:
                yield _row(ready, box.names, calculator, spent, ensemble, n_steps, weights, threads)
        if size == effort.sizes[0]:
            assert ready is not None
            yield _beside(ready, box.names, n_steps)


def _beside(atoms: Atoms, names: tuple[str, ...], n_steps: int) -> dict[str, Any]:
    """Two boxes at once, each in a process of one thread; times of the slower one."""
    spawn = get_context("spawn")
    start, found = spawn.Barrier(2, timeout=BESIDE_S), spawn.Queue()
    processes = [
        spawn.Process(target=_one_beside, args=(atoms, names, n_steps, start, found), daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    rows = [found.get(timeout=BESIDE_S) for _ in processes]
    for process in processes:
        process.join()
    return max(rows, key=lambda row: float(row["wall_ms"]))


def _one_beside(
    atoms: Atoms, names: tuple[str, ...], n_steps: int, start: Barrier, found: Queue[dict[str, Any]]
) -> None:
    """One of them: compiled and warm before both begin."""
    model, weights = boxes.model()
    calculator, spent = MLFFCalculator(model, fast=True, threads=1), Spent()
    for engine in calculator.engines:
        _clocked(engine, spent)
    _row(atoms, names, calculator, spent, "npt", 5, weights, 1)
    start.wait()
    row = _row(atoms, names, calculator, spent, "npt", n_steps, weights, 1)
    found.put(row | {"size": f"2 x {row['size']} side by side"})


def electrolyte(n_atoms: int) -> System:
    """The example electrolyte of the published force field."""
    return System(
        name="benchmark",
        solvents=["DMC", "EC"],
        solvent_amounts=[51.0, 49.0],
        salts=["LiPF6"],
        salt_amounts=[0.43],
        n_atoms=n_atoms,
        density_g_cm3=1.15,
    )


def _row(
    atoms: Atoms,
    names: tuple[str, ...],
    calculator: MLFFCalculator,
    spent: Spent,
    ensemble: Ensemble,
    n_steps: int,
    weights: str,
    threads: int,
) -> dict[str, Any]:
    """Time one run with everything that a run does: thermodynamics and pressure of every step, frames, limits."""
    d = Dynamics(
        ensemble=ensemble,
        length_ps=n_steps / 1000,
        frame_every_fs=100.0,
        max_temperature_K=1e5,
        max_force_eV_A=1e5,
    )
    recorder = Recorder(atoms, names)
    start: dict[str, float] = {}

    def on_step(step: Step) -> None:
        recorder.on_step(step)
        if step.step == 0:  # forces at the start and lists are made
            spent.cpu = spent.wall = 0.0
            start.update(cpu=time.process_time(), wall=time.perf_counter())

    simulate(atoms, calculator, d, seed=0, temperature_K=300.0, on_step=on_step, on_frame=recorder.on_frame)
    cpu, wall = time.process_time() - start["cpu"], time.perf_counter() - start["wall"]
    day = n_steps * 1e-6 * 86400
    alone = f", {day / cpu:.2f} with a core of its own" if threads == 1 else ""
    what = (
        f"MD step, {ensemble}, {weights}: {day / wall:.2f} ns/day{alone}; "
        f"engine {100 * spent.cpu / cpu:.1f} % of CPU time, {100 * spent.wall / wall:.1f} % of wall time"
    )
    times = {"cpu_ms": 1000 * cpu / n_steps, "wall_ms": 1000 * wall / n_steps}
    return table.row(what, f"{len(atoms)} atoms", threads=threads, **times)


def _clocked(engine: Engine, spent: Spent) -> None:
    """Let an engine add up the time of its calls."""
    plain = engine.evaluate

    def evaluate(c: Configuration) -> Result:
        cpu, wall = time.process_time(), time.perf_counter()
        found = plain(c)
        spent.cpu += time.process_time() - cpu
        spent.wall += time.perf_counter() - wall
        return found

    engine.evaluate = evaluate  # type: ignore[method-assign]
