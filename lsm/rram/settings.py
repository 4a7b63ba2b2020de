"""Published hyper-parameters of the random-RRAM liquid, one row for each data set and task.

Source: scripts and code of Lin et al. 2025 (rows of the specification's table 1.3); `const` there is `weight_per_uS` here.
The membrane decays by `decay` a step, a neuron spikes above `v_threshold`, a feature is a spike count over `window`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Task = Literal["supervised", "contrastive", "prototypes"]


class Setting(NamedTuple):
    """One row: neurons, steps, decay per step, threshold, weight of 1 uS, and what a count is divided by."""

    n_neurons: int
    steps: int
    decay: float
    v_threshold: float
    weight_per_uS: float
    window: int


PUBLISHED: dict[tuple[str, Task], Setting] = {
    ("nmnist", "supervised"): Setting(200, 50, 0.9, 5.0, 0.07, 50),
    ("nmnist", "contrastive"): Setting(200, 50, 0.9, 5.0, 0.3, 50),
    ("nmnist", "prototypes"): Setting(200, 50, 0.9, 5.0, 0.35, 50),
    ("ntidigits", "supervised"): Setting(200, 129, 0.97, 5.3, 0.08, 129),
    ("ntidigits", "contrastive"): Setting(200, 129, 0.97, 5.3, 0.1, 129),
    ("ntidigits", "prototypes"): Setting(200, 129, 0.97, 5.3, 0.6, 129),
    ("handwriting", "contrastive"): Setting(2048, 201, 0.95, 0.1, 0.0005, 201),
    # 50 bins are presented and the window argument is 49; steps=49 is the other reading.
    ("emnist", "contrastive"): Setting(2048, 50, 0.95, 0.1, 0.0005, 49),
}
"""Rows of fixed liquids; a family without a row of its own for a task takes the one it has."""

STAND_IN = "nmnist"
"""Family whose row serves data that the authors did not use (chosen by us)."""


def family_of(encoding: dict[str, Any]) -> str:
    """Which of the published data sets an encoding belongs to: its `kind`, and `nmnist` for recordings of 34x34x2.

    Other recordings and images are families of their own, `events` and `images`.
    """
    kind = str(encoding.get("kind", "events"))
    size = tuple(encoding.get(key) for key in ("height", "width", "polarities"))
    return "nmnist" if kind == "events" and size == (34, 34, 2) else kind


def published(family: str, task: Task) -> Setting:
    """The row of a family for a task; another task's row, or the stand-in's, where there is none."""
    tasks: tuple[Task, ...] = (task, "contrastive")
    for name in (family, STAND_IN):
        for wanted in tasks:
            if (name, wanted) in PUBLISHED:
                return PUBLISHED[name, wanted]
    raise ValueError(f"no published setting for {family}")
