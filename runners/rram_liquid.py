"""The random-RRAM liquid as a `runners.network.Network`: device draw, view of the data, spike counts, cost and energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.checkpoint import CountStore, cache_key, code_digest, fingerprint
from runners.network import Clock, inputs_fingerprint, stored_counts, stored_raw_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from scipy import sparse

    from lsm.encode import Dataset, Events, Inputs
    from lsm.protocol import Recording
    from lsm.rram.encoder import Encoder
    from lsm.rram.parameters import RramParameters
    from runners.context import Context

SILENT_RATE, SATURATED_RATE = 1e-4, 0.6
"""Spikes per neuron and step below and above which the liquid tells little."""
ONSET_SHARE = 0.1  # of the steps, left out of the branching factor
BINS = 25  # of a sample, for the synchrony measures
COST_EPOCHS = 100
"""Epochs of the published projections, for the training-cost ratio with cached features."""


@dataclass(frozen=True)
class RramNetwork:
    """An encoder and the encoding of the data set that it was made for."""

    encoder: Encoder
    encoding: dict[str, Any]
    n_in: int
    init_s: float = 0.0
    _latest: list[tuple[Any, str, Any]] = field(default_factory=list, compare=False, repr=False)

    @property
    def parameters(self) -> RramParameters:
        """Complete ones."""
        return self.encoder.parameters

    @property
    def seed(self) -> int:
        """Of the device draw and of the read noise."""
        return self.encoder.seed

    @property
    def n_neurons(self) -> int:
        """Liquid neurons."""
        return self.encoder.n_neurons

    @property
    def n_excitatory(self) -> int | None:
        """Neurons are of one kind; each excites some and inhibits others."""
        return None

    @property
    def window(self) -> float:
        """Steps that a feature is averaged over."""
        return self.encoder.window

    @property
    def clock(self) -> Clock:
        """Steps of the encoder; a squeezed recording, or an image, has none of fixed length."""
        from lsm.rram.view import step_ms

        steps = self.encoder.n_steps
        length = step_ms(self.encoding, self.parameters)
        return Clock(steps, length, (round(ONSET_SHARE * steps), steps), max(1, steps // BINS), None)

    def steps(self, inputs: Inputs, part: str) -> Events:
        """What the liquid sees of these samples; the latest answer is kept, since samples are recorded one by one."""
        from lsm.rram.view import steps_for

        for kept, its_part, seen in self._latest:
            if kept is inputs and its_part == part:
                return seen
        steps = steps_for(self.encoding, self.parameters, inputs, seed=self.seed, part=part)
        self._latest[:] = [(inputs, part, steps)]
        return steps

    def counts(self, context: Context, part: str, inputs: Inputs, windows: int = 1) -> CountStore:
        """Spike counts of one part of the data, from the cache as far as it goes; `windows` counts equal parts apart."""
        return encoded_counts(context, self.encoder, self.steps(inputs, part), part, windows=windows)

    def present(self, inputs: Inputs, part: str, threads: int, progress: Callable[[int], object]) -> NDArray[np.uint16]:
        """Spike counts without any cache."""
        from lsm.rram.encoder import encode

        steps = self.steps(inputs, part)
        return encode(self.encoder, steps, threads=threads, seed=self.seed, part=part, progress=progress).counts

    def activity(self, store: CountStore) -> dict[str, float]:
        """What the liquid did per sample in one part: rates, spikes, operations, silent samples and neurons."""
        from lsm.rram.encoder import STATS

        mean = dict(zip(STATS, np.asarray(store.stats).mean(axis=0), strict=True))
        per_step = float(mean["liquid_spikes"]) / self.n_neurons / self.encoder.n_steps
        fired = np.asarray(store.counts).any(axis=0).reshape(-1, self.n_neurons).any(axis=0)
        values = {
            "liquid/rate_per_step": per_step,
            "liquid/spikes_per_sample": float(mean["liquid_spikes"]),
            "liquid/input_spikes_per_sample": float(mean["input_spikes"]),
            "liquid/synaptic_operations_per_sample": float(mean["synaptic_operations"]),
            "liquid/silent_samples": float(np.sum(np.asarray(store.stats)[:, STATS.index("liquid_spikes")] == 0)),
            "liquid/silent_neurons": float(np.sum(~fired)),
        }
        if self.clock.step_ms is not None:
            values["liquid/rate_hz"] = per_step * 1000 / self.clock.step_ms
        if self.parameters.device.adc_bits is not None:
            readings = self.encoder.n_steps * self.n_neurons * (len(self.encoder.crossbar.row_starts) - 1)
            values["device/adc_clipped_share"] = float(mean["adc_clipped"]) / readings
        return values

    def complaints(self, values: Mapping[str, float]) -> Iterator[str]:
        """Whether the liquid is silent or saturated, and what to change."""
        rate = values["liquid/rate_per_step"]
        if rate > SATURATED_RATE:
            yield f"the liquid is saturated: {rate:.0%} of all steps have a spike; lower model.weight_per_uS"
        elif rate < SILENT_RATE:
            yield f"the liquid is silent: {rate:.2g} spikes a step; raise model.weight_per_uS"

    def record(self, inputs: Inputs, part: str, sample: int) -> Recording:
        """One sample once more: the spikes that were counted."""
        from lsm.protocol import Recording
        from lsm.rram.encoder import dense, record

        steps = self.steps(inputs, part)
        spikes = record(self.encoder, steps, sample, seed=self.seed, part=part)
        seen = dense(steps, sample, sample + 1, self.encoder.n_steps)[0].astype(np.uint8)
        return Recording(spikes, seen, np.zeros(0), np.zeros(0))

    def connections(self) -> sparse.csr_matrix:
        """Recurrent weights that are not 0 as a `(n, n)` 0/1 matrix, rows sending, columns receiving."""
        from scipy import sparse

        pairs, n_in = self.encoder.crossbar.pairs, self.encoder.n_in
        return sparse.csr_matrix((pairs.plus[n_in:] != pairs.minus[n_in:]).astype(np.float32))

    def measure(self, context: Context, dataset: Dataset, stores: Mapping[str, CountStore]) -> dict[str, float]:
        """Correlation with the liquid of the same draw without effects, size, energy, cost of training."""
        from lsm.rram.cost import training_cost
        from lsm.rram.energy import branch_of, energy_pJ, measured_work, neurobench

        stats, n_classes = np.asarray(stores["test"].stats), len(dataset.class_names)
        results = self._correlations(context, dataset, stores["test"])
        results |= {f"device/{name}": value for name, value in neurobench(self.encoder, stats, n_classes).items()}
        cost = training_cost([branch_of(self.encoder)], n_classes, COST_EPOCHS)
        results |= {f"cost/{name}": float(value) for name, value in cost.items()}
        if (constants := self.parameters.energy) is not None:
            parts = energy_pJ(measured_work(self.encoder, stats, n_classes), constants)
            results |= {f"energy/{name}_uJ": value * 1e-6 for name, value in parts.items()}
        return results

    def _correlations(self, context: Context, dataset: Dataset, measured: CountStore) -> dict[str, float]:
        from lsm.rram.encoder import feature_correlation

        reference = counts_without_effects(context, self.encoder, self.steps(dataset.test.inputs, "test"))
        if reference is None:
            return {"device/feature_correlation": 1.0}
        return {
            "device/feature_correlation": feature_correlation(reference.counts, measured.counts),
            "device/spikes_without_effects": float(np.asarray(reference.counts).sum(axis=1).mean()),
        }

    def figures(self, recording: Recording, title: str) -> dict[str, Figure]:
        """Raster of a sample and the conductances."""
        from runners.plots import networks as plots
        from runners.plots import rram as rram_plots

        pairs, n_in = self.encoder.crossbar.pairs, self.encoder.n_in
        return {
            "raster": plots.spike_raster(recording.spikes, recording.inputs, None, title=title, unit="step"),
            "conductances": rram_plots.conductances(pairs, n_in, self.parameters.device.draw),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Conductances, the full scale of the ADC, and the channels of the data."""
        crossbar = self.encoder.crossbar
        arrays = {"g_plus_uS": crossbar.pairs.plus, "g_minus_uS": crossbar.pairs.minus}
        arrays |= {"n_seen": np.asarray(crossbar.n_in), "n_in": np.asarray(self.n_in)}
        if crossbar.full_scale_uS is not None:
            arrays["full_scale_uS"] = crossbar.full_scale_uS
        return arrays


