"""The model's real-space part beside LAMMPS' own k-space solver: `fix external` and PPPM, which share the charges.

LAMMPS computes k-space before it asks for the model's forces, so the charges that the model sets act in PPPM one step
late. Late charges are extrapolated by default, q(n) ~ 2 q(n-1) - q(n-2); `benchmarks/engines.py` measures what is left.
Forces hold the charges fixed: the potential of PPPM, which their response would need, never reaches the model.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from mlff.calculator import configuration
from mlff.dynamics.integrators import ATM, Conditions
from mlff.dynamics.lammps_engine import VIRIAL_ORDER, LammpsIntegrator
from mlff.engine import Engine
from mlff.model import ForceField
from mlff.units import COULOMB, KCAL_PER_EV


class PppmIntegrator(LammpsIntegrator):
    """`LammpsIntegrator` for one model of the default size whose reciprocal sum is LAMMPS' `pppm` at `accuracy`.

    The atoms' calculator is replaced by the sums that LAMMPS holds. `extrapolate=False` leaves the charges one step
    late. Raises `ValueError` on a model without charges.
    """

    def __init__(
        self,
        atoms: Atoms,
        c: Conditions,
        rng: np.random.Generator,
        *,
        model: ForceField,
        accuracy: float = 1e-6,
        extrapolate: bool = True,
        threads: int | None = None,
    ) -> None:
        p = model.parameters_of
        if not p.charges:
            raise ValueError("a model without charges has no use for LAMMPS' k-space solver")
        if abs(configuration(atoms).total_charge) > 1e-6:
            raise ValueError("engine=lammps with pppm: the box must be neutral")
        self.engine = Engine(model.changed(long_range="none", forces="fixed_charges"), threads=threads)
        self.splitting, self.extrapolate = p.splitting_per_A, extrapolate
        self.styles = (
            # what k-space solvers accept beside them; all its pairs are left to the model
            f"pair_style coul/long {p.coulomb_cutoff_A:.17g}",
            "neigh_modify exclude group all all",
            f"kspace_style pppm {accuracy:g}",
            f"kspace_modify gewald {p.splitting_per_A:.17g}",
        )
        super().__init__(atoms, c, rng)

    def _go(self, seed: int) -> None:
        self.engine.lists.forget()
        self.before = self.used = self.engine.evaluate(configuration(self.atoms)).charges
        # LAMMPS takes the self energy from the charges at this moment, whatever they become
        self.at_setup = float(self.used @ self.used)
        self._set(self.used)
        super()._go(seed)

    def _run(self, command: str) -> None:
        super()._run(command)
        lmp, n = self.lammps.numpy, len(self.atoms)
        forces = np.empty((n, 3))
        forces[lmp.extract_atom("id")[:n] - 1] = lmp.extract_atom("f")[:n]
        momenta, volume = self.atoms.get_momenta() @ self.turn.T, self.atoms.get_volume()
        flow = (momenta.T @ (momenta / self.masses[:, None])).flat[[0, 4, 8, 5, 2, 1]]
        xx, yy, zz, yz, xz, xy = flow / volume - self.pressure_atm() * ATM
        stress = self.turn.T @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ self.turn
        energy = float(self.lammps.get_thermo("pe")) / KCAL_PER_EV
        self.atoms.calc = SinglePointCalculator(
            self.atoms,
            energy=energy,
            forces=forces @ self.turn / KCAL_PER_EV,
            stress=stress.flat[[0, 4, 8, 5, 2, 1]],
            charges=self.before,
        )

    def _callback(self, caller: Any, step: int, n: int, tag: Any, x: Any, f: Any) -> None:
        try:
            place = np.empty((n, 3))
            place[tag - 1] = x
            self._move(place @ self.turn)
            result, lmp = self.engine.evaluate(configuration(self.atoms)), self.lammps
            f[:] = (result.forces @ self.turn.T)[tag - 1]
            own = COULOMB * self.splitting / math.sqrt(math.pi)
            missing = own * (self.at_setup - float(self.used @ self.used))
            lmp.fix_external_set_energy_global("model", result.energy + missing)
            virial = (self.turn @ result.virial @ self.turn.T)[VIRIAL_ORDER]
            lmp.fix_external_set_virial_global("model", virial.tolist())
            now, self.used = result.charges, result.charges
            if self.extrapolate:
                self.used = 2.0 * now - self.before
            self.before = now
            self._set(self.used)
        except Exception as error:
            f[:] = 0.0
            self.error = error

    def _set(self, charges: NDArray[np.float64]) -> None:
        """Charges for the next k-space sum; it reads those of LAMMPS' own atoms only, not of ghosts."""
        lmp, n = self.lammps.numpy, len(self.atoms)
        lmp.extract_atom("q")[:n] = charges[lmp.extract_atom("id")[:n] - 1]
