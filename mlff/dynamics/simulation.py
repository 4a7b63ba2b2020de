"""Molecular dynamics of a periodic box: every step recorded, restarts exact bit for bit, blow-ups caught at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from mlff.dynamics.integrators import ATM, Arrays, Conditions, Ensemble, Integrator, forget
from mlff.dynamics.masses import heavy_hydrogen, momenta_for
from mlff.streams import generator
from mlff.system.box import G_PER_CM3, widths_A
from mlff.units import KCAL_PER_EV

Time = Annotated[float, Field(gt=0, le=1e9)]

LEAST_DAMPING = 10.0
"""Time constant of a thermostat or barostat in time steps, at the least: a fraction of one blows up."""
VOLUME_LIMIT = 2.5
"""A box that grows or shrinks by this factor has burst or collapsed."""
SHAPE_LIMIT = 1.5
"""A box that becomes narrower by this factor has lost its shape."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Dynamics:
    """Ensemble, length and limits of a run; raises pydantic's `ValidationError` on a bad value."""

    ensemble: Annotated[
        Ensemble,
        Field(description="nve, nvt (Nosé-Hoover chain), csvr (Bussi), langevin, npt (isotropic MTK), npt_full (MTK)"),
    ] = "npt"
    temperature_K: Annotated[float | None, Field(gt=0, le=5000, description="null = the system's")] = None
    pressure_atm: Annotated[
        float | None, Field(ge=-1e6, le=1e6, description="null = 1, or none at constant volume")
    ] = None
    time_step_fs: Annotated[float, Field(gt=0, le=5)] = 1.0
    hydrogen_mass_u: Annotated[
        float | None,
        Field(ge=1.008, le=3.7, description="hydrogen takes mass from its neighbour; CH3 has no more; null = as it is"),
    ] = None
    length_ps: Annotated[Time, Field(description="simulated time")] = 100.0
    temperature_damping_fs: Annotated[
        Time | None, Field(description="time constant of the thermostat; null = 1000 in nvt and csvr, else 100")
    ] = None
    pressure_damping_fs: Annotated[Time | None, Field(description="time constant of the barostat; null = 1000")] = None
    frame_every_fs: Annotated[Time, Field(description="time between frames of the trajectory")] = 1000.0
    save_every_fs: Annotated[Time, Field(description="time between states that a killed run goes on from")] = 1000.0
    max_temperature_K: Annotated[float, Field(gt=0, description="the run stops above")] = 1500.0
    max_force_eV_A: Annotated[float, Field(gt=0, description="the run stops above, on any atom")] = 100.0
    max_spread_eV_A: Annotated[
        float | None, Field(gt=0, description="the run stops where a committee's forces on an atom spread more")
    ] = 2.0

    @field_validator("ensemble", mode="before")
    @classmethod
    def _never_berendsen(cls, value: Any) -> Any:
        if isinstance(value, str) and "berendsen" in value.lower():
            raise ValueError(
                "Berendsen's coupling samples no ensemble, its fluctuations and often its density are wrong; take npt"
            )
        return value

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Dynamics:
        if self.ensemble not in ("npt", "npt_full"):
            for name in ("pressure_atm", "pressure_damping_fs"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}={getattr(self, name):g} has no effect in {self.ensemble}; take npt")
        if self.ensemble == "nve" and self.temperature_damping_fs is not None:
            raise ValueError("temperature_damping_fs has no effect in nve; take nvt or csvr")
        return self

    @model_validator(mode="after")
    def _slow_enough(self) -> Dynamics:
        least = LEAST_DAMPING * self.time_step_fs
        for name in ("temperature_damping_fs", "pressure_damping_fs"):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(
                    f"{name}={value:g}: must be at least {least:g}, {LEAST_DAMPING:g} time steps: the time step cannot "
                    "follow anything faster"
                )
        return self

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return max(1, round(1000 * self.length_ps / self.time_step_fs))

    def every(self, interval_fs: float) -> int:
        """An interval in steps."""
        return max(1, round(interval_fs / self.time_step_fs))


