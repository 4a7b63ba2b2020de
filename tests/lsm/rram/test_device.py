"""Conductance draws and single-device effects against their closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from lsm.rram.conductance import GRID_uS, Pairs
from lsm.rram.device import Device, draw_pairs
from lsm.streams import generator

ROWS, N = 256, 200


def _pairs(rows: int = ROWS, n: int = N, seed: int = 0, matrix: str = "input", branch: str = "", **device) -> Pairs:
    return draw_pairs(Device(**device), matrix, rows, n, seed, branch)


@pytest.mark.parametrize(
    ("matrix", "mean", "std", "single"), [("input", 0.00156, 6.61329, 4.68), ("recurrent", 0.00606, 6.67268, 4.72)]
)
def test_gaussian_pairs_have_the_published_mean_and_spread(matrix: str, mean: float, std: float, single: float) -> None:
    pairs = _pairs(matrix=matrix)
    difference = pairs.plus - pairs.minus
    assert abs(difference.mean() - mean) < 3 * std / np.sqrt(difference.size)
    assert difference.std() == pytest.approx(std, rel=0.02)
    for devices in pairs:
        assert devices.std() == pytest.approx(single, rel=0.02) and devices.mean() == pytest.approx(20, rel=0.01)
        assert devices.min() >= 0
    assert abs(np.corrcoef(pairs.plus.ravel(), pairs.minus.ravel())[0, 1]) < 3 / np.sqrt(difference.size)


def test_a_difference_is_the_plain_normal_draw_whatever_the_common_mode() -> None:
    """A pair that would have a negative device is lifted as a whole: its difference stays, bit for bit."""
    high, low = _pairs(), _pairs(common_mode_uS=3.0)
    assert low.minus.min() >= 0 and low.plus.min() >= 0
    np.testing.assert_array_equal(high.plus - high.minus, low.plus - low.minus)
    plain = generator(0, "devices  input").normal(0.00156, 6.61329, (ROWS, N))
    np.testing.assert_allclose(high.plus - high.minus, plain, atol=2 * GRID_uS, rtol=0)


@pytest.mark.parametrize(
    ("m", "s", "p", "std"),
    [(12.35, 1.86, 0.855, 6.61), (12.35, 1.86, 0.168, 6.61), (14.2473, 2.4624, 0.912, 6.61),
     (14.2473, 2.4624, 0.118, 6.61), (12.35, 1.86, 0.49, 8.9)],
)  # fmt: skip
def test_breakdown_pairs_have_the_variance_of_the_closed_form(m: float, s: float, p: float, std: float) -> None:
    pairs = _pairs(draw="breakdown", breakdown_probability=p, breakdown_mean_uS=m, breakdown_std_uS=s)
    difference = pairs.plus - pairs.minus
    assert difference.var() == pytest.approx(2 * (p * (m**2 + s**2) - p**2 * m**2), rel=0.03)
    assert difference.std() == pytest.approx(std, rel=0.02)
    zeros = (1 - p) ** 2
    assert (difference == 0).mean() == pytest.approx(zeros, abs=4 * np.sqrt(zeros / difference.size))


def test_broken_down_cells_look_like_the_measured_ones() -> None:
    """2,500 cells as measured: p 0.49, 12.35 +- 1.86 uS, 7.6 to 18.8 uS, skew about 0.5; the others conduct nothing."""
    cells = _pairs(50, 50, draw="breakdown", breakdown_probability=0.493, breakdown_skew=0.5).plus
    grown = cells[cells > 0]
    assert len(grown) / cells.size == pytest.approx(0.493, abs=0.04)
    assert grown.mean() == pytest.approx(12.35, abs=0.2) and grown.std() == pytest.approx(1.86, abs=0.15)
    assert 6.5 < grown.min() < 9.5 and 17 < grown.max() < 22
    skew = np.mean(((grown - grown.mean()) / grown.std()) ** 3)
    assert skew == pytest.approx(0.5, abs=0.25)
    assert abs(np.mean(((c := _pairs(draw="breakdown").plus) > 0) * (c - 12.35) ** 3)) < 0.3  # without skew


def test_stuck_devices_have_their_share_and_their_conductance() -> None:
    plain, stuck = _pairs(), _pairs(stuck_off=0.1, stuck_on=0.05, g_max_uS=37.0)
    for before, after in zip(plain, stuck, strict=True):
        off, on = (after == 0) & (before != 0), (after == 37.0) & (before != 37.0)
        assert off.mean() == pytest.approx(0.1, abs=0.006) and on.mean() == pytest.approx(0.05, abs=0.005)
        np.testing.assert_array_equal(after[~off & ~on], before[~off & ~on])


def test_a_worse_yield_contains_the_faults_of_a_better_one() -> None:
    few, many = (_pairs(stuck_off=share).plus == 0 for share in (0.02, 0.1))
    assert few.any() and not np.any(few & ~many)


def test_drift_is_lognormal_with_the_age() -> None:
    plain, aged = _pairs(), _pairs(drift_time_s=1e6, drift_start_s=10.0, drift_nu=0.05, drift_nu_std=0.02)
    change = np.log(aged.plus / plain.plus)[plain.plus > 0.1]
    elapsed = np.log(1e5)
    assert change.mean() == pytest.approx(-0.05 * elapsed, rel=0.01)
    assert change.std() == pytest.approx(0.02 * elapsed, rel=0.02)
    even = _pairs(drift_time_s=1e6, drift_start_s=10.0, drift_nu=0.05, drift_nu_std=0.0)
    np.testing.assert_allclose(even.plus, plain.plus * 1e5**-0.05, atol=GRID_uS)


def test_levels_are_equidistant_and_the_nearest_one_is_taken() -> None:
    plain, coarse = _pairs(), _pairs(levels=9, g_max_uS=32.0)
    for before, after in zip(plain, coarse, strict=True):
        assert set(np.unique(after)) <= {4.0 * k for k in range(9)}
        inside = before < 32
        assert np.abs(after - before)[inside].max() <= 2
        assert (after[~inside] == 32).all() and (~inside).any()


def test_every_conductance_is_on_the_grid_so_that_sums_are_exact() -> None:
    for device in ({"draw": "breakdown"}, {"drift_time_s": 1e3, "drift_nu": 0.1, "levels": 100, "stuck_on": 0.1}):
        pairs = _pairs(**device)
        for values in pairs:
            np.testing.assert_array_equal(np.rint(values / GRID_uS), values / GRID_uS)
        difference = pairs.plus - pairs.minus
        forward, backward = difference.cumsum(axis=0)[-1], difference[::-1].cumsum(axis=0)[-1]
        np.testing.assert_array_equal(forward, backward)
        np.testing.assert_array_equal(forward, np.ones(ROWS) @ difference)


def test_seeds_branches_and_matrices_have_draws_of_their_own() -> None:
    draws = [_pairs(), _pairs(seed=1), _pairs(branch="audio"), _pairs(matrix="recurrent")]
    flat = [pairs.plus.ravel() for pairs in draws]
    np.testing.assert_array_equal(flat[0], _pairs().plus.ravel())
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.02


def test_all_effects_are_off_by_default_and_can_be_taken_off() -> None:
    assert not Device().has_effects and not Device(draw="breakdown").has_effects
    worn = Device(draw="breakdown", stuck_on=0.1, levels=8, read_noise=0.1, adc_bits=4, drift_time_s=10, row_ohm=1)
    assert worn.has_effects and worn.without_effects == Device(draw="breakdown")
    assert dataclasses.replace(worn.without_effects, adc_bits=8).has_effects


@pytest.mark.parametrize(
    "wrong",
    [{"stuck_off": 0.6, "stuck_on": 0.6}, {"read_noise": -0.1}, {"levels": 1}, {"adc_bits": 0}, {"draw": "map"},
     {"map_input": "x.csv"}, {"breakdown_probability": 1.1}, {"nonsense": 1}, {"input_std_uS": 0.0}],
)  # fmt: skip
def test_impossible_devices_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Device(**wrong)
