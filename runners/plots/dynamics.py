"""Pictures of a liquid's dynamics: plain arrays in, a matplotlib `Figure` out; colours as in `runners.plots.networks`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.plots.networks import BLUE, GREEN, GREY, ORANGE, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lsm.avalanches import Avalanches, PowerLaw

KERNEL_LINES = {"separation": (BLUE, "-"), "noisy": (ORANGE, "--"), "generalisation": (VERMILION, "-.")}
KERNEL_NAMES = {
    "separation": "different inputs",
    "noisy": "different inputs, noisy",
    "generalisation": "noisy copies of one input",
}


def branching(factors: Sequence[float], rates: NDArray[Any], unit: str = "Hz") -> Figure:
    """Branching factor of each sample as a histogram, and against the sample's mean rate (in `unit`); NaN are left out."""
    figure = new_figure(9, 3.4)
    left, right = figure.subplots(1, 2)
    values = np.asarray(factors, np.float64)
    finite = np.isfinite(values)
    _histogram(left, values[finite], BLUE)
    left.set(xlabel="branching factor", ylabel="samples")
    right.plot(rates[finite], values[finite], "o", color=BLUE, markersize=4, alpha=0.6)
    right.set(xlabel=f"mean rate of the sample ({unit})", ylabel="branching factor")
    if finite.any():
        spread = f" ± {values[finite].std(ddof=1):.3f}" if finite.sum() > 1 else ""
        left.set_title(
            f"{values[finite].mean():.3f}{spread} over {finite.sum()} samples", loc="left", fontsize="medium"
        )
    return figure


def rates(kinds: Mapping[str, NDArray[Any]], unit: str = "Hz") -> Figure:
    """Mean rate (in `unit`) of each neuron, each of at most two kinds of neurons apart, in shares of its kind."""
    figure = new_figure(6, 3.6)
    axis = figure.subplots()
    both = np.concatenate(list(kinds.values()))
    bins = np.linspace(0, float(both.max()) or 1.0, 41).tolist()
    styles: tuple[tuple[str, dict[str, Any]], ...] = ((BLUE, {"alpha": 0.6}), (VERMILION, OUTLINE))
    for (name, values), (colour, style) in zip(kinds.items(), styles, strict=False):
        label = f"{name}: {len(values)} neurons, mean {values.mean():.3g} {unit}"
        shares = np.full(len(values), 100 / max(len(values), 1))
        axis.hist(values, bins=bins, weights=shares, color=colour, label=label, **style)
    axis.set(xlabel=f"rate ({unit})", ylabel="share of the neurons (%)")
    axis.legend(**ABOVE)
    return figure


OUTLINE: dict[str, Any] = {"histtype": "step", "linewidth": 1.8}
ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "borderaxespad": 0.2}
"""Of a legend: above the axes, where no bar can lie."""


def population(liquid: NDArray[Any], inputs: NDArray[Any], unit: str = "ms") -> Figure:
    """Spikes per step (one `unit`) of `(samples, T)`: mean and standard deviation over samples, and one sample."""
    figure = new_figure(8, 3.6)
    axis = figure.subplots()
    for name, values, colour, line in (("liquid", liquid, BLUE, "-"), ("input", inputs, GREY, "-.")):
        _band(axis, values, colour, line, f"{name}, mean ± deviation of {len(values)} samples")
    axis.plot(liquid[0], color=BLUE, linewidth=0.6, alpha=0.6, label="liquid, first sample")
    axis.set(xlabel=f"time ({unit})", ylabel=f"spikes per {unit}", xlim=(0, liquid.shape[1] - 1))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize="small")
    return figure


def synchrony(fano: Sequence[float], correlation: Sequence[float], bin_steps: int = 10, unit: str = "ms") -> Figure:
    """Fano factor of the population and mean pairwise correlation of each sample; NaN are left out."""
    figure = new_figure(9, 3.2)
    quantities = (
        (fano, 1.0, "independent Poisson", "Fano factor of the population"),
        (correlation, 0.0, "independent", "mean pairwise correlation"),
    )
    for axis, (values, mark, label, name) in zip(figure.subplots(1, 2), quantities, strict=True):
        finite = np.asarray(values, np.float64)
        finite = finite[np.isfinite(finite)]
        _histogram(axis, finite, GREEN)
        axis.axvline(mark, color="black", linestyle=":", label=label)
        axis.set(xlabel=f"{name} ({bin_steps}-{unit} bins)", ylabel="samples")
        axis.legend(**ABOVE)
    return figure


