"""Our own speed: RUN of a 250-ms sample and INIT of 50,000 snippets, on every data set that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import cases, floor, table
from benchmarks.clock import Times, measure
from lsm import protocol
from lsm.parameters import LiquidParameters

Row = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is simulated.

    `samples` a repeat are scaled down above 1,000 neurons. INIT runs in full up to 1,000 neurons if `whole_init` is set,
    else over `burn_in` snippets, after which `repeats` times `timed_snippets` give the speed of the others.
    """

    sizes: tuple[int, ...] = (1000, 8000)
    samples: int = 64
    repeats: int = 5
    burn_in: int = 5000
    timed_snippets: int = 500
    whole_init: bool = True
    growth_burn_in: int = 1500
    growth_sizes: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000, 8000)
    growth_fan_in: tuple[float, ...] = (0.02, 0.05, 0.1, 0.15, 0.3, 0.6)
    growth_drive: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0)


QUICK = Effort((125,), 16, 2, 300, 50, False, 100, (64, 125, 250), (0.1, 0.3), (0.5, 1.0))
"""A few seconds on one core: for a look, and for the test that the benchmarks work."""


def speed_rows(root: Path, names: tuple[str, ...], effort: Effort, cost: floor.Cost) -> Iterator[Row]:
    """INIT, plastic and static RUN for each data set in `names` and each size; where it is missing a row that says so."""
    for name in names:
        try:
            data = cases.load(name, root)
        except (FileNotFoundError, ValueError) as error:
            yield table.missing(f"NALSM, {name}", str(error))
            continue
        for n in effort.sizes:
            in_full = effort.whole_init and n <= 1000
            case = cases.prepare(data, cases.nalsm(n), cases.INIT_SNIPPETS if in_full else effort.burn_in)
            yield from init_rows(case, effort)
            yield from run_rows(case, "NALSM", effort, cost)
            yield from run_rows(cases.prepare(data, cases.static(n), 0), "static LSM", effort, cost)


def init_rows(case: cases.Case, effort: Effort) -> Iterator[Row]:
    """INIT: the time of the snippets that were presented, and of the others by the speed after them."""
    whole, first, how = case.init, case.state.done, "all of them"
    if first < cases.INIT_SNIPPETS:
        one = measure(lambda: case.advance(effort.timed_snippets), effort.repeats, effort.timed_snippets)
        whole = Times(*(a + (cases.INIT_SNIPPETS - first) * b for a, b in zip(whole, one, strict=True)))
        how = f"first {first}, rest scaled from {effort.repeats} x {effort.timed_snippets}"
    yield table.row(
        f"{case.data.name}: INIT {cases.INIT_SNIPPETS} x 20 ms ({how})", case.size, threads=1, ratio=1.0,
        cpu_ms=whole.cpu_ms, wall_ms=whole.wall_ms,
    )  # fmt: skip


def run_rows(case: cases.Case, model: str, effort: Effort, cost: floor.Cost) -> Iterator[Row]:
    """RUN on one and on two threads, with the floor."""
    samples = sample_count(case.parameters, effort)
    inputs = case.data.test.take(slice(0, samples))

    def present(threads: int) -> protocol.Counts:
        return protocol.spike_counts(case.liquid, case.parameters, case.weights, inputs, 0, "test", threads=threads)

    counts = present(1)  # warms caches, and compiles in the first case
    below = floor.floor_of(counts.stats, case.parameters.learns_in_run, cost)
    rate_hz = 1e3 * float(counts.counts.mean()) / case.parameters.run_ms
    alone = 0.0
    for threads in (1, 2):
        times = measure(lambda: present(threads), effort.repeats, len(inputs))  # noqa: B023
        alone = alone or times.cpu_ms
        yield table.row(
            f"{case.data.name}: {model}, sample of {case.parameters.run_ms} ms, {rate_hz:.0f} Hz", case.size,
            threads=threads, cpu_ms=times.cpu_ms, wall_ms=times.wall_ms, ratio=times.cpu_ms / alone,
            operations=round(below.operations), bytes=round(below.bytes), floor_ms=below.ms,
        )  # fmt: skip


def sample_count(parameters: LiquidParameters, effort: Effort) -> int:
    """Fewer samples for large liquids, in whole tasks for two threads."""
    return max(16, int(effort.samples * min(1.0, 1000 / parameters.n_neurons)) // 16 * 16)


def warm_up(data: cases.Data) -> None:
    """Compile the kernel on a small case, so that no timed call does."""
    for parameters in (cases.nalsm(64), cases.static(64)):
        case = cases.prepare(data, parameters, 2)
        inputs = data.test.take(slice(0, 2))
        protocol.spike_counts(case.liquid, parameters, case.weights, inputs, 0, "test")
