"""The jackknife against closed forms, and error bars that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlff.transport import Estimate, jackknife
from mlff.transport.blocks import split_blocks
from tests.mlff.transport.coverage import check_error_bars


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (12, 1))
    found = jackknife(lambda m: m, x)[0]
    assert found.value == pytest.approx(x.mean())
    assert found.standard_error == pytest.approx(x.std(ddof=1) / math.sqrt(12))
    assert found.error == pytest.approx(2.200985 * found.standard_error, rel=1e-6)


def test_error_bars_of_a_ratio_cover_it() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        a, b = rng.normal(2.0, 0.3, (2, 10, 1)) * [[[1.0]], [[2.0]]]
        found += jackknife(lambda p, q: p / q, a, b)
    check_error_bars(found, 0.5)


def test_one_block_has_no_error_bar() -> None:
    found = jackknife(lambda m: m, np.ones((1, 1)))[0]
    assert found.value == 1.0 and math.isinf(found.standard_error) and math.isinf(found.error)


def test_sum_and_unit_of_estimates() -> None:
    found = Estimate(1.0, 0.3, 5).plus(Estimate(2.0, 0.4, 9)).scaled(-10.0)
    assert (found.value, found.standard_error, found.n_blocks) == pytest.approx((-30.0, 5.0, 5))
    assert Estimate(2.0, 0.1, 5).relative_error == pytest.approx(2.776445 * 0.05, rel=1e-6)
    assert str(Estimate(2.0, 0.1, 5)) == "2 ± 0.28"


def test_blocks_leave_out_the_start_of_longer_series() -> None:
    blocks = split_blocks([np.arange(7.0), np.arange(10.0, 20.0)], 3)
    assert blocks.tolist() == [[1, 2], [3, 4], [5, 6], [14, 15], [16, 17], [18, 19]]
    with pytest.raises(ValueError, match="3 samples cannot be cut into 4 blocks"):
        split_blocks([np.arange(3.0)], 4)
