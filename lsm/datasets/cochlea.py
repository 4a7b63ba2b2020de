"""A simulated silicon cochlea listens to a recording: a cascade of filters, rectifiers and spiking neurons; events out.

Modelled on the CochleaAMS1b/c (AEREAR2: Liu, van Schaik, Minch & Delbruck 2014, IEEE Trans. Biomed. Circuits Syst. 8:453):
sound runs through 64 second-order low-pass sections in a row, from high to low frequencies; what has passed section k,
differentiated, drives a half-wave rectifier and a pulse-frequency modulator, a neuron that integrates and fires:

    Y_k(f) = X(f) e_k (s / w_k) prod_{i <= k} 1 / (1 + s / (q w_i) + (s / w_i)^2),    s = 2 pi j f
    dv/dt  = max(y_k, 0) - leak,   v >= 0;   event where v >= theta_k, then v = 0 for the refractory time

e_k brings the peak of a channel to 1, then raises it by (f_k / 1 kHz)^emphasis. The filters are the analog ones, evaluated
exactly in the frequency domain; the drive of the neurons is constant in steps of 1/16 ms, in which they are exact.

| constant of `Cochlea` | where from |
|---|---|
| 64 channels, cascade, rectifier, pulse-frequency modulation | Liu et al. 2014; channel 0 is the highest |
| `highest_hz`, `lowest_hz` | chosen by us; channel 37 is near 480 Hz, where a tone of 560 Hz ends in the real recording |
| `refractory_ms` | shortest interval of a channel in the real recording: 0.51 ms |
| `q`, `emphasis`, `leak`, `threshold_ms` | `fit_cochlea` of `lsm.datasets.cochlea_statistics`, rounded; see docs/data.md |
| `mismatch`, `threshold_noise` | chosen by us |
| loudness | every recording is played at the same level: its loudest 100 ms have the root mean square 1 |

The real recording is the one of N-TIDIGITS that we have, of an unknown digit. No constant was chosen by an accuracy. Not in
the model: automatic gain control, the second ear, the other three neurons of a channel, mismatch of filters, the event bus.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lsm.datasets.subsets import STRICT
from lsm.streams import generator, key

CHANNELS = 64
RATE_HZ = 16_000
"""Steps of the neurons per second; sound of a lower rate is brought to it by band-limited interpolation."""
LOUD_MS = 100
"""Length of the loudest stretch of a recording, which sets its level."""
RINGING_MS = 50
"""Silence after each recording, in which the lowest channels fade out."""
_AT_ONCE = 256

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class Cochlea:
    """One silicon cochlea; levels are in root mean squares of loud speech; raises `ValidationError` on a bad value."""

    highest_hz: Annotated[float, Field(gt=0, le=20_000, description="corner frequency of channel 0")] = 8000.0
    lowest_hz: Annotated[float, Field(ge=20, description="corner frequency of channel 63")] = 65.0
    q: Annotated[float, Field(gt=0.5, le=1.2, description="quality factor of a section")] = 1.0
    emphasis: Annotated[float, Field(ge=0, le=1, description="exponent of the frequency in a channel's gain")] = 0.7
    leak: Annotated[float, Field(ge=0, description="what a neuron loses, level")] = 0.1
    threshold_ms: Annotated[Positive, Field(description="integral at which a neuron fires, level x ms")] = 0.16
    refractory_ms: Annotated[float, Field(ge=0, description="dead time of a neuron after an event")] = 0.5
    mismatch: Annotated[Share, Field(description="sd of the neurons' thresholds, share")] = 0.1
    threshold_noise: Annotated[Share, Field(description="sd of a threshold from event to event, share")] = 0.02

    @model_validator(mode="after")
    def _descends(self) -> Cochlea:
        if self.lowest_hz >= self.highest_hz:
            raise ValueError(f"lowest_hz={self.lowest_hz}: must be below highest_hz={self.highest_hz}")
        return self

    @property
    def corner_hz(self) -> NDArray[np.float64]:
        """Corner frequency of each channel, `(64,)`, descending by equal ratios."""
        return np.geomspace(self.highest_hz, self.lowest_hz, CHANNELS)


def responses(cochlea: Cochlea, hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    """What each channel makes of a tone of each frequency, `(64, n)`: the filters before the rectifiers."""
    corner = cochlea.corner_hz[:, None]
    fine = np.geomspace(corner[-1, 0] / 4, 2 * corner[0, 0], 4096)
    peak = np.abs(_cascade(cochlea, fine)).max(axis=1, keepdims=True)
    return np.asarray(_cascade(cochlea, hz) / peak * (corner / 1000) ** cochlea.emphasis)


def _cascade(cochlea: Cochlea, hz: NDArray[np.float64]) -> NDArray[np.complex128]:
    s = 1j * hz / cochlea.corner_hz[:, None]
    return np.asarray(s * np.cumprod(1 / (1 + s / cochlea.q + s * s), axis=0))


@lru_cache(maxsize=16)
def _bank(cochlea: Cochlea, n: int) -> NDArray[np.complex64]:
    """Responses at the frequencies of a transform of `n` steps."""
    return responses(cochlea, np.arange(n // 2 + 1) * RATE_HZ / n).astype(np.complex64)


def filtered(sound: NDArray[np.floating], rate_hz: int, cochlea: Cochlea) -> NDArray[np.float32]:
    """Output of each channel before its rectifier, `(64, n_steps)` at `RATE_HZ`, for a sound `(n,)` at `rate_hz`.

    Raises `ValueError` for a rate that is no divisor of `RATE_HZ`.
    """
    from scipy import fft

    factor, rest = divmod(RATE_HZ, rate_hz)
    if rest:
        raise ValueError(f"a sound of {rate_hz} Hz: the rate must divide {RATE_HZ} Hz")
    n = (len(sound) + rate_hz * RINGING_MS // 1000) * factor
    size = 1 << (n - 1).bit_length()
    spectrum = np.zeros(size // 2 + 1, np.complex64)
    low = fft.rfft(np.asarray(sound, np.float32), size // factor)
    spectrum[: len(low)] = factor * low
    return np.asarray(fft.irfft(_bank(cochlea, size) * spectrum, size, axis=1)[:, :n])


def at_level(sound: NDArray[np.floating], rate_hz: int) -> NDArray[np.float64]:
    """The sound without its mean, as loud as all: its loudest 100 ms have the root mean square 1; silence stays silence."""
    wave = np.asarray(sound, np.float64) - np.mean(sound)
    width = min(len(wave), rate_hz * LOUD_MS // 1000)
    energy = np.concatenate([[0.0], np.cumsum(wave**2)])
    loudest = math.sqrt(max((energy[width:] - energy[:-width]).max(), 0.0) / width)
    return wave / loudest if loudest > 1e-9 else np.zeros_like(wave)


_jit = njit(cache=True, nogil=True)


@_jit
def _uniform(stream: np.uint64, counter: Any) -> float:
    """Number `counter` of a stream, in (0, 1): the finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    z = stream + (np.uint64(counter) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) + 0.5) * 2.0**-53


