"""The liquid of leaky integrate-and-fire neurons on a resistive-memory array, and the spikes that it answers with.

    v_t = decay * v_{t-1} * (1 - s_{t-1}) + weight_per_uS * (G_in x_t + G_rec s_{t-1})
    s_t = 1 where v_t > v_threshold          (strictly; the potential is then reset to 0)
    c   = sum_t s_t                           feature f = c / window

    encoder = build_encoder(parameters.for_data(encoding, "contrastive"), n_in, seed, branch="image")
    encoder = calibrated(encoder, training_steps, threads=2)          # only the ADC needs it; else it changes nothing
    counts, stats = encode(encoder, steps_for(encoding, encoder.parameters, inputs), threads=2, seed=seed, part="train")

The devices are drawn once, from the streams of seed and branch; read noise has a stream of its own. Without any effect of
the device the counts are, bit for bit, those of the plain simulation with Gaussian weights.

Source: Lin et al., Nat. Comput. Sci. 5, 37 (2025), equations as in the first author's later code (SNN_LSM_Model).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsm.encode import Events
from lsm.rram import kernel
from lsm.rram.array import Crossbar, Reader, S_PER_uS
from lsm.rram.conductance import Pairs
from lsm.rram.device import draw_pairs
from lsm.rram.kernel import STATS
from lsm.rram.parameters import OPEN, RramParameters
from lsm.streams import key

__all__ = ["STATS", "Encoded", "Encoder", "RramParameters", "build_encoder", "calibrated", "encode", "encode_blocks"]

Progress = Callable[[int], object]
STRIPE_BYTES = 1 << 20  # columns of all rows that stay in the second cache level
SAMPLES_AT_ONCE = 64  # samples that advance together: one task of the thread pool
_NOTHING = np.zeros((0, 0, 0))


class Encoded(NamedTuple):
    """`counts` `(n_samples, n_neurons)` uint16 spikes of each neuron, `stats` `(n_samples, len(STATS))` float64."""

    counts: NDArray[np.uint16]
    stats: NDArray[np.float64]


@dataclass(frozen=True)
class Encoder:
    """A liquid with its frozen device draw; `parameters` are complete."""

    parameters: RramParameters
    crossbar: Crossbar
    seed: int
    branch: str = ""

    @property
    def n_in(self) -> int:
        """Input channels."""
        return self.crossbar.n_in

    @property
    def n_neurons(self) -> int:
        """Width of the counts."""
        return self.crossbar.n

    @property
    def n_steps(self) -> int:
        """Steps T of a sample."""
        assert self.parameters.steps is not None, "parameters are complete"
        return self.parameters.steps

    @property
    def window(self) -> float:
        """What counts are divided by."""
        assert self.parameters.window is not None, "parameters are complete"
        return self.parameters.window

    @cached_property
    def tables(self) -> kernel.Tables:
        """The array in the form of the kernel."""
        device, pairs = self.parameters.device, self.crossbar.as_read
        rows, n = pairs.plus.shape
        width = stripe_width(rows, n)

        def stripes(values: NDArray[np.float64]) -> NDArray[np.float64]:
            padded = np.zeros((len(values), -(-n // width) * width))
            padded[:, :n] = values
            return np.ascontiguousarray(padded.reshape(len(values), -1, width).transpose(1, 0, 2))

        scale = self.crossbar.full_scale_uS
        half = 2.0 ** ((device.adc_bits or 1) - 1)
        return kernel.Tables(
            difference=stripes(pairs.plus - pairs.minus),
            square=stripes(pairs.plus**2 + pairs.minus**2) if device.read_noise > 0 else _NOTHING,
            plus=stripes(pairs.plus) if device.column_ohm > 0 else _NOTHING,
            minus=stripes(pairs.minus) if device.column_ohm > 0 else _NOTHING,
            row_starts=self.crossbar.row_starts,
            adc_step=np.zeros((0, 0)) if scale is None else scale / half,
            row_total=(self.crossbar.pairs.plus + self.crossbar.pairs.minus).sum(axis=1),
        )

    @property
    def constants(self) -> kernel.Constants:
        """Numbers of the kernel."""
        p = self.parameters
        assert p.decay is not None and p.v_threshold is not None and p.weight_per_uS is not None, "complete"
        d = p.device
        return kernel.Constants(
            self.n_neurons, self.n_in, self.n_steps, p.decay, p.v_threshold, p.weight_per_uS, d.read_noise,
            d.read_noise_uS, d.column_ohm * S_PER_uS, 0.0 if d.adc_bits is None else 2.0 ** (d.adc_bits - 1),
        )  # fmt: skip

    @property
    def reads_exactly(self) -> bool:
        """Whether a reading is the plain sum of differences: no noise, no drop along columns, no ADC."""
        d = self.parameters.device
        return not d.is_noisy and d.column_ohm == 0 and d.adc_bits is None


def stripe_width(rows: int, n: int) -> int:
    """Neurons of a stripe: a multiple of 8, all of them if they fit."""
    whole = -(-n // 8) * 8
    return min(whole, max(16, STRIPE_BYTES // (8 * rows) // 8 * 8))


def build_encoder(parameters: RramParameters, n_in: int, seed: int, branch: str = "") -> Encoder:
    """Draw the devices of one liquid; another `branch` ("image", "audio") draws others from the same seed.

    Raises `ValueError` for open parameters and for a conductance map that does not fit.
    """
    open_ones = [name for name in OPEN if getattr(parameters, name) is None]
    if open_ones:
        raise ValueError(f"{', '.join(open_ones)}: no value; RramParameters.for_data fills in what is published")
    n = parameters.n_neurons
    assert n is not None
    drawn = [
        draw_pairs(parameters.device, matrix, rows, n, seed, branch)
        for matrix, rows in (("input", n_in), ("recurrent", n))
    ]
    pairs = Pairs(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))
    crossbar = Crossbar(parameters.device, pairs, n_in)
    if parameters.device.adc_full_scale_uS is not None:
        scale = np.full((len(crossbar.row_starts) - 1, n), parameters.device.adc_full_scale_uS)
        crossbar = dataclasses.replace(crossbar, full_scale_uS=scale)
    return Encoder(parameters, crossbar, seed, branch)


def calibrated(encoder: Encoder, steps: Events, *, threads: int = 1) -> Encoder:
    """The encoder with the full scale of its ADC set on `adc_samples` samples of `steps` (training data); else as it is.

    The full scale of a column is the largest magnitude that its noise-free reading takes, evenly spaced samples long.
    """
    device = encoder.parameters.device
    if device.adc_bits is None or encoder.crossbar.full_scale_uS is not None:
        return encoder
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(device.adc_samples, len(steps))).astype(np.int64))
    plain = dataclasses.replace(device, adc_bits=None, read_noise=0.0, read_noise_uS=0.0)
    reference = dataclasses.replace(
        encoder,
        parameters=dataclasses.replace(encoder.parameters, device=plain),
        crossbar=dataclasses.replace(encoder.crossbar, device=plain),
    )
    with ThreadPoolExecutor(threads) as pool:
        scale = np.max(list(pool.map(lambda k: _largest_readings(reference, steps, int(k)), chosen)), axis=0)
    scale = np.where(scale > 0, scale, max(float(scale.max()), 1.0))
    return dataclasses.replace(encoder, crossbar=dataclasses.replace(encoder.crossbar, full_scale_uS=scale))


def _largest_readings(encoder: Encoder, steps: Events, sample: int) -> NDArray[np.float64]:
    """Largest magnitude of each reading of each tile while one sample is presented, `(n_row_tiles, n)`."""
    spikes = record(encoder, steps, sample)
    before = np.vstack([np.zeros_like(spikes[:1]), spikes[:-1]])
    driven = np.hstack([dense(steps, sample, sample + 1, encoder.n_steps)[0], before])
    return np.abs(encoder.crossbar.read_tiles(driven)).max(axis=1)


def encode(
    encoder: Encoder,
    steps: Events,
    *,
    threads: int = 1,
    seed: int = 0,
    part: str = "",
    progress: Progress | None = None,
    reader: Reader | None = None,
) -> Encoded:
    """Spike counts of all samples; `seed` and `part` name the stream of the read noise, nothing else is random.

    `reader` replaces the array by another simulator's. Raises `ValueError` where `steps` do not fit the encoder.
    """
    blocks = []
    for done, out in encode_blocks(encoder, steps, threads=threads, seed=seed, part=part, reader=reader):
        blocks.append(out)
        if progress:
            progress(done.stop)
    if not blocks:
        return Encoded(np.zeros((0, encoder.n_neurons), np.uint16), np.zeros((0, len(STATS))))
    return Encoded(np.concatenate([b.counts for b in blocks]), np.concatenate([b.stats for b in blocks]))


def encode_blocks(
    encoder: Encoder,
    steps: Events,
    *,
    threads: int = 1,
    seed: int = 0,
    part: str = "",
    start: int = 0,
    block: int = 1024,
    windows: int = 1,
    reader: Reader | None = None,
) -> Iterator[tuple[slice, Encoded]]:
    """As `encode`, block by block from sample `start` on: what a resumable cache needs.

    `windows` above 1 counts equal parts of the sample apart: `(m, windows * n)` counts, the first part first.
    """
    _check_fit(encoder, steps)
    noise = key(seed, f"read noise {encoder.branch} {part}")
    if reader is None:
        _ = encoder.tables  # made once, before the threads
    with ThreadPoolExecutor(threads) as pool:
        for first in range(start, len(steps), block):
            stop = min(first + block, len(steps))
            edges = [*range(first, stop, SAMPLES_AT_ONCE), stop]
            spans = list(pairwise(edges))
            if reader is None:
                done = list(pool.map(lambda span: _present(encoder, steps, span[0], span[1], noise, windows), spans))
            else:  # a foreign simulator need not be safe for threads
                done = [_present_through(reader, encoder, steps, *span, windows) for span in spans]
            yield slice(first, stop), Encoded(*(np.concatenate(parts) for parts in zip(*done, strict=True)))


def feature_correlation(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Pearson correlation over samples and neurons of two counts `(n, n_neurons)`, each neuron less its mean.

    Without the means a liquid would seem robust only because its neurons differ in rate; 1 where both are constant.
    """
    a, b = (np.asarray(counts, np.float64) for counts in (first, second))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 0 else float(np.array_equal(first, second))


