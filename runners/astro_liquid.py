"""The neuron-astrocyte liquid and its baselines as a `runners.network.Network`: wiring, INIT and RUN, cached."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.check import UserError
from runners.checkpoint import Cache, CountStore, Throttle, cache_key, fingerprint, read_arrays, write_arrays
from runners.network import Clock, inputs_fingerprint, stored_counts, stored_raw_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from scipy import sparse

    from lsm.encode import Dataset, Inputs
    from lsm.liquid import Liquid
    from lsm.parameters import LiquidParameters
    from lsm.protocol import InitState, Recording
    from runners.context import Context

SILENT_HZ = 0.5
SATURATED_SHARE = 0.6  # of the rate that the refractory time allows
STEADY_MS = (25, 225)
"""Onset and end of a sample are left out, as for the published branching factor."""
BIN_MS = 10


@dataclass(frozen=True)
class AstroNetwork:
    """A wired liquid with the weights that INIT left; `init_s` is what INIT cost, whenever it was computed."""

    parameters: LiquidParameters
    liquid: Liquid
    weights: NDArray[np.float32]
    course: NDArray[np.float64]
    seed: int
    key: str
    init_s: float

    @property
    def n_neurons(self) -> int:
        """Liquid neurons."""
        return self.liquid.n

    @property
    def n_excitatory(self) -> int | None:
        """They come first."""
        return self.liquid.n_exc

    @property
    def n_in(self) -> int:
        """Input channels."""
        return self.liquid.n_in

    @property
    def window(self) -> float:
        """Counts cover so many ms."""
        return float(self.parameters.run_ms)

    @property
    def clock(self) -> Clock:
        """Steps of 1 ms."""
        return Clock(self.parameters.run_ms, 1.0, STEADY_MS, BIN_MS, self.parameters.run_ms)

    def counts(self, context: Context, part: str, inputs: Inputs, windows: int = 1) -> CountStore:
        """Spike counts of one part of the data in RUN, from the cache as far as it goes; `windows` as for `run_blocks`."""
        from lsm.kernel import STATS
        from lsm.protocol import run_blocks

        p = self.parameters
        run = {k: v for k, v in dataclasses.asdict(p).items() if k.startswith("run_")}
        about: dict[str, Any] = {"init": self.key, "weights": fingerprint(self.weights), "run": run, "part": part}
        about |= {"inputs": inputs_fingerprint(inputs), "seed": self.seed}
        about |= {"windows": windows} if windows > 1 else {}

        def blocks(start: int) -> Iterator[tuple[slice, Any]]:
            return run_blocks(
                self.liquid, p, self.weights, inputs, self.seed, part, threads=context.threads, start=start,
                windows=windows,
            )  # fmt: skip

        shape = (len(inputs), windows * p.n_neurons)
        key = cache_key("counts", about)
        # Traces that pass between batches are not kept: then a cut-off RUN begins again.
        return stored_counts(context, key, about, part, shape, len(STATS), blocks, in_one_go=p.run_carries_traces)

    def present(self, inputs: Inputs, part: str, threads: int, progress: Callable[[int], object]) -> NDArray[np.uint16]:
        """Spike counts without any cache."""
        from lsm.protocol import spike_counts

        return spike_counts(
            self.liquid, self.parameters, self.weights, inputs, self.seed, part, threads=threads, progress=progress
        ).counts

    def activity(self, store: CountStore) -> dict[str, float]:
        """What the liquid did per sample in one part: rates, spikes, operations, astrocyte, silent samples."""
        from lsm.kernel import STATS

        p = self.parameters
        mean = dict(zip(STATS, np.asarray(store.stats).mean(axis=0), strict=True))
        seconds = p.run_ms / 1000
        liquid_spikes = np.asarray(store.stats)[:, STATS.index("liquid_spikes")]
        values = {
            "liquid/rate_hz": float(mean["liquid_spikes"] / seconds / p.n_neurons),
            "liquid/spikes_per_sample": float(mean["liquid_spikes"]),
            "liquid/input_spikes_per_sample": float(mean["input_spikes"]),
            "liquid/synaptic_operations_per_sample": float(mean["propagations"]),
            "liquid/plastic_updates_per_sample": float(mean["plastic_updates"]),
            "liquid/silent_samples": float(np.sum(liquid_spikes == 0)),
        }
        if p.senses_in_run:
            values["liquid/astrocyte_end"] = float(mean["astrocyte_end"])
            values["liquid/astrocyte_negative_ms"] = float(mean["astrocyte_negative_steps"])
        return values

    def complaints(self, values: Mapping[str, float]) -> Iterator[str]:
        """Whether the liquid is silent or saturated, and what to change."""
        rate, ceiling = values["liquid/rate_hz"], 1000 / (self.parameters.t_ref_ms + 1)
        if rate > SATURATED_SHARE * ceiling:
            yield (
                f"the liquid is saturated: {rate:.0f} Hz of at most {ceiling:.0f} Hz; "
                "lower model.w_start or model.w_max, or raise model.w_astro"
            )
        elif rate < SILENT_HZ:
            yield f"the liquid is silent: {rate:.2g} Hz; raise model.w_start, model.w_max or model.input_density"

    def record(self, inputs: Inputs, part: str, sample: int) -> Recording:
        """One sample once more: the spikes that were counted."""
        from lsm.protocol import record

        return record(self.liquid, self.parameters, self.weights, inputs, self.seed, part, sample)

    def connections(self) -> sparse.csr_matrix:
        """Liquid-to-liquid connections as a `(n, n)` 0/1 matrix, rows sending, columns receiving."""
        from lsm.criticality import adjacency

        return adjacency(self.liquid)

    def measure(self, context: Context, dataset: Dataset, stores: Mapping[str, CountStore]) -> dict[str, float]:
        """Nothing beyond the activity."""
        return {}

    def figures(self, recording: Recording, title: str) -> dict[str, Figure]:
        """Raster of a sample, weights before and after INIT, course of INIT."""
        from lsm.protocol import COURSE
        from runners.plots import networks as plots

        astrocyte, eta = (recording.astrocyte, recording.eta) if self.parameters.senses_in_run else (None, None)
        figures = {
            "raster": plots.spike_raster(
                recording.spikes, recording.inputs, self.liquid.n_exc, astrocyte, eta, title=title
            )
        }
        part = self.liquid.classes()
        weights = [{name: w[where] for name, where in part.items()} for w in (self.liquid.w_start, self.weights)]
        figures["weights"] = plots.weight_histograms(*weights)
        if len(self.course):
            figures["init"] = plots.init_course(dict(zip(COURSE, self.course.T, strict=True)))
        return figures

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Wiring and weights."""
        liquid = self.liquid
        return {
            "pre": liquid.pre.astype(np.uint32),
            "post": liquid.col,
            "w_start": liquid.w_start,
            "w_init": self.weights,
            "sensed": liquid.sensed,
            "positions": liquid.positions,
            "n_excitatory": np.asarray(liquid.n_exc),
            "n_inputs": np.asarray(liquid.n_in),
        }


