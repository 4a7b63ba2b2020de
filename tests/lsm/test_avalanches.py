"""Avalanches counted by hand; the power-law fit on data whose exponent is known, and on data that follow none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import zeta

from lsm.avalanches import MIN_TAIL, avalanches, fit_power_law


def _power_law(exponent: float, x_min: int, n: int) -> np.ndarray:
    """Draws from p(x) ~ x^-exponent, x >= x_min, by inverting the distribution."""
    x = np.arange(x_min, 200_000)
    below = 1 - zeta(exponent, x + 1) / zeta(exponent, x_min)
    return x[np.searchsorted(below[:-1], np.random.default_rng(0).random(n))]


def test_an_avalanche_ends_with_the_first_silent_bin() -> None:
    found = avalanches(np.array([0, 3, 2, 0, 0, 1, 0]), 0)
    assert found.sizes.tolist() == [5, 1] and found.durations.tolist() == [2, 1]


def test_only_what_exceeds_the_threshold_counts_to_the_size() -> None:
    found = avalanches(np.array([2, 5, 4, 3, 9, 1]), 3)
    assert found.sizes.tolist() == [2 + 1, 6] and found.durations.tolist() == [2, 1]


def test_avalanches_cut_off_by_begin_or_end_are_left_out() -> None:
    assert avalanches(np.array([4, 4, 0, 7, 0, 4]), 0).sizes.tolist() == [7]
    assert not len(avalanches(np.full(100, 30), 0).sizes)  # never silent: one endless avalanche, not one of 3,000
    assert not len(avalanches(np.zeros(0, np.int64), 0).sizes)


@pytest.mark.parametrize("exponent", [1.6, 2.5])
def test_a_known_exponent_is_found_with_its_error(exponent: float) -> None:
    fit = fit_power_law(_power_law(exponent, 3, 20_000), x_min=3)
    assert fit is not None and fit.n_tail == 20_000
    assert abs(fit.exponent - exponent) < 3 * fit.standard_error < 0.1
    assert fit.ks_distance < 0.015 and fit.versus_geometric > 3


def test_the_cutoff_is_found_where_the_power_law_begins() -> None:
    rng = np.random.default_rng(1)
    data = np.concatenate([_power_law(2.2, 20, 3000), rng.integers(1, 20, 6000)])  # flat below 20
    fit = fit_power_law(data)
    assert fit is not None and 15 <= fit.x_min <= 30
    assert fit.exponent == pytest.approx(2.2, abs=0.15)


def test_an_exponential_tail_is_called_one() -> None:
    fit = fit_power_law(np.random.default_rng(0).geometric(0.05, 5000), x_min=1)
    assert fit is not None and fit.versus_geometric < -10 and fit.ks_distance > 0.1


def test_too_few_or_equal_values_are_not_fitted() -> None:
    assert fit_power_law(np.arange(1, MIN_TAIL)) is None
    assert fit_power_law(np.full(1000, 4)) is None
    assert fit_power_law(np.zeros(0)) is None
