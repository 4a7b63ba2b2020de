"""Frames made ready for training: what does not depend on the weights is computed once, batches are joined from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff.coulomb_matrix import coulomb_matrix
from mlff.frames import Batch
from mlff.labelled import LABELS, LabelledFrame
from mlff.model import ForceField, Geometry
from mlff.units import DEBYE_EA

Each = Callable[[Callable[[LabelledFrame], "ReadyFrame"], Iterable[LabelledFrame]], Iterable["ReadyFrame"]]
"""How a function goes over frames: `map`, or that of a pool of processes."""

MOST_BYTES = 8 * 2**30
"""Coulomb matrices of all frames together; more is refused before the machine runs out of memory."""


@dataclass(frozen=True, eq=False)
class ReadyFrame:
    """One frame: its half pairs, its Coulomb matrix and its targets, in the network's precision.

    `i`, `j`, `r` `(n_pairs,)`, `u` `(n_pairs, 3)` from j to i; `potential` `(n, n)`, `slope` `(n, 3, n)`, `strain`
    `(9, n, n)` as in `CoulombMatrix`; `targets` are labels less reference energies and less a dispersion they contain.
    """

    numbers: Tensor
    positions: Tensor
    i: Tensor
    j: Tensor
    r: Tensor
    u: Tensor
    group: Tensor
    group_charge: Tensor
    potential: Tensor | None
    slope: Tensor | None
    strain: Tensor | None
    targets: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Frames side by side; Coulomb matrices are padded to the largest frame, `slot` is an atom's place in the padding.

    `targets`: `energy` `(n_systems,)`, `forces` `(n_atoms, 3)`, `virial` `(n_systems, 3, 3)`, `charges` `(n_atoms,)`,
    `dipole` `(n_systems, 3)`; `kind` indexes `elements`, the atomic numbers that occur; `group_size` counts atoms.
    """

    numbers: Tensor
    elements: Tensor
    kind: Tensor
    positions: Tensor
    system: Tensor
    counts: Tensor
    i: Tensor
    j: Tensor
    r: Tensor
    u: Tensor
    group: Tensor
    group_charge: Tensor
    group_size: Tensor
    slot: Tensor
    potential: Tensor | None
    slope: Tensor | None
    strain: Tensor | None
    targets: dict[str, Tensor]

    @property
    def n_systems(self) -> int:
        """Number of frames."""
        return len(self.counts)


def ready_frames(
    frames: Sequence[LabelledFrame],
    model: ForceField,
    reference: NDArray[np.float64],
    *,
    labels: Sequence[str],
    dispersion_in_labels: bool,
    each: Each = map,
) -> Iterator[ReadyFrame]:
    """What training needs of each frame, for the labels it uses; `reference` `(87,)` kcal/mol by atomic number.

    A dispersion that the labels contain and the model has is taken off here, the model's own term being the same at
    every step. `each` may be a pool's `map`, its processes forked. Raises `ValueError` that names the frame, and where
    the matrices would not fit into memory.
    """
    p = model.parameters_of
    exact = copy.deepcopy(model).double()
    bare = exact.changed(dispersion="none") if p.dispersion != "none" and not dispersion_in_labels else exact
    _check_memory(frames, bool(p.charges), "virial" in labels)
    yield from each(partial(_prepared, bare, reference, labels, model.dtype), frames)


def _prepared(
    model: ForceField, reference: NDArray[np.float64], labels: Sequence[str], dtype: torch.dtype, frame: LabelledFrame
) -> ReadyFrame:
    try:
        return _ready(frame, model, model.batch(frame.configuration), reference, labels, dtype)
    except ValueError as error:
        raise ValueError(f"{frame.name}: {error}") from error


def _check_memory(frames: Sequence[LabelledFrame], charges: bool, virial: bool) -> None:
    if not charges:
        return
    floats = sum(
        (13 if virial and f.configuration.pbc.any() else 4) * len(f.configuration.numbers) ** 2 for f in frames
    )
    if 4 * floats > MOST_BYTES:
        raise ValueError(
            f"the Coulomb matrices of {len(frames)} frames need {4 * floats / 2**30:.0f} GB, {MOST_BYTES >> 30} GB are "
            "allowed; take fewer or smaller frames, or train without charges"
        )


def _ready(
    frame: LabelledFrame,
    model: ForceField,
    batch: Batch,
    reference: NDArray[np.float64],
    labels: Sequence[str],
    dtype: torch.dtype,
) -> ReadyFrame:
    c, half = frame.configuration, batch.edges.half()
    vector = batch.positions[half.i] - batch.positions[half.j] - half.shift @ batch.cells[0]
    r = vector.norm(dim=1)
    matrix = None
    if model.charge is not None:
        matrix = coulomb_matrix(model, batch, strain="virial" in labels)
    if "dipole" in labels and c.pbc.any():
        raise ValueError("a dipole label of a periodic frame has no meaning; set data.keys.dipole=null")
    targets = _targets(frame, model, batch, reference, labels)
    return ReadyFrame(
        numbers=batch.numbers,
        positions=batch.positions.to(dtype),
        i=half.i,
        j=half.j,
        r=r.to(dtype),
        u=(vector / r[:, None]).to(dtype),
        group=batch.group,
        group_charge=batch.group_charge.to(dtype),
        potential=None if matrix is None else matrix.potential.to(dtype),
        slope=None if matrix is None else matrix.slope.to(dtype),
        strain=None if matrix is None or matrix.strain is None else matrix.strain.to(dtype),
        targets={name: value.to(dtype) for name, value in targets.items()},
    )