class Step(NamedTuple):
    """What is known after every step; `pressure_atm` `(6,)` xx yy zz yz xz xy contains the kinetic part."""

    step: int
    time_ps: float
    temperature_K: float
    potential_kcal_mol: float
    kinetic_kcal_mol: float
    conserved_kcal_mol: float
    density_g_cm3: float
    volume_A3: float
    pressure_atm: NDArray[np.float64]


@plain_dataclass(frozen=True, eq=False)
class Frame:
    """One configuration on its way: unwrapped `positions` in Å, `velocities` in Å/ps, `charges` in e or None."""

    step: int
    time_ps: float
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    velocities: NDArray[np.float64]
    charges: NDArray[np.float64] | None


@plain_dataclass(frozen=True, eq=False)
class State:
    """Everything that the rest of a run depends on, as plain arrays by name."""

    step: int
    arrays: Arrays

    def flat(self) -> Arrays:
        """The arrays and the step, for a file."""
        return self.arrays | {"step": np.array(self.step)}

    @staticmethod
    def of(arrays: Arrays) -> State:
        """From what `flat` gave."""
        return State(int(arrays["step"]), {k: v for k, v in arrays.items() if k != "step"})

    def put_on(self, atoms: Atoms) -> Atoms:
        """A copy of `atoms` with the positions, cell and momenta of this state; of other masses, the kinetic energies."""
        moved = atoms.copy()
        moved.set_cell(self.arrays["cell"], scale_atoms=False)
        moved.set_positions(self.arrays["positions"])
        momenta, masses = self.arrays["momenta"], self.arrays.get("masses")
        if masses is not None and not np.array_equal(masses, moved.get_masses()):
            momenta = momenta_for(moved.get_masses(), momenta, masses)
        moved.set_momenta(momenta)
        return moved


class BlowUp(RuntimeError):
    """A simulation left what the model can describe; `atoms` are its last frame, `culprits` the indices to look at."""

    def __init__(self, message: str, atoms: Atoms, culprits: NDArray[np.int64]) -> None:
        super().__init__(message)
        self.atoms, self.culprits = atoms, culprits

    def __reduce__(self) -> tuple[type[BlowUp], tuple[str, Atoms, NDArray[np.int64]]]:
        return type(self), (str(self), self.atoms, self.culprits)  # from one process to another


def simulate(
    atoms: Atoms,
    calculator: Any,
    dynamics: Dynamics,
    *,
    seed: int,
    state: State | None = None,
    temperature_K: float | None = None,
    integrator_of: Callable[[Atoms, Conditions, np.random.Generator], Any] = Integrator,
    on_step: Callable[[Step], object] | None = None,
    on_frame: Callable[[Frame], object] | None = None,
    save: Callable[[State], object] | None = None,
) -> State:
    """Run `dynamics` on a copy of `atoms`, from `state` where a killed run left one, to the end; returns the last state.

    Without momenta, velocities are drawn at the temperature; `temperature_K` is the system's, for
    `dynamics.temperature_K=None`. `integrator_of` makes what advances the atoms: ASE, or another program (`LammpsIntegrator`,
    `OpenmmIntegrator`). Callbacks get every step, every `frame_every_fs` a frame (step 0 included), and every
    `save_every_fs` the state; records of a step come before its state. At each of these states the calculator forgets
    its lists, so that a run from there is the unbroken run bit for bit. Raises `BlowUp`.
    """
    conditions = conditions_of(dynamics, temperature_K)
    limits = _Limits.of(atoms, state)
    atoms = heavy_hydrogen(atoms, dynamics.hydrogen_mass_u)
    atoms = atoms.copy() if state is None else state.put_on(atoms)
    atoms.calc = calculator
    if not atoms.has("momenta"):
        set_velocities(atoms, conditions.temperature_K, seed)
    rng = generator(seed, "dynamics")
    integrator = integrator_of(atoms, conditions, rng)
    first = 0
    if state is not None:
        integrator.restore(state.arrays)
        first = state.step
    watch = _Watch(atoms, dynamics, integrator, limits)
    forget(calculator)
    fixed = limits.flat() | ({} if dynamics.hydrogen_mass_u is None else {"masses": atoms.get_masses()})
    n_frame, n_save = dynamics.every(dynamics.frame_every_fs), dynamics.every(dynamics.save_every_fs)
    for step in range(first, dynamics.n_steps + 1):
        if step > first:
            watch.advance(step)
        elif first > 0:
            continue  # its records were delivered before its state
        record = watch.look(step)
        if on_step is not None:
            on_step(record)
        if on_frame is not None and step % n_frame == 0:
            on_frame(watch.frame(step))
        if save is not None and step > first and step % n_save == 0 and step < dynamics.n_steps:
            save(State(step, integrator.state() | fixed))
        if step % n_save == 0:
            forget(calculator)
    return State(dynamics.n_steps, integrator.state() | fixed)