def avalanches(waves: Mapping[str, Avalanches], fits: Mapping[str, PowerLaw | None], unit: str = "ms") -> Figure:
    """Share of avalanches at least as large as x, for sizes and durations.

    `waves` holds the `measured` and the `shuffled` activity, `fits` the power laws of the measured one where there are.
    """
    figure = new_figure(9, 3.8)
    labels = {"sizes": "avalanche size (spikes above the threshold)", "durations": f"avalanche duration ({unit})"}
    for axis, (name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        axis.set(xlabel=label, ylabel="share that is as large or larger")
        data = getattr(waves["measured"], name)
        axis.set_title(f"{len(data)} avalanches", loc="left", fontsize="medium")
        if not len(data):
            continue
        x, share = _tail(data)
        axis.loglog(x, share, "o", color=BLUE, markersize=3, alpha=0.7, label="measured")
        if len(control := getattr(waves["shuffled"], name)):
            axis.loglog(*_tail(control), "x", color=GREY, markersize=4, alpha=0.7, label="without common timing")
        if fit := fits[name]:
            _draw_fit(axis, fit, x, share)
        axis.legend(frameon=False, fontsize="small", loc="lower left")
        axis.set_ylim(0.5 / len(data), 1.5)
        _plain_ticks(axis)
    return figure


def _plain_ticks(axis: Axes) -> None:
    """Few labels such as 1, 2, 5, 10 on a logarithmic x axis: matplotlib labels each step of a short one, in powers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high <= 100 * low else (1.0,)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _draw_fit(axis: Axes, fit: PowerLaw, x: NDArray[np.int64], share: NDArray[np.float64]) -> None:
    from scipy.special import zeta

    at = x[x >= fit.x_min]
    law = share[x == fit.x_min][0] * zeta(fit.exponent, at) / zeta(fit.exponent, fit.x_min)
    verdict = "better" if fit.versus_geometric > 2 else "worse" if fit.versus_geometric < -2 else "no better or worse"
    label = (
        f"power law {fit.exponent:.2f} ± {fit.standard_error:.2f} from {fit.x_min}\n"
        f"KS distance {fit.ks_distance:.3f};\n{verdict} than exponential"
    )
    axis.loglog(at, law, color=VERMILION, label=label)


def astrocyte(levels: NDArray[Any], eta: NDArray[Any]) -> Figure:
    """Course of the astrocyte A `(samples, T)` against the learning rate eta `(T,)`, and their ratio."""
    figure = new_figure(8, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
    _band(top, levels, GREEN, "-", f"astrocyte A (depression), mean ± deviation of {len(levels)} samples")
    top.plot(eta, color=ORANGE, linestyle="--", label="η (potentiation)")
    top.set(ylabel="learning rate")
    top.legend(frameon=False)
    _band(bottom, levels / np.where(eta == 0, np.nan, eta), GREEN, "-", "")
    bottom.axhline(1, color="black", linewidth=0.6)
    bottom.set(ylabel="A / η", xlabel="time (ms)", xlim=(0, levels.shape[1] - 1))
    return figure


def kernel(spectra: Mapping[str, NDArray[np.float64]], ranks: Mapping[str, Sequence[int]]) -> Figure:
    """Singular values of one matrix of each kind, and the ranks of all of them."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    for k, (kind, values) in enumerate(spectra.items()):
        colour, line = KERNEL_LINES[kind]
        positive = values[values > 0]
        left.semilogy(np.arange(1, len(positive) + 1), positive, color=colour, linestyle=line, label=KERNEL_NAMES[kind])
        spots = k + np.linspace(-0.2, 0.2, len(ranks[kind])) if len(ranks[kind]) > 1 else [k]
        right.plot(spots, ranks[kind], "o", color=colour, markersize=4)
        right.text(k, float(np.max(ranks[kind])), f"{np.mean(ranks[kind]):.1f}\n", ha="center", va="bottom")
    largest = max(float(values.max(initial=0)) for values in spectra.values())
    left.set(xlabel="index", ylabel="singular value of the counts", ylim=(1e-3, 3 * max(largest, 1)))
    left.legend(frameon=False, fontsize="small")
    names = [textwrap.fill(KERNEL_NAMES[kind], 16) for kind in spectra]
    right.set_xticks(range(len(spectra)), names, fontsize="small")
    right.set(ylabel="rank", xlim=(-0.5, len(spectra) - 0.5))
    right.margins(y=0.25)
    return figure


def _tail(data: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Distinct values and the share of values at least as large."""
    x, counts = np.unique(data, return_counts=True)
    return x, np.cumsum(counts[::-1])[::-1] / len(data)


def _histogram(axis: Axes, values: NDArray[np.float64], colour: str) -> None:
    if len(values):
        axis.hist(values, bins=min(30, max(5, len(values) // 4)), color=colour, alpha=0.8)


def _band(axis: Axes, values: NDArray[Any], colour: str, line: str, label: str) -> None:
    """Mean over rows with a band of one standard deviation."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    ms = np.arange(values.shape[1])
    axis.plot(ms, mean, color=colour, linestyle=line, label=label or None)
    axis.fill_between(ms, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
