"""Small systems and models with random weights: what the mathematics must hold for, whatever was learned."""

from __future__ import annotations

import numpy as np
import torch

from mlff.frames import Configuration
from mlff.get import NetworkParameters
from mlff.model import ForceField, ForceFieldParameters

ELEMENTS = np.array([1, 3, 6, 8, 9, 15])
TRICLINIC = np.array([[7.1, 0.0, 0.0], [1.3, 6.4, 0.0], [-0.9, 1.1, 6.8]])
"""A cell smaller than twice any cutoff: every atom sees its own images."""
BOUNDARIES = {"open": False, "periodic": True, "slab": [True, True, False], "wire": [False, False, True]}
"""Axes along which a system goes on, by name."""


def model(seed: int = 0, **settings: object) -> ForceField:
    """A small force field in float64 with random weights, conservative unless told otherwise."""
    torch.manual_seed(seed)
    network = NetworkParameters(width=16, heads=4, n_radial=8, hidden=8)
    field = ForceField(ForceFieldParameters(**({"network": network} | settings))).double()
    for bias in (p for name, p in field.named_parameters() if name.endswith("bias")):
        # zero biases would hide whatever multiplies them
        torch.nn.init.normal_(bias, std=0.1)
    if field.charge is not None:
        field.charge.charge_offset[:] = torch.linspace(-0.5, 0.5, len(field.charge.charge_offset))
    return field.eval()


def crowd(
    n: int = 14, seed: int = 0, pbc: object = False, cell: np.ndarray = TRICLINIC, **more: object
) -> Configuration:
    """Atoms scattered over a cell, none nearer to another than about 1.3 Å."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(4) / 4.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = rng.permutation(len(grid))[:n]
    positions = (grid[sites] + rng.uniform(-0.03, 0.03, (n, 3))) @ cell
    return Configuration.of(rng.choice(ELEMENTS, n), positions, cell, pbc, **more)


def rotation(seed: int = 0) -> np.ndarray:
    """A random proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