def set_velocities(atoms: Atoms, temperature_K: float, seed: int) -> None:
    """Momenta of exactly this temperature with the centre of mass at rest."""
    masses = atoms.get_masses()[:, None]
    momenta = generator(seed, "velocities").standard_normal((len(atoms), 3)) * np.sqrt(
        masses * units.kB * temperature_K
    )
    momenta -= masses * momenta.sum(axis=0) / masses.sum()
    kinetic = 0.5 * float((momenta**2 / masses).sum())
    freedom = max(1, 3 * len(atoms) - 3)
    if kinetic > 0:
        momenta *= np.sqrt(0.5 * freedom * units.kB * temperature_K / kinetic)
    atoms.set_momenta(momenta)


def conditions_of(d: Dynamics, temperature_K: float | None = None) -> Conditions:
    """What an integrator is told, defaults filled in; `temperature_K` is the system's. Raises `ValueError` without any."""
    target = d.temperature_K or temperature_K
    if target is None:
        raise ValueError("temperature_K: has no value; give md.temperature_K=...")
    return Conditions(
        ensemble=d.ensemble,
        temperature_K=target,
        pressure_atm=1.0 if d.pressure_atm is None else d.pressure_atm,
        time_step_fs=d.time_step_fs,
        temperature_damping_fs=d.temperature_damping_fs or (1000.0 if d.ensemble in ("nvt", "csvr") else 100.0),
        pressure_damping_fs=d.pressure_damping_fs or 1000.0,
    )


class _Limits(NamedTuple):
    """The box that a run began with, which its volume and shape are held against, whenever it was resumed."""

    volume_A3: float
    width_A: float

    @staticmethod
    def of(atoms: Atoms, state: State | None) -> _Limits:
        """From a saved state; from the start box where there is none, or an older one without limits."""
        if state is not None and "limits" in state.arrays:
            return _Limits(*state.arrays["limits"].tolist())
        return _Limits(float(atoms.get_volume()), float(widths_A(atoms).min()))

    def flat(self) -> Arrays:
        """For a state."""
        return {"limits": np.array(self)}


