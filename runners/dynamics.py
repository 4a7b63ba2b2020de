"""How a liquid behaves, without any readout: branching factor, avalanches, rates, synchrony, astrocyte, kernel quality."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.astro_liquid import AstroNetwork
from runners.kernel_ranks import KernelRanks, NoiseSettings, check_samples, measure_ranks
from runners.liquids import (
    evenly,
    load_dataset,
    log_dataset,
    record_test,
    trained_network,
    warn_if_useless,
)
from runners.network import Network

if TYPE_CHECKING:
    from lsm.activity import Activity
    from lsm.avalanches import Avalanches, PowerLaw
    from lsm.encode import Dataset
    from runners.context import Context

    Fits = dict[str, PowerLaw | None]

Count = Annotated[int, Field(ge=1)]
Deviation = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Dynamics:
    """Settings of the runner; recorded samples are taken evenly from the test split."""

    samples: Annotated[Count, Field(description="test samples recorded step by step")] = 100
    avalanche_threshold: Annotated[
        int | None, Field(ge=0, description="spikes per ms that an avalanche exceeds; null = each sample's median")
    ] = None
    kernel: Annotated[bool, Field(description="measure separation and generalisation ranks, too")] = True
    draws: Annotated[Count, Field(description="random draws that ranks are averaged over (published: 1,000)")] = 20
    samples_per_class: Annotated[Count, Field(description="test samples of each class in a draw")] = 100
    noise: Annotated[
        Literal["plain", "paper"],
        Field(description="plain: images keep their drive, events move one by one; paper: as the published code"),
    ] = "plain"
    pixel_noise: Annotated[Deviation, Field(description="standard deviation in grey levels, noisy test set")] = 125.0
    time_noise_ms: Annotated[Deviation, Field(description="standard deviation of the time shift of events")] = 10.0
    copied_inputs: Annotated[Count, Field(description="inputs whose noisy copies give the generalisation rank")] = 10
    copy_pixel_noise: Annotated[Deviation, Field(description="as pixel_noise, for copies of one image")] = 25.0
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True

    needs: ClassVar[tuple[str, ...]] = ("model", "data")
    reads_checkpoint: ClassVar[bool] = False

    def prepare(self, context: Context) -> Dataset:
        """Load the data before a run exists."""
        dataset = load_dataset(context)
        if self.kernel:
            check_samples(dataset.test.labels, self.samples_per_class)
        return dataset

    def run(self, context: Context) -> dict[str, float]:
        """Record, measure, draw and return the key results."""
        dataset: Dataset = context.prepared
        log_dataset(context, dataset)
        network = trained_network(context, context.model, dataset, context.seed)
        recorded = self._record(context, network, dataset)
        waves = {name: _pooled(recorded, field, self.avalanche_threshold) for name, field in ACTIVITIES.items()}
        fits = {name: _fits(several) for name, several in waves.items()}
        results = _summary(network, recorded) | _avalanche_results(recorded, waves, fits)
        results["cost/init_s"] = network.init_s
        ranks: KernelRanks | None = None
        if self.kernel:
            noise = NoiseSettings(self.noise == "paper", self.pixel_noise, self.time_noise_ms, self.copy_pixel_noise)
            ranks = measure_ranks(
                context, dataset, network, noise, self.draws, self.samples_per_class, self.copied_inputs
            )
            results = ranks.results | results  # rates are those of the recorded samples, with or without ranks
        warn_if_useless(context, network, results, len(recorded))
        context.tracker.metrics({name: value for name, value in results.items() if np.isfinite(value)})
        _log_course(context, network, recorded)
        if self.pictures:
            self._draw(context, network, recorded, waves, fits, ranks)
        return {name: results[name] for name in KEY_RESULTS if np.isfinite(results.get(name, np.nan))}

    def _record(self, context: Context, network: Network, dataset: Dataset) -> list[Activity]:
        from lsm.activity import analyse
        from lsm.streams import generator

        connections, clock = network.connections(), network.clock
        chosen = evenly(len(dataset.test), self.samples)
        found: list[Activity] = []

        def one_sample(sample: int) -> Activity:
            rng = generator(network.seed, f"rotation of {sample}")
            return analyse(record_test(network, dataset, sample), connections, rng, clock.steady, clock.bin_steps)

        with (
            context.phase("recording", total=len(chosen), unit="samples") as advance,
            ThreadPoolExecutor(context.threads) as pool,
        ):
            for one in pool.map(one_sample, chosen):
                found.append(one)
                advance(len(found))
        return found

    def _draw(
        self,
        context: Context,
        network: Network,
        recorded: list[Activity],
        waves: dict[str, Avalanches],
        fits: dict[str, Fits],
        ranks: KernelRanks | None,
    ) -> None:
        from runners.plots import dynamics as plots

        clock, n_exc = network.clock, network.n_excitatory
        unit, per_unit = ("Hz", 1000 / clock.step_ms) if clock.step_ms is not None else ("per step", 1.0)
        rates = np.mean([a.counts for a in recorded], axis=0) / clock.steps * per_unit
        kinds = {"liquid": rates} if n_exc is None else {"excitatory": rates[:n_exc], "inhibitory": rates[n_exc:]}
        population = np.array([a.population for a in recorded])
        with context.phase("pictures"):
            of_samples = population.mean(axis=1) / network.n_neurons * per_unit
            figures: dict[str, Any] = {
                "branching": plots.branching([a.branching_factor for a in recorded], of_samples, unit),
                "rates": plots.rates(kinds, unit),
                "population": plots.population(population, np.array([a.inputs for a in recorded]), clock.unit),
                "synchrony": plots.synchrony(
                    [a.fano_factor for a in recorded], [a.correlation for a in recorded], clock.bin_steps, clock.unit
                ),
                "avalanches": plots.avalanches(waves, fits["measured"], clock.unit),
            }
            if (astro := _with_astrocyte(network)) is not None:
                levels = np.array([a.astrocyte for a in recorded])
                figures["astrocyte"] = plots.astrocyte(levels, _learning_rate(astro, recorded))
            if ranks is not None:
                figures["kernel"] = plots.kernel(ranks.spectra, ranks.ranks)
            for name, figure in figures.items():
                context.tracker.figure(figure, f"pictures/{name}.png")


KEY_RESULTS = (
    "liquid/branching_factor",
    "liquid/branching_factor_std",
    "liquid/rate_hz",
    "liquid/fano_factor",
    "liquid/pairwise_correlation",
    "avalanche/size_exponent",
    "avalanche/size_ks_distance",
    "kernel/separation_rank",
    "kernel/noisy_rank",
    "kernel/score",
    "kernel/generalisation_rank",
    "kernel/quality",
)
QUANTITIES = ("sizes", "durations")
ACTIVITIES = {"measured": "steady", "shuffled": "shuffled"}
"""What avalanches are looked for in: the activity, and as a control the same without common timing."""
MARKS_MS = (50, 100)
"""Times at which the astrocyte's level is told as a number of its own."""


