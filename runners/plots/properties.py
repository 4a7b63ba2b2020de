"""Pictures of properties: density over time, the running viscosity, mean square displacements, radial distributions.

Every window that a fit has used is shaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runners.plots.networks import BLUE, GREEN, GREY, ORANGE, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mlff.properties import Densities, Transport
    from mlff.transport import Curves, Viscosity, Window
    from runners.properties_stages import Found

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, GREY, "#CC79A7", "#56B4E9")


def figures(found: Found, system: Any) -> dict[str, Figure]:
    """All pictures that the results allow, by name."""
    drawn: dict[str, Figure] = {}
    t = found.transport
    if found.densities is not None:
        drawn["density"] = density(found.densities, system)
    if t is None:
        return drawn
    if t.viscosity is not None:
        drawn["viscosity"] = viscosity(t.viscosity, system)
    if t.curves is not None and t.diffusion:
        drawn["displacements"] = displacements(t)
    if t.radial:
        drawn["radial"] = radial(t)
    return drawn


def draw_measured(axis: Axes, system: Any, name: str) -> None:
    """A line at the measured value that belongs to the system's temperature, if there is one."""
    from mlff.system.liquid import measured_at

    found = measured_at(system.measured, name, system.temperature_K)
    if found is not None:
        where = f"{found.temperature_K:g} K" if found.temperature_K else "temperature not stated"
        label = f"measured: {found.value:.4g} ({where})"
        axis.axhline(found.value, color=VERMILION, linestyle="--", linewidth=1, label=label)


def density(d: Densities, system: Any) -> Figure:
    """Density of every replica over time; what is used is drawn full, what came before equilibrium thin."""
    figure = new_figure(7.5, 3.8)
    axis = figure.subplots()
    for k, (series, start) in enumerate(zip(d.series, d.mean.starts, strict=True)):
        time, colour = d.dt_ps * np.arange(len(series)), COLOURS[k % len(COLOURS)]
        axis.plot(time[: start + 1], series[: start + 1], color=colour, linewidth=0.6, alpha=0.4)
        axis.plot(time[start:], series[start:], color=colour, linewidth=0.8, label=f"replica {k}")
        axis.axvline(time[start], color=colour, linewidth=0.8, linestyle=":")
    e = d.mean.estimate
    axis.axhline(e.value, color="black", linewidth=1, label=f"mean {e.value:.4f} ± {e.error:.2g}")
    if np.isfinite(e.error):
        axis.axhspan(e.value - e.error, e.value + e.error, color="black", alpha=0.12, linewidth=0)
    draw_measured(axis, system, "density_g_cm3")
    axis.set(xlabel="time (ps)", ylabel="density (g/cm3)")
    axis.set_title(f"{system.name}: dotted, where equilibrium begins", loc="left", fontsize="medium")
    axis.legend(frameon=False, fontsize="small")
    return figure


def viscosity(v: Viscosity, system: Any) -> Figure:
    """Running Green-Kubo integral with its spread, the fit, and the window."""
    figure = new_figure(7.5, 3.8)
    axis = figure.subplots()
    axis.fill_between(v.time_ps, v.running - v.spread, v.running + v.spread, color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(v.time_ps, v.running, color=BLUE, label="running integral, mean ± spread of blocks")
    axis.plot(v.time_ps, v.fitted, color=VERMILION, linestyle="--", label="fit")
    _shade(axis, v.window, "fit window")
    e = v.eta
    axis.errorbar(v.time_ps[-1], e.value, e.error if np.isfinite(e.error) else 0, fmt="o", color="black", capsize=4)
    draw_measured(axis, system, "viscosity_mPa_s")
    axis.set(xlabel="time (ps)", ylabel="viscosity (mPa s)", xlim=(0, min(v.time_ps[-1], 3 * v.window.end_ps)))
    axis.set_title(f"{system.name}: {e} mPa s; spread grows as t^{v.exponent:.2f}", loc="left", fontsize="medium")
    axis.legend(frameon=False, fontsize="small")
    return figure


def displacements(t: Transport) -> Figure:
    """Mean square displacements of every species, and of charge, on logarithmic axes with their fit windows."""
    c = t.curves
    assert c is not None
    collective = t.conductivity is not None
    figure = new_figure(9 if collective else 5, 4)
    panels = figure.subplots(1, 2 if collective else 1, squeeze=False)[0]
    for k, d in enumerate(t.diffusion):
        colour = COLOURS[k % len(COLOURS)]
        panels[0].plot(
            c.time_ps[1:], c.self_msd[:, k].mean(axis=0)[1:], color=colour, label=f"{d.name} ({d.n_molecules})"
        )
        inside = (c.time_ps >= d.window.start_ps) & (c.time_ps <= d.window.end_ps)
        panels[0].plot(c.time_ps[inside], c.self_msd[:, k].mean(axis=0)[inside], color=colour, linewidth=4, alpha=0.4)
    panels[0].plot(c.time_ps[1:], c.time_ps[1:], color=GREY, linewidth=0.7, linestyle=":", label="slope 1")
    panels[0].set(xscale="log", yscale="log", xlabel="time (ps)", ylabel="mean square displacement (Å²)")
    panels[0].set_title("molecules; thick: fit window", loc="left", fontsize="medium")
    panels[0].legend(frameon=False, fontsize="small")
    if t.conductivity is not None:
        _charge(panels[1], c, t.conductivity.window)
    return figure


def _charge(axis: Any, c: Curves, window: Window) -> None:
    total = c.charge[:, 0] + c.charge[:, 1] + 2 * c.charge[:, 2]
    for block in total:
        axis.plot(c.time_ps, block, color=BLUE, linewidth=0.4, alpha=0.4)
    axis.plot(c.time_ps, total.mean(axis=0), color=BLUE, label="of charge, mean of blocks")
    z2 = np.square(c.ion_charges) * np.array(c.counts)
    axis.plot(c.time_ps, z2 @ c.self_msd.mean(axis=0), color=VERMILION, linestyle="--", label="sum over ions alone")
    _shade(axis, window, "fit window")
    axis.set(xlabel="time (ps)", ylabel="mean square displacement (e² Å²)")
    axis.set_title("charge", loc="left", fontsize="medium")
    axis.legend(frameon=False, fontsize="small")


def radial(t: Transport) -> Figure:
    """Radial distributions and running coordination numbers."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    for k, (pair, r) in enumerate(t.radial.items()):
        colour, line = COLOURS[k % len(COLOURS)], ("-", "--", ":")[k // len(COLOURS) % 3]
        left.plot(r.r_A, r.g, color=colour, linestyle=line, label=pair)
        right.plot(r.r_A, r.coordination, color=colour, linestyle=line)
        if r.first_minimum_A is not None:
            right.axvline(r.first_minimum_A, color=colour, linewidth=0.6, linestyle=":")
    left.set(xlabel="r (Å)", ylabel="g(r)")
    numbers = [r.n_first_shell.value for r in t.radial.values() if r.n_first_shell is not None]
    if max(numbers, default=0.0) > 0:
        right.set_ylim(0, 1.5 * max(numbers))  # what comes after the first shells would dwarf them
    right.set(xlabel="r (Å)", ylabel="number within r")
    right.set_title("dotted: ends of the first shells", loc="left", fontsize="medium")
    left.legend(frameon=False, fontsize="small")
    return figure


def _shade(axis: Any, window: Window, label: str) -> None:
    axis.axvspan(window.start_ps, window.end_ps, color=GREEN, alpha=0.12, linewidth=0, label=label)
