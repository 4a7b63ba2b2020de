"""Pictures of a run: spike raster, weights, confusion matrix, learning curve, course of INIT.

Each function takes plain arrays and returns a matplotlib `Figure`, made without pyplot and so without any global state.
Colours are those of Okabe and Ito, told apart by colour-blind readers; what differs in colour also differs in place,
line or label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#555555"
CLASS_COLOURS = {"excitatory": BLUE, "inhibitory": VERMILION, "input": GREY}
MOST_INPUTS_DRAWN = 1500
"""Above this many active inputs a raster shows evenly chosen ones, and says so."""


def spike_raster(
    spikes: NDArray[Any],
    inputs: NDArray[Any],
    n_excitatory: int | None,
    astrocyte: NDArray[Any] | None = None,
    eta: NDArray[Any] | None = None,
    title: str = "",
    unit: str = "ms",
) -> Figure:
    """One sample, step by step: liquid on top, active inputs below, the astrocyte A and the learning rate at the bottom.

    `spikes (T, n)` with the excitatory neurons first, or all of one kind with `n_excitatory` None, `inputs (T, n_in)`;
    `astrocyte`, `eta` `(T,)` or None. A step is one `unit`.
    """
    heights = [4.0, 1.6] if astrocyte is None else [4.0, 1.6, 1.4]
    figure = new_figure(9, sum(heights) + 0.9)
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    steps, n = spikes.shape
    if n_excitatory is None:
        _dots(axes[0], spikes, 0, BLUE, "liquid")
    else:
        _dots(axes[0], spikes[:, :n_excitatory], 0, BLUE, "excitatory")
        _dots(axes[0], spikes[:, n_excitatory:], n_excitatory, VERMILION, "inhibitory")
    axes[0].set(ylabel="liquid neuron", ylim=(-0.5, n - 0.5))
    axes[0].set_title(title, loc="left")
    _legend_above(axes[0])

    active = np.flatnonzero(inputs.any(axis=0))
    drawn = active[:: max(1, -(-len(active) // MOST_INPUTS_DRAWN))]
    _dots(axes[1], inputs[:, drawn], 0, GREY, "input")
    share = f"{len(active)} of {inputs.shape[1]} inputs are active"
    share += f", {len(drawn)} drawn" if len(drawn) < len(active) else ""
    axes[1].set(ylabel="active input", ylim=(-0.5, max(len(drawn), 1) - 0.5))
    axes[1].set_title(share, loc="left", fontsize="small")

    if astrocyte is not None:
        axes[2].plot(np.arange(steps), astrocyte, color=GREEN, label="astrocyte A (depression)")
        if eta is not None:
            axes[2].plot(np.arange(steps), eta, color=ORANGE, linestyle="--", label="η (potentiation)")
        axes[2].set(ylabel="learning rate")
        axes[2].set_ylim(bottom=min(0.0, 1.1 * float(np.min(astrocyte))))
        axes[2].legend(loc="upper right", frameon=False)
    axes[-1].set(xlabel=f"time ({unit})", xlim=(0, steps))
    return figure


def weight_histograms(before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> Figure:
    """Weights before and after INIT, one panel for each class of synapses (the keys, named by the pre neuron)."""
    figure = new_figure(3.2 * len(after), 3.2)
    axes = figure.subplots(1, len(after), squeeze=False)[0]
    for axis, (name, weights) in zip(axes, after.items(), strict=True):
        start = before[name]
        both = np.concatenate([start, weights])
        low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 0.0)
        margin = 0.02 * (high - low) or 0.5
        bins = np.linspace(low - margin, high + margin, 61)
        axis.hist(weights, bins=bins, weights=_shares(weights), color=CLASS_COLOURS.get(name, BLUE), label="after INIT")
        outline = {"histtype": "step", "linewidth": 1.4, "color": "black"}
        axis.hist(start, bins=bins, weights=_shares(start), label="before", **outline)
        means = " → ".join(f"{np.abs(w).mean():.2f}" for w in (start, weights) if len(w))
        axis.set_title(f"{name}: {len(weights):,} synapses\nmean |w| {means or 'none'}", fontsize="medium")
        axis.set(xlabel="weight (threshold = 20)", yscale="log" if both.size else "linear")
    axes[0].set_ylabel("share of synapses (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def confusion(matrix: NDArray[np.int64], class_names: Sequence[str], title: str = "") -> Figure:
    """Confusion matrix `(n_classes, n_classes)`, rows = true class; shaded by the share of the row, numbers inside."""
    n = len(class_names)
    cell = 0.5 if n <= 30 else 0.25
    figure = new_figure(max(4.0, cell * n + 1.8), max(3.6, cell * n + 1.4))
    axis = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    if n <= 30:
        for i, j in np.argwhere(matrix):
            colour = "black" if shares[i, j] > 0.5 else "white"
            size = "small" if matrix.max() < 10_000 else "xx-small"
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", color=colour, fontsize=size)
    upright = max(map(len, class_names), default=0) <= 2
    axis.set_xticks(np.arange(n), class_names, rotation=0 if upright else 90)
    axis.set_yticks(np.arange(n), class_names)
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    return figure


def learning_curve(history: Sequence[Mapping[str, float]], chosen: int, chance: float | None = None) -> Figure:
    """Accuracy and loss by epoch, the chosen epoch (counted from 1) marked; `history[k]` holds epoch k + 1.

    Keys: `train/accuracy`, `valid/accuracy`, and where there are any `train/loss`, `valid/loss`. `chance` (0..1) is
    told in the title: a line at a tenth would squeeze the curves.
    """
    with_loss = bool(history) and "train/loss" in history[0]
    figure = new_figure(9 if with_loss else 5, 3.4)
    panels = figure.subplots(1, 2 if with_loss else 1, squeeze=False)[0]
    epochs = np.arange(1, len(history) + 1)
    marker = "o" if len(history) <= 20 else ""
    for axis, quantity, factor in zip(panels, ("accuracy", "loss"), (100.0, 1.0), strict=False):
        for part, colour, line in (("train", BLUE, "--"), ("valid", VERMILION, "-")):
            values = [factor * row.get(f"{part}/{quantity}", np.nan) for row in history]
            if not np.isnan(values).all():
                axis.plot(epochs, values, color=colour, linestyle=line, marker=marker, markersize=3, label=part)
        if 1 <= chosen <= len(history):
            axis.axvline(chosen, color=GREY, linewidth=0.8, label="chosen")
        axis.set(xlabel="epoch", ylabel="accuracy (%)" if quantity == "accuracy" else "cross-entropy (nats)")
        if axis.lines:
            axis.legend(loc="best", frameon=False)
    notes = [f"epoch {chosen} of {len(history)} chosen"] if 1 <= chosen <= len(history) else []
    notes += [f"chance {100 * chance:.1f} %"] if chance is not None else []
    panels[0].set_title("; ".join(notes), loc="left", fontsize="medium")
    return figure


def init_course(course: Mapping[str, NDArray[Any]]) -> Figure:
    """Mean weight of each class and astrocyte level over the snippets of INIT.

    Columns, all `(n_looks,)`: `snippets`, `w_excitatory`, `w_inhibitory`, `w_input_abs`, `astrocyte`,
    `liquid_per_ms`, `input_per_ms`.
    """
    figure = new_figure(9, 5.4)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 1, 1])
    snippets = course["snippets"]
    lines = (
        ("w_excitatory", "excitatory", BLUE, "-"),
        ("w_inhibitory", "inhibitory", VERMILION, "--"),
        ("w_input_abs", "input, magnitude", GREY, "-."),
    )
    for key, label, colour, line in lines:
        axes[0].plot(snippets, course[key], color=colour, linestyle=line, label=label)
    axes[0].axhline(0, color="black", linewidth=0.5)
    axes[0].set(ylabel="mean weight\n(threshold = 20)")
    axes[1].plot(snippets, course["astrocyte"], color=GREEN)
    axes[1].set(ylabel="astrocyte A")
    axes[2].plot(snippets, course["liquid_per_ms"], color=BLUE, label="liquid")
    axes[2].plot(snippets, course["input_per_ms"], color=GREY, linestyle="-.", label="input")
    axes[2].set(ylabel="spikes per ms", xlabel="snippets of INIT")
    axes[2].set_ylim(bottom=0)
    for axis in (axes[0], axes[2]):
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[0].set_xlim(0, float(np.max(snippets)))
    axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches whose parts keep out of each other's way."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _dots(axis: Axes, spikes: NDArray[Any], first: int, colour: str, label: str) -> None:
    """A dot for each spike of `(T, n)`, neuron k at height `first + k`."""
    steps, neurons = np.nonzero(spikes)
    size = 3.0 if len(steps) < 20_000 else 1.5
    axis.plot(steps, first + neurons, ".", markersize=size, markeredgewidth=0, color=colour, label=label)


def _legend_above(axis: Axes) -> None:
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, markerscale=4, borderpad=0)


def _shares(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.full(len(values), 100 / max(len(values), 1))