def record(encoder: Encoder, steps: Events, sample: int, *, seed: int = 0, part: str = "") -> NDArray[np.uint8]:
    """Spikes `(T, n_neurons)` of one sample: the same that `encode` counts."""
    _check_fit(encoder, steps)
    spikes = np.zeros((1, encoder.n_steps, encoder.n_neurons), np.uint8)
    noise = key(seed, f"read noise {encoder.branch} {part}")
    _present(encoder, steps, sample, sample + 1, noise, 1, spikes)
    return spikes[0]


def _check_fit(encoder: Encoder, steps: Events) -> None:
    if steps.n_in != encoder.n_in:
        raise ValueError(f"samples of {steps.n_in} channels for an encoder of {encoder.n_in}")
    if encoder.parameters.device.adc_bits is not None and encoder.crossbar.full_scale_uS is None:
        raise ValueError("the ADC has no full scale: call calibrated(), or give device.adc_full_scale_uS")


def _present(
    encoder: Encoder,
    steps: Events,
    first: int,
    stop: int,
    noise: np.uint64,
    windows: int = 1,
    spikes: NDArray[np.uint8] | None = None,
) -> Encoded:
    m, n = stop - first, encoder.n_neurons
    out = Encoded(np.zeros((m, windows * n), np.uint16), np.zeros((m, len(STATS))))
    kernel.present(
        encoder.tables, encoder.constants, encoder.reads_exactly, steps.packed, steps.offsets, first, noise, out.counts,
        out.stats, np.zeros((0, 0, 0), np.uint8) if spikes is None else spikes,
    )  # fmt: skip
    return out