@_jit
def _fire(outputs, thresholds, step_ms, leak, refractory_ms, noise, stream, times, channels):  # type: ignore[no-untyped-def]
    """Events of all neurons, channel by channel; their number, of which as many are stored as there is room for."""
    n, room = 0, len(times)
    for k in range(outputs.shape[0]):
        v, free_at, threshold, draws = 0.0, 0.0, thresholds[k], k << 32
        for i in range(outputs.shape[1]):
            end = (i + 1) * step_ms
            drive = max(np.float64(outputs[k, i]), 0.0) - leak
            start = max(i * step_ms, free_at)
            while start < end:
                reached = max(v + drive * (end - start), 0.0)
                if reached < threshold:
                    v = reached
                    break
                at = end - (reached - threshold) / drive
                if n < room:
                    times[n], channels[n] = at, k
                n += 1
                v, free_at, draws = 0.0, at + refractory_ms, draws + 2
                start = free_at
                radius = math.sqrt(-2.0 * math.log(_uniform(stream, draws)))  # Box & Muller 1958
                factor = 1.0 + noise * radius * math.cos(2.0 * math.pi * _uniform(stream, draws + 1))
                threshold = thresholds[k] * max(factor, 0.1)
    return n


def thresholds_of(cochlea: Cochlea) -> NDArray[np.float64]:
    """Threshold of each neuron, `(64,)`, level x ms: the chip is one and the same for all recordings and seeds."""
    spread = generator(0, "thresholds of the cochlea").standard_normal(CHANNELS)
    return cochlea.threshold_ms * np.maximum(1 + cochlea.mismatch * spread, 0.1)


def listen(
    sound: NDArray[np.floating], rate_hz: int, cochlea: Cochlea, stream: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times (ms) and channels of the events that a sound `(n,)` at `rate_hz` evokes, in order of time.

    `stream` is a 64-bit key of the random numbers. Raises as `filtered`, and `ValueError` for an empty sound.
    """
    if not len(sound):
        raise ValueError("an empty sound")
    outputs = filtered(at_level(sound, rate_hz), rate_hz, cochlea)
    room = 4096
    while True:
        times, channels = np.empty(room), np.empty(room, np.int64)
        n = _fire(
            outputs, thresholds_of(cochlea), 1000 / RATE_HZ, cochlea.leak, cochlea.refractory_ms, cochlea.threshold_noise,
            np.uint64(stream), times, channels,
        )  # fmt: skip
        if n <= room:
            order = np.argsort(times[:n], kind="stable")
            return times[:n][order], channels[:n][order]
        room = n


def recordings(
    sounds: Sequence[NDArray[np.floating]],
    rate_hz: int,
    names: Sequence[str],
    seed: int,
    cochlea: Cochlea,
    threads: int = 1,
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Events of each sound, as `listen`; its name and the seed fix all that is random, for any number of threads."""

    def one(k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return listen(sounds[k], rate_hz, cochlea, int(key(seed, f"cochlea/{names[k]}")))

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(sounds), _AT_ONCE):
            yield from pool.map(one, range(first, min(first + _AT_ONCE, len(sounds))))
