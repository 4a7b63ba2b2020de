"""A simulated ATIS camera looks at an image while it makes the three saccades of N-MNIST; events out.

What a pixel at x sees at time t is the screen, moved by the path s(t), through its own aperture and the blur of the lens
(a box of one pixel convolved with a Gaussian, evaluated exactly at any sub-pixel position):

    I(x, t) = 1 - (1 - black_level) sum_j ink_j K(x - j - s(t)),                 1 = the blank screen
    dL/dt   = (ln I - L) I / tau                     photoreceptor: the less light, the slower (Lichtsteiner et al. 2008)
    ON where L - M >= theta_on,  OFF where L - M <= -theta_off

After an event the pixel is held in reset for `refractory_us`; M is what L is at its end, so that what happens in between is
lost. M sinks by a leak, which makes ON events of its own (Nozaki & Delbruck 2017); a little background noise comes on top.

| constant | where from |
|---|---|
| `PATH`, `SACCADES_MS`, `timing_sd_us` | place and time of 1,000 N-MNIST training recordings against their own images |
| `leak_hz`, `noise_hz` | events of the same recordings where the image is blank |
| other constants of `Camera` | least distance of event statistics from the same (`lsm.datasets.sensor_statistics`) |
| dark ink on a bright screen | the same: order of polarities; ln(1 - c ink) fits better than ln(1 + c ink) for every c |
| three saccades in 0.3 s, image at scale 1 in a crop of 34 x 34 | Orchard et al. 2015, Front. Neurosci. 9:437 |
| time stamps of 1 us | ATIS: Posch, Matolin & Wohlgenannt 2011, IEEE J. Solid-State Circuits 46:259 |

No constant was chosen by an accuracy, none with the help of test recordings. Not in the model: the queue of the event bus,
pixels that are noisier than others, what the screen itself does.

All draws are counter-based: (seed, recording, pixel, how many draws it has had), so that threads change nothing.
Everything that calls each other lives in this one module, since a cached caller does not notice a changed callee elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.recordings import EVENT
from lsm.datasets.subsets import STRICT
from lsm.streams import generator, key

STEP_US = 500
"""Step of the light, in us: at most 0.08 px of motion; crossings inside a step are interpolated."""
MARGIN = 3
"""Pixels of the crop on each side of the image: 34 = 28 + 2 x 3."""
LARGEST_SHIFT = 6.0
"""Pixels that the image may move away from the middle: what the padding allows."""
_PAD, _REACH = 12, 3
PATH_STEP_MS = 5.0
PATH = np.array(
    [
        (-2.65, -1.79), (-2.64, -1.76), (-2.63, -1.66), (-2.62, -1.48), (-2.62, -1.23), (-2.62, -0.89),
        (-2.62, -0.46), (-2.62, 0.07), (-2.61, 0.68), (-2.57, 1.32), (-2.44, 1.95), (-2.20, 2.52),
        (-1.89, 2.98), (-1.57, 3.31), (-1.29, 3.52), (-1.11, 3.64), (-1.01, 3.67), (-0.95, 3.64),
        (-0.90, 3.58), (-0.85, 3.52), (-0.79, 3.47), (-0.72, 3.45), (-0.63, 3.43), (-0.53, 3.41),
        (-0.39, 3.36), (-0.19, 3.27), (0.10, 3.09), (0.44, 2.78), (0.78, 2.33), (1.10, 1.75),
        (1.34, 1.13), (1.51, 0.51), (1.65, -0.09), (1.81, -0.63), (1.99, -1.06), (2.16, -1.36),
        (2.30, -1.52), (2.40, -1.59), (2.48, -1.62), (2.57, -1.62), (2.67, -1.62), (2.78, -1.62),
        (2.86, -1.62), (2.90, -1.62), (2.84, -1.62), (2.67, -1.62), (2.45, -1.62), (2.13, -1.62),
        (1.69, -1.62), (1.21, -1.62), (0.70, -1.62), (0.16, -1.62), (-0.39, -1.63), (-0.92, -1.67),
        (-1.37, -1.72), (-1.73, -1.77), (-2.00, -1.80), (-2.23, -1.82), (-2.39, -1.83), (-2.49, -1.84),
        (-2.54, -1.85), (-2.56, -1.85), (-2.56, -1.85),
    ]
)  # fmt: skip
"""Place of the image (x, y, px from the middle of the crop) every `PATH_STEP_MS`, measured; see the head of this file."""
SACCADES_MS = (48.0, 155.0, 255.0)
"""Middle of each saccade."""
N_STEPS = 620
_ROOM, _AT_ONCE = 16_384, 256

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class Camera:
    """One ATIS in front of one screen; raises pydantic's `ValidationError` on a bad value."""

    black_level: Annotated[float, Field(gt=0, le=1, description="luminance of full ink; blank screen = 1")] = 0.17
    blur_px: Annotated[float, Field(gt=0, le=0.8, description="sd of the lens' blur, pixels")] = 0.5
    theta_on: Annotated[Positive, Field(description="contrast threshold, natural log units")] = 0.22
    theta_off: Annotated[Positive, Field(description="contrast threshold, natural log units")] = 0.213
    mismatch: Annotated[Share, Field(description="sd of a pixel's thresholds, share")] = 0.05
    threshold_noise: Annotated[Share, Field(description="sd of a threshold from event to event, share")] = 0.11
    refractory_us: Annotated[float, Field(ge=0, description="dead time of a pixel")] = 650.0
    photoreceptor_us: Annotated[Positive, Field(description="time constant at the blank screen")] = 650.0
    leak_hz: Annotated[float, Field(ge=0, description="ON events per pixel and second without any motion")] = 0.36
    noise_hz: Annotated[float, Field(ge=0, description="random events of each polarity per pixel and second")] = 0.01
    timing_sd_us: Annotated[
        float, Field(ge=0, le=5000, description="sd of each saccade's time, recording by recording")
    ] = 2000.0