def restored(
    parameters: LiquidParameters, arrays: Mapping[str, NDArray[Any]], seed: int, encoding: Mapping[str, Any]
) -> AstroNetwork:
    """The network whose `arrays()` these are; raises `ValueError` if they are of another size."""
    from lsm.liquid import assemble

    n, synapses = parameters.n_neurons, arrays["pre"].shape
    if len(arrays["positions"]) != n:
        raise ValueError(f"n_neurons={n}, and its arrays are of {len(arrays['positions'])} neurons")
    if any(arrays[name].shape != synapses for name in ("post", "w_start", "w_init")):
        raise ValueError("its arrays of synapses differ in length")
    liquid = assemble(
        parameters.n_neurons, int(arrays["n_excitatory"]), int(arrays["n_inputs"]), arrays["positions"],
        arrays["pre"].astype(np.int64), arrays["post"].astype(np.int64), arrays["w_start"], arrays["sensed"],
    )  # fmt: skip
    return AstroNetwork(parameters, liquid, arrays["w_init"], np.zeros((0, 7)), seed, "saved", 0.0)


def check_fit(parameters: LiquidParameters, dataset: Dataset) -> None:
    """Raise `UserError` where recordings are shorter than what the model presents."""
    from lsm.encode import Events

    inputs, longest = dataset.train.inputs, max(parameters.run_ms, parameters.init_ms)
    if isinstance(inputs, Events) and longest > inputs.n_steps:
        raise UserError(
            f"data.n_steps={inputs.n_steps}: recordings are cut at this ms, the model presents {longest} ms"
        )


