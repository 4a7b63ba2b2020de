"""Pictures of a force field: predictions against labels, errors by element and composition, errors over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.plots.networks import BLUE, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlff.scores import Comparison

AXES = {
    "energy": ("energy less the mean (eV/atom)", 1e-3, "meV/atom"),
    "forces": ("force component (eV/Å)", 1e-3, "meV/Å"),
    "charges": ("charge (e)", 1.0, "e"),
    "dipole": ("dipole component (D)", 1.0, "D"),
    "net_forces": ("net force on a molecule (eV/Å)", 1e-3, "meV/Å"),
}
"""Heading, factor from the metric's unit to the axis, unit of the metric."""
MOST_DRAWN = 20_000
MOST_COMPOSITIONS = 24


def parity(compared: Comparison, title: str) -> Figure:
    """Prediction against label, one panel for each kind of label; energies less the labels' mean."""
    from mlff.scores import FACTORS

    names = list(compared.label)
    figure = new_figure(4.0 * len(names), 3.9)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(panels, names, strict=True):
        heading, factor, unit = AXES[name]
        label, predicted = (FACTORS[name] * np.ravel(a[name]) for a in (compared.label, compared.predicted))
        error = np.abs(predicted - label).mean()
        middle = label.mean() if name == "energy" else 0.0
        label, predicted = factor * (label - middle), factor * (predicted - middle)
        chosen = slice(None, None, -(-len(label) // MOST_DRAWN))
        low, high = float(min(label.min(), predicted.min())), float(max(label.max(), predicted.max()))
        axis.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        axis.plot(label[chosen], predicted[chosen], ".", color=BLUE, markersize=2.5, alpha=0.4, markeredgewidth=0)
        axis.set(xlabel=f"label: {heading}", ylabel="predicted", aspect="equal")
        axis.set_title(f"{title}: {name.replace('_', ' ')}, MAE {error:.3g} {unit}", loc="left", fontsize="medium")
    return figure


def error_bars(elements: Sequence[Mapping[str, Any]], compositions: Sequence[Mapping[str, Any]]) -> Figure:
    """Force errors by element, force and energy errors by composition (the most frequent ones)."""
    shown = compositions[:MOST_COMPOSITIONS]
    figure = new_figure(10, max(3.2, 0.24 * len(shown) + 1.4))
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 2, 2])
    forces, energy = "forces_mae_meV_per_A", "energy_mae_meV_per_atom"
    names = [f"{row['element']} ({row['atoms']})" for row in elements]
    left.barh(names, [row.get(forces, np.nan) for row in elements], color=VERMILION)
    left.set(xlabel="force MAE (meV/Å)")
    left.invert_yaxis()
    names = [f"{row['composition']} ({row['frames']})" for row in shown]
    for axis, key, label in ((middle, forces, "force MAE (meV/Å)"), (right, energy, "energy MAE (meV/atom)")):
        axis.barh(names, [row.get(key, np.nan) for row in shown], color=BLUE)
        axis.set(xlabel=label)
        axis.invert_yaxis()
    right.set_yticklabels([])
    hidden = len(compositions) - len(shown)
    middle.set_title(f"{hidden} rarer compositions not shown" if hidden else "", loc="left", fontsize="small")
    return figure


def training_course(history: Sequence[Mapping[str, float]], chosen: int) -> Figure:
    """Loss and validation errors by epoch, on logarithmic axes, the chosen epoch marked (counted from 1)."""
    wanted = ("forces_mae_meV_per_A", "energy_mae_meV_per_atom")
    keys = [key for key in wanted if any(f"valid/{key}" in row for row in history)]
    figure = new_figure(4.0 * (1 + len(keys)), 3.4)
    panels = figure.subplots(1, 1 + len(keys), squeeze=False)[0]
    epochs = np.arange(1, len(history) + 1)
    for part, colour, line in (("train", BLUE, "--"), ("valid", VERMILION, "-")):
        values = np.array([row.get(f"{part}/loss", np.nan) for row in history])
        if np.isfinite(values).any():
            panels[0].plot(epochs[np.isfinite(values)], values[np.isfinite(values)], line, color=colour, label=part)
    panels[0].set(xlabel="epoch", ylabel="loss", yscale="log")
    panels[0].legend(frameon=False)
    for axis, key in zip(panels[1:], keys, strict=True):
        values = np.array([row.get(f"valid/{key}", np.nan) for row in history])
        axis.plot(epochs[np.isfinite(values)], values[np.isfinite(values)], color=VERMILION)
        axis.set(xlabel="epoch", ylabel=f"validation, {key.replace('_', ' ')}", yscale="log")
    for axis in panels:
        axis.axvline(chosen, color=GREY, linewidth=0.8)
    return figure
