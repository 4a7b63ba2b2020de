"""Pictures of a resistive-memory liquid: conductances of its devices and of its pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runners.plots.networks import BLUE, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lsm.rram.conductance import Pairs

BINS = 121
MOST_DRAWN = 1_000_000  # devices in a histogram, evenly chosen


def conductances(pairs: Pairs, n_in: int, draw: str) -> Figure:
    """Single devices on the left, differences of pairs on the right; `pairs` `(n_in + n, n)`, input rows first."""
    figure = new_figure(9, 3.4)
    axes = figure.subplots(1, 2)
    parts = (("input", slice(0, n_in), BLUE, "-"), ("recurrent", slice(n_in, None), VERMILION, "--"))
    for name, rows, colour, line in parts:
        plus, minus = pairs.plus[rows], pairs.minus[rows]
        for axis, values in zip(axes, (np.stack([plus, minus]), plus - minus), strict=True):
            flat = values.ravel()[:: max(1, -(-values.size // MOST_DRAWN))]
            style = {"histtype": "step", "color": colour, "linestyle": line, "linewidth": 1.4}
            zero = f", {np.mean(flat == 0):.0%} at 0" if np.mean(flat == 0) > 0.005 else ""
            label = f"{name}: {flat.mean():.2f} ± {flat.std():.2f} µS{zero}"
            axis.hist(flat, bins=BINS, weights=np.full(flat.size, 100 / flat.size), label=label, **style)
    axes[0].set(xlabel="conductance of a device (µS)", ylabel="share of devices (%)")
    axes[1].set(xlabel="difference of a pair (µS)", ylabel="share of pairs (%)")
    for axis in axes:
        axis.legend(loc="upper right", frameon=False, fontsize="small")
        axis.set_ylim(top=1.35 * axis.get_ylim()[1])
    axes[0].set_title(f"{draw} draw, {pairs.plus.size:,} pairs", loc="left", fontsize="medium")
    return figure
