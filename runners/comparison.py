"""Runs as a table: one row for each setting, seeds collapsed into mean and spread; Markdown, CSV, a plot."""

from __future__ import annotations

import csv
import io
import math
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runners.check import UserError
from runners.options import suggest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mlflow.entities import Run

TOLD_FIRST = ("test", "valid", "liquid", "energy", "forces", "md")
"""Kinds of metrics that a table shows if none is asked for."""
OF_OTHER_PARTS = ("_train", "_valid", "standard_error")
"""Ends of names that it leaves out: the liquid's activity in other splits, errors where there is a spread over seeds."""
OF_DYNAMICS = ("avalanche/", "kernel/")
OF_THE_COURSE = ("time", "epoch", "init", "fold", "cost")
LARGEST_PLOT = 12
"""Most lines in one plot; more are drawn but not named."""
LONGEST_NAME = 14
"""Letters of a bar's name that fit below it; longer ones are told by number."""
ROW_LETTERS, ROW_INCHES = 85, 0.17
"""A row of small print across the figure, and its height."""


@dataclass(frozen=True)
class Spread:
    """A metric over seeds."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of runs that have it."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean; nan of none."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation (n - 1); nan of fewer than two."""
        return statistics.stdev(self.values) if self.n > 1 else math.nan

    def __str__(self) -> str:
        if not self.values:
            return "-"
        spread = "" if math.isnan(self.deviation) else f" ± {self.deviation:.2g}"
        return f"{self.mean:.5g}{spread}"


@dataclass(frozen=True)
class Row:
    """One setting: the values of the keys that vary, its seeds, its metrics."""

    setting: tuple[str, ...]
    n: int
    seeds: tuple[str, ...]
    metrics: dict[str, Spread]


