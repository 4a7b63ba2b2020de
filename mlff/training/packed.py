"""Frames kept on a device: batches are gathered there, a few operations each, whatever the number of frames.

What `batches.join` does frame by frame costs a GPU more than the step itself. Here all frames lie one after another in
one tensor for each quantity; a batch is given by the indices of its frames alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlff.training.batches import ReadyFrame, TrainingBatch, padded

BY_ATOM = ("forces", "charges")
"""Targets with one row an atom; the others have one a frame."""


class PackedFrames:
    """All `frames` on `device`; Coulomb matrices are padded to the largest of them."""

    def __init__(self, frames: Sequence[ReadyFrame], device: torch.device) -> None:
        self.device = device
        self.atoms, self.pairs, self.groups = (
            _Rows(sizes, device)
            for sizes in (
                [len(f) for f in frames],
                [len(f.i) for f in frames],
                [len(f.group_charge) for f in frames],
            )
        )
        numbers = torch.cat([f.numbers for f in frames])
        elements, kind = torch.unique(numbers, return_inverse=True)
        sizes = [torch.bincount(f.group, minlength=len(f.group_charge)) for f in frames]
        self.elements = elements.to(device)
        self.by_atom = self._placed(
            {"numbers": numbers, "kind": kind}
            | {name: torch.cat([getattr(f, name) for f in frames]) for name in ("positions", "group")}
        )
        self.by_pair = self._placed({n: torch.cat([getattr(f, n) for f in frames]) for n in ("i", "j", "r", "u")})
        self.by_group = self._placed(
            {"group_charge": torch.cat([f.group_charge for f in frames]), "group_size": torch.cat(sizes)}
        )
        n = max(map(len, frames))
        shapes = {"potential": (n, n), "slope": (n, 3, n), "strain": (9, n, n)}
        blocks = {name: padded([getattr(f, name) for f in frames], shape) for name, shape in shapes.items()}
        self.blocks = {name: None if block is None else block.to(device) for name, block in blocks.items()}
        self.targets = {}
        for name in frames[0].targets:
            parts = [f.targets[name] for f in frames]
            self.targets[name] = (torch.cat(parts) if name in BY_ATOM else torch.stack(parts)).to(device)

    def _placed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def batch(self, indices: ArrayLike) -> TrainingBatch:
        """The batch that `batches.join` makes of the frames with these indices."""
        chosen = np.asarray(indices, np.int64)
        atoms, pairs, groups = (rows.of(chosen) for rows in (self.atoms, self.pairs, self.groups))
        frames = torch.from_numpy(chosen).to(self.device, non_blocking=True)
        first_atom, first_group = atoms.first[pairs.frame], groups.first[atoms.frame]
        by_atom = {name: t[atoms.row] for name, t in self.by_atom.items()}
        by_pair = {name: t[pairs.row] for name, t in self.by_pair.items()}
        place = torch.arange(len(atoms.row), device=self.device) - atoms.first[atoms.frame]
        n = int(self.atoms.sizes[chosen].max())
        potential, slope, strain = (self.blocks[name] for name in ("potential", "slope", "strain"))
        return TrainingBatch(
            numbers=by_atom["numbers"],
            elements=self.elements,
            kind=by_atom["kind"],
            positions=by_atom["positions"],
            system=atoms.frame,
            counts=atoms.count,
            i=by_pair["i"] + first_atom,
            j=by_pair["j"] + first_atom,
            r=by_pair["r"],
            u=by_pair["u"],
            group=by_atom["group"] + first_group,
            group_charge=self.by_group["group_charge"][groups.row],
            group_size=self.by_group["group_size"][groups.row],
            slot=place + atoms.frame * n,
            potential=None if potential is None else potential[:, :n, :n].index_select(0, frames),
            slope=None if slope is None else slope[:, :n, :, :n].index_select(0, frames),
            strain=None if strain is None else strain[:, :, :n, :n].index_select(0, frames),
            targets={name: t[atoms.row if name in BY_ATOM else frames] for name, t in self.targets.items()},
        )


class _Chosen:
    """Rows of some frames in a packed tensor: `row`, the `frame` of the batch that each belongs to, `count` of every
    frame of the batch, and the `first` of each in the batch."""

    def __init__(self, table: Tensor, total: int) -> None:
        start, self.count = table
        self.first = torch.cumsum(self.count, 0) - self.count
        order = torch.arange(len(self.count), device=table.device)
        self.frame = torch.repeat_interleave(order, self.count, output_size=total)
        self.row = torch.arange(total, device=table.device) + (start - self.first)[self.frame]


class _Rows:
    """Where the rows of each frame lie in a packed tensor."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes, self.device = np.array(sizes, np.int64), device
        self.start = np.cumsum(self.sizes) - self.sizes

    def of(self, frames: NDArray[np.int64]) -> _Chosen:
        table = torch.from_numpy(np.stack([self.start[frames], self.sizes[frames]]))
        # the total is known here: the device need not be asked
        return _Chosen(table.to(self.device, non_blocking=True), int(self.sizes[frames].sum()))
