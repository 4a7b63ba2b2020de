"""Pictures of real beside simulated event recordings: plain arrays in, a matplotlib `Figure` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.plots.networks import BLUE, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lsm.datasets.sensor_statistics import Statistics

LINES = {"real": (BLUE, "-"), "simulated": (VERMILION, "--")}


def time_course(measured: Mapping[str, Statistics]) -> Figure:
    """Events per ms of a recording over the three saccades, OFF and ON apart."""
    figure = new_figure(9, 4.6)
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    for p, (axis, polarity) in enumerate(zip(axes, ("OFF", "ON"), strict=True)):
        for name, one in measured.items():
            colour, line = LINES[name]
            axis.plot(one.rate[p], color=colour, linestyle=line, label=f"{name}: {one.rate[p].sum():,.0f} events")
        axis.set(ylabel=f"{polarity} events per ms", xlim=(0, one.rate.shape[1]))
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderpad=0)
    axes[-1].set(xlabel="time (ms)")
    axes[-1].set_ylim(bottom=0)
    return figure


def maps(measured: Mapping[str, Statistics]) -> Figure:
    """Mean events of each pixel, one row for each polarity, one column for each set, and their difference."""
    figure = new_figure(9, 5.4)
    axes = figure.subplots(2, 3)
    real, simulated = measured["real"].maps, measured["simulated"].maps
    top = float(np.quantile(np.concatenate([real, simulated]), 0.999))
    for p, polarity in enumerate(("OFF", "ON")):
        panels = (("real", real[p], "cividis", 0), ("simulated", simulated[p], "cividis", 0))
        for axis, (name, values, colours, low) in zip(axes[p], panels, strict=False):
            image = axis.imshow(values, cmap=colours, vmin=low, vmax=top)
            axis.set_title(f"{polarity}, {name}", fontsize="medium")
        figure.colorbar(image, ax=axes[p, :2], label="events per recording", shrink=0.9)
        half = top / 2
        image = axes[p, 2].imshow(simulated[p] - real[p], cmap="PuOr", vmin=-half, vmax=half)
        axes[p, 2].set_title(f"{polarity}, simulated - real", fontsize="medium")
        figure.colorbar(image, ax=axes[p, 2], shrink=0.9)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def counts(measured: Mapping[str, Statistics]) -> Figure:
    """Events of each recording, simulated against real."""
    figure = new_figure(4.6, 4.4)
    axis = figure.subplots()
    real, simulated = measured["real"].counts, measured["simulated"].counts
    top = 1.05 * float(max(real.max(), simulated.max()))
    axis.plot([0, top], [0, top], color=GREY, linewidth=0.8)
    axis.plot(real, simulated, "o", color=BLUE, markersize=2.5, alpha=0.4, markeredgewidth=0)
    axis.set(xlabel="events of the real recording", ylabel="events of the simulated one", xlim=(0, top), ylim=(0, top))
    axis.set_title(f"{len(real)} images, r = {np.corrcoef(real, simulated)[0, 1]:.4f}", loc="left", fontsize="medium")
    return figure


def intervals(measured: Mapping[str, Statistics]) -> Figure:
    """Intervals between events of one pixel by polarities, and how many events a pixel has."""
    from lsm.datasets.sensor_statistics import INTERVAL_US, PAIRS

    figure = new_figure(9, 5.2)
    panels = figure.subplots(2, 2).ravel()
    for name, one in measured.items():
        colour, line = LINES[name]
        ms = np.arange(one.intervals.shape[1] - 1) * INTERVAL_US / 1000
        for axis, row, (a, b) in zip(panels, one.intervals, PAIRS, strict=False):
            axis.plot(ms, row[:-1], color=colour, linestyle=line, label=name)
            polarity = ("OFF", "ON")
            axis.set(xlabel=f"{polarity[a]} to {polarity[b]}: interval (ms)", ylabel="per recording")
        events = np.arange(1, len(one.per_pixel) - 1)
        panels[3].plot(events, one.per_pixel[1:-1], color=colour, linestyle=line, label=name)
    panels[3].set(xlabel="events of a pixel", ylabel="pixels per recording")
    for axis in panels:
        axis.set_ylim(bottom=0)
    panels[0].legend(frameon=False)
    return figure


def path(places: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Place of the image over time as registered from events (`sensor_statistics.track`), where a tenth is explained."""
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    for name, found in places.items():
        colour, line = LINES[name]
        sure = found[:, 3] > 0.1
        x, y = (np.where(sure, found[:, k], np.nan) for k in (1, 2))
        left.plot(found[:, 0], x, color=colour, linestyle=line, label=f"x, {name}")
        left.plot(found[:, 0], y, color=colour, linestyle=line, alpha=0.55, label=f"y, {name}")
        right.plot(x, y, color=colour, linestyle=line, marker=".", markersize=3)
    left.set(xlabel="time (ms)", ylabel="place of the image (px)")
    left.legend(frameon=False, ncols=2, fontsize="small")
    right.set(xlabel="x (px)", ylabel="y (px)", aspect="equal")
    right.invert_yaxis()
    return figure


def examples(
    both: Mapping[str, Sequence[NDArray[Any]]], images: NDArray[np.uint8], labels: NDArray[np.int64], n: int = 6
) -> Figure:
    """The first recordings of `n` classes: ON minus OFF events of the second saccade, real above simulated."""
    figure = new_figure(1.5 * n, 4.6)
    axes = figure.subplots(3, n)
    chosen = [int(np.flatnonzero(labels == c)[0]) for c in np.unique(labels)[:n]]
    for column, k in enumerate(chosen):
        axes[0, column].imshow(images[k], cmap="gray_r")
        for row, (name, recordings) in enumerate(both.items(), start=1):
            events = recordings[k][(recordings[k]["t"] > 105_000) & (recordings[k]["t"] < 215_000)]
            signed = np.zeros((34, 34))
            np.add.at(signed, (events["y"], events["x"]), 2 * events["p"] - 1)
            axes[row, column].imshow(signed, cmap="PuOr", vmin=-6, vmax=6)
            axes[row, 0].set_ylabel(name)
    axes[0, 0].set_ylabel("image")
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle("ON (violet) and OFF (orange) events of the second saccade", fontsize="medium")
    return figure
