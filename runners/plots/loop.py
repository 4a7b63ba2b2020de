"""Pictures of the loop: errors over labels, densities before and after, where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runners.plots.networks import BLUE, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curve(frames: Sequence[int], errors: Sequence[Sequence[float]], student: float | None) -> Figure:
    """Force error of every member on held-out clusters over the number of labels; the student's as a line."""
    figure = new_figure(5, 3.6)
    axis = figure.subplots()
    for member in zip(*errors, strict=True):
        axis.plot(frames, member, "o-", color=BLUE, markersize=4, linewidth=0.8)
    if student is not None:
        axis.axhline(student, color=VERMILION, linestyle="--", label="student")
        axis.legend(frameon=False)
    axis.set(xlabel="labelled clusters", ylabel="force MAE on held-out clusters (meV/Å)", ylim=(0, None))
    return figure


def densities(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Simulated over measured densities, before and after alignment; open marks were not aligned."""
    figure = new_figure(9, 4.2)
    left, right = figure.subplots(1, 2)
    for when, colour in (("before", VERMILION), ("after", BLUE)):
        for row in rows:
            measured, found = float(row["measured_g_cm3"]), float(row[f"{when}_g_cm3"])
            fill = colour if row["aligned"] == "true" else "white"
            bars = float(row[f"{when}_error"])
            style = {"fmt": "o", "color": colour, "markerfacecolor": fill, "capsize": 2}
            left.errorbar(measured, found, bars, **style)
            place = rows.index(row) + (-0.12 if when == "before" else 0.12)
            right.errorbar(found - measured, place, xerr=bars, **style)
        right.plot([], [], "o", color=colour, label=when)
    known = [float(row["measured_g_cm3"]) for row in rows]
    left.axline((min(known), min(known)), slope=1.0, color=GREY, linewidth=0.8)
    left.set(xlabel="measured density (g/cm3)", ylabel="simulated density (g/cm3)")
    right.axvline(0.0, color=GREY, linewidth=0.8)
    right.set(xlabel="simulated less measured (g/cm3)", yticks=range(len(rows)))
    right.set_yticklabels([row["system"] + ("" if row["aligned"] == "true" else " (not aligned)") for row in rows])
    right.invert_yaxis()
    right.legend(frameon=False)
    return figure


def cost(seconds: Mapping[str, float]) -> Figure:
    """Wall time of every kind of stage."""
    figure = new_figure(5, 2.6)
    axis = figure.subplots()
    axis.barh(list(seconds), [s / 60 for s in seconds.values()], color=BLUE)
    axis.set(xlabel="wall time (min)")
    axis.invert_yaxis()
    return figure