def _targets(
    frame: LabelledFrame,
    model: ForceField,
    batch: Batch,
    reference: NDArray[np.float64],
    labels: Sequence[str],
) -> dict[str, Tensor]:
    found = {name: torch.as_tensor(getattr(frame, name), dtype=torch.float64) for name in labels}
    if "energy" in found:
        found["energy"] = found["energy"] - float(reference[frame.configuration.numbers].sum())
    if model.dispersion is not None:
        energy, forces, virial = _dispersion(model, batch)
        for name, part in (("energy", energy), ("forces", forces), ("virial", virial)):
            if name in found:
                found[name] = found[name] - part
    return found


def _dispersion(model: ForceField, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Energy, forces and virial of the dispersion term alone."""
    assert model.dispersion is not None
    geometry = Geometry.of(batch)
    r = geometry.dispersion.norm(dim=1)
    energy = model.dispersion(batch.numbers, batch.dispersion.i, batch.dispersion.j, r).sum()
    slope = torch.autograd.grad(energy, (geometry.positions, geometry.strain), materialize_grads=True)
    return energy.detach(), -slope[0], -slope[1][0]


def virial_of_forces(frame: LabelledFrame) -> NDArray[np.float64]:
    """sum_i r_i F_i of an open cluster, symmetrised: its virial, which the published recipe trains on."""
    assert frame.forces is not None
    w = frame.configuration.positions.T @ frame.forces
    return 0.5 * (w + w.T)


def dipole_left_by_charges(frames: Sequence[LabelledFrame]) -> float | None:
    """RMS by component, in Debye, of dipole labels against sum q r of charge labels: no charges can meet both below it."""
    pairs = [f for f in frames if f.charges is not None and f.dipole is not None]
    if not pairs:
        return None
    left = [np.asarray(f.charges) @ f.configuration.positions / DEBYE_EA - np.asarray(f.dipole) for f in pairs]
    return float(np.sqrt(np.mean(np.square(left))))


def join(frames: Sequence[ReadyFrame]) -> TrainingBatch:
    """One batch of some frames."""
    counts = torch.tensor([len(f) for f in frames])
    start = torch.cumsum(counts, 0) - counts
    system = torch.repeat_interleave(torch.arange(len(frames)), counts)
    size = int(counts.max())
    numbers = torch.cat([f.numbers for f in frames])
    elements, kind = torch.unique(numbers, return_inverse=True)
    groups = [len(f.group_charge) for f in frames]
    first_group = np.cumsum([0, *groups[:-1]]).tolist()
    first = start.tolist()

    def joined(name: str, offsets: Sequence[int] | None = None) -> Tensor:
        parts = [getattr(f, name) for f in frames]
        return torch.cat(parts if offsets is None else [p + o for p, o in zip(parts, offsets, strict=True)])

    group, group_charge = joined("group", first_group), joined("group_charge")
    targets = {}
    for name in frames[0].targets:
        parts = [f.targets[name] for f in frames]
        targets[name] = torch.cat(parts) if name in ("forces", "charges") else torch.stack(parts)
    return TrainingBatch(
        numbers=numbers,
        elements=elements,
        kind=kind,
        positions=joined("positions"),
        system=system,
        counts=counts,
        i=joined("i", first),
        j=joined("j", first),
        r=joined("r"),
        u=joined("u"),
        group=group,
        group_charge=group_charge,
        group_size=torch.bincount(group, minlength=len(group_charge)),
        slot=torch.arange(len(numbers)) + (torch.arange(len(frames)) * size - start)[system],
        potential=padded([f.potential for f in frames], (size, size)),
        slope=padded([f.slope for f in frames], (size, 3, size)),
        strain=padded([f.strain for f in frames], (9, size, size)),
        targets=targets,
    )


def padded(parts: Sequence[Any], shape: tuple[int, ...]) -> Tensor | None:
    """Blocks in the corners of zeros of one shape; frames without one have zeros."""
    given = [p for p in parts if p is not None]
    if not given:
        return None
    out = given[0].new_zeros(len(parts), *shape)
    for k, part in enumerate(parts):
        if part is not None:
            out[(k, *(slice(0, n) for n in part.shape))] = part
    return out


def labels_in_use(weights: dict[str, float]) -> tuple[str, ...]:
    """Labels that terms with a weight above zero need, in the order of `LABELS`."""
    needed = {"forces" if name == "net_forces" else name for name, weight in weights.items() if weight > 0}
    return tuple(name for name in LABELS if name in needed)