class Constants(NamedTuple):
    """A `Camera` as the kernel takes it: times in us, rates per us."""

    contrast: float
    blur: float
    threshold_noise: float
    refractory: float
    tau: float
    leak: float
    noise: float


LEVEL, MEMORY, ON, OFF, FREE_AT, NOISE_AT, DRAWS, N_STATES = range(8)
"""Rows of the state of the pixels: levels and thresholds in natural log units, times in us."""

_jit = njit(cache=True, nogil=True, fastmath={"contract", "nnan", "nsz"})


@_jit
def _uniform(stream: np.uint64, counter: Any) -> float:
    """Number `counter` of a stream, in (0, 1): the finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    z = stream + (np.uint64(counter) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) + 0.5) * 2.0**-53


@_jit
def _draw(pixels: Any, i: int, stream: np.uint64) -> float:
    """The next number of pixel i: the first 4,096 are its own."""
    pixels[DRAWS, i] += 1.0
    return _uniform(stream, (i << 12) + np.int64(pixels[DRAWS, i]))


@_jit
def _redraw_thresholds(pixels: Any, i: int, thresholds: Any, share: float, stream: np.uint64) -> None:
    """Thresholds of pixel i until its next event, Gaussian around its own (Box & Muller 1958), never below a tenth."""
    radius = math.sqrt(-2.0 * math.log(_draw(pixels, i, stream)))
    factor = max(1.0 + share * radius * math.cos(2.0 * math.pi * _draw(pixels, i, stream)), 0.1)
    pixels[ON, i], pixels[OFF, i] = thresholds[0, i] * factor, thresholds[1, i] * factor


@_jit
def _redraw_noise(pixels: Any, i: int, now: float, rate: float, stream: np.uint64) -> None:
    """When pixel i makes its next event by chance (Poisson)."""
    pixels[NOISE_AT, i] = now - math.log(_draw(pixels, i, stream)) / rate if rate > 0 else np.inf


@_jit
def _taps(shift: float, blur: float, weights: NDArray[np.float32]) -> int:
    """Share of `2 _REACH` image pixels in what pixel 0 of the sensor sees; returns the first of them, padded."""
    source = -MARGIN - shift
    base = math.floor(source)
    scale = 1.0 / (blur * math.sqrt(2.0))
    edge = base - _REACH + 0.5 - source
    before = math.erf(edge * scale)
    for k in range(2 * _REACH):
        after = math.erf((edge + k + 1) * scale)
        weights[k] = 0.5 * (after - before)
        before = after
    return int(base) + _PAD - _REACH + 1


@_jit
def _see(ink: Any, place: Any, constants: Constants, middle: Any, weights: Any, light: Any) -> None:
    """Relative luminance `light` `(height, width)` of each pixel with the image moved to `place` (x, y)."""
    wx, wy = weights[0], weights[1]
    first_x, first_y = _taps(place[0], constants.blur, wx), _taps(place[1], constants.blur, wy)
    contrast = np.float32(constants.contrast)
    for r in range(light.shape[0]):
        middle[:] = np.float32(0)
        for k in range(2 * _REACH):
            for c in range(middle.shape[0]):
                middle[c] += wy[k] * ink[r + first_y + k, c]
        light[r, :] = np.float32(1)
        for k in range(2 * _REACH):
            weight = contrast * wx[k]
            for c in range(light.shape[1]):
                light[r, c] -= weight * middle[c + first_x + k]


@_jit
def _crossing(pixels: Any, i: int, start: float, end: float, gap: float, speed: float) -> tuple[float, int]:
    """Time and polarity of the first event of pixel i in [start, end); time `end` if there is none.

    `gap` is L - M at `start`, `speed` its change per us.
    """
    at_end = gap + speed * (end - start)
    if at_end >= pixels[ON, i]:
        return min(start + max(pixels[ON, i] - gap, 0.0) / max(speed, 1e-12), end), 1
    if at_end <= -pixels[OFF, i]:
        return min(start + max(pixels[OFF, i] + gap, 0.0) / max(-speed, 1e-12), end), 0
    return end, 1


@_jit
def _events_of_pixel(
    pixels: Any, i: int, t0: float, slope: float, thresholds: Any, constants: Constants, stream: np.uint64, out: Any,
    total: int, width: int,
) -> int:  # fmt: skip
    """Follow pixel i from `t0` to the end of the step, its level rising by `slope` per us; returns the new total."""
    t1, start = t0 + STEP_US, t0
    before, sink = pixels[LEVEL, i], constants.leak * thresholds[0, i]
    while True:
        if pixels[FREE_AT, i] > start:
            if pixels[FREE_AT, i] >= t1:
                return total
            start = pixels[FREE_AT, i]
            pixels[MEMORY, i] = before + slope * (start - t0)
        gap = before + slope * (start - t0) - pixels[MEMORY, i]
        when, p = _crossing(pixels, i, start, t1, gap, slope + sink)
        if pixels[NOISE_AT, i] < when:
            p = int(2 * _draw(pixels, i, stream))
            when = max(pixels[NOISE_AT, i], start)
            _redraw_noise(pixels, i, when, constants.noise, stream)
        if when >= t1:
            pixels[MEMORY, i] -= sink * (t1 - start)
            return total
        if total < out.shape[0]:
            out[total, 0], out[total, 1], out[total, 2], out[total, 3] = i % width, i // width, int(when), p
        total += 1
        _redraw_thresholds(pixels, i, thresholds, constants.threshold_noise, stream)
        pixels[MEMORY, i] = before + slope * (when - t0)
        pixels[FREE_AT, i] = when + constants.refractory
        start = when


@_jit
def _sort_by_time(events: NDArray[np.int64], first: int, last: int) -> None:
    """Insertion sort of the few events of one step, stable."""
    for a in range(first + 1, last):
        b = a
        while b > first and events[b - 1, 2] > events[b, 2]:
            for k in range(4):
                events[b - 1, k], events[b, k] = events[b, k], events[b - 1, k]
            b -= 1


@_jit
def _record(
    ink: Any, path: Any, thresholds: Any, constants: Constants, stream: np.uint64, out: NDArray[np.int64]
) -> int:
    """One recording along `path` `(n_steps + 1, 2)`: rows x, y, t (us), p in `out`, in order of time.

    Returns how many events there are; those that do not fit into `out` are counted, not written.
    """
    height, width = ink.shape[0] - 2 * (_PAD - MARGIN), ink.shape[1] - 2 * (_PAD - MARGIN)
    n = height * width
    middle, light = np.zeros(ink.shape[1], np.float32), np.zeros((height, width), np.float32)
    weights, seen = np.zeros((2, 2 * _REACH), np.float32), light.ravel()
    _see(ink, path[0], constants, middle, weights, light)
    pixels = np.zeros((N_STATES, n))
    for i in range(n):
        pixels[LEVEL, i] = math.log(seen[i])
        _redraw_thresholds(pixels, i, thresholds, constants.threshold_noise, stream)
        _redraw_noise(pixels, i, 0.0, constants.noise, stream)
        # A pixel before the blank screen has only leaked since its last event; near ink it has seen light come and go.
        lowest = -pixels[OFF, i] if seen[i] < 1.0 else 0.0
        gap = lowest + (pixels[ON, i] - lowest) * _draw(pixels, i, stream)
        pixels[MEMORY, i] = pixels[LEVEL, i] - gap
    total = 0
    for step in range(path.shape[0] - 1):
        _see(ink, path[step + 1], constants, middle, weights, light)
        t0, t1, first = float(step * STEP_US), float((step + 1) * STEP_US), min(total, out.shape[0])
        for i in range(n):
            before, rate = pixels[LEVEL, i], STEP_US * seen[i] / constants.tau
            change = 0.0 if seen[i] == 1.0 and before == 0.0 else (math.log(seen[i]) - before) * rate / (1.0 + rate)
            sunk = constants.leak * thresholds[0, i] * STEP_US
            gap = before + change + sunk - pixels[MEMORY, i]
            quiet = -pixels[OFF, i] < gap < pixels[ON, i] and pixels[FREE_AT, i] <= t0 and pixels[NOISE_AT, i] >= t1
            if quiet:
                pixels[MEMORY, i] -= sunk
            else:
                total = _events_of_pixel(
                    pixels, i, t0, change / STEP_US, thresholds, constants, stream, out, total, width
                )  # fmt: skip
            pixels[LEVEL, i] = before + change  # implicit Euler: stable for any time constant
        _sort_by_time(out, first, min(total, out.shape[0]))
    return total


def path_of_saccades(delays_us: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Place of the image (x, y, px from the middle of the crop) at each step, `(N_STEPS + 1, 2)`.

    `delays_us` `(3,)` makes each of the three saccades so much later; between them the delay changes evenly.
    """
    t = np.arange(N_STEPS + 1) * STEP_US / 1000
    if delays_us is not None:
        t = t - np.interp(t, SACCADES_MS, delays_us) / 1000
    return np.asarray(_spline()(np.clip(t, 0, PATH_STEP_MS * (len(PATH) - 1))))


