"""What the liquid sees of a data set: rasters of 1-ms bins cropped and binned into the encoder's steps.

| family | channels | steps | source |
|---|---|---|---|
| nmnist | one polarity, central 16x16 pixels | bins of 6 ms, filled or not | published code; width of a bin chosen by us |
| ntidigits | all 64 | the recording squeezed into at most T equal parts of whole bins, the rest empty | published code |
| handwriting, emnist | all | as they are: the set's own bins | published code |
| images | one for each pixel | at random, chance max(0, 2 grey - 1) * max_spikes / T | rate code published for E-MNIST |
| events | both polarities unless told otherwise, all pixels | bins of 6 ms | chosen by us |
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lsm.encode import Events, Inputs, Rates
from lsm.rram.parameters import RramParameters
from lsm.rram.settings import family_of
from lsm.streams import key

BIN_MS = 6.0
"""Width of a step of camera recordings: 50 steps cover the 300 ms of a recording of N-MNIST."""
CROP = 16


def steps_for(
    encoding: dict[str, Any], parameters: RramParameters, inputs: Inputs, *, seed: int = 0, part: str = ""
) -> Events:
    """`inputs` of a data set with this `encoding` as a raster of `parameters.steps` steps.

    `seed` and `part` name the random stream of images; event recordings involve no chance.
    Raises `ValueError` for open parameters, and for a crop that the sensor does not hold.
    """
    if parameters.steps is None:
        raise ValueError("steps: no value; RramParameters.for_data fills in what is published")
    if isinstance(inputs, Rates):
        return rate_coded(inputs, parameters.steps, parameters.max_spikes, key(seed, f"rate code {part}"))
    family = family_of(encoding)
    channels = channel_map(encoding, parameters, inputs.n_in)
    if is_squeezed(encoding, parameters):
        width = squeezed_width(inputs, parameters.steps, parameters.bin_ms or 1.0)
    else:
        own = float(encoding.get("step_ms", 1)) if family == "handwriting" else 1.0
        as_it_is = family in ("handwriting", "emnist") and parameters.bin_ms is None
        width = np.full(len(inputs), 1.0 if as_it_is else (parameters.bin_ms or BIN_MS) / own)
    return rebinned(inputs, channels, int(channels.max(initial=-1)) + 1, parameters.steps, width)


def channel_map(encoding: dict[str, Any], parameters: RramParameters, n_in: int) -> NDArray[np.int64]:
    """`(n_in,)`: the encoder's channel of each channel of the raster, -1 where it is not seen.

    Of a camera with two polarities (channel = p h w + y w + x) the chosen one is seen, and the central `crop` pixels: rows
    and columns `ceil((h - crop) / 2)` to `h - floor((h - crop) / 2)`, 9 to 24 of 34. Raises `ValueError` for a larger crop.
    """
    h, w, polarities = (encoding.get(name) for name in ("height", "width", "polarities"))
    if not (h and w and polarities):
        return np.arange(n_in)
    crop = parameters.crop
    if crop is None:
        crop = CROP if family_of(encoding) == "nmnist" else 0
    if crop > min(h, w):
        raise ValueError(f"model.crop={crop}: the sensor has {h} x {w} pixels")
    seen = np.zeros((polarities, h, w), bool)
    top, left = (-(-(size - crop) // 2) if crop else 0 for size in (h, w))
    rows, columns = crop or h, crop or w
    chosen = slice(None) if parameters.polarity == "both" else parameters.polarity
    seen[chosen, top : top + rows, left : left + columns] = True
    return np.where(seen.ravel(), np.cumsum(seen.ravel()) - 1, -1)


def is_squeezed(encoding: dict[str, Any], parameters: RramParameters) -> bool:
    """Whether each recording is stretched over all steps, so that a step has no fixed length."""
    return (parameters.time or ("normalised" if family_of(encoding) == "ntidigits" else "bins")) == "normalised"


def step_ms(encoding: dict[str, Any], parameters: RramParameters) -> float | None:
    """Length of a step in ms; None where it has none: squeezed recordings and rate-coded images."""
    family = family_of(encoding)
    if family in ("images", "emnist") or is_squeezed(encoding, parameters):
        return None
    if family == "handwriting":
        return parameters.bin_ms or float(encoding.get("step_ms", 1))
    return parameters.bin_ms or BIN_MS


def channel_counts(steps: Events) -> NDArray[np.uint16]:
    """Events of each channel, `(n_samples, n_in)`."""
    sample = np.repeat(np.arange(len(steps)), np.diff(steps.offsets))
    flat = np.bincount(sample * steps.n_in + (steps.packed & 0xFFFF), minlength=len(steps) * steps.n_in)
    return flat.reshape(len(steps), steps.n_in).astype(np.uint16)


def squeezed_width(events: Events, steps: int, bin_ms: float = 1.0) -> NDArray[np.float64]:
    """Width of a step in ms, `(n,)`: a recording of D bins is cut into at most `steps` parts of ceil(D / steps) bins.

    D = ceil(time of the last event in bins) + 1, as published: the bin of the last event and an empty one behind it.
    """
    filled = np.diff(events.offsets) > 0
    last = np.zeros(len(events), np.int64)
    last[filled] = events.packed[events.offsets[1:][filled] - 1] >> 16
    return np.asarray(bin_ms * np.ceil((last // bin_ms + 2) / steps), np.float64)


def rebinned(events: Events, channels: NDArray[np.int64], n_in: int, steps: int, width: NDArray[np.float64]) -> Events:
    """The raster with channels mapped and `width` `(n,)` bins of each sample joined by OR; later steps are dropped."""
    if not n_in:
        raise ValueError("no channel of the data set is seen")
    packed = np.empty(len(events.packed), np.uint32)
    offsets = np.zeros(len(events) + 1, np.int64)
    _rebin(events.packed, events.offsets, channels, n_in, steps, width, packed, offsets)
    return Events(packed[: offsets[-1]].copy(), offsets, n_in, steps)


def rate_coded(images: Rates, steps: int, max_spikes: float, random: np.uint64) -> Events:
    """Images as Bernoulli spikes: chance `max(0, 2 g / 255 - 1) * max_spikes / steps` a step, g the grey value.

    Each pixel, step and sample has a random number of its own (the published code gives all images the same ones).
    """
    chance = np.maximum(2 * np.arange(256) / 255 - 1, 0) * max_spikes / steps
    counts = np.zeros(len(images), np.int64)
    nothing = np.zeros(0, np.uint32)
    _rate_code(images.pixels, chance, steps, random, np.zeros(len(images) + 1, np.int64), counts, nothing)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    packed = np.empty(offsets[-1], np.uint32)
    _rate_code(images.pixels, chance, steps, random, offsets, counts, packed)
    return Events(packed, offsets, images.n_in, steps)


@njit(cache=True)
def _rebin(
    packed: Any, offsets: Any, channels: Any, n_in: int, steps: int, width: Any, out: Any, out_offsets: Any
) -> None:
    raster = np.zeros((steps, n_in), np.bool_)
    at = 0
    for sample in range(len(offsets) - 1):
        for k in range(offsets[sample], offsets[sample + 1]):
            channel, step = channels[packed[k] & 0xFFFF], int(np.float64(packed[k] >> 16) / width[sample])
            if channel >= 0 and step < steps:
                raster[step, channel] = True
        for step in range(steps):
            for channel in range(n_in):
                if raster[step, channel]:
                    out[at] = np.uint32(step << 16 | channel)
                    raster[step, channel] = False
                    at += 1
        out_offsets[sample + 1] = at


@njit(cache=True)
def _rate_code(pixels: Any, chance: Any, steps: int, random: Any, offsets: Any, counts: Any, out: Any) -> None:
    """Count spikes of each sample, and write them where `out` has room."""
    for sample in range(len(pixels)):
        n = 0
        for step in range(steps):
            for channel in range(pixels.shape[1]):
                p = chance[pixels[sample, channel]]
                if p > 0.0:
                    z = np.uint64(random) + np.uint64(sample + 1) * np.uint64(0x9E3779B97F4A7C15)
                    z = z ^ (np.uint64(step + 1) << np.uint64(40)) ^ (np.uint64(channel + 1) << np.uint64(20))
                    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                    z = z ^ (z >> np.uint64(31))
                    if np.float64(z >> np.uint64(11)) * 2.0**-53 < p:
                        if len(out):
                            out[offsets[sample] + n] = np.uint32(step << 16 | channel)
                        n += 1
        counts[sample] = n
