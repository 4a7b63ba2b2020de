"""Statistical inefficiency and equilibration against noise whose correlation is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlff.transport import detect_equilibration, mean_of_series, means_of_series, statistical_inefficiency
from tests.mlff.transport.coverage import check_error_bars
from tests.mlff.transport.synthetic import ornstein_uhlenbeck


def test_statistical_inefficiency_of_known_noise() -> None:
    rng = np.random.default_rng(0)
    assert statistical_inefficiency(rng.standard_normal(20_000)) == pytest.approx(1.0, abs=0.1)
    decay = math.exp(-0.1)
    found = [statistical_inefficiency(x) for x in ornstein_uhlenbeck(rng, (8, 20_000), 0.1, 1.0)]
    assert np.mean(found) == pytest.approx((1 + decay) / (1 - decay), rel=0.1)
    assert statistical_inefficiency(np.ones(10)) == 1.0


def test_equilibrium_begins_after_the_transient() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(4000)
    starts = [detect_equilibration(x + 8 * np.exp(-t / 150))[0] for x in ornstein_uhlenbeck(rng, (20, 4000), 1.0, 5.0)]
    assert 300 < np.median(starts) < 1200
    flat = [detect_equilibration(x)[0] for x in ornstein_uhlenbeck(rng, (20, 4000), 1.0, 5.0)]
    assert np.median(flat) < 600


@pytest.mark.parametrize(("tau", "n", "replicas"), [(10.0, 2000, 1), (1.5, 400, 3), (15.0, 2000, 2)])
def test_error_bars_of_a_mean_cover_it(tau: float, n: int, replicas: int) -> None:
    rng = np.random.default_rng(2)
    transient = 5 * np.exp(-np.arange(n) / (n / 40))
    series = (list(ornstein_uhlenbeck(rng, (replicas, n), 1.0, tau) + transient) for _ in range(200))
    check_error_bars([mean_of_series(s).estimate for s in series], 0.0)


def test_replicas_that_something_slow_holds_apart_give_their_own_error() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        frozen = rng.normal(0, 1.0, (3, 1))  # differs from replica to replica and never relaxes
        found.append(mean_of_series(list(ornstein_uhlenbeck(rng, (3, 2000), 1.0, 1.5) + frozen)).estimate)
    assert np.median([e.n_blocks for e in found]) == 3
    check_error_bars(found, 0.0)


def test_replicas_that_stand_still_apart_have_no_error() -> None:
    found = mean_of_series([np.full(100, 1.0), np.full(100, 3.0)]).estimate
    assert (found.value, found.n_blocks) == (2.0, 0) and math.isinf(found.error)
    alike = np.tile([1.0, 2.0], 100)  # every block has the same mean, one replica's is another's plus one
    found = mean_of_series([alike, alike + 1]).estimate
    assert (found.value, found.n_blocks) == (2.0, 2) and found.standard_error == pytest.approx(0.5)


def test_quantities_of_the_same_samples_are_cut_alike() -> None:
    rng = np.random.default_rng(7)
    slow, fast = ornstein_uhlenbeck(rng, (2, 2000), 1.0, 10.0), ornstein_uhlenbeck(rng, (2, 2000), 1.0, 0.5)
    parts = [np.stack([s, f, 1 - s - f], axis=1) for s, f in zip(slow, fast, strict=True)]
    found = means_of_series(parts)
    assert sum(m.estimate.value for m in found) == pytest.approx(1.0)
    assert len({(m.starts, m.inefficiency) for m in found}) == 1


def test_what_is_too_short_says_so() -> None:
    x = ornstein_uhlenbeck(np.random.default_rng(3), (100,), 1.0, 10.0)
    assert math.isinf(mean_of_series([x]).estimate.error)
    with pytest.raises(ValueError, match="at least one sample"):
        mean_of_series([])


def test_it_finds_what_pymbar_finds() -> None:
    timeseries = pytest.importorskip("pymbar.timeseries", reason="pymbar is not installed")
    for x in ornstein_uhlenbeck(np.random.default_rng(4), (5, 4000), 1.0, 10.0):
        assert statistical_inefficiency(x) == pytest.approx(timeseries.statistical_inefficiency(x), rel=0.05)
