"""The published training format: one dictionary of tensors for all clusters (`train_data.pt`, `val_data.pt`).

Per cluster `total_charge`, `energy`, `virial`, `dipole`, `cell` (all -1 without one); per atom `atom_types`, `pos`,
`forces`, `charge`, `mol_ids` (index of the cluster); per edge `edge_index` (ordered pairs < 5 Å, indices over all atoms)
and `all_edge_index` (all ordered pairs of a cluster); `cumsum_...` where each cluster begins. kcal/mol, Å, e, Debye.
Energies are relative to neutral atoms.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlff.frames import Configuration
from mlff.labelled import LabelledFrame
from mlff.neighbours import neighbour_pairs

EDGE_CUTOFF_A = 5.0
NEEDED = ("total_charge", "energy", "atom_types", "pos", "forces", "cumsum_atom")


def read_train_data(path: Path) -> list[LabelledFrame]:
    """Clusters of a file in the published format; charges, dipole and virial where the file has them.

    Raises `ValueError` that names what the file lacks.
    """
    try:
        data: Any = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a readable dictionary of tensors ({str(error).splitlines()[0]})") from error
    missing = [key for key in NEEDED if not isinstance(data, dict) or key not in data]
    if missing:
        present = ", ".join(sorted(data)) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{path}: no tensor {missing[0]!r} (keys present: {present})")
    start = data["cumsum_atom"].tolist()
    if start[-1] != len(data["pos"]):
        raise ValueError(f"{path}: cumsum_atom ends at {start[-1]}, pos has {len(data['pos'])} atoms")
    return [_cluster(data, k, slice(start[k], start[k + 1]), path.name) for k in range(len(start) - 1)]


def _cluster(data: dict[str, Tensor], k: int, atoms: slice, name: str) -> LabelledFrame:
    def of(key: str, index: int | slice) -> Any:
        return data[key][index].double().numpy() if key in data else None

    cell = of("cell", k)
    boxed = cell is not None and bool((cell != -1).any())
    configuration = Configuration.of(
        data["atom_types"][atoms].numpy(),
        of("pos", atoms),
        cell if boxed else None,
        boxed,
        total_charge=float(data["total_charge"][k]),
    )
    numbers, counts = np.unique(configuration.numbers, return_counts=True)
    return LabelledFrame(
        configuration,
        energy=float(data["energy"][k]),
        forces=of("forces", atoms),
        virial=of("virial", k),
        charges=of("charge", atoms),
        dipole=of("dipole", k),
        composition=" ".join(f"{z}x{n}" for z, n in zip(numbers, counts, strict=True)),
        name=f"{name}[{k}]",
    )


def write_train_data(frames: Sequence[LabelledFrame], path: Path) -> None:
    """Write open clusters in the published format, in the given order; labels that no frame has are zero.

    The published trainer takes contiguous slices of the file as batches, so that frames should be shuffled before.
    Raises `ValueError` for periodic frames and for frames without energy and forces.
    """
    for frame in frames:
        if frame.configuration.pbc.any():
            raise ValueError(f"{frame.name}: periodic; the format is for open clusters")
        if frame.energy is None or frame.forces is None:
            raise ValueError(f"{frame.name}: needs energy and forces, has {', '.join(frame.labels) or 'no label'}")
    counts = [len(frame.configuration.numbers) for frame in frames]
    start = np.concatenate([[0], np.cumsum(counts)])
    edges, everyone = [], []
    for frame, first in zip(frames, start[:-1], strict=True):
        c = frame.configuration
        near = neighbour_pairs(c.positions, c.cell, c.pbc, EDGE_CUTOFF_A)
        edges.append(torch.stack([near.i, near.j], dim=1) + int(first))
        n = len(c.numbers)
        i, j = np.nonzero(~np.eye(n, dtype=bool))
        everyone.append(torch.from_numpy(np.stack([i, j], axis=1)) + int(first))

    def stacked(values: list[Any], shape: tuple[int, ...]) -> Tensor:
        zero = np.zeros(shape)
        return torch.from_numpy(np.stack([zero if v is None else v for v in values])).float()

    def joined(values: list[Any]) -> Tensor:
        filled = [np.zeros(n) if v is None else v for v, n in zip(values, counts, strict=True)]
        return torch.from_numpy(np.concatenate(filled)).float()

    torch.save(
        {
            "total_charge": torch.tensor([frame.configuration.total_charge for frame in frames]),
            "energy": torch.tensor([frame.energy for frame in frames], dtype=torch.float64),
            "virial": stacked([frame.virial for frame in frames], (3, 3)),
            "dipole": stacked([frame.dipole for frame in frames], (3,)),
            "cell": torch.full((len(frames), 3, 3), -1.0),
            "atom_types": torch.from_numpy(np.concatenate([f.configuration.numbers for f in frames])),
            "pos": joined([f.configuration.positions for f in frames]),
            "forces": joined([f.forces for f in frames]),
            "charge": joined([f.charges for f in frames]),
            "mol_ids": torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(counts)),
            "edge_index": torch.cat(edges),
            "all_edge_index": torch.cat(everyone),
            "cumsum_atom": torch.from_numpy(start),
            "cumsum_edge": _begin(edges),
            "cumsum_all_edge": _begin(everyone),
        },
        path,
    )


def _begin(parts: Sequence[Tensor]) -> Tensor:
    return torch.tensor([0, *np.cumsum([len(p) for p in parts]).tolist()])
