"""From a dataset to spike counts: wiring, INIT and RUN, cached and resumable; shared by all runners of liquids."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.check import UserError
from runners.checkpoint import Cache, CountStore, Throttle, cache_key, fingerprint, read_arrays, write_arrays

if TYPE_CHECKING:
    from lsm.encode import Dataset, Inputs, Split
    from lsm.liquid import Liquid
    from lsm.parameters import LiquidParameters
    from lsm.protocol import InitState, Recording
    from runners.context import Context

SILENT_HZ = 0.5
SATURATED_SHARE = 0.6  # of the rate that the refractory time allows
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Network:
    """A wired liquid with the weights that INIT left; `init_s` is what INIT cost, whenever it was computed."""

    parameters: LiquidParameters
    liquid: Liquid
    weights: NDArray[np.float32]
    course: NDArray[np.float64]
    seed: int
    key: str
    init_s: float


def load_dataset(context: Context) -> Dataset:
    """Read and encode the data set; belongs into a runner's `prepare`, since its errors are the user's."""
    from lsm.encode import Events

    with context.phase("data") as advance:
        dataset: Dataset = context.data.load(context.data_root, context.seed, progress=advance)
    if "warning" in dataset.notes:
        context.progress.warn(str(dataset.notes["warning"]))
    if not len(dataset.valid):
        raise UserError(f"data={dataset.name}: there is no validation part, with which a readout is chosen")
    inputs, model = dataset.train.inputs, context.model
    longest = max(model.run_ms, model.init_ms)
    if isinstance(inputs, Events) and longest > inputs.n_steps:
        raise UserError(
            f"data.n_steps={inputs.n_steps}: recordings are cut at this ms, the model presents {longest} ms"
        )
    return dataset


def log_dataset(context: Context, dataset: Dataset) -> None:
    """Record the data set in the run: one entry for each split, the checksums of all files as an artifact."""
    digest = fingerprint(np.array(sorted(f"{k}={v}" for k, v in dataset.checksums.items())))
    for part, used_for in zip(PARTS, ("training", "validation", "testing"), strict=True):
        split: Split = getattr(dataset, part)
        profile = f"{len(split)} samples, {dataset.n_in} channels, {len(dataset.class_names)} classes"
        context.tracker.input(dataset.name, f"{digest[:24]}-{part}", dataset.source, used_for, profile)
    about = {"source": dataset.source, "checksums": dict(dataset.checksums), "encoding": dict(dataset.encoding)}
    context.tracker.yaml({**about, "notes": _plain(dataset.notes)}, "data.yaml")


def _plain(notes: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in notes.items()}


def inputs_fingerprint(inputs: Inputs) -> str:
    """Digest of encoded inputs."""
    return fingerprint(*(v for v in vars(inputs).values() if isinstance(v, np.ndarray)))


def trained_network(context: Context, parameters: LiquidParameters, dataset: Dataset, seed: int) -> Network:
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
        return Network(parameters, liquid, fresh.weights, np.zeros((0, 7)), seed, key, 0.0)
    cache = Cache(context.home, key, about)
    with cache.alone(context.progress.say):
        state, seconds = _initialise(context, parameters, dataset, liquid, seed, cache)
    return Network(parameters, liquid, state.weights, np.array(state.course), seed, key, seconds)


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


def network_counts(context: Context, network: Network, part: str, inputs: Inputs, windows: int = 1) -> CountStore:
    """Spike counts of one part of the data in RUN, from the cache as far as it goes; `windows` as for `run_blocks`."""
    from lsm.kernel import STATS
    from lsm.protocol import run_blocks

    p = network.parameters
    run = {k: v for k, v in dataclasses.asdict(p).items() if k.startswith("run_")}
    about: dict[str, Any] = {"init": network.key, "weights": fingerprint(network.weights), "run": run, "part": part}
    about |= {"inputs": inputs_fingerprint(inputs), "seed": network.seed}
    about |= {"windows": windows} if windows > 1 else {}
    cache = Cache(context.home, cache_key("counts", about), about)
    with cache.alone(context.progress.say):
        shape = (len(inputs), windows * p.n_neurons)
        store = CountStore(cache.folder, part, shape, len(STATS), context.resume)
        if p.run_carries_traces and not store.complete:  # traces between batches are not kept: begin again
            store = CountStore(cache.folder, part, shape, len(STATS), resume=False)
        with context.phase(f"RUN {part}", total=len(inputs), unit="samples") as advance:
            advance(store.done)
            blocks = run_blocks(
                network.liquid,
                p,
                network.weights,
                inputs,
                network.seed,
                part,
                threads=context.threads,
                start=store.done,
                windows=windows,
            )
            started = time.perf_counter()
            for block, out in blocks if not store.complete else ():
                store.write(block, out.counts, out.stats, time.perf_counter() - started)
                advance(block.stop)
                started = time.perf_counter()
    return store


def raw_counts(context: Context, part: str, inputs: Inputs, run_ms: int, seed: int) -> NDArray[np.uint16]:
    """Events per input channel over the same time: what a readout without any liquid would see."""
    from lsm.protocol import input_counts

    about = {"inputs": inputs_fingerprint(inputs), "run_ms": run_ms, "part": part, "seed": seed}
    cache = Cache(context.home, cache_key("raw", about), about)
    with cache.alone(context.progress.say):
        store = CountStore(cache.folder, part, (len(inputs), inputs.n_in), 1, context.resume)
        if not store.complete:
            counts = input_counts(inputs, run_ms, seed, part)
            store.write(slice(0, len(inputs)), counts, np.zeros((len(inputs), 1)))
    counts_on_disk: NDArray[np.uint16] = store.counts
    return counts_on_disk


def activity(network: Network, store: CountStore) -> dict[str, float]:
    """What the liquid did per sample in one part: rates, spikes, operations, astrocyte, silent samples."""
    from lsm.kernel import STATS

    p = network.parameters
    mean = dict(zip(STATS, np.asarray(store.stats).mean(axis=0), strict=True))
    seconds = p.run_ms / 1000
    liquid_spikes = np.asarray(store.stats)[:, STATS.index("liquid_spikes")]
    return {
        "liquid/rate_hz": float(mean["liquid_spikes"] / seconds / p.n_neurons),
        "liquid/spikes_per_sample": float(mean["liquid_spikes"]),
        "liquid/input_spikes_per_sample": float(mean["input_spikes"]),
        "liquid/synaptic_operations_per_sample": float(mean["propagations"]),
        "liquid/plastic_updates_per_sample": float(mean["plastic_updates"]),
        "liquid/astrocyte_end": float(mean["astrocyte_end"]),
        "liquid/astrocyte_negative_ms": float(mean["astrocyte_negative_steps"]),
        "liquid/silent_samples": float(np.sum(liquid_spikes == 0)),
    }


def warn_if_useless(context: Context, network: Network, values: dict[str, float], n_samples: int) -> None:
    """Say so if the liquid is silent or saturated, and what to change."""
    p = network.parameters
    rate, silent = values["liquid/rate_hz"], int(values["liquid/silent_samples"])
    ceiling = 1000 / (p.t_ref_ms + 1)
    if rate > SATURATED_SHARE * ceiling:
        context.progress.warn(
            f"the liquid is saturated: {rate:.0f} Hz of at most {ceiling:.0f} Hz; "
            "lower model.w_start or model.w_max, or raise model.w_astro"
        )
    elif rate < SILENT_HZ:
        context.progress.warn(
            f"the liquid is silent: {rate:.2g} Hz; raise model.w_start, model.w_max or model.input_density"
        )
    if silent:
        context.progress.warn(f"{silent} of {n_samples} samples evoke no spike in the liquid; their class is a guess")


def evenly(n: int, wanted: int) -> list[int]:
    """`wanted` sample indices spread evenly over `n`, fewer if there are not as many."""
    wanted = min(wanted, n)
    return [round(n * k / wanted) for k in range(wanted)]


def record_test(network: Network, dataset: Dataset, sample: int) -> Recording:
    """The spikes of one test sample, as they were counted."""
    from lsm.protocol import record

    p = network.parameters
    return record(network.liquid, p, network.weights, dataset.test.inputs, network.seed, "test", sample)
