"""Dynamics of an argon-like fluid: conserved quantities, exact restarts, temperatures, pressures, blow-ups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from pydantic import ValidationError

from mlff.dynamics.integrators import INTERNALS, Conditions, Integrator
from mlff.dynamics.relaxation import Relaxation, relax
from mlff.dynamics.simulation import BlowUp, Dynamics, Frame, State, Step, set_velocities, simulate
from tests.mlff.lennard_jones import KELVIN, LennardJones, lattice

T = 0.7 * KELVIN
ENSEMBLES = list(INTERNALS)


def short(ensemble: str, **more: Any) -> Dynamics:
    """Forty steps; a solid, whose cell may change its shape."""
    settings: dict[str, Any] = {"time_step_fs": 5.0, "length_ps": 0.2, "temperature_K": T}
    if ensemble != "nve":
        settings["temperature_damping_fs"] = 200.0
    return Dynamics(ensemble=ensemble, **(settings | more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def solid() -> Atoms:
    return lattice(0.96)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_run_from_any_saved_state_is_the_unbroken_one_bit_for_bit(solid: Atoms, ensemble: str) -> None:
    whole: list[Step] = []
    states: list[State] = []
    frames: list[Frame] = []
    d = short(ensemble, save_every_fs=50.0, frame_every_fs=100.0)
    end = simulate(solid, LennardJones(), d, seed=3, on_step=whole.append, on_frame=frames.append, save=states.append)
    assert [s.step for s in states] == [10, 20, 30] and [f.step for f in frames] == [0, 20, 40]
    rest: list[Step] = []
    more: list[Frame] = []
    kept = State.of({name: np.array(value) for name, value in states[1].flat().items()})
    again = simulate(solid, LennardJones(), d, seed=3, state=kept, on_step=rest.append, on_frame=more.append)
    assert [s.step for s in rest] == list(range(21, 41)) and [f.step for f in more] == [40]
    for name in end.arrays:
        np.testing.assert_array_equal(again.arrays[name], end.arrays[name], err_msg=name)
    for one, other in zip(whole[21:], rest, strict=True):
        np.testing.assert_array_equal(np.hstack(one[1:]), np.hstack(other[1:]))


@pytest.mark.parametrize("ensemble", [e for e in ENSEMBLES if e != "langevin"])
def test_the_conserved_quantity_is_conserved_to_second_order(solid: Atoms, ensemble: str) -> None:
    def spread(time_step_fs: float) -> float:
        steps: list[Step] = []
        d = short(ensemble, time_step_fs=time_step_fs, length_ps=0.6)
        simulate(solid, LennardJones(shifted=True), d, seed=0, on_step=steps.append)
        return float(np.std([s.conserved_kcal_mol for s in steps]))

    coarse, fine = spread(5.0), spread(2.5)
    assert fine < 256 * 2e-4
    assert 2.5 < coarse / fine < 6.5


def test_velocities_are_drawn_at_the_temperature_with_the_centre_at_rest(solid: Atoms) -> None:
    atoms = solid.copy()
    set_velocities(atoms, 300.0, seed=1)
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0, atol=1e-10)
    steps: list[Step] = []
    d = short("nve", length_ps=0.005)
    simulate(atoms, LennardJones(), d, seed=0, on_step=steps.append)
    assert steps[0].temperature_K == pytest.approx(300.0)
    kinetic = 0.5 * (3 * len(atoms) - 3) * units.kB * 300.0 * units.mol / units.kcal
    assert steps[0].kinetic_kcal_mol == pytest.approx(kinetic, rel=1e-6)


def test_a_chain_of_thermostats_counts_the_degrees_of_freedom_of_a_resting_centre(solid: Atoms) -> None:
    atoms = solid.copy()
    set_velocities(atoms, T, 0)
    atoms.calc = LennardJones()
    for ensemble in ("nvt", "npt", "npt_full"):
        conditions = Conditions(ensemble, T, 1.0, 5.0, 200.0, 1000.0)
        integrator = Integrator(atoms, conditions, np.random.default_rng(0))
        chain = integrator.dynamics._thermostat
        # at exactly this temperature the chain feels no force
        chain.integrate_nhc(atoms.get_momenta(), 5 * units.fs)
        assert abs(chain._p_eta[0]) / chain._Q[0] * 200 * units.fs < 1e-9, ensemble


@pytest.mark.parametrize("ensemble", ["csvr", "langevin"])
def test_thermostats_hold_their_temperature_in_a_small_box(ensemble: str) -> None:
    # free particles: the thermostat alone decides; ASE's own count of degrees of freedom would be 14 % off
    ideal = Atoms("Ar8", np.random.default_rng(0).uniform(0, 40, (8, 3)), cell=[40] * 3, pbc=True)
    steps: list[Step] = []
    d = short(ensemble, length_ps=10.0, temperature_K=200.0, temperature_damping_fs=50.0)
    simulate(ideal, Ideal(), d, seed=0, on_step=steps.append)
    assert np.mean([s.temperature_K for s in steps[200:]]) == pytest.approx(200.0, rel=0.05)


def test_the_pressure_of_free_particles_is_the_kinetic_one() -> None:
    ideal = Atoms("Ar8", np.random.default_rng(0).uniform(0, 40, (8, 3)), cell=[40] * 3, pbc=True)
    steps: list[Step] = []
    simulate(ideal, Ideal(), short("nve", length_ps=0.01), seed=0, on_step=steps.append)
    atoms = ideal.copy()
    set_velocities(atoms, T, 0)
    p, v = atoms.get_momenta(), atoms.get_velocities()
    tensor = np.einsum("ni,nj->ij", p, v) / atoms.get_volume() / (101325 * units.Pascal)
    np.testing.assert_allclose(steps[0].pressure_atm, tensor.flat[[0, 4, 8, 5, 2, 1]], rtol=1e-12)
    assert steps[0].density_g_cm3 == pytest.approx(8 * 39.95 / 40**3 * 1.66054, rel=1e-3)


class Ideal(LennardJones):
    """Particles that do not see each other."""

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        """Zeros."""
        self.atoms = atoms.copy()
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


class Wild(LennardJones):
    """Pulls one atom apart from its sixth call on, or lets a committee disagree about it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        """As usual, but for atom 7."""
        super().calculate(atoms, properties, system_changes)
        if self.calls > 5:
            n = len(self.atoms)
            if self.what == "force":
                self.results["forces"][7] = [300.0, 0.0, 0.0]
            if self.what == "refused":
                raise ValueError("atom 7 has no finite position: [nan, nan, nan]")
            if self.what == "nan":
                self.results["forces"][7] = np.nan
            self.results["forces_spread"] = np.where(np.arange(n) == 7, 9.0 if self.what == "spread" else 0.0, 0.0)


