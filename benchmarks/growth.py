"""How the time of a sample grows with neurons, fan-in and drive, on the digits that every machine has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cases, floor, speed, table
from lsm.encode import Rates

Row = dict[str, Any]


class Series(NamedTuple):
    """One curve: what varies, its values, CPU ms and synapse operations of a sample at each."""

    name: str
    label: str
    values: list[float]
    cpu_ms: list[float]
    operations: list[float]

    @property
    def exponent(self) -> float:
        """Slope of log time over log value."""
        return fitted_exponent(self.values, self.cpu_ms)


def fitted_exponent(values: list[float], times: list[float]) -> float:
    """The power of `values` that `times` grow with: least squares on logarithms."""
    return float(np.polyfit(np.log(values), np.log(times), 1)[0])


def variations(
    data: cases.Data, effort: speed.Effort
) -> dict[str, tuple[str, list[tuple[float, cases.Data, dict[str, Any]]]]]:
    """For each curve its label and the (value, data, changed parameters) of its points."""
    middle = 1000 if 1000 in effort.sizes else effort.sizes[0]
    return {
        "growth_neurons": ("neurons n", [(n, data, {"n": n}) for n in effort.growth_sizes]),
        "growth_fan_in": (
            "input density",
            [(d, data, {"n": middle, "input_density": d}) for d in effort.growth_fan_in],
        ),
        "growth_rate": (
            "drive, times the published",
            [(f, _driven(data, f), {"n": middle}) for f in effort.growth_drive],
        ),
    }


def growth(data: cases.Data, effort: speed.Effort, cost: floor.Cost) -> Iterator[tuple[Series, list[Row]]]:
    """Each curve with its table; the last row of a table is the fit."""
    for name, (label, points) in variations(data, effort).items():
        series, rows = Series(name, label, [], [], []), []
        for value, points_data, changes in points:
            case = cases.prepare(points_data, cases.nalsm(**changes), effort.growth_burn_in)
            one_thread, _ = speed.run_rows(case, f"NALSM, {label} {value:g}", effort, cost)
            rows.append(one_thread)
            series.values.append(value)
            series.cpu_ms.append(float(one_thread["cpu_ms"]))
            series.operations.append(float(one_thread["operations"]))
        by_work = fitted_exponent(series.operations, series.cpu_ms)
        at_end = fitted_exponent(series.values[-2:], series.cpu_ms[-2:])
        fit = (
            f"fit: CPU time ~ ({label})^{series.exponent:.2f} (between the last two ^{at_end:.2f})"
            f" ~ operations^{by_work:.2f}"
        )
        yield series, [*rows, table.row(fit, "")]


def _driven(data: cases.Data, factor: float) -> cases.Data:
    """The same images at `factor` times their event rates."""

    def scaled(inputs: Any) -> Rates:
        return replace(inputs, scale=inputs.scale * np.float32(factor))

    return replace(data, train=scaled(data.train), test=scaled(data.test))


def draw(curves: list[Series], path: Path) -> None:
    """All curves side by side, time and a line of the fitted exponent, as a small PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(1, len(curves), figsize=(3.4 * len(curves), 3), layout="constrained", squeeze=False)
    for ax, curve in zip(axes[0], curves, strict=True):
        x, y = np.array(curve.values), np.array(curve.cpu_ms)
        fit = np.exp(np.log(y).mean() + curve.exponent * (np.log(x) - np.log(x).mean()))
        ax.loglog(x, y, "o", label="measured")
        ax.loglog(x, fit, "-", lw=1, label=f"exponent {curve.exponent:.2f}")
        for axis in (ax.xaxis, ax.yaxis):  # plain numbers at 1, 2 and 5 of each decade
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(ticker.NullLocator())
        ax.set_ylim(bottom=min(1.0, y.min()) / 2)
        ax.set_xlabel(curve.label)
        ax.set_ylabel("CPU ms per 250-ms sample")
        ax.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