def trained(context: Context, parameters: RramParameters, dataset: Dataset, seed: int) -> RramNetwork:
    """Draw the devices, and calibrate the ADC on training samples; nothing is learnt."""
    from lsm.rram.encoder import build_encoder, calibrated
    from lsm.rram.parameters import OPEN
    from lsm.rram.settings import family_of
    from lsm.rram.view import steps_for

    complete = parameters.for_data(dataset.encoding)
    with context.phase("devices"):
        n, wanted = len(dataset.train), complete.device.adc_samples
        few = dataset.train.inputs.take(np.linspace(0, n - 1, min(wanted, n)).astype(np.int64))  # sets may go by class
        steps = steps_for(dataset.encoding, complete, few, seed=seed, part="calibration")
        encoder = calibrated(build_encoder(complete, steps.n_in, seed), steps, threads=context.threads)
    settings = {name: getattr(complete, name) for name in OPEN}
    context.tracker.yaml({"setting": family_of(dataset.encoding), "n_in": steps.n_in, **settings}, "liquid.yaml")
    return RramNetwork(encoder, dict(dataset.encoding), dataset.n_in)


def restored(
    parameters: RramParameters, arrays: Mapping[str, NDArray[Any]], seed: int, encoding: Mapping[str, Any]
) -> RramNetwork:
    """The network whose `arrays()` these are; raises `ValueError` if they are of another size."""
    from lsm.rram.array import Crossbar
    from lsm.rram.conductance import Pairs
    from lsm.rram.encoder import Encoder

    complete = parameters.for_data(dict(encoding))
    pairs = Pairs(arrays["g_plus_uS"], arrays["g_minus_uS"])
    n, n_seen = complete.n_neurons or 0, int(arrays["n_seen"])
    if {pairs.plus.shape, pairs.minus.shape} != {(n_seen + n, n)}:
        raise ValueError(f"n_neurons={n} and {n_seen} inputs, and its conductances are {pairs.plus.shape}")
    crossbar = Crossbar(complete.device, pairs, n_seen, arrays.get("full_scale_uS"))
    return RramNetwork(Encoder(complete, crossbar, seed), dict(encoding), int(arrays["n_in"]))