class _Watch:
    """Measures the box after every step and stops a run that has left what makes sense."""

    def __init__(self, atoms: Atoms, d: Dynamics, integrator: Any, limits: _Limits) -> None:
        self.atoms, self.d, self.integrator, self.limits = atoms, d, integrator, limits
        self.masses = atoms.get_masses()
        self.mass_u = float(self.masses.sum())

    def advance(self, step: int) -> None:
        """One step of the integrator; raises `BlowUp` where it leads to what no model computes.

        The calculator raises `ValueError` for positions that are not finite, atoms on top of each other and the like.
        """
        try:
            self.integrator.step()
        except ValueError as error:
            momenta = self.atoms.arrays["momenta"]
            self._stop(step, str(error), np.einsum("ij,ij->i", momenta, momenta) / self.masses)

    def look(self, step: int) -> Step:
        """Everything that is recorded of one step; raises `BlowUp`."""
        atoms, known = self.atoms, self.atoms.calc.results
        if "energy" not in known or "stress" not in known:  # else they are those of the integrator's last forces
            known = {"energy": atoms.get_potential_energy(), "stress": atoms.get_stress()}
        potential, stress = known["energy"], known["stress"]
        momenta = atoms.arrays["momenta"]
        volume = abs(float(np.linalg.det(atoms.cell.array)))
        flow = momenta.T @ (momenta / self.masses[:, None])
        kinetic = 0.5 * float(np.trace(flow))
        temperature = 2 * kinetic / (units.kB * self.integrator.degrees_of_freedom)
        pressure = (flow.flat[[0, 4, 8, 5, 2, 1]] / volume - stress) / ATM
        self._check(step, temperature, volume)
        return Step(
            step=step,
            time_ps=step * self.d.time_step_fs / 1000,
            temperature_K=temperature,
            potential_kcal_mol=potential * KCAL_PER_EV,
            kinetic_kcal_mol=kinetic * KCAL_PER_EV,
            conserved_kcal_mol=self.integrator.conserved_eV(potential + kinetic) * KCAL_PER_EV,
            density_g_cm3=self.mass_u / volume * G_PER_CM3,
            volume_A3=volume,
            pressure_atm=pressure,
        )

    def frame(self, step: int) -> Frame:
        """The present configuration."""
        atoms = self.atoms
        velocities = atoms.arrays["momenta"] / self.masses[:, None] * (1000 * units.fs)
        charges = atoms.calc.results.get("charges")
        time = step * self.d.time_step_fs / 1000
        return Frame(step, time, atoms.positions.copy(), atoms.cell.array.copy(), velocities, charges)

    def _check(self, step: int, temperature: float, volume: float) -> None:
        d, results = self.d, self.atoms.calc.results
        force2 = np.einsum("ij,ij->i", results["forces"], results["forces"])
        spread = results.get("forces_spread")
        # written so that nan fails as well
        if not temperature < d.max_temperature_K:
            fastest = np.einsum("ij,ij->i", self.atoms.arrays["momenta"], self.atoms.arrays["momenta"]) / self.masses
            self._stop(step, f"temperature {temperature:.0f} K > max_temperature_K={d.max_temperature_K:g}", fastest)
        if not force2.max() < d.max_force_eV_A**2:
            largest = np.sqrt(np.nanmax(force2)) if not np.isnan(force2).all() else np.nan
            self._stop(step, f"force {largest:.3g} eV/Å > max_force_eV_A={d.max_force_eV_A:g}", force2)
        if spread is not None and d.max_spread_eV_A is not None and not spread.max() < d.max_spread_eV_A:
            what = f"forces of the committee spread by {spread.max():.3g} eV/Å > max_spread_eV_A={d.max_spread_eV_A:g}"
            self._stop(step, what, spread)
        change = volume / self.limits.volume_A3
        if not 1 / VOLUME_LIMIT < change < VOLUME_LIMIT:
            self._stop(step, f"the box has {change:.2f} times its first volume", force2)
        if d.ensemble == "npt_full" and not widths_A(self.atoms).min() * SHAPE_LIMIT > self.limits.width_A:
            self._stop(step, f"the box is only {widths_A(self.atoms).min():.1f} Å wide: a liquid has no shape", force2)

    def _stop(self, step: int, what: str, worst: NDArray[np.float64]) -> None:
        """Raise `BlowUp` that names the three atoms of the largest `worst`."""
        culprits = np.argsort(-np.nan_to_num(worst, nan=np.inf), kind="stable")[:3]
        frame = self.atoms.copy()
        time = step * self.d.time_step_fs / 1000
        raise BlowUp(
            f"step {step} ({time:g} ps): {what}; atoms {describe_atoms(frame, culprits)}; "
            "try a shorter md.time_step_fs, a longer soft start, or another model",
            frame,
            culprits,
        )


def describe_atoms(atoms: Atoms, indices: NDArray[np.int64]) -> str:
    """`P 12 (fragment 3), F 13 (fragment 3)`."""
    fragments = atoms.arrays.get("fragments")
    where = (lambda i: "") if fragments is None else (lambda i: f" (molecule {fragments[i]})")
    return ", ".join(f"{atoms.symbols[i]} {i}{where(i)}" for i in indices)
