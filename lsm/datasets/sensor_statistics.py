"""How alike two sets of event recordings are: numbers, times, places and intervals of their events; never an accuracy.

Recordings are structured arrays with `x`, `y` (pixels), `t` (us) and `p` (1 = ON), as `recordings.read_events` gives them.
Also what the constants of `lsm.datasets.saccade` were measured with: `track` and `fit_camera`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lsm.datasets.saccade import Camera

Recordings = Sequence[NDArray[Any]]
SIZE, DURATION_MS = 34, 320
INTERVAL_US, N_INTERVALS, MOST_EVENTS = 250, 60, 40
PAIRS = ((0, 0), (1, 1), (0, 1))
"""Polarities of an event and of the next one of the same pixel: the three kinds of intervals, in order."""
FITTED = (
    "black_level", "blur_px", "theta_on", "theta_off", "mismatch", "threshold_noise", "refractory_us", "photoreceptor_us",
)  # fmt: skip
"""Constants of the camera that `fit_camera` finds."""


@dataclass(frozen=True)
class Statistics:
    """Means per recording, except for the counts."""

    counts: NDArray[np.int64]
    """`(n,)` events of each recording."""
    rate: NDArray[np.float64]
    """`(2, DURATION_MS)` events per ms, OFF and ON."""
    maps: NDArray[np.float64]
    """`(2, SIZE, SIZE)` events of each pixel, OFF and ON."""
    intervals: NDArray[np.float64]
    """`(3, N_INTERVALS)` intervals between events of one pixel in bins of `INTERVAL_US`, the last is open; see `PAIRS`."""
    per_pixel: NDArray[np.float64]
    """`(MOST_EVENTS + 1,)` pixels that have 0, 1, 2 ... events; the last is open."""

    @property
    def on_share(self) -> float:
        """Share of ON events."""
        return float(self.rate[1].sum() / self.rate.sum())

    @property
    def active_pixels(self) -> float:
        """Pixels with at least one event."""
        return float(self.per_pixel[1:].sum())


def measure(recordings: Recordings) -> Statistics:
    """Statistics of a set of recordings; raises `ValueError` where there are none."""
    if not recordings:
        raise ValueError("no recordings to measure")
    rate, maps = np.zeros((2, DURATION_MS)), np.zeros((2, SIZE * SIZE))
    intervals, per_pixel = np.zeros((3, N_INTERVALS)), np.zeros(MOST_EVENTS + 1)
    for events in recordings:
        pixel, p = events["y"] * SIZE + events["x"], events["p"]
        bins = p * DURATION_MS + np.minimum(events["t"] // 1000, DURATION_MS - 1)
        rate += np.bincount(bins, minlength=2 * DURATION_MS).reshape(2, DURATION_MS)
        here = np.bincount(p * SIZE * SIZE + pixel, minlength=2 * SIZE * SIZE).reshape(2, SIZE * SIZE)
        maps += here
        per_pixel += np.bincount(np.minimum(here.sum(axis=0), MOST_EVENTS), minlength=MOST_EVENTS + 1)
        order = np.lexsort((events["t"], pixel))
        same = np.diff(pixel[order]) == 0
        gap = np.minimum(np.diff(events["t"][order]) // INTERVAL_US, N_INTERVALS - 1)
        first, second = p[order][:-1], p[order][1:]
        for row, (a, b) in enumerate(PAIRS):
            intervals[row] += np.bincount(gap[same & (first == a) & (second == b)], minlength=N_INTERVALS)
    n = len(recordings)
    counts = np.array([len(events) for events in recordings])
    return Statistics(counts, rate / n, maps.reshape(2, SIZE, SIZE) / n, intervals / n, per_pixel / n)


def closeness(real: Statistics, simulated: Statistics) -> dict[str, float]:
    """What to compare, by name; `simulated` shows the same images in the same order as `real`."""
    found: dict[str, float] = {}
    for name, one in (("real", real), ("simulated", simulated)):
        found |= {
            f"{name}/events": float(one.counts.mean()),
            f"{name}/events_sd": float(one.counts.std()),
            f"{name}/on_share": one.on_share,
            f"{name}/active_pixels": one.active_pixels,
            f"{name}/median_interval_ms": _median_interval_ms(one),
        }
    curves = [_smooth(one.rate.sum(axis=0)) for one in (real, simulated)]
    return found | {
        "correlation/events_per_image": _correlation(real.counts, simulated.counts),
        "correlation/time_course": _correlation(*curves),
        "correlation/map_off": _correlation(real.maps[0], simulated.maps[0]),
        "correlation/map_on": _correlation(real.maps[1], simulated.maps[1]),
        "overlap/time_course": _overlap(*curves),
        "overlap/maps": _overlap(real.maps, simulated.maps),
        "overlap/intervals": _overlap(real.intervals, simulated.intervals),
        "overlap/events_per_pixel": _overlap(real.per_pixel[1:], simulated.per_pixel[1:]),
    }


def distance(real: Statistics, simulated: Statistics) -> float:
    """What `fit_camera` makes small: relative differences of number, polarity, intervals, events per pixel and maps.

    The weights (3, 10, 1, 2, 1) make a 1 % error of each about equally large; chosen by us.
    """
    return float(
        3 * abs(simulated.counts.mean() / real.counts.mean() - 1)
        + 10 * abs(simulated.on_share - real.on_share)
        + np.abs(simulated.intervals - real.intervals).sum() / real.intervals.sum()
        + 2 * np.abs(simulated.per_pixel - real.per_pixel).sum() / real.per_pixel.sum()
        + np.abs(simulated.maps - real.maps).sum() / real.maps.sum()
    )


def fit_camera(
    images: NDArray[np.uint8], real: Recordings, start: Camera, evaluations: int, threads: int = 1
) -> Camera:
    """The camera whose recordings of `images` `(n, 28, 28)` are least distant from `real`, by Nelder & Mead (1965).

    Each try draws the same random numbers, so that the distance is a function of the constants alone.
    """
    from pydantic import ValidationError
    from scipy.optimize import minimize

    from lsm.datasets.saccade import recordings

    measured, origin = measure(real), np.array([getattr(start, name) for name in FITTED])

    def camera(logs: NDArray[np.float64]) -> Camera:
        return dataclasses.replace(start, **dict(zip(FITTED, (origin * np.exp(logs)).tolist(), strict=True)))

    def cost(logs: NDArray[np.float64]) -> float:
        try:
            tried = camera(logs)
        except ValidationError:
            return np.inf
        return distance(measured, measure(list(recordings(images, np.arange(len(images)), 0, "fit", tried, threads))))

    simplex = np.vstack([np.zeros(len(FITTED)), 0.2 * np.eye(len(FITTED))])
    found = minimize(
        cost, simplex[0], method="Nelder-Mead", options={"maxfev": evaluations, "initial_simplex": simplex}
    )
    return camera(found.x)


def track(
    recordings: Recordings,
    images: NDArray[np.uint8],
    bin_ms: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Where the image is, measured from events: `(n_bins, 4)` with time (ms), x and y (px from the middle), share explained.

    In each bin ON minus OFF events are fitted by `-v grad ln I(x - s)`, brightness constancy, over all recordings at once: a
    least-squares v for each place s on a grid of 0.05 px by Fourier transform, and the s that explains most. An image
    that hardly moves explains little, and its place is uncertain.
    """
    size, n = 48, len(recordings)
    margin, n_bins = (size - SIZE) // 2, DURATION_MS // bin_ms
    grid = np.arange(-6, 6.01, 0.05)
    frequency = np.fft.fftfreq(size)
    padded = np.pad(images / 255, ((0, 0), *[((size - images.shape[1]) // 2,) * 2] * 2))
    blurred = np.exp(-2 * (np.pi * 0.6) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    level = np.fft.fft2(np.log(1 - 0.9 * padded)) * blurred
    gradient = np.stack([level * 2j * np.pi * frequency, level * 2j * np.pi * frequency[:, None]])
    inverse = np.linalg.inv(np.einsum("anij,bnij->ab", gradient, gradient.conj()).real / size**2)
    waves = np.exp(2j * np.pi * np.outer(frequency, grid))
    found = np.zeros((n_bins, 4))
    for k in range(n_bins):
        signed = np.zeros((n, size, size))
        for one, events in zip(signed, recordings, strict=True):
            now = events[events["t"] // (1000 * bin_ms) == k]
            np.add.at(one, (now["y"] + margin, now["x"] + margin), 2 * now["p"] - 1)
        cross = np.einsum("nij,anij->aij", np.fft.fft2(signed), gradient.conj())
        at = np.real(np.einsum("iy,aij,jx->ayx", waves, cross, waves, optimize=True)) / size**2
        explained = np.einsum("ayx,ab,byx->yx", at, inverse, at)
        y, x = np.unravel_index(explained.argmax(), explained.shape)
        found[k] = (k + 0.5) * bin_ms, grid[x], grid[y], explained[y, x] / max((signed**2).sum(), 1.0)
        if progress:
            progress(k + 1, n_bins)
    return found


def _median_interval_ms(one: Statistics) -> float:
    """Median interval between two events of the same polarity at a pixel, by linear interpolation in its bin."""
    share = np.cumsum(one.intervals[:2].sum(axis=0)) / one.intervals[:2].sum()
    edges = np.arange(1, N_INTERVALS + 1) * INTERVAL_US / 1000
    return float(np.interp(0.5, share, edges))


def _smooth(curve: NDArray[np.float64], width: int = 5) -> NDArray[np.float64]:
    return np.convolve(curve, np.full(width, 1 / width), mode="same")


def _correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _overlap(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Share that two histograms have in common, each brought to sum 1."""
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())