@lru_cache(maxsize=1)
def _spline() -> Any:
    from scipy.interpolate import PchipInterpolator  # keeps the order of the knots: no overshoot where the motor rests

    return PchipInterpolator(PATH_STEP_MS * np.arange(len(PATH)), PATH)


def thresholds_of(camera: Camera, n_pixels: int) -> NDArray[np.float64]:
    """ON and OFF threshold of each pixel, `(2, n_pixels)`: the camera is one and the same for all recordings and seeds."""
    spread = generator(0, "thresholds of the camera").standard_normal((2, n_pixels))
    factor = np.maximum(1 + camera.mismatch * spread, 0.1)
    return np.array([[camera.theta_on], [camera.theta_off]]) * factor


def look(image: NDArray[np.uint8], path: NDArray[np.float64], camera: Camera, stream: int) -> NDArray[Any]:
    """Events (x, y in pixels, t in us, p = 1 for ON) while the dark ink of `image` `(height, width)` moves along `path`.

    `path` `(n_steps + 1, 2)` is the image's place in pixels at each step, `stream` a 64-bit key of the random numbers.
    The sensor is larger than the image by `MARGIN` on each side. Raises `ValueError` for a path that leaves the screen.
    """
    if not np.abs(path).max() <= LARGEST_SHIFT:
        raise ValueError(f"the image moves by {np.abs(path).max():.1f} px; at most {LARGEST_SHIFT:.0f} are simulated")
    ink = np.pad(image.astype(np.float32) / np.float32(255), _PAD)
    height, width = image.shape[0] + 2 * MARGIN, image.shape[1] + 2 * MARGIN
    constants = Constants(
        1 - camera.black_level, camera.blur_px, camera.threshold_noise, camera.refractory_us, camera.photoreceptor_us,
        camera.leak_hz * 1e-6, 2e-6 * camera.noise_hz,
    )  # fmt: skip
    thresholds, room = thresholds_of(camera, height * width), _ROOM
    while True:
        out = np.empty((room, 4), np.int64)
        n = _record(ink, np.ascontiguousarray(path), thresholds, constants, np.uint64(stream), out)
        if n <= room:
            return out[:n].copy().view(EVENT)[:, 0]
        room = n


def recordings(
    images: NDArray[np.uint8], numbers: NDArray[np.integer], seed: int, part: str, camera: Camera, threads: int = 1
) -> Iterator[NDArray[Any]]:
    """Events of each of `images` `(n, height, width)` shown to the camera with the three saccades.

    `numbers` `(n,)` name the recordings inside `part` ("train", "test"): with the seed they fix all that is random.
    """

    def one(k: int) -> NDArray[Any]:
        delays = camera.timing_sd_us * generator(seed, f"saccades/{part}/{numbers[k]}").standard_normal(3)
        return look(images[k], path_of_saccades(delays), camera, int(key(seed, f"camera/{part}/{numbers[k]}")))

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(images), _AT_ONCE):  # a pool would run ahead of a slow reader and fill the memory
            yield from pool.map(one, range(first, min(first + _AT_ONCE, len(images))))