def _summary(network: Network, recorded: list[Activity]) -> dict[str, float]:
    """Rates, branching factor and synchrony over the recorded samples."""
    clock, n_exc = network.clock, network.n_excitatory
    counts = np.array([a.counts for a in recorded])
    rates = counts.mean(axis=0) / clock.steps
    results = {
        "liquid/rate_per_step": float(rates.mean()),
        "liquid/silent_neurons": float((rates == 0).sum()),
        "liquid/silent_samples": float((counts.sum(axis=1) == 0).sum()),
        f"liquid/input_spikes_per_{clock.unit}": float(np.mean([a.inputs.mean() for a in recorded])),
        f"liquid/spikes_per_{clock.unit}": float(np.mean([a.population.mean() for a in recorded])),
    }
    if clock.step_ms is not None:
        hz = rates * 1000 / clock.step_ms
        results |= {"liquid/rate_hz": float(hz.mean()), "liquid/rate_std_hz": float(hz.std())}
        if n_exc is not None:
            results["liquid/rate_excitatory_hz"] = float(hz[:n_exc].mean())
            results["liquid/rate_inhibitory_hz"] = float(hz[n_exc:].mean())
    per_sample = {
        "branching_factor": [a.branching_factor for a in recorded],
        "fano_factor": [a.fano_factor for a in recorded],
        "pairwise_correlation": [a.correlation for a in recorded],
    }
    for name, every in per_sample.items():
        values = np.array([value for value in every if np.isfinite(value)])
        results[f"liquid/{name}"] = float(values.mean()) if len(values) else float("nan")
        results[f"liquid/{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return results


def _pooled(recorded: list[Activity], field: str, threshold: int | None) -> Avalanches:
    """The avalanches of all samples; the threshold of each is that of its measured activity, shuffled or not."""
    from lsm.avalanches import Avalanches, avalanches

    found = []
    for one in recorded:
        median = int(np.median(one.steady)) if len(one.steady) else 0
        found.append(avalanches(getattr(one, field), median if threshold is None else threshold))
    return Avalanches(np.concatenate([f.sizes for f in found]), np.concatenate([f.durations for f in found]))


def _fits(waves: Avalanches) -> Fits:
    from lsm.avalanches import fit_power_law

    return {name: fit_power_law(getattr(waves, name)) for name in QUANTITIES}


def _avalanche_results(
    recorded: list[Activity], waves: dict[str, Avalanches], fits: dict[str, Fits]
) -> dict[str, float]:
    """Numbers and means always; what belongs to a fit only where there is one."""
    silent_ms = np.concatenate([a.steady == 0 for a in recorded])
    results = {
        "avalanche/number": float(len(waves["measured"].sizes)),
        "avalanche/silent_ms_share": float(silent_ms.mean()) if len(silent_ms) else float("nan"),
    }
    for activity, plural in itertools.product(ACTIVITIES, QUANTITIES):
        values, fit = getattr(waves[activity], plural), fits[activity][plural]
        name = ("" if activity == "measured" else f"{activity}_") + plural.removesuffix("s")
        if len(values):
            results |= {f"avalanche/{name}_mean": float(values.mean()), f"avalanche/{name}_max": float(values.max())}
        if fit is not None:
            results |= {f"avalanche/{name}_{key}": float(value) for key, value in dataclasses.asdict(fit).items()}
    return results


def _with_astrocyte(network: Network) -> AstroNetwork | None:
    """The network if it has an astrocyte that acts while samples are read."""
    return network if isinstance(network, AstroNetwork) and network.parameters.senses_in_run else None


def _learning_rate(network: AstroNetwork, recorded: list[Activity]) -> NDArray[np.float64]:
    """The learning rate at the moment at which the astrocyte was recorded: before the decay that ends a step."""
    return recorded[0].eta / network.parameters.run_decay


def _log_course(context: Context, network: Network, recorded: list[Activity]) -> None:
    """The astrocyte's level and the learning rate, ms by ms, as means over the recorded samples."""
    astro = _with_astrocyte(network)
    if astro is None:
        return
    level, eta = np.mean([a.astrocyte for a in recorded], axis=0), _learning_rate(astro, recorded)
    for ms, (a, rate) in enumerate(zip(level, eta, strict=True)):
        context.tracker.metrics({"astrocyte/level": a, "astrocyte/eta": rate}, step=ms)
    for ms in (m for m in MARKS_MS if m < len(level)):
        context.tracker.metrics({f"astrocyte/level_{ms}ms": level[ms], f"astrocyte/eta_{ms}ms": eta[ms]})
