"""Small boxes of bent molecules, and committees of models that differ from one teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mlff.dynamics.simulation import Frame, Step
from mlff.dynamics.stability import atoms_of
from mlff.dynamics.trajectory import Recorder
from mlff.frames import Configuration
from mlff.model import ForceField
from mlff.weights import dump
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


def save(field: ForceField, folder: Path) -> Path:
    """A checkpoint of a model that learned labels with dispersion."""
    tensors, settings = dump(field)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(tensors)
    about = "format: lsmrun-force-field-1\nlabels:\n  name: carbonates\n  dispersion: included\n"
    (folder / "model.yaml").write_text(settings + about, encoding="utf-8")
    return folder


def write_trajectory(frames: list[Configuration], path: Path) -> Path:
    """An H5MD file with these frames, a picosecond apart."""
    recorder = Recorder(atoms_of(frames[0]), ["water"] * (len(frames[0].numbers) // 3))
    for k, c in enumerate(frames):
        recorder.on_frame(Frame(k, float(k), c.positions, c.cell, np.zeros_like(c.positions), None))
        recorder.on_step(Step(k, float(k), 300.0, 0.0, 0.0, 0.0, 1.0, float(np.linalg.det(c.cell)), np.zeros(6)))
    recorder.write(path)
    return path
