"""Perturbed inputs: grey values with noise, events shifted in time; what kernel quality compares the clean ones with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lsm.encode import Events, Inputs, Rates, brightest_share, image_rates

_IMAGES_AT_ONCE = 1000  # noise is drawn in float32 for so many at a time


def copies(inputs: Inputs, sample: int, n: int) -> Inputs:
    """`n` equal copies of one sample."""
    return inputs.take(np.full(n, sample))


def noisy_images(rates: Rates, deviation: float, rng: np.random.Generator, own_maximum: bool = False) -> Rates:
    """Normal noise of a standard `deviation` in grey levels on every pixel, rounded and clipped to 0..255.

    The rates are normalised anew: each image keeps its events per ms, or with `own_maximum` the noisy set is encoded
    as a set of its own, brightest pixel share and all, as in the published code. Noise fills the dark pixels, so that
    then the drive rises several times.
    """
    pixels = np.empty_like(rates.pixels)
    for first in range(0, len(pixels), _IMAGES_AT_ONCE):
        clean = rates.pixels[first : first + _IMAGES_AT_ONCE]
        noise = rng.standard_normal(clean.shape, np.float32) * np.float32(deviation)
        pixels[first : first + len(clean)] = np.rint(np.clip(clean + noise, 0, 255))
    if own_maximum:
        return image_rates(pixels, brightest_share(pixels))
    per_ms = rates.scale * rates.pixels.sum(axis=1, dtype=np.int64)
    total = pixels.sum(axis=1, dtype=np.int64)
    return Rates(pixels, np.where(total > 0, per_ms / np.maximum(total, 1), 0).astype(np.float32))


def jittered(events: Events, deviation_ms: float, rng: np.random.Generator, steps: int | None = None) -> Events:
    """Every event moved in time on its own; see `_moved`."""
    return _moved(events, rng.normal(0, deviation_ms, len(events.packed)), steps)


def shifted(events: Events, deviation_ms: float, rng: np.random.Generator, steps: int | None = None) -> Events:
    """All events of a sample moved by one common time, as the published code does by a missing argument."""
    return _moved(events, np.repeat(rng.normal(0, deviation_ms, len(events)), np.diff(events.offsets)), steps)


def _moved(events: Events, by_ms: NDArray[np.float64], steps: int | None) -> Events:
    """Events moved by the rounded time, reflected at bin 0 and at the last of `steps` bins (default: all), repacked.

    Events after the first `steps` bins are dropped before; two events that meet in a bin become one.
    """
    last = (events.n_steps if steps is None else min(steps, events.n_steps)) - 1
    before = (events.packed >> 16).astype(np.int64)
    after = np.abs(before + np.rint(by_ms).astype(np.int64))
    after = np.clip(np.where(after > last, 2 * last - after, after), 0, last)
    inside = before <= last
    channels = (events.packed & 0xFFFF).astype(np.int64)
    parts = [slice(a, b) for a, b in zip(events.offsets[:-1], events.offsets[1:], strict=True)]
    return Events.from_lists(
        [after[part][inside[part]] for part in parts],
        [channels[part][inside[part]] for part in parts],
        events.n_in,
        events.n_steps,
    )
