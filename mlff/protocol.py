"""How properties of a liquid are simulated: replicas, density at constant pressure, transport at constant volume."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from mlff.dynamics.integrators import Ensemble
from mlff.dynamics.simulation import Dynamics

WEAKEST_DAMPING_FS = 1000.0
"""Shortest time constant of a thermostat that leaves transport alone."""

Lag = Annotated[float | None, Field(gt=0, description="ps; null = chosen from where motion is diffusive")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Protocol:
    """Stages of every replica; raises pydantic's `ValidationError` on dynamics that would spoil a property.

    `density` runs at constant pressure; the box is then given the mean density of all replicas, `settle` brings it to
    the temperature, `transport` is what viscosity, diffusion and conductivity are taken from (null: density only).
    """

    replicas: Annotated[int, Field(ge=1, le=1000, description="boxes packed and simulated independently")]
    density: Dynamics
    settle: Dynamics
    transport: Dynamics | None = None
    blocks: Annotated[int, Field(ge=1, le=100, description="parts of each transport run that count as independent")] = 4
    fit_start_ps: Lag = None
    fit_end_ps: Lag = None

    @model_validator(mode="after")
    def _ensembles(self) -> Protocol:
        if self.density.ensemble not in ("npt", "npt_full"):
            raise ValueError(f"density.ensemble={self.density.ensemble}: a density needs npt")
        if self.settle.ensemble not in ("nvt", "csvr", "langevin"):
            raise ValueError(f"settle.ensemble={self.settle.ensemble}: nvt, csvr or langevin")
        if self.transport is not None:
            check_transport(self.transport.ensemble, self.transport.temperature_damping_fs, "transport.")
            if self.transport.hydrogen_mass_u is not None:
                raise ValueError(
                    f"transport.hydrogen_mass_u={self.transport.hydrogen_mass_u:g}: other masses move otherwise; must be null"
                )
            if self.blocks * self.replicas < 2:
                raise ValueError(
                    f"blocks={self.blocks} with replicas={self.replicas}: error bars need two blocks in all"
                )
        return self


def check_transport(ensemble: Ensemble, temperature_damping_fs: float | None, where: str = "") -> None:
    """Raise `ValueError` that says why transport cannot be taken from such dynamics; `where` precedes the key."""
    if ensemble == "langevin":
        raise ValueError(
            f"{where}ensemble=langevin: friction and noise on every atom slow diffusion and conserve no momentum, so "
            "that viscosity and conductivity are those of the thermostat; take nve, nvt or csvr"
        )
    if ensemble not in ("nve", "nvt", "csvr"):
        raise ValueError(f"{where}ensemble={ensemble}: a barostat moves the atoms; take nve, nvt or csvr")
    damping = temperature_damping_fs
    if ensemble != "nve" and damping is not None and damping < WEAKEST_DAMPING_FS:
        raise ValueError(
            f"{where}temperature_damping_fs={damping:g}: a thermostat that fast disturbs transport; at least "
            f"{WEAKEST_DAMPING_FS:g}"
        )
