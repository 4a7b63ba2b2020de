"""Small boxes of bent molecules, and committees of models that differ from one teacher."""

from __future__ import annotations

import numpy as np
import torch

from mlff.frames import Configuration
from mlff.model import ForceField
from tests.mlff.samples import model


def liquid(seed: int, numbers: tuple[int, ...] = (8, 1, 1), n: int = 12, side_A: float = 7.2) -> Configuration:
    """`n` molecules of three atoms in a cube, some of them across its faces."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3] * 3, indexing="ij"), -1).reshape(-1, 3)
    middle = (grid[rng.permutation(len(grid))[:n]] + rng.uniform(-0.03, 0.03, (n, 3))) * side_A
    positions = np.repeat(middle, 3, axis=0)
    for k in (1, 2):
        arm = rng.normal(size=(n, 3))
        positions[k::3] += 0.95 * arm / np.linalg.norm(arm, axis=1)[:, None]
    return Configuration.of(
        np.tile(numbers, n),
        positions,
        [side_A] * 3,
        True,
        fragments=np.repeat(np.arange(n), 3),
        fragment_charges=np.zeros(n),
    )


def perturbed(teacher: ForceField, seed: int, by: float, only: str = "") -> ForceField:
    """The teacher with noise on its weights (those whose names begin with `only`)."""
    other = teacher.changed()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if name.startswith(only):
                weight += by * torch.randn(weight.shape, generator=noise, dtype=weight.dtype)
    return other


def committee(by: float = 0.01, only: str = "", n: int = 3) -> tuple[ForceField, list[ForceField]]:
    """A teacher and `n` perturbed copies of it."""
    teacher = model(dispersion="none")
    return teacher, [perturbed(teacher, seed, by, only) for seed in range(n)]
