"""The two phases of a neuron-astrocyte liquid: INIT organises the weights, RUN turns samples into spike counts.

INIT is sequential by nature: each snippet starts from the weights that the one before left. RUN presents every sample to
a private copy of the weights of INIT, so samples are independent and spread over threads; random numbers depend on seed,
part of the data and sample index alone, so neither the order of the samples nor the number of threads changes a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from lsm import kernel
from lsm.encode import Events, Inputs, Rates
from lsm.liquid import Liquid
from lsm.parameters import LiquidParameters
from lsm.streams import generator, key

Progress = Callable[[int], object]
_SNIPPETS_AT_ONCE = 250  # between two looks at the clock: a twentieth of a second at n = 1,000
_SAMPLES_AT_ONCE = 8  # one task of the thread pool


@dataclass
class InitState:
    """INIT after `done` snippets: all that the next snippet depends on, and the course so far.

    `weights` `(n_syn,)`, `trace` `(n + n_in,)`, `calcium` `(n,)`; `course` has one row for each look at the network:
    snippets done, mean excitatory weight, mean inhibitory weight, mean magnitude of input weights, astrocyte level,
    liquid spikes per ms, input spikes per ms (the last three are means since the row before).
    """

    weights: NDArray[np.float32]
    trace: NDArray[np.float32]
    calcium: NDArray[np.float32]
    done: int = 0
    course: list[list[float]] = field(default_factory=list)

    @staticmethod
    def fresh(liquid: Liquid) -> InitState:
        """The network before its first snippet."""
        n_all = liquid.n + liquid.n_in
        return InitState(liquid.w_start.copy(), np.zeros(n_all, np.float32), np.zeros(liquid.n, np.float32))


COURSE = ("snippets", "w_excitatory", "w_inhibitory", "w_input_abs", "astrocyte", "liquid_per_ms", "input_per_ms")
"""Columns of `InitState.course`."""


@dataclass(frozen=True)
class Recording:
    """One presentation, step by step: `spikes` `(T, n)`, `inputs` `(T, n_in)` uint8; `astrocyte`, `eta` `(T,)`."""

    spikes: NDArray[np.uint8]
    inputs: NDArray[np.uint8]
    astrocyte: NDArray[np.float64]
    eta: NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """RUN of consecutive samples: spike `counts` `(m, n)` uint16 and `stats` `(m, len(kernel.STATS))`."""

    counts: NDArray[np.uint16]
    stats: NDArray[np.float64]


def drive_of(inputs: Inputs) -> kernel.Drive:
    """The kernel's view of encoded inputs."""
    no_pixels, no_scale = np.zeros((0, 0), np.uint8), np.zeros(0, np.float32)
    no_events, no_offsets = np.zeros(0, np.uint32), np.zeros(0, np.int64)
    if isinstance(inputs, Events):
        packed = np.require(inputs.packed, np.uint32, ["C", "W"])
        return kernel.Drive(True, no_pixels, no_scale, packed, np.require(inputs.offsets, np.int64, ["C", "W"]))
    pixels = np.require(inputs.pixels, np.uint8, ["C", "W"])
    return kernel.Drive(False, pixels, np.require(inputs.scale, np.float32, ["C", "W"]), no_events, no_offsets)


