"""Pictures of alignment: densities round by round, and how far they are from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runners.plots.networks import BLUE, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from runners.densities import Run
    from runners.rounds import Round
    from runners.systems import Target


def densities(
    aligned: Sequence[Target], watched: Sequence[Target], rounds: Sequence[Round], after: Mapping[str, Run], kept: int
) -> Figure:
    """Left: error of each liquid over the rounds; right: before and after, also of liquids that were only watched."""
    figure = new_figure(10, max(3.4, 0.5 * (len(aligned) + len(watched)) + 1.5))
    left, right = figure.subplots(1, 2)
    for target in aligned:
        away = [r.runs[target.name].measured.density_g_cm3 - target.density_g_cm3 for r in rounds]
        bars = [r.runs[target.name].measured.error_g_cm3 for r in rounds]
        left.errorbar([r.index for r in rounds], away, bars, marker="o", markersize=4, capsize=2, label=target.name)
    left.axhline(0.0, color=GREY, linewidth=0.8)
    left.axvline(kept, color=GREY, linewidth=0.8, linestyle=":")
    left.set(xlabel="round", ylabel="density less the measured one (g/cm3)", xticks=[r.index for r in rounds])
    left.legend(frameon=False)
    targets = [*aligned, *watched]
    places = range(len(targets))
    for colour, shift, name, runs in ((VERMILION, -0.12, "before", rounds[0].runs), (BLUE, 0.12, "after", after)):
        found = [runs[t.name].measured for t in targets]
        away = [m.density_g_cm3 - t.density_g_cm3 for m, t in zip(found, targets, strict=True)]
        bars = [m.error_g_cm3 for m in found]
        right.errorbar(away, [p + shift for p in places], xerr=bars, fmt="o", color=colour, capsize=2, label=name)
    right.axvline(0.0, color=GREY, linewidth=0.8)
    right.set(xlabel="density less the measured one (g/cm3)", yticks=list(places))
    right.set_yticklabels([t.name if t in aligned else f"{t.name} (not aligned)" for t in targets])
    right.invert_yaxis()
    right.legend(frameon=False)
    return figure
