"""Properties of a liquid from its trajectories: density at constant pressure, transport and structure at constant volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlff.dynamics.trajectory import Origin, Thermo, Trajectory
from mlff.protocol import check_transport
from mlff.transport import (
    Centres,
    Conductivity,
    Curves,
    Diffusion,
    Mean,
    RadialDistribution,
    SolvationShells,
    Viscosity,
    centres_of_mass,
    conductivity,
    displacements,
    mean_of_series,
    radial_distribution,
    self_diffusion,
    solvation_shells,
    viscosity,
)
from mlff.transport.checks import check_kinds
from mlff.transport.solvation import DONORS
from mlff.transport.structure import atoms_of

MOST_SAMPLES = 4000
"""Points of a density series; more steps are averaged in groups."""
MOST_FRAMES = 200
"""Frames of a replica for radial distributions."""

HEAVIEST_HYDROGEN_U = 2.02
"""Deuterium; what is heavier was made so for longer time steps."""
SAME_VOLUME = 1e-3
"""Volumes that differ by a smaller share are one volume, typed as a rounded density."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Densities:
    """Mean density in g/cm3, with the series `(n,)` of each replica and their time step."""

    mean: Mean
    series: tuple[Floats, ...]
    dt_ps: float


@dataclass(frozen=True, eq=False)
class Transport:
    """What runs at constant volume tell; None where it does not exist or the runs are too short, then `missing` says why."""

    temperature_K: float
    volume_A3: float
    viscosity: Viscosity | None
    curves: Curves | None
    diffusion: tuple[Diffusion, ...]
    conductivity: Conductivity | None
    radial: Mapping[str, RadialDistribution]
    shells: Mapping[str, SolvationShells]
    missing: Mapping[str, str]