def check_fit(parameters: RramParameters, dataset: Dataset) -> None:
    """Raise `ValueError` where the view, a conductance map or a foreign simulator does not fit the data."""
    from lsm.rram.view import steps_for

    complete = parameters.for_data(dataset.encoding)
    seen = steps_for(dataset.encoding, complete, dataset.train.inputs.take(np.arange(1))).n_in
    check_device(complete, seen)


def check_device(parameters: RramParameters, n_in: int, branch: str = "") -> None:
    """Raise `ValueError` where a conductance map or a foreign simulator does not fit; `parameters` are complete."""
    from lsm.rram.encoder import build_encoder

    if parameters.device.draw == "map" or parameters.device.simulator is not None:
        _ = build_encoder(parameters, n_in, 0, branch).reader


def window_of(parameters: RramParameters, dataset: Dataset) -> float:
    """Steps that a feature is averaged over."""
    window = parameters.for_data(dataset.encoding).window
    assert window is not None, "parameters are complete"
    return window


def raw_counts(
    context: Context, parameters: RramParameters, dataset: Dataset, part: str, inputs: Inputs, seed: int
) -> NDArray[np.uint16]:
    """Events per channel that the liquid sees: what a readout without any liquid would see."""
    from lsm.rram.view import channel_counts, steps_for

    steps = steps_for(dataset.encoding, parameters.for_data(dataset.encoding), inputs, seed=seed, part=part)
    about = {"inputs": inputs_fingerprint(steps), "n_in": steps.n_in}
    key = cache_key("raw", about)
    return stored_raw_counts(context, key, about, part, (len(steps), steps.n_in), lambda: [channel_counts(steps)])


def encoded_counts(
    context: Context, encoder: Encoder, steps: Events, part: str, windows: int = 1, phase: str | None = None
) -> CountStore:
    """Spike counts of `steps` from the cache as far as it goes; `part` names the stream of the read noise."""
    from lsm.rram.encoder import STATS, encode_blocks

    crossbar, settings = encoder.crossbar, dataclasses.asdict(encoder.parameters)
    scale = np.zeros(0) if crossbar.full_scale_uS is None else crossbar.full_scale_uS
    about: dict[str, Any] = {
        "code": code_digest("lsm/rram/*"),
        "array": fingerprint(*crossbar.pairs, scale),
        "parameters": {name: value for name, value in settings.items() if name != "energy"},
        "steps": inputs_fingerprint(steps),
        "windows": windows,
    }
    if encoder.parameters.device.is_noisy:
        about |= {"seed": encoder.seed, "branch": encoder.branch, "part": part}

    def blocks(start: int) -> Iterator[tuple[slice, Any]]:
        return encode_blocks(
            encoder, steps, threads=context.threads, seed=encoder.seed, part=part, start=start, windows=windows
        )

    shape, key = (len(steps), windows * encoder.n_neurons), cache_key("rram", about)
    return stored_counts(context, key, about, part, shape, len(STATS), blocks, phase=phase)


def counts_without_effects(context: Context, encoder: Encoder, steps: Events) -> CountStore | None:
    """What the same draw counts in test samples with every effect of the device off; None where none is on."""
    from lsm.rram.encoder import build_encoder

    device = encoder.parameters.device
    if not device.has_effects:
        return None
    plain = dataclasses.replace(encoder.parameters, device=device.without_effects)
    reference = build_encoder(plain, encoder.n_in, encoder.seed, encoder.branch)
    return encoded_counts(context, reference, steps, "test", phase="RUN test without effects")