@dataclass(frozen=True)
class Comparison:
    """The whole table."""

    keys: tuple[str, ...]
    """Keys that vary, `seed` aside."""
    metrics: tuple[str, ...]
    against: str | None
    rows: tuple[Row, ...]

    def cells(self) -> list[list[str]]:
        """Heading and rows as text."""
        heading = [*self.keys, "n", *self.metrics]
        return [heading, *([*r.setting, str(r.n), *(str(r.metrics[m]) for m in self.metrics)] for r in self.rows)]

    def markdown(self) -> str:
        """A Markdown table: mean ± sample standard deviation over n seeds."""
        heading, *rows = self.cells()
        lines = [heading, ["---"] * len(heading), *rows]
        table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        return f"{table}\n\nMean ± sample standard deviation over n runs that differ by their seed alone.\n"

    def csv(self) -> str:
        """The table for other programs: mean, standard deviation and number of each metric in columns of their own."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*self.keys, "n", "seeds", *(f"{m}{part}" for m in self.metrics for part in ("", ":sd", ":n"))])
        for row in self.rows:
            spreads = [row.metrics[m] for m in self.metrics]
            numbers = [x for s in spreads for x in (_number(s.mean), _number(s.deviation), s.n)]
            table.writerow([*row.setting, row.n, " ".join(row.seeds), *numbers])
        return text.getvalue()

    def figure(self, drawn: int = 1) -> Figure:
        """The first `drawn` metrics against the key on the axis, each in a panel of its own.

        Error bars over seeds where the key is a number, else bars. What they stand for is told in rows below the panels,
        for which the figure grows: the panels keep their size.
        """
        from matplotlib.figure import Figure

        metrics = self.metrics[:drawn]
        figure = Figure(figsize=(6, 1 + 3 * len(metrics)), layout="constrained")
        for axes, metric in zip(figure.subplots(len(metrics), 1, squeeze=False)[:, 0], metrics, strict=True):
            axes.set_ylabel(metric)
            if self._numbers:
                self._draw_lines(axes, metric)
            else:
                self._draw_bars(axes, metric)
        self._tell(figure)
        return figure

    @property
    def joins(self) -> bool:
        """Whether there is a number on the axis along which at least half of the lines have points to join."""
        lines = self._lines() if self._numbers else {}
        return bool(lines) and 2 * sum(len(rows) > 1 for rows in lines.values()) >= len(lines)

    @property
    def _numbers(self) -> list[float]:
        """Where each row is on the axis; none where that is no number."""
        place = self.keys.index(self.against) if self.against else None
        values = [_as_number(row.setting[place]) for row in self.rows] if place is not None else []
        return [v for v in values if v is not None] if None not in values else []

    def _told(self, row: Row, keys: Sequence[str]) -> list[str]:
        return [f"{k}={v}" for k, v in zip(self.keys, row.setting, strict=True) if k in keys and v != "-"]

    def _draw_bars(self, axes: Axes, metric: str) -> None:
        means = [row.metrics[metric].mean for row in self.rows]
        axes.bar(range(len(means)), means, yerr=[row.metrics[metric].deviation for row in self.rows], capsize=3)
        names = [str(k + 1) for k in range(len(means))] if self._is_numbered else self._bar_names
        axes.set_xticks(range(len(names)), names, rotation=60 if max(map(len, names)) > 2 and len(names) > 5 else 0)
        axes.set_xlim(-0.6, len(names) - 0.4)  # room for bars of rows without the metric, too
        axes.set_xlabel(", ".join(self._bar_keys))

    @property
    def _bar_keys(self) -> list[str]:
        return [*([self.against] if self.against else []), *self._apart()]

    @property
    def _bar_names(self) -> list[str]:
        places = [self.keys.index(key) for key in self._bar_keys]
        return ["\n".join(row.setting[place] for place in places) or "all" for row in self.rows]

    @property
    def _is_numbered(self) -> bool:
        """Whether the names of the bars are too long to stand below them."""
        return any(len(line) > LONGEST_NAME for name in self._bar_names for line in name.splitlines())

    def _lines(self) -> dict[tuple[str, ...], list[tuple[float, Row]]]:
        """Rows that a line joins, with their places on the axis, by what tells the lines apart."""
        apart = self._apart()
        lines: dict[tuple[str, ...], list[tuple[float, Row]]] = {}
        for x, row in zip(self._numbers, self.rows, strict=True):
            lines.setdefault(tuple(self._told(row, apart)), []).append((x, row))
        return {others: sorted(rows, key=lambda point: point[0]) for others, rows in lines.items()}

    def _draw_lines(self, axes: Axes, metric: str) -> None:
        for k, (others, points) in enumerate(self._lines().items()):
            spreads = [row.metrics[metric] for _, row in points]
            axes.errorbar(
                [x for x, _ in points], [s.mean for s in spreads], [s.deviation for s in spreads], marker="o", capsize=3,
                label=" ".join(others) if k < LARGEST_PLOT else None, linestyle="-" if k < 10 else "--",  # of ten colours
            )  # fmt: skip
        numbers = self._numbers
        positive = [x for x in numbers if x > 0]
        if min(numbers) >= 0 and positive and max(positive) >= 20 * min(positive):
            if len(positive) == len(numbers):
                axes.set_xscale("log")
            else:  # 0 has a place of its own, left of the smallest
                axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
        axes.set_xlabel(self.against or "")

    def _tell(self, figure: Figure) -> None:
        """Name lines, or bars that have a number, in rows below the panels, and make room for them."""
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if self._numbers and any(labels):
            labels = [_wrapped(label) for label in labels]
            figure.legend(handles, labels, loc="outside lower left", fontsize="small", frameon=False)
        elif not self._numbers and self._is_numbered:
            labels = [
                _wrapped(f"{k + 1}  {' '.join(self._told(row, self._bar_keys))}") for k, row in enumerate(self.rows)
            ]
            figure.supxlabel("\n".join(labels), x=0.02, ha="left", fontsize="small")
        else:
            return
        rows = sum(1 + label.count("\n") for label in labels)
        figure.set_figheight(figure.get_figheight() + ROW_INCHES * rows)

    def _apart(self) -> list[str]:
        """Keys that tell the lines apart, without those that say no more than the axis or a key before them."""
        told: list[str] = []
        for key in self.keys:
            others = [*([self.against] if self.against else []), *told]
            if key != self.against and not any(self._follows(key, other) for other in others):
                told.append(key)
        return told

    def _follows(self, key: str, other: str) -> bool:
        """Whether a key has one value for each value of another: it was varied along with it."""
        place, axis = self.keys.index(key), self.keys.index(other)
        pairs = {(row.setting[axis], row.setting[place]) for row in self.rows}
        return len(pairs) == len({x for x, _ in pairs}) > 1


def _wrapped(text: str) -> str:
    return textwrap.fill(text, ROW_LETTERS, subsequent_indent="    ", break_on_hyphens=False)


def compare(runs: Sequence[Run], metrics: Sequence[str], against: str | None) -> Comparison:
    """The table of these runs; raises `UserError` for a metric or key that they do not have."""
    params = [{key: _plain(value) for key, value in run.data.params.items()} for run in runs]
    names = sorted({name for p in params for name in p})
    varying = tuple(k for k in names if k != "seed" and len({p.get(k, "-") for p in params}) > 1)
    known = sorted({name for run in runs for name in run.data.metrics})
    usual = sorted(_usual(known), key=lambda name: sum(name not in run.data.metrics for run in runs))
    chosen = tuple(metrics) or tuple(usual)  # what all have first: it is drawn
    for name in chosen:
        if name not in known:
            raise UserError(f"runner.metrics={name}: no run has this metric{suggest(name, known)}")
    if not chosen:
        raise UserError("the runs have no metrics to compare")
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run, p in zip(runs, params, strict=True):
        groups.setdefault(tuple(p.get(key, "-") for key in varying), []).append(run)
    rows = [_row(setting, members, chosen) for setting, members in groups.items()]
    rows.sort(key=lambda row: [(_as_number(v) is None, _as_number(v) or 0.0, v) for v in row.setting])
    if against is not None and against not in varying:
        raise UserError(f"runner.against={against}: does not vary between these runs{suggest(against, list(varying))}")
    table = Comparison(varying, chosen, against, tuple(rows))
    return table if against else replace(table, against=_axis(table))


def _row(setting: tuple[str, ...], runs: Sequence[Run], metrics: Sequence[str]) -> Row:
    ordered = sorted(runs, key=lambda run: _as_number(run.data.params.get("seed", "")) or 0.0)
    spreads = {m: Spread(tuple(r.data.metrics[m] for r in ordered if m in r.data.metrics)) for m in metrics}
    return Row(setting, len(runs), tuple(r.data.params.get("seed", "-") for r in ordered), spreads)


def _usual(known: Sequence[str]) -> tuple[str, ...]:
    """Results of the test part first; where there are none, all that is no part of a course.

    Of `runner=dynamics`, which measures dozens of things, those that it tells last.
    """
    if not any(name.startswith("test/") for name in known) and any(name.startswith(OF_DYNAMICS) for name in known):
        from runners.dynamics import KEY_RESULTS

        return tuple(name for name in KEY_RESULTS if name in known)
    kinds = [name.partition("/")[0] for name in known]
    told = sorted(
        (n for n, kind in zip(known, kinds, strict=True) if kind in TOLD_FIRST and not n.endswith(OF_OTHER_PARTS)),
        key=lambda name: TOLD_FIRST.index(name.partition("/")[0]),
    )
    return tuple(told or [name for name, kind in zip(known, kinds, strict=True) if kind not in OF_THE_COURSE])


def _axis(table: Comparison) -> str | None:
    """The number with most values that lines can be drawn along; None leaves a bar for each row."""
    values = {key: {row.setting[i] for row in table.rows} for i, key in enumerate(table.keys)}
    ordered = sorted(table.keys, key=lambda key: -len(values[key]))
    return next((key for key in ordered if replace(table, against=key).joins), None)


def _as_number(text: Any) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _plain(text: str) -> str:
    """`1`, `1.0` and `1e0` are one value."""
    value = _as_number(text)
    return text if value is None else f"{value:.12g}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
