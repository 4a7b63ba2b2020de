"""The force field as an ASE calculator: eV, Å, e; open, periodic and mixed boundaries; one model or a committee."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from mlff.engine import Engine, Result
from mlff.frames import CHARGE_KEYS, Configuration, stated_charge
from mlff.model import ForceField, check_committee
from mlff.units import KCAL_PER_EV


class MLFFCalculator(Calculator):
    """Energy, forces, stress, charges, dipole and energies of atoms from one model or the mean of several.

    The total charge is `atoms.info["charge"]` or `atoms.info["total_charge"]`, as label files call it, else the argument
    `total_charge`. Molecules keep their own charges where
    `atoms.arrays["fragments"]` and `atoms.info["fragment_charges"]` say so and the model groups charges by fragment.
    Periodic systems take the full long-range sum. Results: `energy`, `free_energy`, `energies` eV; `forces` eV/Å;
    `stress` eV/Å^3, Voigt, only with three periodic axes; `charges` e; `dipole` e Å, sum of q r. A committee adds
    `forces_spread` `(n_atoms,)` eV/Å, the root mean square deviation of its members from their mean, and
    `energy_spread` eV.

    `fast=True` runs models on the CPU by `Engine` (float32, lists that outlast steps) on `threads` threads; it needs a
    model of the default size. Raises `ValueError` on atoms the model cannot compute: untrained element, overlap,
    positions that are not finite.
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "charges",
        "dipole",
    ]

    def __init__(
        self,
        model: ForceField | Sequence[ForceField],
        total_charge: float = 0.0,
        *,
        fast: bool = False,
        threads: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        if isinstance(model, str | Path):
            raise TypeError(f'MLFFCalculator takes a model, not the name of one: MLFFCalculator(mlff.load("{model}"))')
        self.models = [model] if isinstance(model, ForceField) else list(model)
        if not self.models:
            raise ValueError("a committee without models")
        for member in self.models:
            if not isinstance(member, ForceField):
                raise TypeError(
                    f'MLFFCalculator takes models, not {type(member).__name__}: mlff.load("{member}") gives one'
                )
            if member.parameters_of.long_range == "none":
                raise ValueError('long_range="none" leaves the reciprocal sum to another program: use "auto" here')
            member.requires_grad_(False)
        check_committee(self.models)
        self.engines = [Engine(member, threads=threads) for member in self.models] if fast else []
        self.total_charge = total_charge

    def forget(self) -> None:
        """Drop results and neighbour lists: what comes next depends on nothing that came before, bit for bit."""
        self.reset()
        for engine in self.engines:
            engine.lists.forget()

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What has changed since the last call, exactly; ASE's own comparison costs as much as a tenth of a step."""
        before = self.atoms
        if before is None or len(before) != len(atoms):
            return list(all_changes)
        pairs = {
            "positions": (before.arrays["positions"], atoms.arrays["positions"]),
            "numbers": (before.arrays["numbers"], atoms.arrays["numbers"]),
            "cell": (before.cell.array, atoms.cell.array),
            "pbc": (before.pbc, atoms.pbc),
            **{key: (before.info.get(key), atoms.info.get(key)) for key in CHARGE_KEYS},
            "fragments": (before.arrays.get("fragments"), atoms.arrays.get("fragments")),
            "fragment_charges": (before.info.get("fragment_charges"), atoms.info.get("fragment_charges")),
        }
        return [name for name, (old, new) in pairs.items() if not np.array_equal(old, new)]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`; ASE calls this where something changed."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        if "fragment_charges" in self.atoms.info:
            # ASE's copy shares this array with the caller, who may write into it
            self.atoms.info["fragment_charges"] = np.array(self.atoms.info["fragment_charges"])
        frame = configuration(self.atoms, self.total_charge)
        found = [engine.evaluate(frame) for engine in self.engines] or [_by_torch(m, frame) for m in self.models]
        energies = np.stack([p.energies for p in found]) / KCAL_PER_EV
        forces = np.stack([p.forces for p in found]) / KCAL_PER_EV
        charges = np.mean([p.charges for p in found], axis=0)
        total = energies.sum(axis=1)
        self.results = {
            "energy": float(total.mean()),
            "free_energy": float(total.mean()),
            "energies": energies.mean(axis=0),
            "forces": forces.mean(axis=0),
            "charges": charges,
            "dipole": charges @ frame.positions,
        }
        if frame.pbc.all():
            virial = np.mean([p.virial for p in found], axis=0) / KCAL_PER_EV
            symmetric = -0.5 * (virial + virial.T) / abs(np.linalg.det(frame.cell))
            self.results["stress"] = symmetric.flat[[0, 4, 8, 5, 2, 1]]
        if len(self.models) > 1:
            spread = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
            self.results |= {"forces_spread": spread, "energy_spread": float(total.std())}


def _by_torch(model: ForceField, frame: Configuration) -> Result:
    p = model.predict(model.batch(frame))
    arrays = (t.cpu().numpy() for t in (p.energies, p.forces, p.virial[0], p.charges))
    return Result(p.energy.item(), *arrays)


def configuration(atoms: Atoms, total_charge: float = 0.0) -> Configuration:
    """ASE's atoms as a checked configuration; see `MLFFCalculator` for where charges and fragments are looked for."""
    charges, told = atoms.info.get("fragment_charges"), stated_charge(atoms.info)
    return Configuration.of(
        atoms.numbers,
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        total_charge=total_charge if told is None else told,
        fragments=None if charges is None else atoms.arrays.get("fragments"),
        fragment_charges=charges,
    )
