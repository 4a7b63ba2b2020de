"""How far a model is from labels: mean absolute and root-mean-square errors, in all and by element and composition.

Errors are in the units of the metrics: meV/atom, meV/Å, e, Debye. They are those of the model as it is used
(`ForceField.predict`), in which a dispersion term that the labels do not contain is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlff.datasets import Dispersion
from mlff.labelled import LabelledFrame
from mlff.model import ForceField
from mlff.units import MEV_PER_KCAL

FACTORS = {"energy": MEV_PER_KCAL, "forces": MEV_PER_KCAL, "charges": 1.0, "dipole": 1.0, "net_forces": MEV_PER_KCAL}
UNITS = {"energy": "meV_per_atom", "forces": "meV_per_A", "charges": "e", "dipole": "D", "net_forces": "meV_per_A"}
LABELS = ("energy", "forces", "charges", "dipole")
BLOCK_ATOMS = 1500
"""Atoms that are predicted together: enough to keep a core busy, few enough for a laptop's memory."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Labels and predictions of the same entries, kcal/mol (of energies by atom), kcal/mol/Å, e, Debye.

    Each array of `label` and `predicted` is `(n_entries,)`, of forces and dipoles `(n_entries, 3)`; `numbers` belongs to
    entries of forces and charges, `composition` to those of energy and dipole, `of_atom` is the frame of each atom.
    `net_forces` `(n_molecules, 3)` are the sums of the forces on each molecule of frames with several, where all are told.
    """

    label: Mapping[str, NDArray[np.float64]]
    predicted: Mapping[str, NDArray[np.float64]]
    numbers: NDArray[np.int64]
    of_atom: NDArray[np.int64]
    composition: tuple[str, ...]

    def errors(self) -> dict[str, float]:
        """`energy/mae_meV_per_atom`, `energy/rmse_meV_per_atom`, `forces/mae_meV_per_A` and so on."""
        values = {}
        for name, label in self.label.items():
            error = FACTORS[name] * (self.predicted[name] - label)
            values[f"{name}/mae_{UNITS[name]}"] = float(np.abs(error).mean())
            values[f"{name}/rmse_{UNITS[name]}"] = float(np.sqrt(np.square(error).mean()))
        return values

    def by_element(self) -> list[dict[str, Any]]:
        """Rows `element, atoms, forces_mae_meV_per_A, charges_mae_e`."""
        from ase.data import chemical_symbols

        rows: list[dict[str, Any]] = []
        for z in np.unique(self.numbers):
            chosen = self.numbers == z
            row: dict[str, Any] = {"element": chemical_symbols[z], "atoms": int(chosen.sum())}
            rows.append(row | self._means(("forces", "charges"), chosen))
        return rows

    def by_composition(self) -> list[dict[str, Any]]:
        """Rows `composition, frames, energy_mae_meV_per_atom, forces_mae_meV_per_A, ...`, the most frequent first."""
        names = np.array(self.composition)
        rows: list[dict[str, Any]] = []
        for name in sorted(set(self.composition)):
            frames = names == name
            row: dict[str, Any] = {"composition": name, "frames": int(frames.sum())}
            row |= self._means(("energy", "dipole"), frames)
            rows.append(row | self._means(("forces", "charges"), frames[self.of_atom]))
        return sorted(rows, key=lambda row: (-row["frames"], row["composition"]))

    def _means(self, names: Sequence[str], chosen: NDArray[np.bool_]) -> dict[str, float]:
        means = {}
        for name in names:
            if name in self.label:
                error = FACTORS[name] * (self.predicted[name] - self.label[name])[chosen]
                means[f"{name}_mae_{UNITS[name]}"] = float(np.abs(error).mean())
        return means


def compare(
    model: ForceField,
    frames: Sequence[LabelledFrame],
    dispersion: Dispersion,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Predict frames and set the predictions beside those labels that all frames have.

    `dispersion` says whether the labels contain it. Raises `ValueError` for elements that the model does not know.
    """
    if model.dispersion is not None and dispersion == "none":
        model = model.changed(dispersion="none")
    labels = [name for name in LABELS if all(getattr(f, name) is not None for f in frames)]
    if model.charge is None:
        labels = [name for name in labels if name not in ("charges", "dipole")]
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in labels}
    done = 0
    for block in _blocks(frames):
        p = model.predict(model.batch(*(f.configuration for f in block)), forces="forces" in labels)
        size = np.array([len(f.configuration.numbers) for f in block])
        arrays = {"energy": p.energy.numpy() / size, "forces": p.forces.numpy(), "charges": p.charges.numpy()}
        arrays["dipole"] = p.dipole.numpy()
        for name in labels:
            found[name].append(arrays[name].astype(np.float64))
        done += len(block)
        progress(done, len(frames))
    counts = np.array([len(f.configuration.numbers) for f in frames])
    label = {name: np.array([getattr(f, name) for f in frames]) for name in labels if name in ("energy", "dipole")}
    if "energy" in label:
        label["energy"] = label["energy"] / counts
    label |= {name: np.concatenate([getattr(f, name) for f in frames]) for name in labels if name not in label}
    predicted = {name: np.concatenate(parts) for name, parts in found.items()}
    if "forces" in labels and (molecule := _molecules(frames)).size:
        label["net_forces"], predicted["net_forces"] = (_net(a["forces"], molecule) for a in (label, predicted))
    return Comparison(
        label,
        predicted,
        np.concatenate([f.configuration.numbers for f in frames]),
        np.repeat(np.arange(len(frames)), counts),
        tuple(f.composition for f in frames),
    )


def _molecules(frames: Sequence[LabelledFrame]) -> NDArray[np.int64]:
    """Index of each atom's molecule among all those of frames with several, -1 elsewhere; empty where none are told."""
    parts, n = [], 0
    for c in (f.configuration for f in frames):
        if c.fragments is None or c.fragment_charges is None:
            return np.zeros(0, np.int64)
        several = len(c.fragment_charges) > 1
        parts.append(n + c.fragments if several else np.full(len(c.numbers), -1))
        n += len(c.fragment_charges) * several
    return np.concatenate(parts) if n else np.zeros(0, np.int64)


def _net(forces: NDArray[np.float64], molecule: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of the forces on each molecule."""
    inside = molecule >= 0
    total = np.zeros((molecule.max() + 1, 3))
    np.add.at(total, molecule[inside], forces[inside])
    return total


def _blocks(frames: Sequence[LabelledFrame]) -> list[list[LabelledFrame]]:
    blocks: list[list[LabelledFrame]] = []
    atoms = BLOCK_ATOMS
    for frame in frames:
        n = len(frame.configuration.numbers)
        if atoms + n > BLOCK_ATOMS:
            blocks.append([])
            atoms = 0
        blocks[-1].append(frame)
        atoms += n
    return blocks
