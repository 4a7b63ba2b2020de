"""Frames of simulated liquids as configurations, evenly over what is left after equilibration."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mlff.dynamics.trajectory import Trajectory
from mlff.frames import Configuration


def configurations(trajectory: Trajectory, n: int, skip_ps: float = 0.0) -> list[Configuration]:
    """At most `n` frames from `skip_ps` on; raises `ValueError` where none is left or molecules are not named."""
    if trajectory.fragments is None or trajectory.fragment_charges is None:
        raise ValueError("the trajectory does not say which atoms make up a molecule")
    left = np.flatnonzero(trajectory.time_ps >= trajectory.time_ps[0] + skip_ps)
    if not len(left):
        last = trajectory.time_ps[-1] - trajectory.time_ps[0]
        raise ValueError(f"no frame after {skip_ps:g} ps: the trajectory is {last:g} ps long")
    chosen = left if len(left) <= n else left[np.arange(n) * len(left) // n]
    return [
        Configuration.of(
            trajectory.numbers,
            trajectory.positions[k],
            trajectory.cells[k],
            True,
            fragments=trajectory.fragments,
            fragment_charges=trajectory.fragment_charges,
            total_charge=float(np.sum(trajectory.fragment_charges)),
        )
        for k in chosen
    ]


def liquid_name(trajectory: Trajectory) -> str:
    """`DMC`, or `DMC+EC+Li+PF6`: the species of a box, the most frequent first."""
    counts = Counter(trajectory.names)
    if not counts:
        return "liquid"
    return "+".join(sorted(counts, key=lambda name: (-counts[name], name)))
