"""Boxes and models that force fields are timed on: the recorded electrolyte where it is at hand, else a made-up liquid.

Needs no more than torch, numpy and `mlff`'s own packages, so that it runs on a bare GPU machine.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import mlff
from mlff.frames import Configuration
from mlff.model import ForceField, ForceFieldParameters

RECORDED_ATOMS = 4116
PER_CUBIC_A = 0.0888
"""Atoms in 1 Å^3 of the recorded electrolyte."""

KINDS = (np.array([1, 6, 8, 9, 3, 15]), np.array([0.43, 0.27, 0.27, 0.02, 0.005, 0.005]))
"""Elements and their shares, about those of a carbonate electrolyte."""


def reference() -> Path:
    """Folder with the recorded box and weights; they are no part of the project and may be missing."""
    given = os.environ.get("LSMRUN_REFERENCE")
    beside = Path(__file__).resolve().parents[2] / "shared" / "reference"
    inside = Path(__file__).resolve().parents[1] / "shared" / "reference"
    return (Path(given) if given else beside if beside.is_dir() else inside) / "bamboo"


def model() -> tuple[ForceField, str]:
    """The published weights, or random ones of the same size (which cost the same), and what they are called."""
    path = reference() / "weights.safetensors"
    if path.exists():
        return mlff.load(path), "published weights"
    torch.manual_seed(0)
    return ForceField(ForceFieldParameters.bamboo2024()).eval(), "random weights"


def box(n_atoms: int) -> tuple[Configuration, str]:
    """A periodic box of `n_atoms` and what it is called: the recorded one, repeated where that gives the number."""
    recorded, copies = reference() / "box_base.npz", n_atoms // RECORDED_ATOMS
    if recorded.exists() and copies and n_atoms == copies * RECORDED_ATOMS:
        with np.load(recorded) as file:
            return _repeated(file["Z"], file["pos"], file["cell"], _shape(copies)), "recorded box"
    return liquid(n_atoms), "made-up liquid"


def liquid(n_atoms: int, seed: int = 0) -> Configuration:
    """Atoms on a jittered grid at a liquid's density: as many neighbours as there, forces without meaning."""
    rng = np.random.default_rng(seed)
    m = int(np.ceil(n_atoms ** (1 / 3)))
    length = (n_atoms / PER_CUBIC_A) ** (1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), -1).reshape(-1, 3) * (length / m)
    sites = rng.permutation(len(grid))[:n_atoms]
    positions = grid[sites] + rng.uniform(-0.2, 0.2, (n_atoms, 3))
    return Configuration.of(rng.choice(KINDS[0], n_atoms, p=KINDS[1] / KINDS[1].sum()), positions, [length] * 3, True)


def _shape(copies: int) -> tuple[int, int, int]:
    side = round(copies ** (1 / 3))
    return (side, side, side) if side**3 == copies else (1, 1, copies)


def _repeated(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], cell: NDArray[np.float64], times: tuple[int, int, int]
) -> Configuration:
    steps = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1).reshape(-1, 3)
    every = (positions[None] + (steps @ cell)[:, None]).reshape(-1, 3)
    return Configuration.of(np.tile(numbers, len(steps)), every, cell * np.array(times)[:, None], True)
