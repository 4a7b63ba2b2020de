"""What cannot be computed is refused by every function in one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlff.transport import (
    Estimate,
    centres_of_mass,
    choose_window,
    conductivity,
    detect_equilibration,
    displacements,
    jackknife,
    mean_of_series,
    radial_distribution,
    self_diffusion,
    solvation_shells,
    statistical_inefficiency,
    viscosity,
    yeh_hummer,
)
from mlff.transport.blocks import split_blocks
from tests.mlff.transport.synthetic import ions

WALK = ions(np.random.default_rng(0), 100, 1.0, 0.5)
CURVES = displacements([WALK], n_blocks=2)
ETA, NONE = Estimate(1.0, 0.1, 4), np.zeros(0)


def _spoiled(values: np.ndarray, at: Any, by: float) -> np.ndarray:
    values = values.copy()
    values[at] = by
    return values


def _centres(**changed: Any) -> object:
    n = len(WALK.names)
    usual = {"time_ps": np.arange(100.0), "fragments": np.arange(n), "charges": WALK.charges, "names": WALK.names}
    return centres_of_mass(**(usual | {"positions": WALK.positions, "masses": np.ones(n)} | changed))


def _viscosity(pressures: list[np.ndarray], dt_ps: float = 1.0, volume: float = 1.0, temperature: float = 300.0) -> Any:
    return viscosity(pressures, dt_ps, volume, temperature, n_blocks=2)


def _shells(**changed: Any) -> object:
    usual = {"positions": [np.zeros((1, 2, 3))], "cells": [20 * np.eye(3)[None]], "numbers": np.array([3, 8])}
    usual |= {"fragments": np.arange(2), "names": ("Li", "S"), "charges": np.array([1.0, 0.0]), "cation": "Li"}
    return solvation_shells(**(usual | changed))


def _radial(positions: np.ndarray, **more: float) -> object:
    return radial_distribution([positions], [20 * np.eye(3)[None]], np.array([0]), np.array([1]), **more)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "negative temperature": (lambda: conductivity(CURVES, 1e4, -300.0), "temperature_K=-300: must be positive"),
    "no volume": (lambda: conductivity(CURVES, 0.0, 300.0), "volume_A3=0: must be positive"),
    "temperature of a correction": (
        lambda: self_diffusion(CURVES, viscosity_mPa_s=ETA, volume_A3=1e4, temperature_K=-300.0),
        "temperature_K=-300: must be positive",
    ),
    "no viscosity": (lambda: yeh_hummer(Estimate(0.0, 0.1, 4), 1e4, 300.0), "viscosity_mPa_s=0: must be positive"),
    "positions": (
        lambda: _centres(positions=_spoiled(WALK.positions, (5, 1), np.nan)),
        "positions: not finite in sample 5 of replica 0",
    ),
    "positions of centres": (
        lambda: displacements([WALK, replace(WALK, positions=_spoiled(WALK.positions, 7, np.inf))]),
        "positions: not finite in sample 7 of replica 1",
    ),
    "shape": (lambda: _centres(positions=WALK.positions[:, :5]), r"positions of shape \(100, 5, 3\) for 100 frames of"),
    "fragments from 1": (lambda: _centres(fragments=np.arange(40) + 1), "molecules, 0 to 39, .* found 1 to 40"),
    "a molecule without atoms": (
        lambda: _centres(fragments=np.minimum(np.arange(40), 38)),
        "every molecule an atom; found 0 to 38",
    ),
    "no mass": (lambda: _centres(masses=np.zeros(40)), "smallest_mass_u=0: must be positive"),
    "times": (lambda: _centres(time_ps=np.full(100, np.nan)), "equal steps of time"),
    "two charges of one name": (
        lambda: displacements([replace(WALK, charges=_spoiled(WALK.charges, slice(0, 5), 0.0))]),
        "Li: two kinds of molecules have this name, of charge 0 and 1 e",
    ),
    "two masses of one name": (
        lambda: _centres(masses=_spoiled(np.ones(40), 3, 2.0)),
        "Li: two kinds of molecules have this name, of mass 1 and 2 u",
    ),
    "charges of too few": (lambda: _centres(charges=np.zeros(3)), "40 names, 3 charges and 40 masses"),
    "no blocks": (lambda: displacements([WALK], n_blocks=0), "n_blocks=0: must be positive"),
    "no replicas": (lambda: displacements([]), "positions: no replica"),
    "no frames": (lambda: displacements([replace(WALK, positions=WALK.positions[:0])]), "replica 0 is empty"),
    "no lags": (lambda: choose_window(NONE, NONE), "3 or more lags, not 0"),
    "no series": (lambda: split_blocks([], 2), "n_series=0: must be positive"),
    "no samples of blocks": (lambda: jackknife(lambda m: m, np.zeros((0, 1))), "n_blocks=0: must be positive"),
    "time step": (lambda: _viscosity([np.ones((99, 6))], -0.01), "dt_ps=-0.01: must be positive"),
    "five pressures": (lambda: _viscosity([np.ones((99, 5))]), r"shapes \[\(99, 5\)\]: expected \(n_steps, 6\)"),
    "pressures": (
        lambda: _viscosity([_spoiled(np.ones((99, 6)), (7, 2), np.nan)]),
        "pressures: not finite in sample 7 of replica 0",
    ),
    "no samples": (lambda: detect_equilibration(NONE), "samples: replica 0 is empty"),
    "no samples at all": (lambda: statistical_inefficiency(NONE), "samples: replica 0 is empty"),
    "samples": (lambda: mean_of_series([np.array([1.0, np.nan])]), "samples: not finite in sample 1 of replica 0"),
    "atoms": (lambda: _radial(np.full((1, 2, 3), np.nan)), "positions: not finite in sample 0"),
    "bins": (lambda: _radial(np.zeros((1, 2, 3)), bin_A=0.0), "bin_A=0: must be positive"),
    "wide bins": (lambda: _radial(np.zeros((1, 2, 3)), bin_A=50.0), "bin_A=50: wider than the 10 Å that there are"),
    "shells of atoms nowhere": (
        lambda: _shells(positions=[np.full((1, 2, 3), np.nan)]),
        "positions: not finite in sample 0",
    ),
    "shells without atoms": (lambda: _shells(fragments=np.array([1, 2])), "found 1 to 2, 2 molecules, for 2 atoms"),
    "reach of shells": (lambda: _shells(cutoff_A=-1.0), "cutoff_A=-1: must be positive"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_computed_is_refused_in_one_line(case: str) -> None:
    compute, said = REFUSED[case]
    with pytest.raises(ValueError, match=said) as error:
        compute()
    assert "\n" not in str(error.value)