def _present_through(reader: Reader, encoder: Encoder, steps: Events, first: int, stop: int, windows: int) -> Encoded:
    """The same equations with readings by another simulator, all samples of a span at once."""
    c, m = encoder.constants, stop - first
    x = dense(steps, first, stop, c.n_steps)
    out = Encoded(np.zeros((m, windows * c.n), np.uint16), np.zeros((m, len(STATS))))
    v, s = np.zeros((m, c.n)), np.zeros((m, c.n), bool)
    row_total = encoder.tables.row_total
    for step in range(c.n_steps):
        driven = np.concatenate([x[:, step], s], axis=1)
        y = np.asarray(reader.read(driven), np.float64)
        if y.shape != v.shape or not np.isfinite(y).all():
            raise ValueError(
                f"{type(reader).__name__}.read returned {y.shape} or no finite numbers, expected {v.shape}"
            )
        v = c.decay * v + c.gain * y
        s = v > c.threshold
        v[s] = 0
        base = step * windows // c.n_steps * c.n
        out.counts[:, base : base + c.n] += s
        rows = driven.sum(axis=1)
        for column, values in enumerate((x[:, step].sum(axis=1), s.sum(axis=1), rows, rows * c.n, driven @ row_total)):
            out.stats[:, column] += values
    return out


def dense(steps: Events, first: int, stop: int, n_steps: int) -> NDArray[np.bool_]:
    """Samples `first .. stop` as an array `(m, n_steps, n_in)`."""
    raster = np.zeros((stop - first, n_steps, steps.n_in), bool)
    packed = steps.packed[steps.offsets[first] : steps.offsets[stop]]
    sample = np.repeat(np.arange(stop - first), np.diff(steps.offsets[first : stop + 1]))
    step, channel = packed >> 16, packed & 0xFFFF
    inside = step < n_steps
    raster[sample[inside], step[inside], channel[inside]] = True
    return raster
