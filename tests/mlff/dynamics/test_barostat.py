"""The barostat finds the known density of a liquid from both sides, where published toolkits have failed."""

from __future__ import annotations

import numpy as np
import pytest

from mlff.dynamics.simulation import Dynamics, Step, simulate
from mlff.system.box import G_PER_CM3
from tests.mlff.lennard_jones import ARGON_U, ATM, KELVIN, SIGMA, LennardJones, fluid

TEMPERATURE, PRESSURE, DENSITY, ENERGY = 0.90, 0.82386, 0.82, -5.7456
"""Reduced, of the full potential by Monte Carlo: NIST Standard Reference Simulation Website, Lennard-Jones fluid.

Two equations of state (by teqp 0.23.2) have here a pressure of 0.8156 and an energy of -5.7467 (Kolafa and Nezbeda 1994),
0.8322 and -5.7452 (Johnson, Zollweg and Gubbins 1993): 0.01 in pressure is 0.0005 in density.
"""


@pytest.mark.parametrize("start", [1.2, 0.8])
def test_a_liquid_that_is_a_fifth_too_dense_or_too_thin_comes_to_its_density(start: float) -> None:
    d = Dynamics(
        ensemble="npt",
        temperature_K=TEMPERATURE * KELVIN,
        pressure_atm=PRESSURE * ATM,
        time_step_fs=5.0,
        length_ps=18.0,
        temperature_damping_fs=200.0,
        pressure_damping_fs=500.0,
    )
    steps: list[Step] = []
    simulate(fluid(start * DENSITY), LennardJones(), d, seed=1, on_step=steps.append)
    density = np.array([s.density_g_cm3 for s in steps]) * SIGMA**3 / (ARGON_U * G_PER_CM3)
    assert density[0] == pytest.approx(start * DENSITY)
    late = steps[1200:]
    # 256 atoms for 12 ps leave a standard error of about 0.003
    assert density[1200:].mean() == pytest.approx(DENSITY, abs=0.012)
    assert np.mean([s.temperature_K for s in late]) == pytest.approx(TEMPERATURE * KELVIN, rel=0.01)
    assert np.mean([s.pressure_atm[:3].mean() for s in late]) == pytest.approx(PRESSURE * ATM, abs=0.15 * ATM)
    conserved = np.array([s.conserved_kcal_mol for s in late])
    assert np.ptp(conserved) / 256 < 2e-3