def init_schedule(
    n_samples: int, inputs: Inputs, parameters: LiquidParameters, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which training sample each snippet of INIT shows, and from which ms bin on; two arrays `(init_snippets,)`.

    Seeded permutations of the training set, one after another. Images start at 0 (their noise is fresh anyway); events
    at a uniform bin in 1 .. n_steps - init_ms - 2, which is 1 .. 278 for 20 ms out of 300 as in the published code.
    """
    rng = generator(seed, "init order")
    rounds = -(-parameters.init_snippets // n_samples)
    order = np.concatenate([rng.permutation(n_samples) for _ in range(rounds)] or [np.zeros(0, np.int64)])
    samples = order[: parameters.init_snippets].astype(np.int64)
    if isinstance(inputs, Rates):
        return samples, np.zeros_like(samples)
    last = max(1, inputs.n_steps - parameters.init_ms - 2)
    return samples, generator(seed, "init windows").integers(1, last + 1, len(samples))


def initialise(
    liquid: Liquid,
    parameters: LiquidParameters,
    inputs: Inputs,
    seed: int,
    state: InitState | None = None,
    progress: Progress | None = None,
    save: Callable[[InitState], object] | None = None,
) -> InitState:
    """Run INIT on the training `inputs`, from the beginning or from `state`; returns the state after the last snippet.

    `progress(done)` and `save(state)` are called between blocks of snippets; `save` decides itself how often to write.
    An interrupted INIT that continues from a saved state ends with the same weights, bit for bit.
    """
    state = state or InitState.fresh(liquid)
    net, constants = kernel.net_of(liquid), kernel.constants_of(parameters)
    drive, silent = drive_of(inputs), kernel.recorder(net)
    samples, first_steps = init_schedule(len(inputs), inputs, parameters, seed)
    while parameters.learns_in_init and state.done < len(samples):
        block = slice(state.done, min(state.done + _SNIPPETS_AT_ONCE, len(samples)))
        stats = np.zeros((block.stop - block.start, len(kernel.STATS)))
        kernel.init_block(
            net, constants, kernel.mode_of(parameters), parameters.init_ms, drive, key(seed, "init noise"),
            samples[block], first_steps[block], np.arange(block.start, block.stop), state.weights, state.trace,
            state.calcium, parameters.init_carries_traces, silent, stats,
        )  # fmt: skip
        state.done = block.stop
        state.course.append(_course_row(liquid, parameters, state, stats))
        if progress:
            progress(state.done)
        if save:
            save(state)
    return state


def _course_row(
    liquid: Liquid, parameters: LiquidParameters, state: InitState, stats: NDArray[np.float64]
) -> list[float]:
    weights = mean_weights(liquid, state.weights)
    column = dict(zip(kernel.STATS, stats.mean(axis=0), strict=True))
    per_ms = [column[name] / parameters.init_ms for name in ("liquid_spikes", "input_spikes")]
    return [float(state.done), *weights.values(), float(column["astrocyte_end"]), *map(float, per_ms)]


def mean_weights(liquid: Liquid, weights: NDArray[np.float32]) -> dict[str, float]:
    """Mean weight of excitatory and inhibitory synapses and mean magnitude of input synapses (0 where there are none)."""
    part = {name: weights[where] for name, where in liquid.classes().items()}
    part["input"] = np.abs(part["input"])
    return {name: float(w.mean()) if len(w) else 0.0 for name, w in part.items()}


def run_blocks(
    liquid: Liquid,
    parameters: LiquidParameters,
    weights: NDArray[np.float32],
    inputs: Inputs,
    seed: int,
    part: str,
    *,
    threads: int = 1,
    start: int = 0,
    block: int = 500,
    carried: NDArray[np.float32] | None = None,
    windows: int = 1,
) -> Iterator[tuple[slice, Counts]]:
    """RUN: yield the spike counts of `inputs` block by block, from sample `start` on.

    `part` ("train", "valid", "test" ...) names the random streams. With `parameters.run_carries_traces` (defect B2 of the
    original) a block is one batch, and `carried` `(run_batch, n + n_in)` holds the traces of its slots, changed in place;
    only a start at the first sample, or `carried` as the block before left it, gives the original's order.
    `windows` above 1 counts equal parts of the sample apart: `(m, windows * n)` counts, the first part first.
    """
    carry = parameters.run_carries_traces
    if carry:
        block = parameters.run_batch
        if carried is None:
            carried = np.zeros((block, liquid.n + liquid.n_in), np.float32)
    net, constants, drive = kernel.net_of(liquid), kernel.constants_of(parameters), drive_of(inputs)
    mode = kernel.mode_of(parameters) if parameters.learns_in_run else 0
    noise, silent = key(seed, f"{part} noise"), kernel.recorder(net)
    w_init = np.require(weights, np.float32, ["C", "W"])
    threads = max(1, min(threads, -(-min(block, len(inputs) - start) // _SAMPLES_AT_ONCE)))  # no more than have work
    private: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
    for _ in range(threads):
        private.put(w_init.copy() if mode else w_init)

    def present(chunk: slice, first: int, out: Counts) -> None:
        w = private.get()
        rows = slice(chunk.start - first, chunk.stop - first)
        samples = np.arange(chunk.start, chunk.stop)
        traces = carried[rows] if carry and carried is not None else np.zeros((0, 0), np.float32)
        kernel.run_block(
            net, constants, mode, parameters.run_decay, parameters.run_ms, drive, noise, samples, samples, w_init, w,
            traces, carry, silent, out.counts[rows], out.stats[rows],
        )  # fmt: skip
        private.put(w)

    with ThreadPoolExecutor(threads) as pool:
        for first in range(start, len(inputs), block):
            stop = min(first + block, len(inputs))
            out = Counts(
                np.zeros((stop - first, windows * liquid.n), np.uint16),
                np.zeros((stop - first, len(kernel.STATS)), np.float64),
            )
            chunks = [slice(a, min(a + _SAMPLES_AT_ONCE, stop)) for a in range(first, stop, _SAMPLES_AT_ONCE)]
            for task in [pool.submit(present, chunk, first, out) for chunk in chunks]:
                task.result()
            yield slice(first, stop), out


def spike_counts(
    liquid: Liquid,
    parameters: LiquidParameters,
    weights: NDArray[np.float32],
    inputs: Inputs,
    seed: int,
    part: str,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Counts:
    """RUN of all `inputs` at once; see `run_blocks`."""
    blocks = []
    for done, out in run_blocks(liquid, parameters, weights, inputs, seed, part, threads=threads):
        blocks.append(out)
        if progress:
            progress(done.stop)
    return Counts(np.concatenate([b.counts for b in blocks]), np.concatenate([b.stats for b in blocks]))


def record(
    liquid: Liquid,
    parameters: LiquidParameters,
    weights: NDArray[np.float32],
    inputs: Inputs,
    seed: int,
    part: str,
    sample: int,
) -> Recording:
    """Present one sample of RUN once more and write down every spike: the same spikes as `run_blocks` counted.

    With `parameters.run_carries_traces` the samples before it in its batch slot are presented first, for their traces.
    """
    net, constants, drive = kernel.net_of(liquid), kernel.constants_of(parameters), drive_of(inputs)
    mode = kernel.mode_of(parameters) if parameters.learns_in_run else 0
    noise, carry = key(seed, f"{part} noise"), parameters.run_carries_traces
    w_init = np.require(weights, np.float32, ["C", "W"])
    w, traces = w_init.copy(), np.zeros((1, liquid.n + liquid.n_in), np.float32)
    counts, stats = np.zeros((1, liquid.n), np.uint16), np.zeros((1, len(kernel.STATS)))

    def present(shown: int, rec: kernel.Recorder) -> None:
        at = np.array([shown])
        kernel.run_block(
            net, constants, mode, parameters.run_decay, parameters.run_ms, drive, noise, at, at, w_init, w, traces, carry,
            rec, counts, stats,
        )  # fmt: skip

    silent, rec = kernel.recorder(net), kernel.recorder(net, parameters.run_ms)
    for earlier in range(sample % parameters.run_batch, sample, parameters.run_batch) if carry else ():
        present(earlier, silent)
    present(sample, rec)
    return Recording(rec.spikes, rec.inputs, rec.scalars[:, 0], rec.scalars[:, 4])


def input_counts(inputs: Inputs, run_ms: int, seed: int, part: str, block: int = 1000) -> Iterator[NDArray[np.uint16]]:
    """Events per input channel during `run_ms`, `block` samples at a time: those that RUN of the same part presents."""
    drive, noise = drive_of(inputs), key(seed, f"{part} noise")
    for first in range(0, len(inputs), block):
        samples = np.arange(first, min(first + block, len(inputs)))
        counts = np.zeros((len(samples), inputs.n_in), np.uint16)
        kernel.count_events(drive, run_ms, noise, samples, counts)
        yield counts
