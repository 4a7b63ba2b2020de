"""How alike events of a simulated and of a real cochlea are: numbers, channels and intervals; never an accuracy.

A recording is a pair of arrays: times (ms, ascending) and channels (0 to 63). We have one real recording, of an unknown
digit, so the question is where it lies among many simulated ones. `fit_cochlea` found constants of `lsm.datasets.cochlea`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lsm.datasets.cochlea import Cochlea

Recording = tuple[NDArray[np.float64], NDArray[np.int64]]
CHANNELS, WINDOW_MS, BINS = 64, 100, 129
BYTES_PER_EVENT = 5
FITTED = ("q", "emphasis", "leak", "threshold_ms")
"""Constants of the cochlea that `fit_cochlea` finds."""
STATISTICS = {
    "events": "events",
    "busiest": f"events in the busiest {WINDOW_MS} ms",
    "active_channels": "channels with an event in these",
    "mean_channel": "mean channel of their events",
    "spread_channels": "standard deviation of the channel of their events",
    "median_interval_ms": "median interval between two events of a channel in these",
    "short_intervals": "share of these intervals below 2 ms",
    "filled": f"share of filled cells when these are cut into {BINS} bins",
}
"""What `measure` tells of one recording, by name."""
COMPARED = {
    "busiest": 0.2, "active_channels": 4.0, "mean_channel": 2.0, "spread_channels": 2.0, "median_interval_ms": 0.4,
    "filled": 0.02,
}  # fmt: skip
"""What `distance` compares, and which difference counts as one; chosen by us. `busiest` counts by its logarithm."""


def read_bs1(path: Path) -> Recording:
    """Events of a file of 5 bytes each, big-endian: 16 bits channel, a flag, 23 bits time in us.

    Raises `ValueError` for an empty or cut-off file, a channel above 63 and time that runs backwards.
    """
    data = path.read_bytes()
    if not data or len(data) % BYTES_PER_EVENT:
        raise ValueError(f"{path}: {len(data)} bytes, no multiple of {BYTES_PER_EVENT}: truncated or not this format")
    rows = np.frombuffer(data, np.uint8).reshape(-1, BYTES_PER_EVENT).astype(np.int64)
    channels = rows[:, 0] << 8 | rows[:, 1]
    times = ((rows[:, 2] & 127) << 16 | rows[:, 3] << 8 | rows[:, 4]) / 1000
    if channels.max() >= CHANNELS:
        raise ValueError(f"{path}: channel {channels.max()}; a cochlea has {CHANNELS}")
    if (np.diff(times) < 0).any():
        raise ValueError(f"{path}: time runs backwards at event {int((np.diff(times) < 0).argmax()) + 1}")
    return times, channels


def measure(recording: Recording) -> dict[str, float]:
    """The numbers of `STATISTICS` of one recording; all but the first are of its busiest `WINDOW_MS`, the speech.

    The window leaves out pauses and the clicks at the edges of N-TIDIGITS. Raises `ValueError` for fewer than two events.
    """
    times, channels = recording
    if len(times) < 2:
        raise ValueError(f"{len(times)} events are too few to measure")
    ends = np.searchsorted(times, times + WINDOW_MS)
    first = int((ends - np.arange(len(times))).argmax())
    t, c = times[first : ends[first]] - times[first], channels[first : ends[first]]
    order = np.lexsort((t, c))
    intervals = np.diff(t[order])[np.diff(c[order]) == 0]
    cells = np.unique(np.minimum(t * BINS / WINDOW_MS, BINS - 1).astype(np.int64) * CHANNELS + c)
    return {
        "events": float(len(times)),
        "busiest": float(len(t)),
        "active_channels": float(len(np.unique(c))),
        "mean_channel": float(c.mean()),
        "spread_channels": float(c.std()),
        "median_interval_ms": float(np.median(intervals)) if len(intervals) else float(WINDOW_MS),
        "short_intervals": float((intervals < 2).mean()) if len(intervals) else 0.0,
        "filled": len(cells) / (BINS * CHANNELS),
    }


def table(recordings: Sequence[Recording]) -> dict[str, NDArray[np.float64]]:
    """Each of `STATISTICS` as `(n_recordings,)`; a recording with fewer than two events counts as silent, all zeros."""
    silent = dict.fromkeys(STATISTICS, 0.0)
    rows = [measure(r) if len(r[0]) > 1 else silent for r in recordings]
    return {name: np.array([row[name] for row in rows]) for name in STATISTICS}


def percentile_of(real: dict[str, float], simulated: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Percentage of the simulated recordings that lie below the real one, for each of `STATISTICS`; ties count half."""
    return {
        name: float(100 * ((values < real[name]).mean() + (values == real[name]).mean() / 2))
        for name, values in simulated.items()
    }


def distance(real: dict[str, float], simulated: dict[str, NDArray[np.float64]]) -> float:
    """What `fit_cochlea` makes small: squared differences of medians from the real recording, in units of `COMPARED`."""
    total = 0.0
    for name, unit in COMPARED.items():
        a, b = real[name], max(float(np.median(simulated[name])), 1e-3)
        total += ((np.log(b / a) if name == "busiest" else b - a) / unit) ** 2
    return float(total)


def fit_cochlea(
    sounds: Sequence[NDArray[np.floating]],
    rate_hz: int,
    real: Recording,
    start: Cochlea,
    evaluations: int,
    threads: int = 1,
) -> Cochlea:
    """The cochlea whose typical recording of `sounds` is least distant from `real`, by Nelder & Mead (1965)."""
    from pydantic import ValidationError
    from scipy.optimize import minimize

    from lsm.datasets.cochlea import recordings

    names, wanted = [str(k) for k in range(len(sounds))], measure(real)
    origin = np.array([getattr(start, name) for name in FITTED])

    def cochlea(logs: NDArray[np.float64]) -> Cochlea:
        return dataclasses.replace(start, **dict(zip(FITTED, (origin * np.exp(logs)).tolist(), strict=True)))

    def cost(logs: NDArray[np.float64]) -> float:
        try:
            tried = cochlea(logs)
        except ValidationError:
            return np.inf
        return distance(wanted, table(list(recordings(sounds, rate_hz, names, 0, tried, threads))))

    simplex = np.vstack([np.zeros(len(FITTED)), np.diag([0.08, 0.3, 0.3, 0.3])])
    found = minimize(
        cost, simplex[0], method="Nelder-Mead", options={"maxfev": evaluations, "initial_simplex": simplex}
    )
    return cochlea(found.x)
