"""Pictures of a zero-shot run: accuracies of all networks beside chance, and what queries found first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.plots.networks import BLUE, GREEN, GREY, VERMILION, new_figure
from runners.zero_shot_report import SEARCHES, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lsm.encode import Dataset
    from lsm.retrieval import Sense
    from lsm.zero_shot import Trial

FOUND = 5


def spread(outcome: Outcome) -> Figure:
    """Accuracy of each search: a dot for each network, a line at their mean, a dashed line at chance."""
    figure = new_figure(9, 3.8)
    panels = figure.subplots(1, len(outcome.directions[0]), sharey=True)
    names = [*SEARCHES, "harmonic"]
    for panel, (name, directions) in zip(panels, outcome.by_direction(), strict=True):
        for x, search in enumerate(names):
            if search == "harmonic":
                values, chance = [d.harmonic for d in directions], directions[0].harmonic_chance
            else:
                found = [getattr(d, search) for d in directions]
                values, chance = [f.accuracy.value for f in found], found[0].chance
            shift = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
            panel.plot(x + shift, 100 * np.array(values), ".", color=BLUE, label="a network" if x == 0 else None)
            mean = 100 * float(np.mean(values))
            panel.hlines(mean, x - 0.35, x + 0.35, color=BLUE, linewidth=2, label="mean" if x == 0 else None)
            panel.hlines(
                100 * chance, x - 0.35, x + 0.35, color=VERMILION, linestyle="--", label="chance" if x == 0 else None
            )
        labels = ["seen", "unseen", "seen\namong all", "unseen\namong all", "H"]
        panel.set_xticks(np.arange(len(names)), labels)
        panel.set_title(name.replace("_to_", " searches "), loc="left", fontsize="medium")
        panel.set_ylim(0, 100)
    panels[0].set_ylabel("right at first (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def retrievals(trial: Trial, senses: tuple[Sense, Sense], n: int) -> Iterator[tuple[str, Figure]]:
    """Name and picture of each direction: `n` unseen and `n` seen queries with the first five of their own gallery."""
    pair = trial.pair
    data = (pair.first, pair.second)
    for query, gallery in ((0, 1), (1, 0)):
        q, g = senses[query], senses[gallery]
        rows = [
            (group, *row)
            for group, classes in (("unseen", pair.unseen), ("seen", pair.seen))
            for row in _found(trial, q, g, classes, n)
        ]
        figure = _tiles(len(rows), FOUND + 1)
        axes = np.array(figure.axes).reshape(len(rows), FOUND + 1)
        for line, (group, asked, found) in zip(axes, rows, strict=True):
            for axis in line:
                axis.set_axis_off()
            label = int(q.labels[asked])
            draw_sample(line[0], data[query], asked)
            line[0].set_title(f"{pair.class_names[label]} ({group})", fontsize="small", color=GREY)
            for axis, item in zip(line[1:], found, strict=False):
                draw_sample(axis, data[gallery], int(item))
                right = int(g.labels[item]) == label
                name = pair.class_names[int(g.labels[item])]
                axis.set_title(f"{name} {'✓' if right else '✗'}", fontsize="small", color=GREEN if right else VERMILION)
        figure.suptitle(f"{q.name} searches {g.name}: query, and the first five found", fontsize="medium")
        yield f"{q.name}_to_{g.name}", figure


def _tiles(rows: int, columns: int) -> Figure:
    """Square axes with room for a line above each; placed by hand, since so many are slow to lay out."""
    from matplotlib.figure import Figure

    width, height = 1.2 * columns, 1.35 * rows + 0.4
    figure = Figure(figsize=(width, height), dpi=100)
    for r in range(rows):
        for c in range(columns):
            bottom = height - 0.4 - 1.35 * (r + 1) + 0.1
            figure.add_axes((1.2 * c / width + 0.05 / width, bottom / height, 1.1 / width, 1.05 / height))
    return figure


def _found(
    trial: Trial, q: Sense, g: Sense, classes: tuple[int, ...], n: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Positions in the test part of queries, one class after another, and of what they find among these classes."""
    from lsm.retrieval import nearest

    gallery = np.flatnonzero(np.isin(g.labels, classes))
    for k in range(n):
        members = np.flatnonzero(q.labels == classes[k % len(classes)])
        asked = int(members[(k // len(classes)) % len(members)])
        first = nearest(q.vectors[[asked]], g.vectors[gallery], FOUND, trial.similarity)[0]
        yield asked, gallery[first]


def draw_sample(axis: Axes, dataset: Dataset, k: int) -> None:
    """A test sample as it is: an image, all events of a camera, or the raster of channels over time."""
    from lsm.encode import Events

    inputs, encoding = dataset.test.inputs, dataset.encoding
    height, width = encoding.get("height"), encoding.get("width")
    if not isinstance(inputs, Events):
        _grey(axis, inputs.pixels[k].reshape(height, width))
        return
    packed = inputs.packed[inputs.offsets[k] : inputs.offsets[k + 1]]
    steps, channels = packed >> 16, packed & 0xFFFF
    if height and width:
        counts = np.bincount(channels, minlength=inputs.n_in).reshape(-1, height, width)
        _grey(axis, counts.sum(axis=0))
        return
    axis.plot(steps, channels, ".", markersize=1.2, markeredgewidth=0, color="black")
    axis.set(xlim=(0, max(int(steps.max(initial=0)), 1)), ylim=(-1, inputs.n_in))


def _grey(axis: Axes, image: NDArray[Any]) -> None:
    axis.imshow(image, cmap="gray_r", interpolation="nearest")