@pytest.mark.parametrize(
    ("what", "limits", "said"),
    [
        (
            "force",
            {"max_temperature_K": 1e9},
            r"step \d+ \(0\.0\d+ ps\): force 300 eV/Å > max_force_eV_A=100; atoms Ar 7 \(molecule 7\), ",
        ),
        ("nan", {}, r"temperature nan K > max_temperature_K=1500; atoms Ar 7 "),
        ("spread", {}, r"forces of the committee spread by 9 eV/Å > max_spread_eV_A=2; atoms Ar 7 "),
        ("refused", {}, r"step \d+ \(0\.02\d* ps\): atom 7 has no finite position: .*; atoms Ar "),
        ("none", {"max_temperature_K": 40.0}, r"temperature \d+ K > max_temperature_K=40; atoms Ar "),
    ],
)
def test_a_blow_up_stops_the_run_and_names_the_atoms(
    solid: Atoms, what: str, limits: dict[str, float], said: str
) -> None:
    atoms = solid.copy()
    atoms.arrays["fragments"] = np.arange(len(atoms))
    with pytest.raises(BlowUp, match=said) as caught:
        simulate(atoms, Wild(what), short("nve", **limits), seed=0)
    assert len(caught.value.atoms) == len(atoms) and len(caught.value.culprits) == 3