def window_of(parameters: LiquidParameters, _: Dataset) -> float:
    """Counts cover so many ms."""
    return float(parameters.run_ms)


def raw_counts(
    context: Context, parameters: LiquidParameters, dataset: Dataset, part: str, inputs: Inputs, seed: int
) -> NDArray[np.uint16]:
    """Events per input channel over the time of RUN: what a readout without any liquid would see."""
    from lsm.protocol import input_counts

    run_ms = parameters.run_ms
    about = {"inputs": inputs_fingerprint(inputs), "run_ms": run_ms, "part": part, "seed": seed}
    shape = (len(inputs), inputs.n_in)
    key = cache_key("raw", about)
    return stored_raw_counts(context, key, about, part, shape, lambda: input_counts(inputs, run_ms, seed, part))


def trained(context: Context, parameters: LiquidParameters, dataset: Dataset, seed: int) -> AstroNetwork:
    """Wire the liquid and run INIT on the training inputs, from the cache as far as it goes."""
    from lsm.liquid import build_liquid
    from lsm.protocol import InitState
    from lsm.streams import stream

    with context.phase("wiring"):
        liquid = build_liquid(parameters, dataset.n_in, stream(seed, "wiring"))
    until_init = {k: v for k, v in dataclasses.asdict(parameters).items() if not k.startswith("run_")}
    train = inputs_fingerprint(dataset.train.inputs) if parameters.learns_in_init else ""
    about = {"parameters": until_init, "data": dataset.name, "n_in": dataset.n_in, "inputs": train, "seed": seed}
    key = cache_key("init", about)
    if not parameters.learns_in_init:
        fresh = InitState.fresh(liquid)
        return AstroNetwork(parameters, liquid, fresh.weights, np.zeros((0, 7)), seed, key, 0.0)
    cache = Cache(context.home, key, about)
    with cache.alone(context.progress.say):
        state, seconds = _initialise(context, parameters, dataset, liquid, seed, cache)
    return AstroNetwork(parameters, liquid, state.weights, np.array(state.course), seed, key, seconds)


def _initialise(
    context: Context, parameters: LiquidParameters, dataset: Dataset, liquid: Liquid, seed: int, cache: Cache
) -> tuple[InitState, float]:
    from lsm.protocol import COURSE, InitState, initialise

    path, throttle = cache.folder / "init.npz", Throttle()
    saved = read_arrays(path) if context.resume else None
    if path.exists() and saved is None and context.resume:
        context.progress.warn(f"{path} is damaged; INIT starts again")
    state, before = InitState.fresh(liquid), 0.0
    if saved is not None:
        state = InitState(
            saved["weights"], saved["trace"], saved["calcium"], int(saved["done"]), saved["course"].tolist()
        )
        before = float(saved["seconds"])
    started, logged = time.perf_counter(), 0

    def spent() -> float:
        return before + time.perf_counter() - started

    def log(state: InitState) -> None:
        nonlocal logged
        for row in state.course[logged:]:
            values = dict(zip(COURSE, row, strict=True))
            step = int(values.pop("snippets"))
            context.tracker.metrics({f"init/{name}": value for name, value in values.items()}, step=step)
        logged = len(state.course)

    def save(state: InitState) -> None:
        log(state)
        if throttle.ready() or state.done >= parameters.init_snippets:
            context.tracker.flush()
            arrays = {"weights": state.weights, "trace": state.trace, "calcium": state.calcium}
            numbers = {"done": state.done, "course": state.course, "seconds": spent()}
            write_arrays(path, arrays | {name: np.asarray(value) for name, value in numbers.items()})

    log(state)
    computed = state.done < parameters.init_snippets
    with context.phase("INIT", total=parameters.init_snippets, unit="snippets") as advance:
        advance(state.done)
        state = initialise(liquid, parameters, dataset.train.inputs, seed, state, progress=advance, save=save)
    return state, spent() if computed else before
