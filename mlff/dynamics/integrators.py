"""ASE's integrators with what molecular dynamics of liquids needs beside: conserved quantity and exact restarts.

The centre of mass is at rest in all of them but Langevin, so thermostats count 3N - 3 degrees of freedom where ASE's
count 3N: a box of 50 atoms would else be 2 % too hot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

Ensemble = Literal["nve", "nvt", "csvr", "langevin", "npt", "npt_full"]
Arrays = dict[str, NDArray[Any]]

ATM = 101325 * units.Pascal
"""One atm in eV/Å^3."""

INTERNALS = {
    "nve": (),
    "nvt": ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta"),
    "csvr": ("transferred_energy",),
    "langevin": (),
    "npt": (
        *("_q", "_p", "_eps", "_p_eps", "_cell0", "_volume0"),
        *("_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi"),
    ),
    "npt_full": (
        *("_q", "_p", "_h", "_p_g", "_thermostat._eta", "_thermostat._p_eta"),
        *("_barostat._xi", "_barostat._p_xi"),
    ),
}
"""Attributes of ASE's classes that, with the atoms, are all that their next step depends on."""


@dataclass(frozen=True)
class Conditions:
    """What an integrator is told: temperature in K, pressure in atm, times in fs."""

    ensemble: Ensemble
    temperature_K: float
    pressure_atm: float
    time_step_fs: float
    temperature_damping_fs: float
    pressure_damping_fs: float


class Integrator:
    """One of ASE's integrators on `atoms`, which carry momenta and a calculator."""

    def __init__(self, atoms: Atoms, c: Conditions, rng: np.random.Generator) -> None:
        self.atoms, self.ensemble, self.rng = atoms, c.ensemble, rng
        self.degrees_of_freedom = 3 * len(atoms) - (0 if c.ensemble == "langevin" else 3)
        self.dynamics: Any = _make(atoms, c, rng, self.degrees_of_freedom)
        self.step = self.dynamics.step
        """Advance the atoms by one time step."""

    def conserved_eV(self, total: float) -> float:
        """The quantity that exact integration would keep, from the present total energy; nan for Langevin."""
        d = self.dynamics
        if self.ensemble == "nve":
            return total
        if self.ensemble == "csvr":
            return total - float(d.transferred_energy)
        if self.ensemble == "langevin":
            return np.nan
        extra = d._thermostat.get_thermostat_energy()
        if self.ensemble == "npt":
            extra += d._barostat.get_barostat_energy() + d._p_eps**2 / (2 * d._barostat.W)
        elif self.ensemble == "npt_full":
            extra += d._barostat.get_barostat_energy() + d._get_cell_kinetic_energy()
        if self.ensemble in ("npt", "npt_full"):
            extra += d._pressure_au * d._get_volume()
        return float(total + extra)

    def state(self) -> Arrays:
        """Copies of everything that the next step depends on."""
        arrays: Arrays = {name: np.array(_get(self.dynamics, name)) for name in INTERNALS[self.ensemble]}
        atoms = self.atoms
        return arrays | {
            "positions": atoms.positions.copy(),
            "momenta": atoms.get_momenta(),
            "cell": atoms.cell.array.copy(),
            "random": pack_generator(self.rng),
        }

    def restore(self, arrays: Arrays) -> None:
        """Go back to a state, bit for bit."""
        self.atoms.set_cell(arrays["cell"], scale_atoms=False)
        self.atoms.set_positions(arrays["positions"])
        self.atoms.set_momenta(arrays["momenta"])
        unpack_generator(self.rng, arrays["random"])
        for name in INTERNALS[self.ensemble]:
            holder, _, leaf = name.rpartition(".")
            value = arrays[name].copy() if arrays[name].ndim else arrays[name].item()
            setattr(getattr(self.dynamics, holder) if holder else self.dynamics, leaf, value)


def _make(atoms: Atoms, c: Conditions, rng: np.random.Generator, freedom: int) -> Any:
    step, damping = c.time_step_fs * units.fs, c.temperature_damping_fs * units.fs
    if c.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if c.ensemble == "langevin":
        return Langevin(atoms, step, temperature_K=c.temperature_K, friction=1 / damping, rng=rng, fixcm=False)
    if c.ensemble == "csvr":
        bussi = Bussi(atoms, step, c.temperature_K, damping, rng)
        bussi.ndof = freedom
        bussi.target_kinetic_energy = 0.5 * bussi.temp * freedom
        return bussi
    if c.ensemble == "nvt":
        nvt = NoseHooverChainNVT(atoms, step, c.temperature_K, damping)
        _count(nvt._thermostat, freedom)
        return nvt
    kind = IsotropicMTKNPT if c.ensemble == "npt" else MTKNPT
    pressure, slow = c.pressure_atm * ATM, c.pressure_damping_fs * units.fs
    npt = kind(atoms, step, c.temperature_K, pressure, tdamp=damping, pdamp=slow)
    npt._num_atoms_global = freedom / 3  # enters as 1 + 3 / N_f and as p^2 / m / N_f
    _count(npt._thermostat, freedom)
    return npt


def _count(thermostat: Any, freedom: int) -> None:
    """Let a chain of thermostats count this many degrees of freedom."""
    thermostat._Q[0] *= freedom / (3 * thermostat._num_atoms_global)
    thermostat._num_atoms_global = freedom / 3


def _get(holder: Any, path: str) -> Any:
    for name in path.split("."):
        holder = getattr(holder, name)
    return holder


def forget(calculator: Any) -> None:
    """Let forces be computed anew, from nothing but the positions."""
    getattr(calculator, "forget", calculator.reset)()


_LOW = 2**64 - 1


def pack_generator(rng: np.random.Generator) -> NDArray[np.uint64]:
    """The state of a PCG64 generator, `(6,)`."""
    s: Any = rng.bit_generator.state
    words = [s["state"]["state"], s["state"]["inc"]]
    return np.array(
        [w for word in words for w in (word >> 64, word & _LOW)] + [s["has_uint32"], s["uinteger"]], np.uint64
    )


def unpack_generator(rng: np.random.Generator, words: NDArray[np.uint64]) -> None:
    state, inc = (int(words[k]) << 64 | int(words[k + 1]) for k in (0, 2))
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": inc},
        "has_uint32": int(words[4]),
        "uinteger": int(words[5]),
    }
