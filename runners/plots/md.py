"""Pictures of a simulation: density, temperature, energy and conserved quantity over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.plots.networks import BLUE, GREY, new_figure
from runners.plots.properties import draw_measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlff.dynamics.trajectory import Thermo
    from mlff.system.liquid import System

MOST_DRAWN = 2000
"""Points of a curve; more steps are averaged in groups."""


def course(thermo: Thermo, system: System) -> Figure:
    """Four panels over the simulated time; measured densities of the system as lines."""
    figure = new_figure(9, 6)
    panels = figure.subplots(2, 2, sharex=True)
    time = _thinned(thermo.time_ps)
    curves: list[tuple[str, NDArray[Any]]] = [
        ("density (g/cm3)", thermo.density_g_cm3),
        ("temperature (K)", thermo.temperature_K),
        ("potential energy less its mean (kcal/mol)", thermo.potential_kcal_mol - thermo.potential_kcal_mol.mean()),
        (
            "conserved quantity less its first value (kcal/mol)",
            thermo.conserved_kcal_mol - thermo.conserved_kcal_mol[0],
        ),
    ]
    for axis, (label, values) in zip(panels.flat, curves, strict=True):
        axis.set(ylabel=label)
        if np.isfinite(values).all():
            axis.plot(time, _thinned(values), color=BLUE, linewidth=0.8)
        else:
            axis.text(0.5, 0.5, "none for Langevin dynamics", transform=axis.transAxes, ha="center", color=GREY)
    draw_measured(panels[0, 0], system, "density_g_cm3")
    if panels[0, 0].get_legend_handles_labels()[0]:
        panels[0, 0].legend(frameon=False)
    for axis in panels[1]:
        axis.set(xlabel="time (ps)")
    panels[0, 0].set_title(system.name, loc="left")
    return figure


def _thinned(values: NDArray[Any]) -> NDArray[np.float64]:
    """Means of consecutive groups, so that no more than `MOST_DRAWN` points remain."""
    group = -(-len(values) // MOST_DRAWN)
    whole = len(values) // group * group
    means: NDArray[np.float64] = np.asarray(values[:whole], float).reshape(-1, group).mean(axis=1)
    return means