def density(thermos: Sequence[Thermo]) -> Densities:
    """Density over replicas at constant pressure."""
    group = max(1, -(-min(len(t.step) for t in thermos) // MOST_SAMPLES))
    series = tuple(_grouped(t.density_g_cm3, group) for t in thermos)
    dt = float(np.diff(thermos[0].time_ps[:2]).sum()) * group
    return Densities(mean_of_series(series), series, dt)


def check_replicas(runs: Mapping[str, tuple[Origin | Trajectory, Thermo]], *, for_transport: bool) -> None:
    """Raise `ValueError` that names the run, unless all are of one liquid at one temperature and target pressure.

    Transport asks for equal volumes and for dynamics that leave motion alone (`check_transport`), too. Of older files,
    which do not record their dynamics, only Langevin dynamics is recognised: it conserves nothing.
    """
    first, (origin, thermo) = next(iter(runs.items()))
    for name, (run, its) in runs.items():
        if run.names != origin.names or not np.array_equal(run.numbers, origin.numbers):
            raise ValueError(f"{name} has other molecules than {first}: replicas are runs of one box")
        if for_transport:
            _check_dynamics(name, run, its)
            here, there = (float(t.volume_A3.mean(dtype=float)) for t in (its, thermo))
            if abs(here - there) > SAME_VOLUME * there:
                raise ValueError(
                    f"{name}: volume_A3={here:.6g}, and {first} has {there:.6g}: transport is that of one volume"
                )
    known = [(name, run.conditions) for name, (run, _) in runs.items() if run.conditions is not None]
    for key in ("temperature_K", "pressure_atm"):
        told = [(name, getattr(conditions, key)) for name, conditions in known]
        told = [(name, value) for name, value in told if np.isfinite(value)]
        for name, value in told:
            if value != told[0][1]:
                raise ValueError(
                    f"{name}: {key}={value:g}, and {told[0][0]} has {told[0][1]:g}: replicas have one target"
                )


def _check_dynamics(name: str, run: Origin | Trajectory, thermo: Thermo) -> None:
    if run.conditions is not None:
        check_transport(run.conditions.ensemble, run.conditions.temperature_damping_fs, f"{name}: ")
    elif not np.isfinite(thermo.conserved_kcal_mol).all():
        raise ValueError(f"{name} is one of Langevin dynamics, whose friction is part of its transport")


def _grouped(values: NDArray[np.floating], group: int) -> Floats:
    whole = len(values) // group * group
    return np.asarray(values[len(values) - whole :], np.float64).reshape(-1, group).mean(axis=1)


def transport(
    runs: Sequence[tuple[Trajectory, Thermo]],
    *,
    n_blocks: int = 4,
    start_ps: float | None = None,
    end_ps: float | None = None,
) -> Transport:
    """Viscosity, diffusion, conductivity and structure over replicas of one box at constant volume.

    Raises `ValueError` where the trajectories do not say which atoms are a molecule, where molecules of one name are not
    alike, where hydrogen was made heavier, or as `check_replicas` does.
    """
    for trajectory, _ in runs:
        if trajectory.fragments is None or trajectory.fragment_charges is None:
            raise ValueError("the trajectory does not name the molecule of each atom: no diffusion without")
        if (trajectory.masses[trajectory.numbers == 1] > HEAVIEST_HYDROGEN_U).any():
            raise ValueError(
                "hydrogen was made heavier (md.hydrogen_mass_u), which moves otherwise: no transport from it"
            )
        masses = np.bincount(trajectory.fragments, weights=trajectory.masses).astype(np.float64)
        check_kinds(trajectory.names, trajectory.fragment_charges, masses)
    check_replicas({f"replica {k}": run for k, run in enumerate(runs)}, for_transport=True)
    temperature = float(np.mean([t.temperature_K.mean(dtype=float) for _, t in runs]))
    volume = float(np.mean([t.volume_A3.mean(dtype=float) for _, t in runs]))
    missing: dict[str, str] = {}
    eta = curves = sigma = None
    found: list[Diffusion] = []
    try:
        eta = _viscosity([t for _, t in runs], volume, temperature, n_blocks)
    except ValueError as error:
        missing["viscosity"] = str(error)
    try:
        curves = displacements([_centres(t) for t, _ in runs], n_blocks=n_blocks)
        positive = eta.eta if eta is not None and eta.eta.value > 0 else None
        found = self_diffusion(
            curves,
            viscosity_mPa_s=positive,
            volume_A3=volume,
            temperature_K=temperature,
            start_ps=start_ps,
            end_ps=end_ps,
        )
        if positive is None:
            missing["self-diffusion, Yeh-Hummer"] = "there is no viscosity to correct with"
        if curves.charge.shape[2]:
            sigma = conductivity(curves, volume, temperature, start_ps=start_ps, end_ps=end_ps)
    except ValueError as error:
        missing["diffusion"] = str(error)
    return Transport(temperature, volume, eta, curves, tuple(found), sigma, *_structure([t for t, _ in runs]), missing)


def _viscosity(thermos: Sequence[Thermo], volume: float, temperature: float, n_blocks: int) -> Viscosity:
    times = thermos[0].time_ps
    steps = np.diff(times)
    if len(steps) < 2 or np.ptp(steps) > 1e-3 * steps.mean():
        raise ValueError("the pressure is not recorded at equal steps")
    return viscosity([t.pressure_atm for t in thermos], float(steps.mean()), volume, temperature, n_blocks=n_blocks)


def _centres(t: Trajectory) -> Centres:
    assert t.fragments is not None and t.fragment_charges is not None
    positions = np.asarray(t.positions, np.float64)
    return centres_of_mass(t.time_ps, positions, t.masses, t.fragments, t.fragment_charges, t.names)


def _structure(trajectories: Sequence[Trajectory]) -> tuple[dict[str, RadialDistribution], dict[str, SolvationShells]]:
    """Distributions and shells around one-atom cations; without any, distributions of centres of mass."""
    first = trajectories[0]
    assert first.fragments is not None and first.fragment_charges is not None
    size = np.bincount(first.fragments)
    kinds = dict(zip(first.names, zip(first.fragment_charges, size, strict=True), strict=True))
    cations = [name for name, (charge, n) in kinds.items() if charge > 0 and n == 1]
    # the same for all: statistical inefficiencies are counted in samples
    chosen = slice(None, None, -(-max(len(t.time_ps) for t in trajectories) // MOST_FRAMES))
    cells = [t.cells[chosen] for t in trajectories]
    if not cations:
        return _centre_distributions(trajectories, chosen, cells), {}
    positions = [t.positions[chosen].astype(np.float64) for t in trajectories]
    radial, shells = {}, {}
    for cation in cations:
        centre = np.flatnonzero(np.array(first.names)[first.fragments] == cation)
        for name in kinds:
            for z in DONORS:
                around = atoms_of(first.names, first.fragments, name, first.numbers, z)
                if name != cation and len(around):
                    key = f"{cation}-{chemical_symbols[z]}({name})"
                    radial[key] = radial_distribution(positions, cells, centre, around)
        shells[cation] = solvation_shells(
            positions, cells, first.numbers, first.fragments, first.names, first.fragment_charges, cation
        )
    return radial, shells


def _centre_distributions(
    trajectories: Sequence[Trajectory], chosen: slice, cells: Sequence[Floats]
) -> dict[str, RadialDistribution]:
    positions = [_centres(t).positions[chosen] for t in trajectories]
    names = np.array(trajectories[0].names)
    kinds = list(dict.fromkeys(trajectories[0].names))
    pairs = [(a, b) for i, a in enumerate(kinds) for b in kinds[i:]]
    return {
        f"{a}-{b}": radial_distribution(positions, cells, np.flatnonzero(names == a), np.flatnonzero(names == b))
        for a, b in pairs
        if (names == b).sum() > (a == b)
    }
