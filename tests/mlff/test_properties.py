"""From trajectories to properties: made-up boxes whose answers are known, and boxes brought to a density."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlff.dynamics.integrators import Conditions
from mlff.dynamics.trajectory import Thermo, Trajectory
from mlff.properties import check_replicas, density, transport
from mlff.system.box import at_density, density_g_cm3
from tests.mlff.transport.synthetic import CHARGE, NAMES, D, ions, ornstein_uhlenbeck, pressures

EDGE_A, STEP_PS = 28.0, 0.05
MASSES = {"Li": (3, 6.94), "PF6": (9, 145.0), "EC": (8, 88.06)}
"""One atom stands for a molecule."""


def _run(seed: int, n_frames: int = 400, volume_moves: float = 0.0) -> tuple[Trajectory, Thermo]:
    rng = np.random.default_rng(seed)
    walk = ions(rng, n_frames, 1.0, 0.5)
    start = rng.uniform(0, EDGE_A, (1, len(NAMES), 3))
    trajectory = Trajectory(
        time_ps=np.arange(n_frames) * 1.0,
        positions=(start + walk.positions).astype(np.float32),
        cells=np.broadcast_to(EDGE_A * np.eye(3), (n_frames, 3, 3)),
        velocities=None,
        charges=None,
        numbers=np.array([MASSES[n][0] for n in NAMES]),
        masses=np.array([MASSES[n][1] for n in NAMES]),
        fragments=np.arange(len(NAMES)),
        names=NAMES,
        fragment_charges=np.array([CHARGE[n] for n in NAMES]),
    )
    n = int(n_frames / STEP_PS)
    stress = pressures(400.0 * ornstein_uhlenbeck(rng, (5, n), STEP_PS, 0.5))
    volume = EDGE_A**3 * (1 + volume_moves * ornstein_uhlenbeck(rng, (n,), STEP_PS, 1.0))
    one = np.ones(n)
    thermo = Thermo(
        np.arange(n), STEP_PS * np.arange(n), 300 * one, 0 * one, 0 * one, 1.2 * EDGE_A**3 / volume, volume, stress
    )
    return trajectory, thermo


def test_all_properties_of_a_made_up_electrolyte() -> None:
    found = transport([_run(k) for k in range(3)], n_blocks=4, start_ps=2.0, end_ps=20.0)
    assert found.temperature_K == pytest.approx(300) and found.volume_A3 == pytest.approx(EDGE_A**3)
    assert found.viscosity and not found.missing
    known = EDGE_A**3 * 1e-30 / (1.380649e-23 * 300) * (400 * 101325) ** 2 * 0.5e-12 * 1e3
    assert found.viscosity.eta.value == pytest.approx(known, abs=1.5 * found.viscosity.eta.error)
    for d in found.diffusion:
        assert d.in_box.value == pytest.approx(D[d.name] * 1e-8, rel=0.1)
        assert d.corrected and d.corrected.value > d.in_box.value
    assert found.conductivity and found.conductivity.n_pairs == 10
    assert found.conductivity.haven_ratio.value == pytest.approx(1.96, rel=0.3)
    assert "Li-F(PF6)" in found.radial and "Li-O(EC)" in found.radial
    assert sum(e.value for e in found.shells["Li"].shares.values()) == pytest.approx(1.0)


def test_without_ions_centres_of_mass_are_compared() -> None:
    trajectory, thermo = _run(0)
    neutral = dataclasses.replace(trajectory, fragment_charges=np.zeros(len(NAMES)))
    found = transport([(neutral, thermo)], n_blocks=4)
    assert found.conductivity is None and not found.shells and "EC-EC" in found.radial


def test_short_runs_say_what_is_missing() -> None:
    found = transport([_run(0, n_frames=8)], n_blocks=4)
    assert "too few" in found.missing["diffusion"] and not found.diffusion
    shorter = transport([_run(0, n_frames=7)], n_blocks=4)
    assert "two blocks of 40" in shorter.missing["viscosity"] and shorter.viscosity is None
    trajectory, thermo = _run(0)
    uneven = dataclasses.replace(thermo, time_ps=thermo.time_ps**1.1)
    uncorrected = transport([(trajectory, uneven)], start_ps=2.0, end_ps=20.0)
    assert [d.corrected for d in uncorrected.diffusion] == [None] * 3
    assert uncorrected.missing["self-diffusion, Yeh-Hummer"] == "there is no viscosity to correct with"


def test_trajectories_without_molecules_or_with_friction_are_refused() -> None:
    trajectory, thermo = _run(0, n_frames=50)
    with pytest.raises(ValueError, match="does not name the molecule"):
        transport([(dataclasses.replace(trajectory, fragments=None), thermo)])
    mixed = dataclasses.replace(trajectory, fragment_charges=np.where(np.arange(len(NAMES)) < 5, 0.0, 1.0))
    with pytest.raises(ValueError, match="Li: two kinds of molecules have this name, of charge 0 and 1 e"):
        transport([(mixed, thermo)])
    heavy = dataclasses.replace(
        trajectory, numbers=np.ones_like(trajectory.numbers), masses=np.full_like(trajectory.masses, 3.0)
    )
    with pytest.raises(ValueError, match="hydrogen was made heavier"):
        transport([(heavy, thermo)])
    with pytest.raises(ValueError, match="Langevin"):
        transport([(trajectory, dataclasses.replace(thermo, conserved_kcal_mol=np.full(len(thermo.step), np.nan)))])


NVT = Conditions("nvt", 300.0, np.nan, 1.0, 1000.0, np.nan)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature_damping_fs": 10.0}, "replica 1: temperature_damping_fs=10: a thermostat that fast"),
        ({"ensemble": "langevin"}, "replica 1: ensemble=langevin: friction and noise"),
        ({"ensemble": "npt"}, "replica 1: ensemble=npt: a barostat moves the atoms"),
        ({"temperature_K": 350.0}, "replica 1: temperature_K=350, and replica 0 has 300"),
    ],
)
def test_transport_is_refused_by_what_a_trajectory_says_of_its_dynamics(change: dict[str, Any], said: str) -> None:
    trajectory, thermo = _run(0)
    first, second = (dataclasses.replace(trajectory, conditions=c) for c in (NVT, dataclasses.replace(NVT, **change)))
    with pytest.raises(ValueError, match=said):
        transport([(first, thermo), (second, thermo)])


def test_replicas_are_of_one_liquid_and_one_volume() -> None:
    trajectory, thermo = _run(0)
    other = dataclasses.replace(trajectory, names=("Na", *NAMES[1:]))
    with pytest.raises(ValueError, match="replica 1 has other molecules than replica 0"):
        transport([(trajectory, thermo), (other, thermo)])
    larger = dataclasses.replace(thermo, volume_A3=1.01 * thermo.volume_A3)
    with pytest.raises(ValueError, match=r"replica 1: volume_A3=22171\.5, and replica 0 has 21952: transport is"):
        transport([(trajectory, thermo), (trajectory, larger)])
    runs = {"a": (trajectory, thermo), "b": (trajectory, larger)}
    check_replicas(runs, for_transport=False)  # densities of boxes that breathe
    npt = [dataclasses.replace(trajectory, conditions=Conditions("npt", 300.0, p, 1.0, 100.0, 500.0)) for p in (1, 500)]
    with pytest.raises(ValueError, match="b: pressure_atm=500, and a has 1: replicas have one target"):
        check_replicas({"a": (npt[0], thermo), "b": (npt[1], thermo)}, for_transport=False)


def test_density_of_replicas() -> None:
    found = density([_run(k, volume_moves=0.02)[1] for k in range(2)])
    assert found.mean.estimate.value == pytest.approx(1.2, abs=0.005) and found.mean.estimate.error < 0.01
    assert len(found.series) == 2 and len(found.series[0]) <= 4000


def test_a_box_is_brought_to_a_density_with_its_molecules_as_they_are() -> None:
    rng = np.random.default_rng(0)
    cell = np.array([[10.0, 0, 0], [2, 11, 0], [0, 1, 12]])
    atoms = Atoms(
        "COHCOH", rng.uniform(0, 2, (6, 3)) + np.repeat(rng.uniform(0, 10, (2, 3)), 3, axis=0), cell=cell, pbc=True
    )
    atoms.arrays["fragments"] = np.repeat([0, 1], 3)
    broken = atoms.copy()
    broken.positions[4] += cell[0] - cell[2]  # one atom in another image
    for start in (atoms, broken):
        scaled = at_density(start, 0.9 * density_g_cm3(atoms))
        assert density_g_cm3(scaled) == pytest.approx(0.9 * density_g_cm3(atoms))
        for m in range(2):
            within = slice(3 * m, 3 * m + 3)
            assert np.allclose(np.diff(scaled.positions[within], axis=0), np.diff(atoms.positions[within], axis=0))
        factor = 0.9 ** (-1 / 3)
        centres = [a[:3].get_center_of_mass() for a in (atoms, scaled)]
        assert centres[1] == pytest.approx(factor * centres[0])
