"""From a density to a pressure: known volumes, signs, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlff.alignment.pressure import (
    KB_KCAL,
    Measured,
    Moved,
    Spread,
    compressibility_per_atm,
    corrected,
    correlation_time_ps,
    covers,
    measured,
    moved_by,
    pooled,
    verdict,
    wanted_change_atm,
)
from mlff.units import ATM_PER_KCAL_A3


def test_a_compressibility_is_found_in_gaussian_volumes() -> None:
    kappa, volume, temperature = 8e-5, 30_000.0, 300.0
    variance = kappa * ATM_PER_KCAL_A3 * KB_KCAL * temperature * volume
    volumes = np.random.default_rng(0).normal(volume, math.sqrt(variance), 20_000)
    assert compressibility_per_atm(volumes, temperature) == pytest.approx(kappa, rel=0.03)
    # water at 298 K: 4.5e-10 per Pa, so that 1,000 molecules fluctuate by 0.7 %
    sigma = math.sqrt(4.5e-10 * 101325 * ATM_PER_KCAL_A3 * KB_KCAL * 298 * 29_900) / 29_900
    assert sigma == pytest.approx(0.0079, rel=0.03)
    with pytest.raises(ValueError, match="from 1 volumes"):
        compressibility_per_atm(volumes[:1], temperature)


def test_too_dense_a_liquid_needs_to_push_and_never_more_than_the_limit() -> None:
    dense = Measured(1.1, 0.002, 8e-5)
    assert wanted_change_atm(dense, 1.09, 500) == pytest.approx(114.1, rel=1e-3)
    assert wanted_change_atm(dense, 1.11, 500) == pytest.approx(-113.1, rel=1e-3)
    assert wanted_change_atm(dense, 1.0, 500) == 500 and wanted_change_atm(dense, 1.3, 200) == -200
    # the change that was asked for, applied, ends at the target
    after = 1.1 * math.exp(-8e-5 * wanted_change_atm(dense, 1.09, 500))
    assert after == pytest.approx(1.09, abs=1e-12)
    assert covers(dense, 1.1019) and not covers(dense, 1.103) and covers(dense, 1.103, 0.005)


def test_a_second_round_knows_what_the_first_one_did() -> None:
    before, after = Measured(1.10, 0.001, 5e-5), Measured(1.08, 0.001, 5e-5)
    shown = corrected(before, after, 180.0).compressibility_per_atm
    assert shown == pytest.approx(math.log(1.10 / 1.08) / 180.0)
    assert corrected(before, Measured(1.0995, 0.001, 5e-5), 180.0).compressibility_per_atm == 5e-5
    assert corrected(before, after, 0.0) == after


@pytest.mark.parametrize(
    ("moves", "length_ps", "right"),
    [
        ([(-0.010, -0.010, 0.004), (0.004, 0.003, 0.004)], 5.0, True),
        ([(-0.010, -0.030, 0.004)], 5.0, True),  # a compressibility of a short run is that uncertain
        # noise in a small change is no alarm as long as the liquids together went the right way
        ([(-0.030, -0.030, 0.004), (0.0005, -0.001, 0.004)], 5.0, True),
        ([(-0.010, 0.010, 0.004)], 5.0, False),
        ([(-0.010, 0.010, 0.004)], 0.5, False),
        ([(-0.010, -1e-6, 1e-4)], 5.0, False),  # a pressure change of another unit moves nothing
        ([(-0.010, -0.9, 0.1)], 5.0, False),  # or far too much
        ([(-0.010, -1e-6, 1e-7)], 0.02, None),  # a volume does not follow so fast
        ([(-0.010, -0.010, 0.02)], 5.0, None),
        ([(-0.010, 0.010, 0.02)], 5.0, None),
        ([(0.0, 0.003, 0.001)], 5.0, None),
    ],
)
def test_sign_and_size_of_what_moved_are_judged_against_the_noise(
    moves: list[tuple[float, float, float]], length_ps: float, right: bool | None
) -> None:
    made = [Moved("x", 100.0, *m) for m in moves]
    found = verdict(made, length_ps, slowest_ps=1.0)
    assert found.right is right
    if right is None:
        assert found.decides_ps > length_ps


def test_an_undecided_check_says_which_length_decides() -> None:
    assert verdict([Moved("x", 100.0, -0.01, -1e-6, 1e-7)], 0.02, slowest_ps=1.0).decides_ps == 4.0
    noisy = Moved("x", 100.0, -0.01, 0.01, 0.02)
    assert verdict([noisy], 5.0, slowest_ps=1.0).decides_ps == pytest.approx(80.0)
    assert str(noisy) == "x +0.0100 ± 0.0200 g/cm3 for +100 atm, -0.0100 expected"


def test_what_two_runs_are_apart_has_the_noise_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(1.0, 0.01, (2, 2000))
    moved, error = moved_by(before, after - 0.005, 0.1, 0.05)
    assert error == pytest.approx(2 * 0.01 * 2**0.5 / 1000**0.5, rel=0.05)
    assert moved == pytest.approx(-0.005, abs=error)
    assert moved_by(before, before - 0.005, 0.1, 0.05) == pytest.approx((-0.005, 0.0))
    assert correlation_time_ps(before, 0.1) == pytest.approx(0.05, rel=0.3)


def test_a_density_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a measured density"):
        Measured(-1.0, 0.0, 1e-5)


def test_boxes_that_something_slow_holds_apart_get_the_error_bar_that_they_show() -> None:
    """Four liquids, two boxes each, 1 % apart by what no box sees of itself: intervals hold the truth in 95 % of cases."""
    rng = np.random.default_rng(1)
    truth, slow, n = np.array([0.9, 1.0, 1.1, 1.3]), 0.01, 400
    inside, own = [], []
    for _ in range(150):
        found = []
        for density in truth:
            centres = density * (1 + slow * rng.standard_normal(2))
            series = [c * (1 + 0.02 * rng.standard_normal(n)) for c in centres]
            found.append(measured(series, [1000.0 / s for s in series], 300.0))
        spread = Spread.of([m.runs_g_cm3 for m in found])
        assert spread is not None and spread.freedom == 4
        own += [covers(m, d) for m, d in zip(found, truth, strict=True)]
        inside += [covers(spread.on(m), d) for m, d in zip(found, truth, strict=True)]
    assert np.mean(own) < 0.5
    assert 0.92 < np.mean(inside) < 0.98
    assert Spread.of([[1.0], [1.1]]) is None


def test_the_density_of_several_boxes_is_their_mean_and_its_bar_the_narrower() -> None:
    rng = np.random.default_rng(2)
    one, two = rng.normal(1.0, 0.02, (2, 2000))
    first, both = (measured(s, [1000.0 / x for x in s], 300.0) for s in ([one], [one, two]))
    assert both.density_g_cm3 == pytest.approx(np.mean(both.runs_g_cm3)) and first.runs_g_cm3 == both.runs_g_cm3[:1]
    assert both.error_g_cm3 == pytest.approx(first.error_g_cm3 / math.sqrt(2), rel=0.25)


def test_what_was_expected_and_what_was_found_are_weighed_by_their_bars() -> None:
    expected, found = Measured(1.00, 0.03, 5e-5), Measured(1.02, 0.01, 7e-5)
    both = pooled(expected, found)
    assert both.density_g_cm3 == pytest.approx((1.00 / 9 + 1.02) / (1 / 9 + 1))
    assert both.error_g_cm3 == pytest.approx(0.03 * 0.01 / math.hypot(0.03, 0.01))
    assert both.compressibility_per_atm == 7e-5
    far = Measured(1.10, 0.01, 7e-5)
    assert pooled(expected, far) is far  # what was expected was wrong


def test_blocks_of_two_short_runs_are_counted_together() -> None:
    """Each has two or three blocks, of which one run alone knows its error badly."""
    rng = np.random.default_rng(3)
    inside, alone, together = [], [], []
    for _ in range(120):
        series = [1.0 + _correlated(rng, 1500, 15.0) for _ in range(2)]
        both = measured(series, [1000.0 / s for s in series], 300.0)
        inside.append(covers(both, 1.0))
        together.append(both.error_g_cm3)
        alone.append(measured(series[:1], [1000.0 / series[0]], 300.0).error_g_cm3)
    assert 0.88 < np.mean(inside) <= 1.0
    assert np.mean(together) < 0.65 * np.mean(alone)  # two intervals of one run each would give 0.71


def _correlated(rng: np.random.Generator, n: int, inefficiency: float) -> np.ndarray:
    """An autoregressive series of unit 0.01 with this statistical inefficiency."""
    keep = (inefficiency - 1.0) / (inefficiency + 1.0)
    noise = rng.standard_normal(n) * math.sqrt(1.0 - keep**2)
    out = np.empty(n)
    out[0] = rng.standard_normal()
    for k in range(1, n):
        out[k] = keep * out[k - 1] + noise[k]
    return 0.01 * out
