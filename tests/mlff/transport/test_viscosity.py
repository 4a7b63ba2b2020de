"""Green-Kubo viscosity of stress whose correlation is known, and the fit alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import constants

from mlff.transport import viscosity
from mlff.transport.relaxation import fit_relaxation
from mlff.transport.viscosity import autocorrelation, shear_components
from tests.mlff.transport.synthetic import ornstein_uhlenbeck, pressures

VOLUME_A3, TEMPERATURE_K, DT_PS = 20_000.0, 300.0, 0.1


def _known(modes: list[tuple[float, float]]) -> float:
    """Viscosity in mPa s of stress with modes (relaxation time in ps, amplitude in atm)."""
    integral = sum((a * constants.atm) ** 2 * tau * 1e-12 for tau, a in modes)
    return float(VOLUME_A3 * 1e-30 / (constants.k * TEMPERATURE_K) * integral * 1e3)


def _stress(rng: np.random.Generator, n: int, modes: list[tuple[float, float]]) -> np.ndarray:
    return pressures(sum(a * ornstein_uhlenbeck(rng, (5, n), DT_PS, tau) for tau, a in modes))


def test_the_five_components_are_independent_and_alike() -> None:
    rng = np.random.default_rng(0)
    p = rng.standard_normal((100_000, 6)) * [2**0.5, 2**0.5, 2**0.5, 1, 1, 1]  # an isotropic tensor
    covariance = np.cov(shear_components(p + np.array([5, 5, 5, 0, 0, 0])).T)
    assert covariance == pytest.approx(np.eye(5), abs=0.03)
    given = ornstein_uhlenbeck(rng, (5, 50), 1.0, 3.0)
    assert np.allclose(shear_components(pressures(given)).T, given)


def test_autocorrelation_by_hand() -> None:
    x = np.array([1.0, 2.0, -1.0, 3.0])
    assert autocorrelation(x, 3) == pytest.approx([15 / 4, (2 - 2 - 3) / 3, (-1 + 6) / 2])


def test_the_fit_finds_exact_curves() -> None:
    t = np.linspace(0.1, 20, 150)
    curves = np.stack(
        [2 * (1 - np.exp(-t / 0.5)) + 3 * (1 - np.exp(-t / 6)), 4 * (1 - np.exp(-t / 2)), 0 * t, -1 + np.exp(-t)]
    )
    fit = fit_relaxation(t, curves, np.full(150, 1 / 150), 0.1, 10.0)
    assert fit.plateau == pytest.approx([5, 4, 0, 0], rel=2e-3)
    assert fit.times[0] == pytest.approx([0.5, 6.0], rel=0.02)
    assert fit.at(t)[:3] == pytest.approx(curves[:3], abs=5e-3)


@pytest.mark.parametrize(
    ("modes", "n", "replicas", "n_blocks"),
    [([(1.0, 100.0)], 1500, 2, 4), ([(0.3, 120.0), (3.0, 60.0)], 5000, 3, 4)],
    ids=["one relaxation", "two relaxations"],
)
def test_error_bars_cover_the_known_viscosity(
    modes: list[tuple[float, float]], n: int, replicas: int, n_blocks: int
) -> None:
    rng = np.random.default_rng(3)
    found = [
        viscosity([_stress(rng, n, modes) for _ in range(replicas)], DT_PS, VOLUME_A3, TEMPERATURE_K, n_blocks=n_blocks)
        for _ in range(200)
    ]
    known = _known(modes)
    hits = [abs(v.eta.value - known) < v.eta.error for v in found]
    assert 0.90 <= np.mean(hits) <= 1.0
    assert np.mean([v.eta.value for v in found]) == pytest.approx(known, rel=0.03)
    errors = np.mean([v.eta.standard_error for v in found])
    assert errors == pytest.approx(np.std([v.eta.value for v in found]), rel=0.25)


def test_a_relaxation_longer_than_the_blocks_is_seen() -> None:
    rng = np.random.default_rng(4)
    short = viscosity([_stress(rng, 400, [(50.0, 100.0)])], DT_PS, VOLUME_A3, TEMPERATURE_K, n_blocks=4)
    long = viscosity([_stress(rng, 4000, [(1.0, 100.0)])], DT_PS, VOLUME_A3, TEMPERATURE_K, n_blocks=4)
    assert short.too_short and not long.too_short
    assert long.window.end_ps > 5 and 0.5 < long.slowest_ps < 3
    assert long.fitted[-1] == pytest.approx(long.eta.value, rel=0.05)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="two blocks of 40"):
        viscosity([np.zeros((100, 6))], 1.0, 1.0, 300.0, n_blocks=4)
