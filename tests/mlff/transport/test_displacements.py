"""Mean square displacements by hand; diffusion and conductivity of random walks with known answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import constants

from mlff.transport import (
    Centres,
    Estimate,
    Window,
    centres_of_mass,
    choose_window,
    conductivity,
    displacements,
    self_diffusion,
    yeh_hummer,
)
from mlff.transport.displacements import cross_mean_square, mean_square, slopes
from tests.mlff.transport.coverage import check_error_bars
from tests.mlff.transport.synthetic import D, ions

VOLUME_A3, TEMPERATURE_K, PAIRING = 20_000.0, 300.0, 0.5
FACTOR = constants.e**2 / (VOLUME_A3 * 1e-30 * constants.k * TEMPERATURE_K) * 1e-8
"""S/m of one e2 Å2/ps."""


def test_mean_square_displacements_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(50.0, 3.0, (2, 3, 9, 3))
    wanted = [
        [np.mean([(x[i + k] - x[i]) @ (y[i + k] - y[i]) for i in range(9 - k)]) for k in range(5)]
        for x, y in zip(a, b, strict=True)
    ]
    assert cross_mean_square(a, b, 5) == pytest.approx(np.array(wanted))
    assert mean_square(np.outer(np.arange(6.0), [1, 2, 2]), 4) == pytest.approx(9.0 * np.arange(4) ** 2)


def test_centres_of_mass_are_relative_to_that_of_the_box() -> None:
    positions = np.array([[[0.0, 0, 0], [3, 0, 0], [9, 3, 0]], [[1, 1, 1], [4, 1, 1], [10, 4, 1]]])
    found = centres_of_mass(
        np.array([0.0, 0.5]), positions, np.array([2.0, 1, 3]), np.array([0, 0, 1]), np.array([1.0, -1]), ("A", "B")
    )
    assert found.positions[0] == pytest.approx(np.array([[-4, -1.5, 0], [4, 1.5, 0]]))
    assert found.positions[1] == pytest.approx(found.positions[0]) and found.dt_ps == 0.5
    with pytest.raises(ValueError, match="equal steps"):
        centres_of_mass(np.array([0.0, 1, 3]), positions, np.ones(3), np.zeros(3, int), np.zeros(1), ("A",))


def test_the_window_begins_where_motion_is_diffusive() -> None:
    t = np.arange(200) * 0.1
    ballistic = 6 * 0.1 * (t - 1 + np.exp(-t))  # a Langevin particle with relaxation time 1 ps
    window = choose_window(t, ballistic)
    assert window.diffusive and 3 < window.start_ps < 10 and window.end_ps <= t[-1]
    assert not choose_window(t, t**0.5).diffusive
    assert choose_window(t, ballistic, 2.0, 8.0) == Window(2.0, 8.0)
    assert slopes(t, 3 * t + 1, Window(2.0, 8.0)) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="fewer than 3"):
        choose_window(t, ballistic, 2.0, 2.1)


@pytest.mark.parametrize(("d", "diffusive"), [(0.15, True), (0.004, False)], ids=["leaves the cage", "stays in it"])
def test_a_rattle_in_a_cage_is_no_diffusion(d: float, diffusive: bool) -> None:
    t = 0.2 * np.arange(100)
    caged = 0.6 * (1 - np.exp(-((t / 0.4) ** 1.4))) + 6 * d * t
    early = np.log2(caged[2] / caged[1])
    window = choose_window(t, caged)
    assert early == pytest.approx(1.0, abs=0.05) and window.diffusive is diffusive  # on the way into the cage, too
    assert window.start_ps > 1.0
    if diffusive:
        fitted = float(slopes(t, caged, window)) / 6
        assert fitted == pytest.approx(d, rel=0.1)


def _replicas(rng: np.random.Generator, n: int = 2) -> list[Centres]:
    return [ions(rng, 400, 1.0, PAIRING) for _ in range(n)]


def test_error_bars_cover_known_diffusion_conductivity_and_haven_ratio() -> None:
    ne = FACTOR * 10 * (D["Li"] + D["PF6"])
    shared = FACTOR * 10 * PAIRING * (D["Li"] * D["PF6"]) ** 0.5
    sigma = ne - 2 * shared
    known = {
        "D": D["Li"] * 1e-8,
        "nernst_einstein": ne,
        "collective": sigma,
        "haven_ratio": ne / sigma,
        "t_ne": D["Li"] / (D["Li"] + D["PF6"]),
        "t_barycentric": (FACTOR * 10 * D["Li"] - shared) / sigma,
    }
    rng, found = np.random.default_rng(1), []
    for _ in range(200):
        curves = displacements(_replicas(rng), n_blocks=4)
        transport = conductivity(curves, VOLUME_A3, TEMPERATURE_K)
        named = {f.name: getattr(transport, f.name) for f in dataclasses.fields(transport)}
        found.append(named | {"D": self_diffusion(curves)[0].in_box})
    for name, value in known.items():
        check_error_bars([f[name] for f in found], value, name)
        assert np.mean([f[name].value for f in found]) == pytest.approx(value, rel=0.03), name
    assert found[0]["n_pairs"] == 10


def test_the_solvent_frame_moves_with_the_solvent() -> None:
    rng = np.random.default_rng(2)
    walk = ions(rng, 500, 1.0, PAIRING)
    drift = np.cumsum(rng.normal(0, 0.2, (500, 1, 3)), axis=0)
    solvent_moves = dataclasses.replace(walk, positions=walk.positions + drift * (walk.charges == 0)[:, None])
    all_move = dataclasses.replace(walk, positions=walk.positions + drift)
    still, moved, together = (
        conductivity(displacements([c]), VOLUME_A3, TEMPERATURE_K, start_ps=1.0, end_ps=8.0)
        for c in (walk, solvent_moves, all_move)
    )
    for found in (moved, together):  # the sum of charges is zero: conductivity knows no frame
        assert found.collective.value == pytest.approx(still.collective.value, rel=1e-9)
    assert still.t_solvent and moved.t_solvent and together.t_solvent
    assert together.t_solvent.value == pytest.approx(still.t_solvent.value, rel=1e-9)
    assert abs(moved.t_solvent.value - still.t_solvent.value) > 1e-3
    assert moved.t_barycentric.value == pytest.approx(still.t_barycentric.value, rel=1e-9)


def test_yeh_hummer_by_hand() -> None:
    added = yeh_hummer(Estimate(1.0, 0.1, 8), 30.0**3, 300.0)
    assert added.value == pytest.approx(2.837297 * 1.380649e-23 * 300 / (6 * np.pi * 1e-3 * 30e-10), rel=1e-6)
    assert added.standard_error == pytest.approx(0.1 * added.value)
    curves = displacements(_replicas(np.random.default_rng(3), 1))
    found = self_diffusion(curves, viscosity_mPa_s=Estimate(1.0, 0.1, 8), volume_A3=30.0**3, temperature_K=300.0)[2]
    assert found.name == "EC" and found.n_molecules == 20 and found.corrected
    assert found.corrected.value == pytest.approx(found.in_box.value + added.value)
    assert found.corrected.standard_error > added.standard_error


def test_what_cannot_be_averaged_is_refused() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(ValueError, match="too few"):
        displacements([ions(rng, 30, 1.0, 0.0)])
    with pytest.raises(ValueError, match="time steps"):
        displacements([ions(rng, 100, 1.0, 0.0), ions(rng, 100, 2.0, 0.0)])
    walk = ions(rng, 100, 1.0, 0.0)
    neutral = dataclasses.replace(walk, charges=np.zeros(40))
    with pytest.raises(ValueError, match="cations and anions"):
        conductivity(displacements([neutral]), VOLUME_A3, TEMPERATURE_K)