def test_a_box_that_bursts_is_a_blow_up(solid: Atoms) -> None:
    with pytest.raises(BlowUp, match=r"the box has 2\.\d+ times its first volume"):
        simulate(
            solid, LennardJones(), short("npt", length_ps=20.0, pressure_atm=-20000.0, max_temperature_K=1e5), seed=0
        )


@pytest.mark.parametrize("old", [False, True], ids=["state with limits", "state of before"])
def test_a_resumed_run_bursts_where_the_unbroken_one_does(solid: Atoms, old: bool) -> None:
    pulled = short("npt", length_ps=20.0, pressure_atm=-20000.0, max_temperature_K=1e5, save_every_fs=50.0)
    states: list[State] = []
    with pytest.raises(BlowUp) as unbroken:
        simulate(solid, LennardJones(), pulled, seed=0, save=states.append)
    last = states[-1]
    assert last.put_on(solid).get_volume() > 1.2 * solid.get_volume()
    if old:
        last = State(last.step, {name: value for name, value in last.arrays.items() if name != "limits"})
    with pytest.raises(BlowUp) as resumed:
        simulate(solid if old else last.put_on(solid), LennardJones(), pulled, seed=0, state=last)
    assert str(resumed.value) == str(unbroken.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ensemble": "npt_berendsen"}, "Berendsen's coupling samples no ensemble"),
        ({"ensemble": "nvt", "pressure_atm": 1.0}, "pressure_atm=1 has no effect in nvt; take npt"),
        ({"ensemble": "nve", "temperature_damping_fs": 100.0}, "has no effect in nve"),
        ({"ensemble": "microcanonical"}, "Input should be 'nve'"),
        ({"time_step_fs": 50.0}, "less than or equal to 5"),
        (
            {"ensemble": "nvt", "temperature_damping_fs": 0.1},
            "temperature_damping_fs=0.1: must be at least 10, 10 time",
        ),
        ({"time_step_fs": 2.0, "pressure_damping_fs": 19.0}, "pressure_damping_fs=19: must be at least 20, 10 time"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Dynamics(**settings)


def test_a_temperature_must_come_from_somewhere(solid: Atoms) -> None:
    with pytest.raises(ValueError, match=r"give md\.temperature_K"):
        simulate(solid, LennardJones(), Dynamics(ensemble="nve"), seed=0)


def test_relaxation_takes_overlaps_away_and_brings_the_box_to_its_temperature(solid: Atoms) -> None:
    packed = solid.copy()
    packed.positions[5] = packed.positions[4] + [2.2, 0.0, 0.0]
    told: list[tuple[int, int]] = []
    ready = relax(
        packed,
        LennardJones(),
        Relaxation(soft_start_ps=0.05),
        temperature_K=T,
        seed=0,
        progress=lambda done, total: told.append((done, total)),
    )
    assert ready.get_kinetic_energy() == pytest.approx(0.5 * (3 * len(packed) - 3) * units.kB * T)
    assert told[-1][0] == told[-1][1]
    assert np.array_equal(packed.positions[4] + [2.2, 0, 0], packed.positions[5]), "the box given is left alone"
    ready.calc = LennardJones()
    assert np.abs(ready.get_forces()).max() < 2.0


def test_what_cannot_be_relaxed_is_told(solid: Atoms) -> None:
    packed = solid.copy()
    packed.positions[5] = packed.positions[4] + [1.0, 0.0, 0.0]
    with pytest.raises(BlowUp, match=r"forces of .* eV/Å remain after minimisation; atoms Ar [45], Ar [45]"):
        relax(packed, LennardJones(), Relaxation(steps=1, limit_eV_A=1.0), temperature_K=T, seed=0)


def test_a_box_from_a_file_keeps_its_velocities_if_nothing_is_done_to_it(solid: Atoms) -> None:
    atoms = solid.copy()
    set_velocities(atoms, 50.0, seed=9)
    kept = relax(atoms, LennardJones(), Relaxation(steps=0, soft_start_ps=0.0), temperature_K=T, seed=0)
    np.testing.assert_array_equal(kept.get_momenta(), atoms.get_momenta())
