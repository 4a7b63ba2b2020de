"""The force field on a CPU: the engine beside the torch model it stands for, its lists, its memory and a floor.

CPU times of one thread and ratios within one run count: a second job on the machine spoils wall times.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import boxes, table
from benchmarks.clock import Times, measure
from mlff.engine import Engine
from mlff.frames import Configuration
from mlff.model import ForceField

DENSE = 2 * 2 * (3 * 64 * 192 + 64 * (64 + 192 + 128) + 3 * 64 * (192 + 128) + 2 * (64 * 32 + 32 * 32 + 32))
"""Operations of an atom's dense layers, forward and backward (by the inputs alone); messages come on top."""


@dataclass(frozen=True)
class Effort:
    """Boxes, repeats, and up to which box the torch model is timed."""

    sizes: tuple[int, ...] = (500, 1000, 4116, 10000)
    repeats: int = 15
    eager_up_to: int = 4116
    eager_repeats: int = 3


QUICK = Effort(sizes=(60,), repeats=2, eager_repeats=1)


def engine_rows(effort: Effort) -> Iterator[dict[str, Any]]:
    """Every box: the engine without and with the long-range sum, lists, the torch model, memory."""
    model, weights = boxes.model()
    bare = model.changed(long_range="none")
    forms = {
        "real space": bare,
        "whole sum, as published": model.changed(long_range="mesh"),
        "whole sum, conservative": model.changed(long_range="mesh", forces="conservative"),
    }
    for n in effort.sizes:
        c, what = boxes.box(n)
        size, floor = f"{n} atoms, {what}", gemm_ms(n)
        one = 0.0
        for name, form in forms.items():
            for threads in (1, 2):
                times = engine_times(form, c, threads, effort.repeats)
                shown = {"floor_ms": floor, "operations": DENSE * n} if threads == 1 and form is bare else {}
                one = times.cpu_ms if form is bare and threads == 1 else one
                ratio = {"ratio": 1.0} if form is bare and threads == 1 else {}
                yield table.row(
                    f"energy, forces, virial: {name}; {weights}",
                    size,
                    threads=threads,
                    **times._asdict(),
                    **shown,
                    **ratio,
                )
        for threads in (1, 2):
            yield table.row("neighbour lists", size, threads=threads, **list_times(bare, c, threads, effort)._asdict())
        if n <= effort.eager_up_to:
            yield eager_row(bare, c, size, effort, one)
    yield memory_row(effort.sizes[-2 if len(effort.sizes) > 1 else 0])


def engine_times(model: ForceField, c: Configuration, threads: int, repeats: int) -> Times:
    """One call while the lists last."""
    engine = Engine(model, threads=threads, skin_A=1.0)
    steps = _walk(c)
    for _ in range(2):
        engine.evaluate(steps())
    return measure(lambda: engine.evaluate(steps()), repeats)


def list_times(model: ForceField, c: Configuration, threads: int, effort: Effort) -> Times:
    """Lists made again."""
    engine = Engine(model, threads=threads)
    engine.evaluate(c)

    def again() -> None:
        engine.lists.forget()
        engine.lists.update(c.positions, c.cell, c.pbc)

    again()
    return measure(again, effort.repeats)


def eager_row(model: ForceField, c: Configuration, size: str, effort: Effort, one: float) -> dict[str, Any]:
    """The torch model on one thread, lists excluded, and how far the engine is from it in float64."""
    batch, before = model.batch(c), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model.predict(batch)
        times = measure(lambda: model.predict(batch), effort.eager_repeats)
        exact = model.double().predict(batch).forces.numpy()
    finally:
        model.float()
        torch.set_num_threads(before)
    off = np.abs(Engine(model, threads=1).evaluate(c).forces - exact).max()
    what = f"energy, forces, virial: real space; engine's forces within {off:.1e} kcal/mol/Å of this model in float64"
    row = table.row(what, size, threads=1, **times._asdict(), ratio=times.cpu_ms / one)
    return row | {"peer": f"torch {torch.__version__}, eager", "versions": f"torch {torch.__version__}"}


def memory_row(n_atoms: int) -> dict[str, Any]:
    """Peak memory of a process of its own that loads the model and evaluates the box."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", str(n_atoms)], capture_output=True, text=True, check=True
    )
    return table.row(
        "peak memory of a process with the engine, packages included",
        f"{n_atoms} atoms",
        threads=2,
        bytes=int(done.stdout),
    )


def gemm_ms(n_atoms: int) -> float:
    """CPU time of float32 matrix products with the operations of the dense layers alone, one thread."""
    before, rows = torch.get_num_threads(), 768
    a, b = torch.rand(rows, 768), torch.rand(768, 768)
    torch.set_num_threads(1)
    try:
        times = measure(lambda: a @ b, 30)
    finally:
        torch.set_num_threads(before)
    return times.cpu_ms * DENSE * n_atoms / (2 * rows * 768 * 768)


def _walk(c: Configuration) -> Callable[[], Configuration]:
    """Configurations that differ a little, so that nothing is known from before."""
    rng = np.random.default_rng(0)
    return lambda: replace(c, positions=c.positions + rng.normal(0, 0.01, c.positions.shape))


def _peak(n_atoms: int) -> int:
    """Bytes that this process held at most after one evaluation."""
    model, _ = boxes.model()
    Engine(model, threads=2).evaluate(boxes.box(n_atoms)[0])
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux is never less than the process that started this one holds
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


if __name__ == "__main__":
    print(_peak(int(sys.argv[1])))
