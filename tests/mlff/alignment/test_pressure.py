"""From a density to a pressure: known volumes, signs, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlff.alignment.pressure import (
    KB_KCAL,
    Measured,
    check_direction,
    compressibility_per_atm,
    corrected,
    covers,
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


def test_a_wrong_sign_is_caught() -> None:
    check_direction(["DMC", "EC"], [100.0, -50.0], [-0.01, 0.004])
    check_direction(["DMC"], [0.0], [0.003])
    # noise in a small change is no alarm as long as the liquids together went the right way
    check_direction(["DMC", "EC"], [300.0, -5.0], [-0.03, -0.001])
    with pytest.raises(ValueError, match=r"wrong sign or unit \(DMC: \+100 atm moved the density by \+0.0100 g/cm3\)"):
        check_direction(["DMC"], [100.0], [0.01])


def test_a_density_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a measured density"):
        Measured(-1.0, 0.0, 1e-5)
